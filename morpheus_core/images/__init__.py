"""What comes in: images that are read row by row."""
