"""The version, for whoever needs it without the rest."""

__version__ = "1.0.0"
#: What runs keep on disk: changes whenever another build cannot go on with it.
RUN_FORMAT = 7
