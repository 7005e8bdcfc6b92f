"""Which images the rows of a catalogue are cut from: the same for all, or files named per row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.images.check_sums import CheckSums, check_sums
from morpheus_core.images.expansion import Unpacked
from morpheus_core.images.fits_images import FitsImage
from morpheus_core.images.hdus import split_extension
from morpheus_core.images.image import ArrayImage, Bands, Image, Layout
from morpheus_core.images.picture_files import is_picture, open_picture
from morpheus_core.images.remote_images import is_address, open_remote
from morpheus_core.images.scales import Reading
from morpheus_core.images.stack import reopen_image

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.table import Table

Int64 = NDArray[np.int64]


class MissingFileError(InputError):
    """A file that a row names is not there."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that other processes can open, with the world coordinates that it has here.

    Attributes
    ----------
    place : dict
        For :func:`morpheus_core.images.stack.reopen_image`.
    header, wcs, layout, path
        Of the image: its file may say something else, and a copy on disk says nothing.
    """

    place: dict[str, Any]
    header: fits.Header | None
    wcs: Any
    layout: Layout
    path: Path | None

    @classmethod
    def of(cls, image: Image, copy: Path) -> Self:
        """Make sure that other processes can open an image, by a copy if need be."""
        return cls(image.store(copy), image.header, image.wcs, image.layout, image.path)

    def open(self) -> Image:
        """Open the image."""
        image = reopen_image(self.place)
        image.header, image.wcs = self.header, self.wcs
        if isinstance(image, ArrayImage):
            image.layout, image.path = self.layout, self.path
        return image


@dataclass(frozen=True, slots=True)
class Sources:
    """Sets of images that rows are cut from.

    Attributes
    ----------
    sets : list of list of str or StoredImage
        The images of each set; paths are those that templates make.
    layout : {"last", "first"}
        Where the bands of files are.
    check : {"warn", "error", "ignore"}
        What to do if files that templates name are not what their checksums were made of.
    storage_options : mapping, optional
        What fsspec needs to open addresses.
    """

    sets: Sequence[Sequence[str | StoredImage]]
    layout: Bands
    check: CheckSums = "warn"
    storage_options: Mapping[str, Any] | None = None

    @property
    def paths(self) -> list[list[Path]]:
        """The files of each set that templates name."""
        return [files_on_disk(places) for places in self.sets]

    @contextmanager
    def opener(self) -> Iterator[Callable[[int], AbstractContextManager[list[Image]]]]:
        """Yield :meth:`open`, which unpacks a file once for all sets that follow each other."""
        with Unpacked() as unpacked:
            yield partial(self.open, unpacked=unpacked)

    @contextmanager
    def open(self, index: int, unpacked: Unpacked | None = None) -> Iterator[list[Image]]:
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
            unpacked = unpacked or opened.enter_context(Unpacked())
            places = self.sets[index]
            unpacked.keep(files_on_disk(places))
            for place in places:
                images.append(self._open_one(place, unpacked))
                opened.callback(images[-1].close)
            if all(isinstance(place, str) for place in places):  # others were checked before
                check_sums(images, self.check)
            yield images

    def _open_one(self, place: str | StoredImage, unpacked: Unpacked) -> Image:
        if not isinstance(place, str):
            return place.open()
        if is_address(place):
            return open_address(place, self.layout, self.storage_options)
        return open_file(place, self.layout, unpacked)


def files_on_disk(places: Sequence[str | StoredImage]) -> list[Path]:
    """Return the files on this machine that templates name."""
    named = [place for place in places if isinstance(place, str) and not is_address(place)]
    return [split_extension(place)[0] for place in named]


def open_address(source: str, layout: Bands, options: Mapping[str, Any] | None) -> Image:
    """Open an image at an address, perhaps with an extension in brackets."""
    try:
        return open_remote(source, layout, Reading(), options)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise MissingFileError(f"no such file: {source}") from error
        raise


def open_file(source: str, layout: Bands, unpacked: Unpacked) -> Image:
    """Open a file, perhaps with an extension in brackets."""
    path, extension = split_extension(source)
    if not exists(path):
        raise MissingFileError(f"no such file: {path}")
    if is_picture(path):
        return open_picture(path, extension, layout)
    return FitsImage(path, extension, layout, unpacked)


def exists(path: Path) -> bool:
    """Say whether there is a file, which a name that is too long has not."""
    try:
        return path.exists()
    except OSError:
        return False


class RowFormatter(Formatter):
    """Replaces fields by the values of columns, whose names may hold dots and brackets."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        """Return the value of a column."""
        return kwargs[field_name], field_name


def is_template(source: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Say whether an input is a path with fields, ``"frame-{band}-{run:06d}.fits"``."""
    if not isinstance(source, (str, os.PathLike)) or "{" not in os.fspath(source):
        return False
    return is_address(os.fspath(source)) or not exists(checks.path("source", source))


