"""Files of catalogues as they are found, those of SExtractor and gnuastro among them → a Table."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astropy.io import fits
from astropy.utils.data import get_readable_fileobj

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package

if TYPE_CHECKING:
    from astropy.table import Table

#: What astropy calls the formats that catalogues are read from, by the end of the file's name.
READABLE = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".xml": "votable",
    ".vot": "votable",
    ".votable": "votable",
    ".parquet": "parquet",
    ".hdf5": "hdf5",
    ".h5": "hdf5",
}
#: How names of files end besides that; astropy unpacks these.
PACKED = (".gz", ".bz2", ".xz")
#: What formats need besides astropy, which has the types of Parquet's columns through pandas.
PACKAGES = {".parquet": ("pyarrow", "pandas"), ".hdf5": ("h5py",), ".h5": ("h5py",)}
#: Ends of names that programs use for any format.
ANY_FORMAT = (".cat", ".ldac", ".txt")
#: How a file of a format begins; the first that fits.
BEGINNINGS = {
    rb"SIMPLE  =": "fits",
    rb"\s*<(\?xml|VOTABLE)": "votable",
    rb"#\s*1\s+\w+": "ascii.sextractor",
    rb"# (Column 1:|-----)": "gnuastro",
}
#: How much of a file is looked at.
BEGINNING_BYTES = 1 << 14


def read_table(path: Path) -> Table:
    """Read a table; whole numbers stay whole, whatever their length.

    Raises
    ------
    Exception
        Of whatever class, if the file cannot be read.
    """
    from astropy.table import Table

    kind = format_of(path)
    if kind == "parquet":
        return read_parquet(path)
    if kind == "gnuastro":
        return read_gnuastro(path)
    options: dict[str, Any] = {}
    if kind == "ascii.csv":
        options = csv_options(path)
    elif kind == "hdf5":
        options = {"character_as_bytes": False}
    elif kind == "fits" and (hdu := ldac_objects(path)):
        options = {"hdu": hdu}
    elif kind == "votable" and b'ID="Source_List"' in beginning_of(path):
        options = {"table_id": "Source_List"}  # beside which SExtractor puts tables of its own
    table = Table.read(path, format=kind, **options)
    for number, name in enumerate(table.colnames, start=1):
        # What gnuastro says of columns, and astropy leaves where it is.
        if f"TCOMM{number}" in table.meta and table[name].info.description is None:
            table[name].info.description = str(table.meta[f"TCOMM{number}"])
    return table


def csv_options(path: Path) -> dict[str, Any]:
    """Return how astropy is to read text as archives write it."""
    options: dict[str, Any] = {
        # Spreadsheets put an invisible character before the first column's name.
        "encoding": "utf-8-sig",
        # What stands for no value: nothing, and the word that Gaia and SkyServer write.
        "fill_values": [("", "0"), ("null", "0")],
    }
    with suppress(Exception), get_readable_fileobj(path, encoding="utf-8-sig") as file:
        first = file.readline().strip()
        if first.startswith("#") and "," not in first and "," in file.readline():
            options |= {"header_start": 1, "data_start": 2}  # a title: SkyServer's "#Table1"
    return options


def format_of(path: Path) -> str:
    """Return the format of a catalogue, as astropy calls it.

    Raises
    ------
    InputError
        If neither its name nor its beginning tells.
    """
    packed = path.suffix.lower() in PACKED
    end = (path.with_suffix("") if packed else path).suffix.lower()
    for package in PACKAGES.get(end, ()):
        require_package(package, "catalog", f"catalog={path}")
    if end in ANY_FORMAT and path.exists():
        beginning = beginning_of(path)
        for pattern, kind in BEGINNINGS.items():
            if re.match(pattern, beginning):
                return kind
        raise InputError(
            f"{path} must be a catalogue of SExtractor (ASCII_HEAD, FITS_LDAC, FITS_1.0, "
            f"ASCII_VOTABLE) or of gnuastro, got a file that begins with {beginning[:20]!r}"
        )
    if end not in READABLE and end not in ANY_FORMAT:
        ends = ", ".join([*READABLE, *ANY_FORMAT])
        raise InputError(f"catalog must end in one of {ends}, got {path}")
    return READABLE.get(end, "fits")


def beginning_of(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(BEGINNING_BYTES)


def ldac_objects(path: Path) -> int | None:
    """Return the HDU of the objects of a FITS_LDAC file, behind that of the image's header."""
    with fits.open(path) as file:
        found = [place for place, hdu in enumerate(file) if hdu.name == "LDAC_OBJECTS"]
    if len(found) > 1:
        raise ValueError(f"it holds the objects of {len(found)} images, and one is read at a time")
    return found[0] if found else None


def read_gnuastro(path: Path) -> Table:
    """Read a table of gnuastro as text: comments name columns, their units and meanings."""
    from astropy.table import Table

    text = path.read_text()
    found = re.findall(r"^# Column \d+: (\S+)\s*(?:\[([^,\]]*)[^\]]*\])?(.*)$", text, re.MULTILINE)
    table = Table.read(text, format="ascii.no_header", names=[name for name, _, _ in found])
    for name, unit, meaning in found:
        column = table[name]
        column.unit, column.description = unit.strip() or None, meaning.strip()
    return table


def read_parquet(path: Path) -> Table:
    """Read Parquet with its nulls masked: astropy makes floats, or the text "None", of them."""
    import pyarrow as pa
    from astropy.table import MaskedColumn, Table
    from pyarrow import compute, parquet

    arrow = parquet.read_table(path)
    masks = {}
    for place, field in enumerate(arrow.schema):
        column = arrow.column(place)
        is_plain = not pa.types.is_nested(field.type)
        if column.null_count and is_plain and not pa.types.is_floating(field.type):
            masks[field.name] = compute.is_null(column).to_numpy()
            nothing = pa.scalar("" if pa.types.is_string(field.type) else 0).cast(field.type)
            arrow = arrow.set_column(place, field, compute.fill_null(column, nothing))
    if not masks:
        return Table.read(path, format="parquet")
    filled = BytesIO()
    parquet.write_table(arrow, filled)
    filled.seek(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No table::len::")  # text of other programs
        table = Table.read(filled, format="parquet")
    for name in masks.keys() & set(table.colnames):
        table.replace_column(name, MaskedColumn(table[name], mask=masks[name]))
    return table
