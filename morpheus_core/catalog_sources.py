"""Which images the rows of a catalogue are cut from: the same for all, or files named per row."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.fits_images import FitsImage, split_extension
from morpheus_core.images import Bands, Image
from morpheus_core.inputs import ModelInputs, as_list, open_image, reopen_image

if TYPE_CHECKING:
    from astropy.table import Table

Int64 = NDArray[np.int64]


class MissingFileError(InputError):
    """A file that a row names is not there."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Sets of images, and which one each row is cut from.

    Attributes
    ----------
    sets : list of list
        The images of each set: paths, or places for :func:`morpheus_core.inputs.reopen_image`.
    set_of_row : ndarray of int64, (rows,)
        -1 where a row names none.
    layout : {"last", "first"}
        Where the bands of files are.
    """

    sets: Sequence[Sequence[Any]]
    set_of_row: Int64
    layout: Bands


@contextmanager
def open_set(places: Sequence[Any], layout: Bands) -> Iterator[list[Image]]:
    """Open the images of a set.

    Raises
    ------
    MissingFileError
        If one is not there.
    InputError
        If one cannot be read.
    """
    with ExitStack() as opened:
        images: list[Image] = []
        for place in places:
            is_file = isinstance(place, str)
            images.append(open_file(place, layout) if is_file else reopen_image(place))
            opened.callback(images[-1].close)
        yield images


def open_file(source: str, layout: Bands) -> Image:
    """Open a file, perhaps with an extension in brackets."""
    path, extension = split_extension(source)
    try:
        exists = path.exists()
    except OSError:  # a name too long, for instance
        exists = False
    if not exists:
        raise MissingFileError(f"no such file: {path}")
    return FitsImage(path, extension, layout)


def is_template(source: Any) -> bool:
    """Say whether an input is a path with fields, ``"frame-{band}-{run:06d}.fits"``."""
    if not isinstance(source, (str, os.PathLike)) or Path(source).exists():
        return False
    return re.search(r"\{\w+(:[^{}]*)?\}", os.fspath(source)) is not None


def name_files(
    templates: Sequence[str], bands: Sequence[str], layout: Bands, table: Table
) -> Sources:
    """Find the files of each row.

    Parameters
    ----------
    templates : sequence of str
        With names of columns in braces, as `str.format` takes them, and ``{band}``.
    bands : sequence of str
        What ``{band}`` stands for; each template gives one input per band.
    layout : {"last", "first"}
        Where the bands of cubes are.
    table : Table
        The catalogue.

    Raises
    ------
    InputError
        If a template names what the catalogue does not have, or does not fit its values.
    """
    fields = [name for one in templates for name in fields_of(one)]
    names = sorted(set(fields) - {"band"})
    refuse_fields(names, table, "band" in fields, bands)
    set_of_row, values = distinct(table, names)
    try:
        sets = [
            [
                template.format(**dict(zip(names, value, strict=True)), band=band)
                for template, band in files_of(templates, bands)
            ]
            for value in values
        ]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the template must fit the values of {', '.join(names)}: {error}"
        ) from error
    return Sources(sets, set_of_row, layout)


def fields_of(template: str) -> list[str]:
    """Return the names in braces."""
    try:
        return [name for _, name, *_ in Formatter().parse(template) if name]
    except ValueError as error:
        raise InputError(f"the template {template} must have names in braces: {error}") from error


def files_of(templates: Sequence[str], bands: Sequence[str]) -> list[tuple[str, str]]:
    """Return each template with each of its bands."""
    return [
        pair
        for template in templates
        for pair in product([template], bands if "band" in fields_of(template) else [""])
    ]


def refuse_fields(names: Sequence[str], table: Table, banded: bool, bands: Sequence[str]) -> None:
    """Raise if a field of a template has no value."""
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise InputError(
            f"a template must name columns of the catalogue, got {', '.join(missing)}, of "
            f"{', '.join(table.colnames)}"
        )
    if banded != bool(bands):
        raise InputError(
            f"a template with {{band}} and a list of bands need each other, got bands={bands!r}; "
            f'bands=["g", "r"] gives one input per band'
        )


def distinct(table: Table, names: Sequence[str]) -> tuple[Int64, list[tuple[Any, ...]]]:
    """Return which combination of values each row has, -1 where one is missing, and all of them."""
    codes = np.zeros(len(table), np.int64)
    missing = np.zeros(len(table), bool)
    for name in names:
        column = table[name]
        missing |= np.asarray(getattr(column, "mask", False))
        data = np.ma.getdata(column)
        if data.dtype.kind == "O":  # as pandas leaves it: text beside None and NaN
            missing |= np.array([value is None or value != value for value in data], bool)
            data = np.array([str(value) for value in data])
        _, values = np.unique(data, return_inverse=True)
        # Few numbers stand for the combinations so far, so products stay small.
        _, codes = np.unique(codes * (values.max(initial=0) + 1) + values, return_inverse=True)
    codes[missing] = -1
    present, first = np.unique(codes, return_index=True)
    rows = first[present >= 0]
    columns = [[plain(value) for value in table[name][rows]] for name in names]
    set_of_row = np.searchsorted(present[present >= 0], codes)
    set_of_row[missing] = -1
    return set_of_row, list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def plain(value: Any) -> Any:
    """Return a value of a column as one of Python."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def common_images(model_inputs: ModelInputs, layout: Bands, opened: ExitStack) -> list[Image]:
    """Open images that all rows are cut from."""
    images = []
    for index, source in enumerate(as_list(model_inputs)):
        images.append(open_image(source, f"model_inputs[{index}]", layout))
        opened.callback(images[-1].close)
    return images
