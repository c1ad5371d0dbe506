"""How good a version is: the rows to measure, metrics and rules on them, errors, predictions."""
