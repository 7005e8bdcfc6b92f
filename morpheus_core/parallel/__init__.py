"""Running the strips of a run elsewhere: in workers that are started here, or on an executor."""
