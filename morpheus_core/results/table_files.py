"""Tables as files that other programs read as they are meant: what is missing stays missing.

astropy's own writers put masks of Parquet in columns beside, masked numbers of FITS under a value
that may occur, bytes of one sign in booleans, and ``nan`` in CSV, which makes text of a column.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.fits.blocks import FITS_BLOCK

if TYPE_CHECKING:
    from astropy.table import Table

Writer = Callable[["Table", Path], None]

#: What formats need besides astropy, by the end of a file's name.
PACKAGES = {".parquet": "pyarrow", ".hdf5": "h5py", ".h5": "h5py"}
#: Bytes of rows that are brought to a format at once.
BLOCK_BYTES = 32 << 20
#: The same where there are vectors of half precision: Arrow takes 16 bytes to write one of two.
HALF_BLOCK_BYTES = 4 << 20
#: Types of numpy that FITS does not have, and those that take their place.
FITS_TYPES = {np.dtype(np.int8): np.int16, np.dtype(np.float16): np.float32}


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
    if end in PACKAGES:
        require_package(PACKAGES[end], "catalog", f"{name}={path}")
    return writers[end]


def part_of(path: Path) -> Path:
    """Return where a table grows: a name that is nobody else's."""
    return path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")


def missing(column: Any) -> NDArray[np.bool_]:
    """Return which values of a column are masked or not a number, (rows, ...)."""
    values = np.asarray(np.ma.getdata(column))
    if values.dtype == np.float16:  # bits tell it ten times as fast as numpy does
        missing = (values.view(np.uint16) & 0x7FFF) > 0x7C00
    else:
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if np.ma.isMaskedArray(column):
        missing |= np.ma.getmaskarray(column)
    return missing


def write_csv(table: Table, path: Path) -> None:
    """Write text: blank where there is no value, numbers with the digits of their own type."""
    with_texts(table).write(path, format="ascii.csv")


def with_texts(table: Table) -> Table:
    """Return a table whose floats are text, as CSV has them."""
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
    return table


def write_ecsv(table: Table, path: Path) -> None:
    """Write text with a header that says of which type, unit and meaning columns are."""
    table.write(path, format="ascii.ecsv")


def write_fits(table: Table, path: Path) -> None:
    """Write a binary table, some rows at a time: astropy would hold all of them twice."""
    from astropy.units import UnitsWarning

    form = FitsForm.of(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)  # such as "counter", which users had before
        if any(column.dtype.hasobject for column in plain_columns(table).values()):
            # What is of any length lies behind all rows.
            form.of_block(table).write(path, format="fits")
            return
        with path.open("wb") as file:
            head, header, layout, _ = form.parts(table[:1])
            header["NAXIS2"] = len(table)
            file.write(head + header.tostring().encode("ascii"))
            for block in row_blocks(table) if len(table) else ():
                file.write(form.rows(block, layout).view(np.uint8).data)
            file.write(bytes(-file.tell() % FITS_BLOCK))


def plain_columns(table: Table) -> dict[str, Any]:
    """Return the columns that are arrays, neither quantities nor times nor the like."""
    from astropy.table import Column

    columns = {name: table[name] for name in table.colnames}
    return {name: column for name, column in columns.items() if isinstance(column, Column)}


def vectors_of(table: Table) -> dict[str, Any]:
    """Return the columns of several floats per row, without masks, by name."""
    from astropy.table import MaskedColumn

    return {
        name: column
        for name, column in plain_columns(table).items()
        if column.ndim == 2 and column.dtype.kind == "f" and not isinstance(column, MaskedColumn)
    }