def name_files(
    templates: Sequence[str], bands: Sequence[str], layout: Bands, table: Table
) -> tuple[Sources, Int64]:
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

    Returns
    -------
    Sources
        The files.
    ndarray of int64, (rows,)
        Which set each row is cut from, -1 where it names none.

    Raises
    ------
    InputError
        If a template names what the catalogue does not have, or does not fit its values.
    """
    fields = [name for one in templates for name in fields_of(one)]
    names = sorted(set(fields) - {"band"})
    refuse_fields(names, table, "band" in fields, bands)
    set_of_row, values = distinct(table, names)
    folder = str(Path.cwd()).replace("{", "{{").replace("}", "}}")  # a model may change it
    # A Path would change names: it leaves out "./" and "//".
    absolute = [
        template
        if template.startswith("~") or is_address(template)
        else os.path.join(folder, template)  # noqa: PTH118
        for template in templates
    ]
    pairs = files_of(absolute, bands)
    fill = RowFormatter().vformat
    try:
        sets = [
            [fill(template, (), {**row, "band": band}) for template, band in pairs]
            for row in (dict(zip(names, value, strict=True)) for value in values)
        ]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the template must fit the values of {', '.join(names)}: {error}"
        ) from error
    for paths in sets:
        refuse_way_up(paths, pairs)
    order = sorted(range(len(sets)), key=sets.__getitem__)  # sets of one file follow each other
    places = np.full(len(sets) + 1, -1)
    places[order] = np.arange(len(sets))
    return Sources([sets[index] for index in order], layout), places[set_of_row]


def refuse_way_up(paths: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
    """Raise if values lead to a folder above those that templates name."""
    for path, (template, _) in zip(paths, pairs, strict=True):
        if path.split("/").count("..") > template.split("/").count(".."):
            raise InputError(
                f'values that fill {template} must not lead upwards by "..", got {path}; a '
                f"template itself may"
            )


def fields_of(template: str) -> list[str]:
    """Return the names in braces."""
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise InputError(
            f"{template} is no file, and as a template must have names in braces: {error}; braces "
            f'that are part of a name are doubled, "{{{{"'
        ) from error
    for _, name, form, _ in fields:
        if form and "{" in form:
            raise InputError(f"a template must not have braces within braces, got {name}:{form}")
    return [str(name) for _, name, _, _ in fields]


def files_of(templates: Sequence[str], bands: Sequence[str]) -> list[tuple[str, str]]:
    """Return each template with each of its bands."""
    return [
        (template, band)
        for template in templates
        for band in (bands if "band" in fields_of(template) else [""])
    ]


def refuse_fields(names: Sequence[str], table: Table, banded: bool, bands: Sequence[str]) -> None:
    """Raise if a field of a template has no value."""
    unknown = [name for name in names if name not in table.colnames or table[name].ndim != 1]
    if unknown:
        raise InputError(
            f"a template must name columns of the catalogue, of one value per row, got "
            f"{', '.join(map(repr, unknown))}, of {', '.join(table.colnames)}; braces that are "
            f'part of a name are doubled, "{{{{"'
        )
    if banded != bool(bands):
        got = f"bands={bands!r} and no {{band}}" if bands else "{band} and no list"
        raise InputError(
            f"a template with {{band}} and a list of bands need each other, got {got}; "
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
        elif data.dtype.kind == "f":
            missing |= np.isnan(data)
        _, values = np.unique(data, return_inverse=True)
        # Few numbers stand for the combinations so far, so products stay small.
        _, codes = np.unique(codes * (values.max(initial=0) + 1) + values, return_inverse=True)
    codes[missing] = -1
    present, first = np.unique(codes, return_index=True)
    rows = first[present >= 0]
    columns = [values_of(table[name][rows]) for name in names]
    set_of_row = np.searchsorted(present[present >= 0], codes)
    set_of_row[missing] = -1
    return set_of_row, list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def values_of(column: Any) -> list[Any]:
    """Return what a column has in some rows; whole numbers that a missing one made floats."""
    values = np.ma.getdata(column)
    if values.dtype.kind == "f" and np.all(np.mod(values, 1) == 0):
        return [int(value) for value in values]
    return [plain(value) for value in column]


def plain(value: Any) -> Any:
    """Return a value of a column as one of Python."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value
