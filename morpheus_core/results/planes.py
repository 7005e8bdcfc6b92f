"""Two-dimensional images of a result, of which a few rows are made at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.fits.cards import commented
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.blocks import Block

Pixels = NDArray[Any]

#: Statistics of each aggregate method, as suffixes of names.
STATISTICS = {
    AGGREGATION_METHODS.MEAN_VAR: ("MEAN", "VARIANCE"),
    AGGREGATION_METHODS.RANK_VOTE: ("VOTE",),
}
#: What statistics are, of one class.
CLASS_PIXELS: dict[str, Callable[[Block, int], Pixels]] = {
    "MEAN": lambda block, index: block.results[AGGREGATION_METHODS.MEAN_VAR][:, :, index, 0],
    "VARIANCE": lambda block, index: block.results[AGGREGATION_METHODS.MEAN_VAR][:, :, index, 1],
    "STD": lambda block, index: CLASS_PIXELS["VARIANCE"](block, index),
    "VOTE": lambda block, index: block.results[AGGREGATION_METHODS.RANK_VOTE][:, :, index],
}
#: Names of extensions that are not of a class; numbers would be taken for the place of one.
RESERVED = ("CLASS_MAP", "TOP", "MARGIN", "ENTROPY", "FLAGS", "N")
#: Types of flag images, and how many flags they hold besides a sign.
FLAG_TYPES = (("u1", 8), ("i2", 15), ("i4", 31), ("i8", 63))


@dataclass(frozen=True, slots=True)
class Plane:
    """One image that is made of a result.

    Attributes
    ----------
    dtype : dtype
        Of its pixels.
    cards : Header
        Its name and whatever else only it has.
    pixels : callable
        Makes rows of it from a block of the result.
    """

    dtype: np.dtype[Any]
    cards: fits.Header
    pixels: Callable[[Block], Pixels]


def statistics(
    class_names: Sequence[str], method: AGGREGATION_METHODS, dtype: np.dtype[Any]
) -> Iterator[Plane]:
    """Yield one plane per class and statistic."""
    for index in range(len(class_names)):
        for statistic in STATISTICS[method]:
            yield of_class(class_names, index, statistic, dtype)


def of_class(class_names: Sequence[str], index: int, statistic: str, dtype: np.dtype[Any]) -> Plane:
    """Return the plane of a statistic of one class."""
    name = f"{extension_names(class_names)[index]}_{statistic}"
    return plain(name, lambda block: CLASS_PIXELS[statistic](block, index), dtype)


def plain(name: str, pixels: Callable[[Block], Pixels], dtype: np.dtype[Any]) -> Plane:
    """Return a plane of which nothing but its name is to be said."""
    return Plane(dtype, fits.Header({"EXTNAME": name}), pixels)


def suffix_of(method: AGGREGATION_METHODS, methods: Sequence[AGGREGATION_METHODS]) -> str:
    """Return what the name of a plane of all classes ends in, if there may be two such planes."""
    return f"_{STATISTICS[method][0]}" if len(methods) > 1 else ""


def class_map(
    class_names: Sequence[str], method: AGGREGATION_METHODS, suffix: str, first: int
) -> Plane:
    """Return the plane of the class that is highest in each pixel; the lowest class wins a tie.

    Parameters
    ----------
    class_names, method
        Of which result.
    suffix : str
        Of its name.
    first : int
        The value of the first class.
    """
    # 255 is "no class".
    dtype = np.dtype(np.uint8 if len(class_names) <= 255 - first else np.int16)
    no_data = 0 if first else 255 if dtype == np.uint8 else -1
    cards = fits.Header({"EXTNAME": f"CLASS_MAP{suffix}"})
    # With BLANK astropy would make floats of all pixels, and would not map them into memory.
    cards["NODATA"] = (no_data, "pixels without a result")
    for label, name in enumerate(class_names[: checks.MOST_CLASS_NAMES - first], start=first):
        cards[f"CLASS{label}"] = commented(name, f"pixels of value {label}")

    def pixels(block: Block) -> Pixels:
        ranking = block.ranking(method)
        return np.where(ranking.known, ranking.winner + first, no_data)

    return Plane(dtype, cards, pixels)


def count(dtype: np.dtype[Any]) -> Plane:
    """Return the plane of the number of predictions."""
    cards = fits.Header({"EXTNAME": "N"})
    cards["BUNIT"] = "count"
    return Plane(dtype, cards, lambda block: block.n)


def mask(
    class_names: Sequence[str], method: AGGREGATION_METHODS, index: int, threshold: float
) -> Plane:
    """Return the plane that is 1 where a class reaches its threshold."""
    cards = fits.Header({"EXTNAME": extension_names(class_names)[index]})
    cards["THRESH"] = (threshold, f"least {STATISTICS[method][0].lower()} of this class")
    return Plane(np.dtype(np.uint8), cards, lambda block: block.reach(method, index, threshold))


def flags(
    class_names: Sequence[str],
    method: AGGREGATION_METHODS,
    thresholds: Mapping[int, float],
    suffix: str = "",
) -> Plane:
    """Return the plane of which bit k is set where class k reaches its threshold."""
    dtype = flag_type(max(thresholds))
    cards = fits.Header({"EXTNAME": f"FLAGS{suffix}"})
    for index, threshold in thresholds.items():
        cards[f"BIT{index}"] = commented(class_names[index], f"flag {1 << index}")
        cards[f"THRESH{index}"] = (threshold, f"least {STATISTICS[method][0].lower()}")

    def pixels(block: Block) -> Pixels:
        return packed(
            {index: block.reach(method, index, limit) for index, limit in thresholds.items()}
        )

    return Plane(dtype, cards, pixels)


def flag_type(highest: int) -> np.dtype[Any]:
    """Return the smallest type of pixels that holds a flag for each class up to the highest.

    Raises
    ------
    InputError
        If there is none.
    """
    kind = next((kind for kind, bits in FLAG_TYPES if highest < bits), None)
    if kind is None:
        raise InputError(f"an image of flags holds at most 63 classes, got {highest + 1}")
    return np.dtype(kind)


def packed(masks: Mapping[int, NDArray[np.bool_]]) -> Pixels:
    """Return an image whose bit k is the mask of class k."""
    found = np.zeros(next(iter(masks.values())).shape, np.int64)
    for index, pixels in masks.items():
        found |= pixels.astype(np.int64) << index
    return found


def extension_names(class_names: Sequence[str]) -> list[str]:
    """Return names of classes that programs take in brackets, without blanks."""
    names = [re.sub(r"[^A-Z0-9_]", "_", name.upper()) for name in class_names]
    if len(set(names)) == len(names) and not any(
        name in RESERVED or name.isdigit() for name in names
    ):
        return names
    return [f"CLASS_{index}_{name}" for index, name in enumerate(names)]


def checked_thresholds(
    thresholds: float | Sequence[float] | Mapping[str, float], class_names: Sequence[str]
) -> dict[int, float]:
    """Return a threshold by the index of each class that has one."""
    if isinstance(thresholds, Mapping):
        unknown = [name for name in thresholds if name not in class_names]
        if unknown or not thresholds:
            raise InputError(
                f"thresholds must be of the classes {', '.join(class_names)}, got "
                f"{dict(thresholds)!r}"
            )
        return {
            class_names.index(name): checks.finite_number("thresholds", value)
            for name, value in thresholds.items()
        }
    if not isinstance(thresholds, (list, tuple, np.ndarray)) or np.ndim(thresholds) == 0:
        return dict.fromkeys(
            range(len(class_names)), checks.finite_number("thresholds", thresholds)
        )
    values = [checks.finite_number("thresholds", value) for value in thresholds]
    if len(values) != len(class_names):
        raise InputError(
            f"thresholds must be one number, or {len(class_names)}, one per class, got "
            f"{len(values)}"
        )
    return dict(enumerate(values))
