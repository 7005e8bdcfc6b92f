"""What can go wrong, as one family of exceptions.

Every class is a :class:`MorpheusError` and also the builtin that fits it, so that ``except
ValueError`` and ``except OSError`` keep their meaning for those who do not know this package.
"""

from __future__ import annotations

import os
import sys
import warnings


class MorpheusError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(MorpheusError, ValueError):
    """An argument or an input image cannot be used.

    Arguments are refused before any work is done; pixels that cannot be read may show later.
    """


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


def warn(message: str) -> None:
    """Warn at the line of the user's that led here, however deep that is."""
    here = os.path.dirname(warn.__code__.co_filename) + os.sep  # noqa: PTH120 - need not exist
    found = frame = sys._getframe()
    while frame.f_back is not None:
        if frame.f_code.co_filename.startswith(here):
            found = frame.f_back
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        MorpheusWarning,
        found.f_code.co_filename,
        found.f_lineno,
        module=found.f_globals.get("__name__"),
        registry=found.f_globals.setdefault("__warningregistry__", {}),
    )
