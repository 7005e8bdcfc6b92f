"""Finished outputs as plain images that any program opens: planes, class maps, masks and flags."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.fits.blocks import ImageUnit, writing
from morpheus_core.fits.cards import commented
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.finished import Block, FinishedRun
from morpheus_core.results.image_files import GrowingFile, make_room, new_file, refuse_export
from morpheus_core.results.outputs import give_name

Pixels = NDArray[Any]

#: Statistics of each aggregate method, as suffixes of extension names.
STATISTICS = {
    AGGREGATION_METHODS.MEAN_VAR: ("MEAN", "VARIANCE"),
    AGGREGATION_METHODS.RANK_VOTE: ("VOTE",),
}
#: Names of extensions that are not of a class; numbers would be taken for the place of one.
RESERVED = ("CLASS_MAP", "N")
#: Types of flag images, and how many flags they hold besides a sign.
FLAG_TYPES = (("u1", 8), ("i2", 15), ("i4", 31), ("i8", 63))


def export_planes(
    out_dir: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    files: Literal["one", "one per plane"] = "one",
    first_label: int = 0,
    overwrite: bool = False,
) -> None:
    """Write each class and statistic of a finished run as a two-dimensional FITS image.

    Parameters
    ----------
    out_dir : path
        Where :func:`morpheus_core.predict` has written its outputs.
    path : path
        The file to write, of one image extension each: ``<CLASS>_MEAN`` and ``<CLASS>_VARIANCE``,
        or ``<CLASS>_VOTE``; ``CLASS_MAP``, uint8 (int16 beyond 255 classes), the index of the class
        with the highest mean or share, whose cards ``CLASS0``, ``CLASS1``, ... name the classes
        and whose card ``NODATA`` is the value of pixels without a result; and ``N``. If both
        methods were used, the maps are ``CLASS_MAP_MEAN`` and ``CLASS_MAP_VOTE``.
    files : {"one", "one per plane"}
        With "one per plane" `path` is a folder, made if need be, and each image a file of its own
        in it, ``<CLASS>_MEAN.fits`` ..., in the primary HDU. Programs that take every extension of
        a file for an exposure (SWarp, SCAMP, STIFF) need that.
    first_label : int, default 0
        The value of the first class in the class map. With 1 classes count from 1, and pixels
        without a result are 0: programs that measure labels take 0 for "nothing". Cards are
        ``CLASS1``, ``CLASS2`` ... then.
    overwrite : bool, default False
        Replace the files, once the new ones are complete, and what a killed export left.

    Raises
    ------
    InputError
        If `out_dir` holds no finished run, or outputs of different ones.
    OutputError
        If the file exists or cannot be written.
    """
    apart = checks.one_of("files", files, ("one", "one per plane")) == "one per plane"
    if first_label not in (0, 1) or isinstance(first_label, bool):
        raise InputError(f"first_label must be 0 or 1, got {first_label!r}")
    with FinishedRun(checks.path("out_dir", out_dir)) as run:
        planes = [
            plane
            for method in run.methods
            for plane in (*statistics(run, method), class_map(run, method, first_label))
        ]
        write = write_apart if apart else write_planes
        write(run, [*planes, count(run)], checks.path("path", path), overwrite)


def export_masks(
    out_dir: str | os.PathLike[str],
    path: str | os.PathLike[str],
    thresholds: float | Sequence[float] | Mapping[str, float] = 0.5,
    *,
    aggregate_method: str | None = None,
    bit_flags: bool = False,
    overwrite: bool = False,
) -> None:
    """Write where classes reach a threshold, as masks or as flags.

    Parameters
    ----------
    out_dir : path
        Where :func:`morpheus_core.predict` has written its outputs.
    path : path
        The file to write.
    thresholds : float, list of float or dict
        A mask is set where the mean, or the share of votes, is at least this: one number for all
        classes, one per class, or one by class name, for these classes only.
    aggregate_method : {"mean_var", "rank_vote"}, optional
        Which result is compared; needed only if the run has both.
    bit_flags : bool, default False
        Write one image, in the primary HDU, whose bit k is the mask of class k (cards ``BIT0``,
        ``BIT1``, ... name them), of the smallest of uint8, int16, int32 and int64 that holds all.
        By default each class is a uint8 image of its own, 1 where the mask is set, in an extension
        of the class's name. Pixels without a result are 0 in both: n tells them apart.
    overwrite : bool, default False
        Replace the file, once the new one is complete, and what a killed export left.

    Raises
    ------
    InputError
        If `out_dir` holds no finished run, or outputs of different ones, or an argument does not
        fit it.
    OutputError
        If the file exists or cannot be written.
    """
    with FinishedRun(checks.path("out_dir", out_dir)) as run:
        method = run.method(aggregate_method)
        limits = checked_thresholds(thresholds, run.class_names)
        if checks.flag("bit_flags", bit_flags):
            planes = [flags(run, method, limits)]
        else:
            planes = [mask(run, method, index, limit) for index, limit in limits.items()]
        write_planes(run, planes, checks.path("path", path), overwrite, primary=bit_flags)


@dataclass(frozen=True, slots=True)
class Plane:
    """One image that is exported.

    Attributes
    ----------
    dtype : dtype
        Of its pixels.
    cards : Header
        Its name and whatever else only it has.
    pixels : callable
        Makes rows of it from a block of the run.
    """

    dtype: np.dtype[Any]
    cards: fits.Header
    pixels: Callable[[Block], Pixels]


def statistics(run: FinishedRun, method: AGGREGATION_METHODS) -> Iterator[Plane]:
    """Yield one plane per class and statistic."""
    for index, name in enumerate(extension_names(run.class_names)):
        for statistic, suffix in enumerate(STATISTICS[method]):

            def pixels(block: Block, index: int = index, statistic: int = statistic) -> Pixels:
                of_class = block.results[method][:, :, index]
                return of_class[..., statistic] if of_class.ndim == 3 else of_class

            cards = fits.Header({"EXTNAME": f"{name}_{suffix}"})
            yield Plane(run.results[method].dtype, cards, pixels)


def class_map(run: FinishedRun, method: AGGREGATION_METHODS, first: int) -> Plane:
    """Return the plane of the class that is highest in each pixel; the lowest class wins a tie.

    Parameters
    ----------
    run, method
        Which result.
    first : int
        The value of the first class.
    """
    names = run.class_names
    dtype = np.dtype(np.uint8 if len(names) <= 255 - first else np.int16)  # 255 is "no class"
    no_data = 0 if first else 255 if dtype == np.uint8 else -1
    suffix = f"_{STATISTICS[method][0]}" if len(run.methods) > 1 else ""
    cards = fits.Header({"EXTNAME": f"CLASS_MAP{suffix}"})
    cards["NODATA"] = (no_data, "pixels without a result")
    for label, name in enumerate(names[: checks.MOST_CLASS_NAMES - first], start=first):
        cards[f"CLASS{label}"] = commented(name, f"pixels of value {label}")

    def pixels(block: Block) -> Pixels:
        shares = block.shares(method)
        winners = shares.argmax(axis=-1) + first
        return np.where(np.isfinite(shares).all(axis=-1), winners, no_data)

    return Plane(dtype, cards, pixels)


def count(run: FinishedRun) -> Plane:
    """Return the plane of the number of predictions."""
    cards = fits.Header({"EXTNAME": "N"})
    cards["BUNIT"] = "count"
    return Plane(run.n.dtype, cards, lambda block: block.n)


def mask(run: FinishedRun, method: AGGREGATION_METHODS, index: int, threshold: float) -> Plane:
    """Return the plane that is 1 where a class reaches its threshold."""
    cards = fits.Header({"EXTNAME": extension_names(run.class_names)[index]})
    cards["THRESH"] = (threshold, f"least {STATISTICS[method][0].lower()} of this class")
    return Plane(np.dtype(np.uint8), cards, lambda block: block.reach(method, index, threshold))


def flags(run: FinishedRun, method: AGGREGATION_METHODS, thresholds: dict[int, float]) -> Plane:
    """Return the plane of which bit k is set where class k reaches its threshold."""
    dtype = flag_type(max(thresholds))
    cards = fits.Header({"EXTNAME": "FLAGS"})
    names = run.class_names
    for index, threshold in thresholds.items():
        cards[f"BIT{index}"] = commented(names[index], f"flag {1 << index}")
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


def write_planes(
    run: FinishedRun, planes: Sequence[Plane], path: Path, overwrite: bool, primary: bool = False
) -> None:
    """Write images, extensions or a primary, to a file that gets its name when it is complete."""
    write_files(run, {path: planes}, overwrite, primary)


def write_apart(run: FinishedRun, planes: Sequence[Plane], folder: Path, overwrite: bool) -> None:
    """Write each image to a file of its name in a folder."""
    files = {folder / f"{plane.cards['EXTNAME']}.fits": [plane] for plane in planes}
    if not folder.is_dir():
        refuse_export(run.directory, folder, [], overwrite=False)
        with writing(folder):
            folder.mkdir()
    write_files(run, files, overwrite, primary=True)


def write_files(
    run: FinishedRun, files: Mapping[Path, Sequence[Plane]], overwrite: bool, primary: bool
) -> None:
    """Write files of images side by side, while the run is read once."""
    for path in files:
        refuse_export(run.directory, path, run.paths, overwrite)
    parts = {path: path.with_name(f"{path.name}.part") for path in files}
    with ExitStack() as opened:
        growing = []
        for path, planes in files.items():
            descriptor = opened.enter_context(new_file(parts[path], overwrite))
            units = units_of(run, planes, primary)
            writers = make_room(parts[path], descriptor, units)
            growing.append((planes, GrowingFile(parts[path], descriptor, writers)))
        for block in run.blocks():
            for planes, file in growing:
                for place, plane in enumerate(planes, start=-len(planes)):
                    file.write(place, block.first, plane.pixels(block))
        for _, file in growing:
            file.seal()
    for path, part in parts.items():
        give_name(part, path, overwrite)


def units_of(run: FinishedRun, planes: Sequence[Plane], primary: bool) -> list[ImageUnit]:
    """Describe the images of a file, behind an empty primary HDU unless they are the primary."""
    units = [] if primary else [ImageUnit((), np.dtype(np.uint8))]
    for plane in planes:
        cards = plane.cards.copy()
        cards.extend(run.cards)
        units.append(ImageUnit(run.shape, plane.dtype, cards, extension=bool(units)))
    return units
