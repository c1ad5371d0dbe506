"""HOW a model learns: the only room with torch. It knows specs and events; it knows neither registry nor notebook."""
