"""The Jupyter face: magics, completion, live panels. The only room with IPython and ipywidgets; nothing imports it."""
