"""Architectures and weights: loaded, adapted, quantized, compared."""
