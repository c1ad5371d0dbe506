"""From requests to answers: the queue, the model's thread, versions on trial, swaps."""
