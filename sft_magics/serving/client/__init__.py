"""Endpoints from outside: started, asked, driven, stopped."""
