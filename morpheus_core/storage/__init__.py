"""Files that are whole, locked, pickled, closed."""
