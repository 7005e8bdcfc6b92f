"""What comes out, and what is made of it."""
