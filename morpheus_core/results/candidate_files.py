"""Tables of candidates as files, as regions of DS9 as well."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morpheus_core import checks
from morpheus_core.errors import InputError, OutputError
from morpheus_core.extras import require_package
from morpheus_core.results.candidates import DIGITS
from morpheus_core.results.outputs import give_name, refuse_to_replace
from morpheus_core.results.table_files import WRITERS, Writer, part_of, table_format

if TYPE_CHECKING:
    from astropy.table import Table


def export_candidates(
    table: Table, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a table of candidates, with as many digits as they are worth.

    Parameters
    ----------
    table : Table
        What `find_candidates`, `export_segments` or `merge_candidates` returned.
    path : path
        The file to write: .csv, .ecsv, .fits, .parquet (needs pyarrow), .xml, .vot or .votable; or
        .reg, regions of DS9 with the `id` as their text (needs the package regions): points on the
        sky, or without a sky position the bounding boxes in pixels.
    overwrite : bool, default False
        Replace the file, once the new one is complete.

    Raises
    ------
    InputError
        If the table is not one of candidates, or the name of the file ends in something else.
    OutputError
        If the file exists or cannot be written.
    MissingPackageError
        If the format needs a package that is not installed.

    Notes
    -----
    Positions are rounded to 1e-7 degrees and a thousandth of a pixel, probabilities to 1e-5.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from morpheus_core import export_candidates, find_candidates
    >>> votes = np.zeros((50, 60, 1), np.float32)
    >>> votes[10:13, 20:24] = 0.9
    >>> table = find_candidates([votes, np.ones((50, 60))], "class_0", threshold=0.5)
    >>> export_candidates(table["id", "x", "y", "peak"], "candidates.csv")
    >>> print(Path("candidates.csv").read_text().splitlines()[1])
    1,21.5,11.0,0.9
    """
    if not {"id", "x", "y"} <= set(getattr(table, "colnames", ())):
        raise InputError(
            "table must be one of find_candidates, export_segments or merge_candidates, got "
            f"{type(table).__name__}"
        )
    file, write = refuse_table(path, checks.flag("overwrite", overwrite))
    part = part_of(file)
    try:
        write(rounded(table), part)
    except (OSError, ValueError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {file}: {error}") from error
    give_name(part, file, overwrite)


def refuse_table(path: str | os.PathLike[str], overwrite: bool) -> tuple[Path, Writer]:
    """Raise if a table cannot be written there, else return where that is, and what writes it."""
    file = checks.path("path", path)
    write = table_format(file, "path", {**WRITERS, ".reg": write_regions})
    if file.suffix.lower() == ".reg":
        require_package("regions", "regions", f"path={path}")
    refuse_to_replace([file], [], overwrite)
    return file, write


def rounded(table: Table) -> Table:
    """Return a table whose numbers have few digits."""
    table = table.copy()
    for name in DIGITS.keys() & set(table.colnames):
        table[name][:] = np.round(table[name], DIGITS[name])
        table[name].info.format = None  # which would fill up with zeros
    return table


def write_regions(table: Table, path: Path) -> None:
    """Write regions of DS9."""
    from regions import Regions

    Regions([region_of(row) for row in table]).write(path, format="ds9")


def region_of(row: Any) -> Any:
    """Return where a candidate is."""
    from astropy.coordinates import SkyCoord
    from regions import PixCoord, PointSkyRegion, RectanglePixelRegion

    meta = {"text": str(row["id"])}
    if "ra" in row.colnames:
        return PointSkyRegion(SkyCoord(row["ra"], row["dec"], unit="deg"), meta=meta)
    (left, right), (bottom, top) = (
        (int(row[f"{axis}_min"]), int(row[f"{axis}_max"])) for axis in "xy"
    )
    centre = PixCoord(np.mean([left, right]), np.mean([bottom, top]))
    return RectanglePixelRegion(centre, right - left + 1, top - bottom + 1, meta=meta)
