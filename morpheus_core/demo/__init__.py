"""A simulated sky and a small trained network, to see the whole package at work."""
