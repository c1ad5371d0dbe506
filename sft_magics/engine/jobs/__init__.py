"""What a process of the engine does: train, predict, measure, dry runs, probes."""
