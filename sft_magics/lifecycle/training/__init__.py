"""Runs: their recipe and length, what they would take, how they are watched and steered."""
