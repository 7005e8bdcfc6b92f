"""Small files that are whole as soon as they have their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_text(path: Path, text: str) -> None:
    """Write a text."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


def write_secret(path: Path, content: bytes) -> None:
    """Write bytes that only this user can read, at no moment of it another one."""
    unfinished = path.with_suffix(".tmp")
    unfinished.unlink(missing_ok=True)  # which may have other rights
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    unfinished.replace(path)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array in numpy's own format."""
    unfinished = path.with_suffix(".tmp.npy")
    np.save(unfinished, array)
    unfinished.replace(path)
