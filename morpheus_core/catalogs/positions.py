"""Where the rows of a catalogue say they are: which columns hold positions, and what they say."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from astropy.units import Unit
from numpy.typing import NDArray

from morpheus_core.catalogs.angles import parse_angles
from morpheus_core.catalogs.sky_positions import Float64
from morpheus_core.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

logger = logging.getLogger("morpheus_core")

#: Units of pixel positions, in lower case.
PIXEL_UNITS = ("", "pix", "pixel", "pixels")
#: Units of angles as archives spell them, in lower case, and what astropy calls them.
ANGLE_UNITS = {
    **dict.fromkeys(("deg", "degs", "degree", "degrees"), "deg"),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), "rad"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "hourangle"), "hourangle"),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes"), "arcmin"),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds"), "arcsec"),
}

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
    in_middle : bool
        Whether these stand for the middle of the images of each row, wherever that is.
    """

    on_sky: bool
    first: Float64
    second: Float64
    in_middle: bool = False

    @classmethod
    def in_the_middle(cls, rows: int) -> Self:
        """Return positions that nobody has to know before images are open."""
        return cls(False, np.zeros(rows), np.zeros(rows), True)

    @property
    def there(self) -> NDArray[np.bool_]:
        """Whether each row has a position, (rows,)."""
        return np.isfinite(self.first) & np.isfinite(self.second)

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Whether each row has a position that cannot be, (rows,)."""
        return np.isinf(self.first) | np.isinf(self.second)


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
        if unit_text(column) not in PIXEL_UNITS:
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


def unit_text(column: Any) -> str:
    """Return the unit of a column in lower case and without brackets, empty if it has none."""
    return str(getattr(column, "unit", None) or "").strip("[]() .").lower()


def numbers(column: Any, unit: str | None = None) -> Float64:
    """Return a column as float64 of its own, in a unit if it has one, NaN where it has no value."""
    try:
        mask = getattr(column, "mask", False)
        known = None if unit is None else ANGLE_UNITS.get(unit_text(column))
        if unit is not None and known is None and column.unit is not None:
            column = column.to(unit)
        values = np.array(np.ma.getdata(getattr(column, "unmasked", column).value), float)
        if known is not None:
            values *= Unit(known).to(unit)
    except Exception as error:  # units have classes of their own
        raise InputError(
            f"the column {column.info.name} must hold numbers, of angles in a unit that astropy "
            f"knows: {error}; read the catalogue with Table.read, set the column's unit, and pass "
            f"the table"
        ) from error
    values[mask] = np.nan
    return values
