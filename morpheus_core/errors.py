"""What can go wrong, as one family of exceptions.

Every class is a :class:`MorpheusError` and also the builtin that fits it, so that ``except
ValueError`` and ``except OSError`` keep their meaning for those who do not know this package.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

#: What the files of this package begin with.
PACKAGE = str(Path(__file__).parent) + os.sep


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
    frames = [sys._getframe()]
    while frames[-1].f_back is not None:
        frames.append(frames[-1].f_back)
    inside = [k for k, frame in enumerate(frames) if frame.f_code.co_filename.startswith(PACKAGE)]
    warnings.warn(message, MorpheusWarning, stacklevel=inside[-1] + 2)
