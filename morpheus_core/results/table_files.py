"""Tables as files that other programs read as they are meant: what is missing stays missing.

astropy's own writers put masks of Parquet in columns beside, masked numbers of FITS under a value
that may occur, bytes of one sign in booleans, and ``nan`` in CSV, which makes text of a column.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package

if TYPE_CHECKING:
    from astropy.table import Table

Writer = Callable[["Table", Path], None]


def table_format(path: Path, name: str, writers: Mapping[str, Writer] | None = None) -> Writer:
    """Return what writes a table where a path says; `name` is what errors call it.

    `writers` are those of :data:`WRITERS` unless there are more.

    Raises
    ------
    InputError
        If the name of the file promises no format of tables.
    MissingPackageError
        If the format needs a package that is not installed.
    """
    end, writers = path.suffix.lower(), writers or WRITERS
    if end not in writers:
        raise InputError(f"{name} must end in one of {', '.join(writers)}, got {path}")
    if end == ".parquet":
        require_package("pyarrow", "catalog", f"{name}={path}")
    return writers[end]


def part_of(path: Path) -> Path:
    """Return where a table grows: a name that is nobody else's."""
    return path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")


def missing(column: Any) -> NDArray[np.bool_]:
    """Return which values of a column are masked or not a number, (rows, ...)."""
    masked = np.broadcast_to(np.ma.getmaskarray(np.ma.asarray(column)), column.shape)
    values = np.ma.getdata(column)
    return np.asarray(masked | np.isnan(values)) if values.dtype.kind == "f" else masked


def write_csv(table: Table, path: Path) -> None:
    """Write text: blank where there is no value, numbers with the digits of their own type."""
    from astropy.table import Column, MaskedColumn

    table = table.copy(copy_data=False)
    for name in table.colnames:
        column = table[name]
        if isinstance(column, Column) and column.dtype.kind == "f" and column.ndim == 1:
            absent = missing(column)
            values = np.where(absent, 0, np.ma.getdata(column)) + 0  # no sign of a zero
            if column.info.format is None:
                texts = values.astype(column.dtype).astype(str)
            else:
                shown = Column(values, format=column.info.format)
                texts = np.array(list(shown.info.iter_str_vals()), str)
            table.replace_column(name, MaskedColumn(texts, name, mask=absent))
    table.write(path, format="ascii.csv")


def write_ecsv(table: Table, path: Path) -> None:
    """Write text with a header that says of which type, unit and meaning columns are."""
    table.write(path, format="ascii.ecsv")


def write_fits(table: Table, path: Path) -> None:
    """Write a binary table: what is missing is TNULL, a value that does not occur."""
    from astropy.table import Column, MaskedColumn
    from astropy.units import UnitsWarning

    table = table.copy(copy_data=False)
    for name in table.colnames:
        column = table[name]
        if not isinstance(column, Column):
            continue
        if fits_type(column) != column.dtype:
            table.replace_column(name, column.astype(fits_type(column)))
        if isinstance(table[name], MaskedColumn):
            table[name].fill_value = fill_value(table[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)  # such as "counter", which users had before
        table.write(path, format="fits")


def fits_type(column: Any) -> np.dtype[Any]:
    """Return a type of FITS that holds a column.

    FITS has no bytes with a sign. Of unsigned numbers astropy writes a TNULL that other programs
    take for that of another number, and missing booleans it does not write at all.
    """
    kind: np.dtype[Any] = column.dtype
    if kind == np.int8:
        return np.dtype(np.int16)
    if kind.kind not in "bu" or kind == np.uint8 or not missing(column).any():
        return kind
    if kind == np.uint64 and np.ma.compressed(column).max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(
            f"the column {column.info.name} has numbers above 2**63 and missing ones, for which "
            f"FITS has no type"
        )
    larger = {"u2": np.int32, "u4": np.int64, "u8": np.int64}.get(kind.str[1:], np.int16)
    return np.dtype(larger)


def fill_value(column: Any) -> Any:
    """Return a value for what is missing, which no other row has."""
    if column.dtype.kind not in "iu":
        return {"f": np.nan, "U": "", "S": b"", "b": False}.get(column.dtype.kind)
    limits = np.iinfo(column.dtype)
    present = np.unique(np.ma.compressed(column))
    if limits.min not in present:
        return limits.min
    gaps = np.flatnonzero(np.diff(present) > 1)
    return present[gaps[0]] + 1 if len(gaps) else present[-1] + 1


def write_parquet(table: Table, path: Path) -> None:
    """Write columns with nulls, and with units and descriptions in the metadata of their fields."""
    import pyarrow as pa
    from astropy.table import MaskedColumn, meta, serialize
    from pyarrow import parquet

    plain = serialize.represent_mixins_as_columns(table, exclude_classes=(MaskedColumn,))
    plain.convert_bytestring_to_unicode()
    arrays = [arrow_array(plain[name]) for name in plain.colnames]
    about = {"table_meta_yaml": "\n".join(meta.get_yaml_from_table(plain))}  # what astropy reads
    fields = []
    for name, array in zip(plain.colnames, arrays, strict=True):
        info = plain[name].info
        if info.dtype.kind == "U":
            about[f"table::len::{name}"] = str(info.dtype.itemsize // 4)
        said = {"unit": str(info.unit or ""), "description": info.description or ""}
        kept = {key: value for key, value in said.items() if value}
        fields.append(pa.field(name, array.type, metadata=kept or None))
    parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, about)), path)


def arrow_array(column: Any) -> Any:
    """Return a column as an array of Arrow, null where it has no value."""
    import pyarrow as pa

    values = np.ma.getdata(column)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if values.ndim > 1:
        flat = pa.array(values.reshape(-1), mask=missing(column).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values[0].size if len(values) else 1)
    if values.dtype.kind in "UO":
        return pa.array(values.tolist(), mask=missing(column))
    return pa.array(values, mask=missing(column))


def write_votable(table: Table, path: Path) -> None:
    """Write XML of the Virtual Observatory."""
    table.write(path, format="votable")


#: What writes each format, by the end of the file's name.
WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".ecsv": write_ecsv,
    ".fits": write_fits,
    ".parquet": write_parquet,
    ".vot": write_votable,
    ".xml": write_votable,
    ".votable": write_votable,
}
