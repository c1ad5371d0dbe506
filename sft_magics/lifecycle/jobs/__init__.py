"""Work in a process of its own: asked for here, done there, its result committed."""
