"""Pictures: found, decoded, turned upright, hashed, kept."""
