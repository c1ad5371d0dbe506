"""The nouns and contracts every room shares. Standard library only."""
