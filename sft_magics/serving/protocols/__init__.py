"""Protocols that existing clients speak, one a file, all thin: they read, ask as every route asks, and answer."""
