"""Finished outputs as plain images that any program opens: planes, class maps, masks and flags."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.fits.blocks import ImageUnit, writing
from morpheus_core.results.finished import FinishedRun, Output
from morpheus_core.results.image_files import GrowingFile, make_room, new_file, refuse_export
from morpheus_core.results.opened import open_run
from morpheus_core.results.outputs import give_name
from morpheus_core.results.planes import (
    Pixels,
    Plane,
    checked_thresholds,
    class_map,
    count,
    flags,
    mask,
    statistics,
    suffix_of,
)
from morpheus_core.results.product_runs import ProductRun, method_of

AnyRun = FinishedRun | ProductRun
#: Cards of products that stay with their pixels.
KEPT_CARDS = re.compile(r"EXTNAME|BUNIT|BIT\d+|THRESH\d+")


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
    with open_run(checks.path("out_dir", out_dir)) as run:
        write = write_apart if apart else write_planes
        write(run, planes_of(run, first_label), checks.path("path", path), overwrite)


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
    with open_run(checks.path("out_dir", out_dir)) as run:
        method = run.method(aggregate_method)
        limits = checked_thresholds(thresholds, run.class_names)
        if checks.flag("bit_flags", bit_flags):
            planes = [flags(run.class_names, method, limits)]
        else:
            planes = [
                mask(run.class_names, method, index, limit) for index, limit in limits.items()
            ]
        write_planes(run, planes, checks.path("path", path), overwrite, primary=bit_flags)


def planes_of(run: AnyRun, first_label: int) -> list[Plane]:
    """Return all planes of a run, or those that it has kept."""
    if isinstance(run, ProductRun):
        return [kept(run, image, first_label) for image in run.images.values()]
    planes: list[Plane] = []
    for method in run.methods:
        planes += statistics(run.class_names, method, run.results[method].dtype)
        planes.append(
            class_map(run.class_names, method, suffix_of(method, run.methods), first_label)
        )
    return [*planes, count(run.n.dtype)]


def kept(run: ProductRun, image: Output, first_label: int) -> Plane:
    """Return a product as it is, or a class map in which the first class has that value."""
    name, product = image.header["EXTNAME"], image.header["PRODUCT"]

    def pixels(block: Any) -> Pixels:
        return image.read(block.first, block.stop)

    method = method_of(product)
    if method is None or not product.startswith("class_map"):
        own = [card for card in image.header.cards if KEPT_CARDS.fullmatch(card.keyword)]
        return Plane(image.dtype, fits.Header(own), pixels)
    plane = class_map(run.class_names, method, name.removeprefix("CLASS_MAP"), first_label)
    old, new = image.header["NODATA"], plane.cards["NODATA"]

    def labels(block: Any) -> Pixels:
        found = pixels(block).astype(np.int16)
        return np.where(found == old, new, found + first_label)

    return replace(plane, pixels=labels)


def write_planes(
    run: AnyRun, planes: Sequence[Plane], path: Path, overwrite: bool, primary: bool = False
) -> None:
    """Write images, extensions or a primary, to a file that gets its name when it is complete."""
    write_files(run, {path: planes}, overwrite, primary)


def write_apart(run: AnyRun, planes: Sequence[Plane], folder: Path, overwrite: bool) -> None:
    """Write each image to a file of its name in a folder."""
    files = {folder / f"{plane.cards['EXTNAME']}.fits": [plane] for plane in planes}
    if not folder.is_dir():
        refuse_export(run.directory, folder, [], overwrite=False)
        with writing(folder):
            folder.mkdir()
    write_files(run, files, overwrite, primary=True)


def write_files(
    run: AnyRun, files: Mapping[Path, Sequence[Plane]], overwrite: bool, primary: bool
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


def units_of(run: AnyRun, planes: Sequence[Plane], primary: bool) -> list[ImageUnit]:
    """Describe the images of a file, behind an empty primary HDU unless they are the primary."""
    units = [] if primary else [ImageUnit((), np.dtype(np.uint8))]
    for plane in planes:
        cards = plane.cards.copy()
        cards.extend(run.cards)
        units.append(ImageUnit(run.shape, plane.dtype, cards, extension=bool(units)))
    return units
