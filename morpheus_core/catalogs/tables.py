"""Catalogues as users have them → an astropy Table and positions; tables → files."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.catalogs.formats import read_table
from morpheus_core.catalogs.sky_positions import Float64, parse_angles
from morpheus_core.errors import InputError, MorpheusError, OutputError
from morpheus_core.results.outputs import give_name
from morpheus_core.results.table_files import part_of, table_format

if TYPE_CHECKING:
    from astropy.table import Table

logger = logging.getLogger("morpheus_core")

#: What astropy calls units of pixel positions.
PIXEL_UNITS = ("", "pix", "pixel")
#: What SExtractor calls positions, the more exact first.
PROGRAM_NAMES = [
    (f"{first}{kind}{frame}", f"{second}{kind}{frame}")
    for first, second, frame in (("ALPHA", "DELTA", "_J2000"), ("X", "Y", "_IMAGE"))
    for kind in ("WIN", "PSF", "")
]


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the rows of a catalogue are.

    Attributes
    ----------
    on_sky : bool
        Whether these are angles, else pixels.
    first, second : ndarray of float64, (rows,)
        ICRS right ascension and declination in degrees, or column and row from 0, pixel centres
        being whole numbers. NaN where there is none, infinity where there is one that cannot be.
    """

    on_sky: bool
    first: Float64
    second: Float64

    @property
    def there(self) -> NDArray[np.bool_]:
        """Whether each row has a position, (rows,)."""
        return np.isfinite(self.first) & np.isfinite(self.second)

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Whether each row has a position that cannot be, (rows,)."""
        return np.isinf(self.first) | np.isinf(self.second)


def read_catalog(catalog: Any) -> Table:
    """Return a catalogue as a table of its own, whose columns are shared with what was passed.

    Raises
    ------
    InputError
        If it is no table, or a file that cannot be read.
    MissingPackageError
        If the format needs a package that is not installed.
    """
    from astropy.table import Table

    if isinstance(catalog, (str, os.PathLike)):
        return read_file(checks.path("catalog", catalog))
    if isinstance(catalog, Table):
        return catalog.copy(copy_data=False)
    if type(catalog).__module__.partition(".")[0] == "pandas" and hasattr(catalog, "columns"):
        try:
            is_named = any(name is not None for name in catalog.index.names)
            return Table.from_pandas(catalog.reset_index() if is_named else catalog)
        except Exception as error:  # columns that are called 0, 1, ..., for instance
            raise InputError(
                f"the catalogue cannot be made a table of astropy: {type(error).__name__}: {error}"
            ) from error
    raise InputError(
        f"catalog must be an astropy Table, a pandas DataFrame or a path, got "
        f"{type(catalog).__name__}"
    )


def read_file(path: Path) -> Table:
    """Read a table; whole numbers stay whole, whatever their length."""
    from astropy.units import UnitsWarning
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            # Of "counter" and whatever else programs count in; those of positions are looked at.
            warnings.simplefilter("ignore", UnitsWarning)
            # Whole numbers of more than 64 bits become text.
            warnings.filterwarnings("ignore", "OverflowError converting", AstropyWarning)
            return read_table(path)
    except MorpheusError:
        raise
    except Exception as error:  # every format has classes of its own
        raise InputError(f"the catalogue {path} cannot be read: {error}") from error


def find_positions(
    table: Table,
    sky: tuple[str | None, str | None],
    pixels: tuple[str | None, str | None],
    origin: Literal[0, 1] | None,
) -> Positions:
    """Find and read the columns of positions.

    Parameters
    ----------
    table : Table
        The catalogue.
    sky, pixels : tuple of str or None
        Names of the columns, as users gave them. Where they gave none, columns called ra and dec,
        or those of SExtractor, else x and y, in capitals or not, or X_IMAGE and the like, or the
        only column of `SkyCoord`.
    origin : int, optional
        The number of the first pixel, 0 or 1; by default what the columns promise.

    Raises
    ------
    InputError
        If there are no such columns, they do not hold numbers or text, or no row has a position.
    """
    if any(sky) and any(pixels):
        raise InputError(f"give ra and dec, or x and y, not both, got {sky} and {pixels}")
    if not any(sky + pixels):
        sky, pixels = usual_names(table)
    if any(pixels):
        columns = [column_of(table, pixels[0] or "x"), column_of(table, pixels[1] or "y")]
        positions = pixels_of(columns[0], columns[1], origin)
    else:
        columns = [column_of(table, sky[0] or "ra")]
        if hasattr(columns[0], "icrs"):
            positions = from_coordinates(*columns)
        else:
            columns.append(column_of(table, sky[1] or "dec"))
            positions = angles_of(*columns)
    if len(table) and not positions.there.any():
        shown = " and ".join(f"{column[0]} for {column.info.name}" for column in columns)
        raise InputError(
            f"a row of the catalogue must have a position that can be read, got {shown} in the "
            f"first"
        )
    return positions


def usual_names(
    table: Table,
) -> tuple[tuple[str | None, str | None], tuple[str | None, str | None]]:
    """Return what columns of sky positions, or of pixel positions, are called if nobody says so."""
    names = {name.lower() for name in table.colnames}
    of_programs = [pair for pair in PROGRAM_NAMES if {name.lower() for name in pair} <= names]
    centres = [name for name in table.colnames if hasattr(table[name], "icrs")]
    if {"ra", "dec"} <= names:
        return ("ra", "dec"), (None, None)
    for pair in of_programs:
        if not pair[0].endswith("_IMAGE"):
            return pair, (None, None)
    if {"x", "y"} <= names:
        return (None, None), ("x", "y")
    if of_programs:
        return (None, None), of_programs[0]
    if len(centres) == 1:
        return (centres[0], None), (None, None)
    raise InputError(
        f"a catalogue must have the columns ra and dec, or x and y, or one of SkyCoord, got "
        f"{', '.join(table.colnames)}; say which with ra= and dec=, or x= and y="
    )


def column_of(table: Table, name: str) -> Any:
    """Return the column of a name, in capitals or not, the exact one first."""
    same = [other for other in table.colnames if other.lower() == str(name).lower()]
    names = [name] if name in same else same
    if len(names) != 1:
        raise InputError(
            f"the catalogue must have one column {name}, got {', '.join(same or table.colnames)}"
        )
    column = table[names[0]]
    if column.ndim != 1:
        raise InputError(f"{name} must be one value per row, got columns of {column.shape[1:]}")
    return column


def from_coordinates(coordinates: Any) -> Positions:
    """Read a column of SkyCoord."""
    icrs = coordinates.icrs
    return Positions(True, numbers(icrs.ra, "deg"), numbers(icrs.dec, "deg"))


def angles_of(longitudes: Any, latitudes: Any) -> Positions:
    """Read right ascensions and declinations: degrees, quantities, or text."""
    first, second = (
        read_angles(column, per_hour) if is_text(column) else numbers(column, "deg")
        for column, per_hour in ((longitudes, 15.0), (latitudes, 1.0))
    )
    second[np.abs(second) > 90] = np.inf
    first[np.abs(first) > 360] = np.inf  # -999, and degrees that were read as hours
    return Positions(True, first, second)


def read_angles(column: Any, degrees_per_hour: float) -> Float64:
    """Read a column of text, and log what cannot be read."""
    texts = text_of(column)
    angles = parse_angles(texts, degrees_per_hour)
    unread = np.flatnonzero(np.isinf(angles))
    if len(unread):
        logger.warning(
            "%d values of %s cannot be read as angles, %r for one",
            len(unread), column.info.name, texts[unread[0]],
        )  # fmt: skip
    return angles


def counts_from_one(column: Any) -> bool:
    """Say whether a column is one of SExtractor or gnuastro, which count pixels from 1."""
    names = {name for pair in PROGRAM_NAMES for name in pair if name.endswith("_IMAGE")}
    about = str(getattr(column, "description", "") or "")
    return column.info.name.upper() in names or "(FITS axis" in about


def pixels_of(columns: Any, rows: Any, origin: int | None) -> Positions:
    """Read pixel positions."""
    if origin is None:
        origin = int(counts_from_one(columns))
    for column in (columns, rows):
        if str(getattr(column, "unit", None) or "") not in PIXEL_UNITS:
            raise InputError(
                f"positions in pixels must have no unit, or pixel, got {column.unit} for "
                f"{column.info.name}; pass sky positions as ra= and dec="
            )
    return Positions(False, numbers(columns) - origin, numbers(rows) - origin)


def is_text(column: Any) -> bool:
    """Say whether a column holds text."""
    return getattr(column, "dtype", np.dtype(float)).kind in "USO"


def text_of(column: Any) -> list[str]:
    """Return a column as text, empty where a value is missing."""
    values = column.filled("") if np.ma.isMaskedArray(column) else column
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def numbers(column: Any, unit: str | None = None) -> Float64:
    """Return a column as float64 of its own, in a unit if it has one, NaN where it has no value."""
    try:
        mask = getattr(column, "mask", False)
        if unit is not None and column.unit is not None:
            column = column.to(unit)
        values = np.array(np.ma.getdata(getattr(column, "unmasked", column).value), float)
    except Exception as error:  # units have classes of their own
        raise InputError(f"the column {column.info.name} must hold numbers: {error}") from error
    values[mask] = np.nan
    return values


def refuse_names(table: Table, names: Sequence[str]) -> None:
    """Raise if the result would have two columns of the same name, in capitals or not."""
    seen: dict[str, str] = {name.lower(): name for name in table.colnames}
    for name in names:
        if name.lower() in seen:
            raise InputError(
                f"columns of the result must differ, got {name} beside {seen[name.lower()]}; "
                f"rename it in the catalogue, leave it out with keep=, or give a column of "
                f"morpheus_core.columns another name="
            )
        seen[name.lower()] = name


def refuse_unwritable(table: Table, first: Table, path: Path) -> None:
    """Raise if a result cannot be written where a path says, in the format that it asks for.

    Parameters
    ----------
    table : Table
        The catalogue.
    first : Table
        The result's first row, with all columns.
    path : Path
        Of the result.
    """
    texts = [name for name in table.colnames if is_text(table[name])]
    failure = failure_of(first, path)
    if failure is None and texts:  # of which any row may hold what the format cannot
        failure = failure_of(table[texts], path)
    if failure is None:
        return
    parts = {name: first[[name]] for name in first.colnames} | {
        name: table[[name]] for name in texts
    }
    names = [name for name, part in parts.items() if failure_of(part, path) is not None]
    raise InputError(
        f"the result cannot be written to {path} (columns: {', '.join(names) or 'all of them'}): "
        f"{failure}; leave out columns of the catalogue with keep=, give others another name, or "
        f"choose another format"
    ) from failure


def failure_of(table: Table, path: Path) -> Exception | None:
    """Return why a table cannot be written where a path says, if that is so."""
    write = table_format(path, "out")
    try:
        with tempfile.TemporaryDirectory(prefix=".morpheus_core-", dir=path.parent) as directory:
            part = part_of(Path(directory) / path.name)
            part.touch()
            part.unlink()
            try:
                write(table, part)
            except Exception as error:  # every format has classes of its own
                return error
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}") from error
    return None


def write_table(table: Table, path: Path, overwrite: bool) -> None:
    """Write a table, which has its name only when it is complete.

    Raises
    ------
    OutputError
        If that is not possible.
    """
    part = part_of(path)
    try:
        table_format(path, "out")(table, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())  # records of the run are removed when the table has its name
    except BaseException as error:  # every format has classes of its own
        part.unlink(missing_ok=True)
        if not isinstance(error, Exception):
            raise
        raise OutputError(
            f"cannot write {path}: {error}; finished rows are kept: pass resume=True and the same "
            f"work_dir (by default {path.name}.morpheus) with another out"
        ) from error
    give_name(part, path, overwrite)


def result_table(
    table: Table, names: Sequence[str], columns: Sequence[NDArray[Any]], statuses: NDArray[Any]
) -> Table:
    """Return a copy of a catalogue, with columns of results and the status."""
    from astropy.table import Column, MaskedColumn

    table = table.copy()  # what users do to the result is not to change their catalogue
    for name, values in zip([*names, "status"], [*columns, statuses], strict=True):
        kind = MaskedColumn if np.ma.isMaskedArray(values) else Column
        table.add_column(kind(values, name, copy=False), copy=False)
    return table
