"""Values of classes from text files of two columns, "CR 0.01" in each line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from morpheus_core.errors import InputError

Value = TypeVar("Value")
PathLike = str | os.PathLike[str]


def read_wanted_classes(path: PathLike, class_names: Sequence[str]) -> list[str]:
    """Return the classes whose value is 1, not 0, in the order of the model.

    Parameters
    ----------
    path : path
        A text file with one line for each class, in any order: its name and a value, with blanks
        between. Lines may be empty, and a # begins a comment.
    class_names : sequence of str
        The classes, in the order of the model.

    Raises
    ------
    InputError
        If the file cannot be read, a class is unknown, given twice or missing, a value is not one,
        or no class is wanted.
    """
    flags = read_class_table(path, class_names, flag)
    wanted = [name for name, is_wanted in zip(class_names, flags, strict=True) if is_wanted]
    if not wanted:
        raise InputError(f"{path} must want at least one class, got only 0")
    return wanted


def read_priors(path: PathLike, class_names: Sequence[str]) -> list[float]:
    """Return the share of pixels of each class, in the order of the model.

    Parameters
    ----------
    path : path
        A text file with one line for each class, in any order: its name and a value, with blanks
        between. Lines may be empty, and a # begins a comment.
    class_names : sequence of str
        The classes, in the order of the model.

    Returns
    -------
    list of float
        Values between 0 and 1, both excluded.

    Raises
    ------
    InputError
        If the file cannot be read, a class is unknown, given twice or missing, or a value is
        not one.
    """
    return read_class_table(path, class_names, prior)


def read_thresholds(path: PathLike, class_names: Sequence[str]) -> list[float]:
    """Return the threshold of each class's probability, in the order of the model.

    Parameters
    ----------
    path, class_names
        As for :func:`read_priors`.

    Returns
    -------
    list of float
        Values from 0 to 1.

    Raises
    ------
    InputError
        As :func:`read_priors` does.
    """
    return read_class_table(path, class_names, threshold)


def read_class_table(
    path: PathLike, class_names: Sequence[str], value_of: Callable[[str], Value]
) -> list[Value]:
    """Return the values of a file; `value_of` raises a ValueError that says what they must be."""
    values: dict[str, Value] = {}
    for place, columns in lines(Path(path)):
        if len(columns) != 2:
            raise InputError(f"{place}: a line must be a class and its value, got {columns}")
        name, text = columns
        if name not in class_names:
            raise InputError(f"{place}: the class must be of {', '.join(class_names)}, got {name}")
        if name in values:
            raise InputError(f"{place}: {name} must be given once, got it again")
        try:
            values[name] = value_of(text)
        except ValueError as error:
            raise InputError(f"{place}: {error}, got {text}") from error
    missing = [name for name in class_names if name not in values]
    if missing:
        raise InputError(f"{path} must give every class, got none of {', '.join(missing)}")
    return [values[name] for name in class_names]


def lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield where each line is and what its columns are, but for empty ones and comments."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a text file: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.partition("#")[0].split()
        if columns:
            yield f"{path}, line {number}", columns


def flag(text: str) -> bool:
    """Return whether a class is wanted."""
    if text not in ("0", "1"):
        raise ValueError("the value must be 0 or 1")
    return text == "1"


def prior(text: str) -> float:
    """Return a share of pixels."""
    value = number(text)
    if not 0 < value < 1:
        raise ValueError("a prior must be > 0 and < 1")
    return value


def threshold(text: str) -> float:
    """Return a threshold of probabilities."""
    value = number(text)
    if not 0 <= value <= 1:
        raise ValueError("a threshold must be >= 0 and <= 1")
    return value


def number(text: str) -> float:
    """Return a float."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("the value must be a number") from None
