"""The training loop and its parts: steps, optimizers, checkpoints, edits, evaluations."""
