"""Versions that answer: rollout, the engine that computes, trials, benchmarks."""
