"""What can go wrong, as one family of exceptions.

Every class is a :class:`MorpheusError` and also the builtin that fits it, so that ``except
ValueError`` and ``except OSError`` keep their meaning for those who do not know this package.
"""


class MorpheusError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(MorpheusError, ValueError):
    """An argument or an input image cannot be used; raised before any work is done."""


class ModelError(MorpheusError, RuntimeError):
    """The model raised, or returned something other than the predictions it promised."""


class OutputError(MorpheusError, OSError):
    """The outputs cannot be written where they were asked for."""


class WorkerError(MorpheusError, RuntimeError):
    """A worker process failed, or was killed; all others were ended."""


class MissingPackageError(MorpheusError, ImportError):
    """What was asked for needs an optional package that is not installed."""


class MorpheusWarning(UserWarning):
    """The run goes on, but its result may not be what was meant."""
