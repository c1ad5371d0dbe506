"""HTTP around the model: bodies read and written, who may ask, limits."""
