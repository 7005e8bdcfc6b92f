"""Catalogues as users have them → an astropy Table and positions; tables → files."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.catalogs.formats import read_table
from morpheus_core.catalogs.positions import is_text
from morpheus_core.errors import InputError, MorpheusError, OutputError
from morpheus_core.results.outputs import give_name
from morpheus_core.results.table_files import part_of, table_format

if TYPE_CHECKING:
    from astropy.table import Table


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
        f"{failure}; choose another format (vectors go into .fits, .parquet, .h5 and .ecsv), leave "
        f"out columns of the catalogue with keep=, or give them another name"
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