def row_blocks(table: Table, block_bytes: int | None = None) -> Iterator[Table]:
    """Yield some rows of a table after the other, none of one that has none."""
    row_bytes = sum(column[:1].nbytes for column in plain_columns(table).values())
    step = max(1, (block_bytes or BLOCK_BYTES) // max(row_bytes, 1))
    for first in range(0, max(len(table), 1), step):
        yield table[first : first + step]


@dataclass(frozen=True, slots=True)
class FitsForm:
    """How FITS holds the columns of a table, which all of their values decide.

    Attributes
    ----------
    types : dict of dtype
        By name.
    nulls : dict
        What stands for missing values, by name, where there may be some.
    """

    types: dict[str, np.dtype[Any]]
    nulls: dict[str, Any]

    @classmethod
    def of(cls, table: Table) -> Self:
        """Look at all values: what is missing is TNULL, a value that does not occur."""
        from astropy.table import MaskedColumn

        columns = plain_columns(table)
        types = {name: fits_type(column) for name, column in columns.items()}
        masked = {name: one for name, one in columns.items() if isinstance(one, MaskedColumn)}
        return cls(types, {name: fill_value(one, types[name]) for name, one in masked.items()})

    def of_block(self, block: Table) -> Table:
        """Return rows as FITS holds them."""
        block = block.copy(copy_data=False)
        for name, kind in self.types.items():
            if kind != block[name].dtype:
                block.replace_column(name, block[name].astype(kind))
            if name in self.nulls:
                block[name].fill_value = self.nulls[name]
        return block

    def parts(self, block: Table) -> tuple[bytes, fits.Header, np.dtype[Any], NDArray[Any]]:
        """Return what comes before the header of rows, that header, their type, and the rows."""
        written = BytesIO()
        self.of_block(block).write(written, format="fits")
        data = written.getvalue()
        with fits.open(BytesIO(data)) as hdus:
            header, place = hdus[1].header, hdus[1].fileinfo()
            layout = hdus[1].columns.dtype.newbyteorder(">")
        rows = np.frombuffer(data, layout, header["NAXIS2"], place["datLoc"])
        return data[: place["hdrLoc"]], header, layout, rows

    def rows(self, block: Table, layout: np.dtype[Any]) -> NDArray[Any]:
        """Return rows as they are in the file; vectors of floats go there without astropy.

        It would copy each of them six times.
        """
        vectors = vectors_of(block)
        if not vectors:
            return self.parts(block)[3]
        rows = np.empty(len(block), layout)
        others = block.copy(copy_data=False)
        others.remove_columns(list(vectors))
        if others.colnames:
            types = {name: kind for name, kind in self.types.items() if name not in vectors}
            found = FitsForm(types, self.nulls).parts(others)[3]
            for name in found.dtype.names or ():
                rows[name] = found[name]
        for name, values in vectors.items():
            rows[name] = values
        return rows


def fits_type(column: Any) -> np.dtype[Any]:
    """Return a type of FITS that holds a column.

    FITS has no bytes with a sign and no half precision. Of unsigned numbers astropy writes a TNULL
    that other programs take for that of another number, and missing booleans it does not write at
    all.
    """
    kind: np.dtype[Any] = column.dtype
    if kind in FITS_TYPES:
        return np.dtype(FITS_TYPES[kind])
    if kind.kind not in "bu" or kind == np.uint8 or not missing(column).any():
        return kind
    if kind == np.uint64 and np.ma.compressed(column).max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(
            f"the column {column.info.name} has numbers above 2**63 and missing ones, for which "
            f"FITS has no type"
        )
    larger = {"u2": np.int32, "u4": np.int64, "u8": np.int64}.get(kind.str[1:], np.int16)
    return np.dtype(larger)


def fill_value(column: Any, kind: np.dtype[Any]) -> Any:
    """Return a value of a type for what is missing, which no other row has."""
    if kind.kind not in "iu":
        return {"f": np.nan, "U": "", "S": b"", "b": False}.get(kind.kind)
    limits = np.iinfo(kind)
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
    about = {"table_meta_yaml": "\n".join(meta.get_yaml_from_table(plain))}  # what astropy reads
    fields = []
    for name in plain.colnames:
        info = plain[name].info
        if info.dtype.kind == "U":
            about[f"table::len::{name}"] = str(info.dtype.itemsize // 4)
        said = {"unit": str(info.unit or ""), "description": info.description or ""}
        kept = {key: value for key, value in said.items() if value}
        fields.append(pa.field(name, arrow_type(plain[name]), metadata=kept or None))
    schema = pa.schema(fields, about)
    # Values of vectors are all different, and lists of them would take most of the time.
    halves = any(column.dtype == np.float16 for column in vectors_of(plain).values())
    plain_names = [name for name in plain.colnames if plain[name].ndim == 1]
    with parquet.ParquetWriter(
        path, schema, use_dictionary=plain_names, write_statistics=plain_names
    ) as writer:
        for block in row_blocks(plain, HALF_BLOCK_BYTES if halves else None):
            arrays = [arrow_array(block[field.name], field.type) for field in fields]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def arrow_type(column: Any) -> Any:
    """Return the type of Arrow that holds a column: of vectors, lists of their length."""
    import pyarrow as pa

    kind = column.dtype.newbyteorder("=")
    if kind.kind == "O":
        of_value = pa.array(np.ma.getdata(column).reshape(-1).tolist()).type
    else:
        of_value = pa.string() if kind.kind == "U" else pa.from_numpy_dtype(kind)
    return of_value if column.ndim == 1 else pa.list_(of_value, prod(column.shape[1:]))


def arrow_array(column: Any, kind: Any) -> Any:
    """Return a column as an array of a type of Arrow, null where it has no value."""
    import pyarrow as pa

    values = np.ma.getdata(column)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    of_value = kind if values.ndim == 1 else kind.value_type
    given = values.reshape(-1).tolist() if values.dtype.kind in "UO" else values.reshape(-1)
    absent = missing(column).reshape(-1)
    flat = pa.array(given, of_value, mask=absent if absent.any() else None)
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


def write_hdf5(table: Table, path: Path) -> None:
    """Write the data set "table", with masks and metadata as astropy keeps them."""
    table.write(path, format="hdf5", path="table", serialize_meta=True)


def write_votable(table: Table, path: Path) -> None:
    """Write XML of the Virtual Observatory, which has no half precision either."""
    table = table.copy(copy_data=False)
    for name, column in plain_columns(table).items():
        if column.dtype == np.float16:
            table.replace_column(name, column.astype(np.float32))
    table.write(path, format="votable")


#: What writes each format, by the end of the file's name.
WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".ecsv": write_ecsv,
    ".fits": write_fits,
    ".hdf5": write_hdf5,
    ".h5": write_hdf5,
    ".parquet": write_parquet,
    ".vot": write_votable,
    ".xml": write_votable,
    ".votable": write_votable,
}
