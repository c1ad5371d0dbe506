"""What a model is made of: datasets and their versions, bases."""
