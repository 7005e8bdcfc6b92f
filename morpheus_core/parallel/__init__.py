"""Doing pieces of work elsewhere: in workers that are started here, or on an executor."""
