"""Arguments as users give them → values that the rest can rely on, or an `InputError`."""

from __future__ import annotations

import inspect
import math
import operator
import os
import re
import reprlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morpheus_core.errors import InputError
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.storage.paths import at_home

Choice = TypeVar("Choice", bound=str)

#: Dilations are fractions of whole numbers up to this one.
LARGEST_DENOMINATOR = 10_000
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
PLANE_NAMES = re.compile(r"\s*~?\s*[A-Za-z_]\w*(?:\s*[|,+]\s*[A-Za-z_]\w*)*\s*")
OUTPUT_DTYPES = ("float32", "float64")
#: "CLASS999" is the longest keyword there can be.
MOST_CLASS_NAMES = 1000
#: With a suffix such as "_VARIANCE", what a card holds without continuation.
LONGEST_CLASS_NAME = 50


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number that is not too small."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{name} must be a whole number >= {least}, got {value!r}")
    return number


def positive_pair(name: str, value: Any) -> tuple[int, int]:
    """Return two whole numbers of at least one, (rows, columns)."""
    try:
        rows, columns = (operator.index(length) for length in value)
    except (TypeError, ValueError):
        rows = columns = 0
    if min(rows, columns) < 1:
        raise InputError(
            f"{name} must be two whole numbers >= 1, (rows, columns), as in (40, 40), got {value!r}"
        )
    return rows, columns


def real_number(name: str, value: Any) -> float:
    """Return a float, which may be NaN."""
    try:
        if np.asarray(value).dtype.kind not in "bSU":
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} must be a number, got {value!r}")


def positive_number(name: str, value: Any) -> float:
    """Return a finite float above zero."""
    number = real_number(name, value)
    if not 0 < number < float("inf"):
        raise InputError(f"{name} must be a finite number > 0, got {value!r}")
    return number


def finite_number(name: str, value: Any) -> float:
    """Return a finite float."""
    number = real_number(name, value)
    if not math.isfinite(number):
        raise InputError(f"{name} must be finite, got {value!r}")
    return number


def positive_fraction(name: str, value: Any) -> Fraction:
    """Return the simple fraction that a float such as 1/3 stands for."""
    exact = value if isinstance(value, Fraction) else Fraction(positive_number(name, value))
    fraction = exact.limit_denominator(LARGEST_DENOMINATOR)
    if fraction <= 0:
        raise InputError(f"{name} must be at least 1/{LARGEST_DENOMINATOR}, got {value!r}")
    return fraction


def one_of(name: str, value: object, choices: Sequence[Choice]) -> Choice:
    """Return the choice that a value is equal to."""
    for choice in choices:
        if isinstance(value, str) and value == choice:
            return choice
    raise InputError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def methods(aggregate_method: Any) -> tuple[AGGREGATION_METHODS, ...]:
    """Return one or several distinct aggregation methods."""
    several = isinstance(aggregate_method, (list, tuple))
    values = aggregate_method if several else [aggregate_method]
    names = [str(method) for method in AGGREGATION_METHODS]
    found = tuple(AGGREGATION_METHODS(one_of("aggregate_method", v, names)) for v in values)
    if not found or len(set(found)) < len(found):
        raise InputError(f"aggregate_method must name distinct methods, got {aggregate_method!r}")
    return found


