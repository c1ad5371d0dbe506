"""The datasets that come with the package or are drawn by it."""
