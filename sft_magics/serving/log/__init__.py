"""The prediction log and what writes it."""
