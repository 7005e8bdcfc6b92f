"""Whether the files that an adapter needs are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from morpheus_core.errors import InputError


def existing_file(name: str, value: Any, suffixes: tuple[str, ...]) -> Path:
    """Return the absolute path of a file; workers may stand in another folder.

    Raises
    ------
    InputError
        If it is no path, has another suffix, or is not there.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{name} must be a path, got {value!r}")
    path = Path(value).absolute()
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{name} must end in {' or '.join(suffixes)}, got {str(value)!r}")
    if not path.is_file():
        raise InputError(f"{name} must be a file, got {str(value)!r}, which is none")
    return path
