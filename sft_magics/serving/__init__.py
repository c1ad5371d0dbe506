"""How a model answers: an HTTP endpoint in its own process, and the log of what it answered."""
