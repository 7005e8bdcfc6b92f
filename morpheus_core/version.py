"""The version, for whoever needs it without the rest."""

__version__ = "1.0.0"