def path(name: str, value: Any) -> Path:
    """Return a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{name} must be a path, got {reprlib.repr(value)}")
    if ADDRESS.match(os.fspath(value)):
        raise InputError(
            f"{name} must be a path on this machine, got the address {os.fspath(value)}; copy what "
            f"is there, or what comes out, by a program of its own"
        )
    return Path(at_home(value)).absolute()  # a model may change the working directory


def existing_file(name: str, value: Any, suffixes: tuple[str, ...]) -> Path:
    """Return the path of a file with one of these suffixes."""
    found = path(name, value)
    if found.suffix.lower() not in suffixes:
        raise InputError(f"{name} must end in {' or '.join(suffixes)}, got {str(value)!r}")
    if not found.is_file():
        raise InputError(f"{name} must be an existing file, got {str(value)!r}")
    return found


def model(value: object) -> None:
    """Raise unless the value is callable, or names what makes a callable."""
    if inspect.isclass(value):
        raise InputError(f"model must be an instance, got the class {value.__name__}; call it")
    if not callable(value) and not (isinstance(value, str) and value.count(":") == 1):
        raise InputError(f'model must be callable, or "package.module:factory", got {value!r}')


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def output_dtype(value: Any, choices: Sequence[str] = OUTPUT_DTYPES) -> str:
    """Return the name of a type of results."""
    try:
        name = str(np.dtype(value).name)
    except TypeError:
        name = ""
    if value is None or name not in choices:
        raise InputError(f"output_dtype must be one of {', '.join(choices)}, got {value!r}")
    return name


def class_names(value: Any, n_classes: int) -> tuple[str, ...]:
    """Return one name per class, or none; they become names of FITS extensions."""
    if value is None:
        return ()
    names = tuple(value) if isinstance(value, (list, tuple, np.ndarray)) else ()
    if len(names) != n_classes or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names must be {n_classes} strings, one per class, got {value!r}")
    if n_classes > MOST_CLASS_NAMES:
        raise InputError(
            f"class_names must be at most {MOST_CLASS_NAMES}: a FITS card counts no further"
        )
    for name in names:
        if not (name.isascii() and name.isprintable() and name.strip() == name != ""):
            raise InputError(f"class_names must be printable ASCII, as in FITS, got {name!r}")
        if len(name) > LONGEST_CLASS_NAME:
            raise InputError(
                f"class_names must have at most {LONGEST_CLASS_NAME} characters, got {name!r}"
            )
    if len({name.upper() for name in names}) < n_classes:
        raise InputError(f"class_names must differ, also in capitals, got {value!r}")
    return names


def mask_bits(value: Any) -> int | str | None:
    """Return the bits that a list of flags, their sum, or a string such as "4,8" stand for.

    Names of planes, "BAD|SAT", are returned as they are: only the header of a mask knows them.
    """
    if value is None or (isinstance(value, str) and PLANE_NAMES.fullmatch(value)):
        return value
    from astropy.nddata.bitmask import interpret_bit_flags

    try:
        bits = 0 if isinstance(value, bool) else interpret_bit_flags(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"mask_bits must be flags, powers of two, as a list, their sum or a string: {error}"
        ) from error
    if not bits or not -(2**63) <= bits < 2**63:
        raise InputError(f"mask_bits must choose at least one of 63 bits, got {value!r}")
    return int(bits)


def update_map(value: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return an update map as float64 weights; None counts every pixel once.

    Parameters
    ----------
    value : array_like or None
        Boolean, or non-negative finite weights.
    shape : tuple of int
        The shape it must have, in output pixels.

    Raises
    ------
    InputError
        If the shape or a value is wrong, or no pixel counts.
    """
    if value is None:
        return np.ones(shape)
    if isinstance(value, str):
        raise InputError(
            f"update_map must be an array, as update_maps.hann(window_shape) makes, got {value!r}"
        )
    try:
        weights = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"update_map must be an array: {error}") from error
    if weights.shape != shape:
        raise InputError(
            f"update_map must have the window shape times dilation, {shape}, got {weights.shape}"
        )
    if weights.dtype.kind not in "biuf":
        raise InputError(f"update_map must be boolean or real weights, got dtype {weights.dtype}")
    weights = weights.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        stored = weights.astype(np.float32)  # as n is
    bad = ~(np.isfinite(stored) & (weights >= 0)) | ((weights > 0) & (stored == 0))
    if bad.any():
        raise InputError(
            f"update_map weights must be finite and >= 0, also in float32, got {weights[bad][0]}"
        )
    if not weights.any():
        raise InputError("update_map must count at least one pixel, got only zeros")
    return weights
