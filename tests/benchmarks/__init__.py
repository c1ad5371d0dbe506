"""Benchmarks: scripts that print ratios of medians; run by `make bench`, never asserted."""
