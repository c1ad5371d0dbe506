"""Answers of trained weights, and their export."""
