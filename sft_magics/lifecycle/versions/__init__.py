"""Version control: listing, comparing, promoting, describing, reproducing, exchanging."""
