"""Faster forms of layers, with the same results."""
