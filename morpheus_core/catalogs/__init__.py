"""Windows at the positions of a catalogue: one answer per source."""
