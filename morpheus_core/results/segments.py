"""Regions of a class as one image of labels, and the regions of tiles as one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.fits.blocks import ImageUnit
from morpheus_core.fits.cards import commented
from morpheus_core.results.candidates import as_table, listed, search_of
from morpheus_core.results.image_files import GrowingFile, make_room, new_file, refuse_export
from morpheus_core.results.opened import GivenResults
from morpheus_core.results.outputs import give_name
from morpheus_core.results.regions import Search

if TYPE_CHECKING:
    from astropy.table import Table


def export_segments(
    results: GivenResults,
    path: str | os.PathLike[str],
    class_name: str,
    threshold: float,
    min_area: int = 1,
    *,
    connectivity: int = 8,
    aggregate_method: str | None = None,
    overlap: int | None = None,
    overwrite: bool = False,
) -> Table:
    """Write the connected regions in which a class reaches a threshold as an image of labels.

    Needs SciPy, which the extra ``candidates`` brings.

    Parameters
    ----------
    results, class_name, threshold, min_area, connectivity, aggregate_method, overlap
        As for :func:`morpheus_core.find_candidates`.
    path : path
        The FITS file to write: one int32 image, (height, width), in the primary HDU, 0 outside of
        regions. ``photutils.segmentation.SegmentationImage(fits.getdata(path))`` takes it, as do
        ``astmkcatalog`` (with ``-h0``) and SExtractor.
    overwrite : bool, default False
        Replace the file, once the new one is complete, and what a killed export left.

    Returns
    -------
    Table
        What `find_candidates` returns; the column ``id`` is the label of each region.

    Raises
    ------
    InputError
        If there is no finished run, an argument does not fit the result, or something cannot be
        read.
    OutputError
        If the file exists or cannot be written.
    MissingPackageError
        If scipy is not installed.

    Notes
    -----
    The result is read twice, a few rows at a time. Labels do not depend on how the run was cut into
    strips. Memory is that of `find_candidates`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.io import fits
    >>> from morpheus_core import export_segments
    >>> votes = np.zeros((50, 60, 2))
    >>> votes[10:13, 20:24, 0] = 0.75
    >>> votes[40, 50, 0] = 1
    >>> table = export_segments([votes, np.ones((50, 60))], "labels.fits", "class_0", threshold=0.5)
    >>> labels = fits.getdata("labels.fits")
    >>> int(labels[40, 50]), int(labels[11, 21]), int(labels[0, 0])
    (1, 2, 0)
    """
    least = checks.whole_number("min_area", min_area)
    pixels = None if overlap is None else checks.whole_number("overlap", overlap)
    file = checks.path("path", path)
    with search_of(results, class_name, threshold, connectivity, aggregate_method) as search:
        outputs = search.outputs
        folder = outputs.paths[0].parent if outputs.paths else None
        refuse_export(folder, file, outputs.paths, checks.flag("overwrite", overwrite))
        regions, region_of_label = listed(search, least)
        id_of_region = np.zeros(region_of_label.max() + 1, np.int32)
        id_of_region[regions["label"]] = np.arange(1, len(regions["label"]) + 1)
        unit = ImageUnit(outputs.shape, np.dtype(np.int32), cards_of(search, class_name, least))
        write_labels(search, id_of_region[region_of_label], unit, file, overwrite)
        return as_table(regions, outputs, pixels)


def cards_of(search: Search, class_name: str, min_area: int) -> fits.Header:
    """Return what an image of labels says of itself."""
    cards = fits.Header({"EXTNAME": "SEGMENTS"})
    cards["SEGCLASS"] = commented(class_name, "class of the regions")
    cards["THRESH"] = (search.threshold, "least probability of a pixel")
    cards["MINAREA"] = (min_area, "least pixels of a region")
    cards["CONNECT"] = (search.connectivity, "neighbours of a pixel")
    cards.extend(search.outputs.cards)
    return cards


def write_labels(
    search: Search, id_of_label: NDArray[np.int32], unit: ImageUnit, path: Path, overwrite: bool
) -> None:
    """Write the image of labels to a file that gets its name when it is complete."""
    part = path.with_name(f"{path.name}.part")
    with new_file(part, overwrite) as descriptor:
        file = GrowingFile(part, descriptor, make_room(part, descriptor, [unit]))
        for rows in search.parts():
            file.write(0, rows.first, id_of_label[rows.labels])
        file.seal()
    give_name(part, path, overwrite)


def merge_candidates(tables: Sequence[Table], corners: Sequence[tuple[int, int]]) -> Table:
    """Make one table of the regions of overlapping tiles, each region once.

    A region belongs to the tile in which its peak is farthest from the tiles around it; where
    regions are no larger than half of what tiles have in common, that tile sees it whole, and no
    region is lost or listed twice.

    Parameters
    ----------
    tables : sequence of Table
        What `find_candidates` or `export_segments` returned for each tile, all with the same
        arguments.
    corners : sequence of tuple of int
        Row and column of the mosaic at which the first pixel of each tile lies, in pixels of the
        result. Tiles must be cut from one pixel grid.

    Returns
    -------
    Table
        As of `find_candidates`, in pixels of the mosaic, the highest peak first. ``id`` counts
        anew; ``tile`` is the place of the tile in `tables`, from 0, and ``tile_id`` the `id` there,
        which is the label in its image of labels. ``at_border`` says whether the region touches an
        edge of its tile, and may be larger than what is listed.

    Raises
    ------
    InputError
        If a table is not one of `find_candidates`, or there is not one corner for each.

    Examples
    --------
    >>> import numpy as np
    >>> from morpheus_core import find_candidates, merge_candidates
    >>> votes, n = np.zeros((50, 60, 1)), np.ones((50, 60))
    >>> votes[10:13, 28:32] = 0.75
    >>> left = find_candidates([votes[:, :40], n[:, :40]], "class_0", threshold=0.5)
    >>> right = find_candidates([votes[:, 20:], n[:, 20:]], "class_0", threshold=0.5)
    >>> len(left), len(right), len(merge_candidates([left, right], [(0, 0), (0, 20)]))
    (1, 1, 1)
    """
    from astropy.table import Table, vstack

    if len(tables) != len(corners) or not tables:
        raise InputError(
            f"corners must be one (row, column) for each table, got {len(corners)} for "
            f"{len(tables)} tables"
        )
    tiles = np.array(
        [tile_of(table, corner) for table, corner in zip(tables, corners, strict=True)]
    )
    kept = []
    for number, table in enumerate(tables):
        moved = in_mosaic(table, tiles[number, 0])
        owners = owner_of(np.stack([moved["y_peak"], moved["x_peak"]], axis=-1), tiles)
        moved["tile"], moved["tile_id"] = np.int32(number), table["id"]
        kept.append(moved[owners == number])
    merged = vstack(kept, metadata_conflicts="silent")
    merged.meta = {}
    merged = merged[np.lexsort((merged["x_peak"], merged["y_peak"], -merged["peak"]))]
    merged["id"] = np.arange(1, len(merged) + 1, dtype=np.int32)
    return Table(merged)


def tile_of(table: Any, corner: Any) -> tuple[list[int], list[int]]:
    """Return the first row and column of a tile, and those behind its last ones."""
    size = [getattr(table, "meta", {}).get(name, 0) for name in ("HEIGHT", "WIDTH")]
    if 0 in size:
        raise InputError(
            "tables must be what find_candidates or export_segments returned, with its meta, got "
            f"{type(table).__name__}"
        )
    first = [checks.whole_number("a corner", value, least=0) for value in corner]
    return first, [start + int(length) for start, length in zip(first, size, strict=True)]


def in_mosaic(table: Table, corner: NDArray[np.int64]) -> Table:
    """Return a table in pixels of the mosaic."""
    moved = table.copy()
    for axis, offset in zip("yx", corner, strict=True):
        for name in (axis, f"{axis}_peak", f"{axis}_min", f"{axis}_max"):
            moved[name] += offset
    return moved


def owner_of(peaks: NDArray[np.int64], tiles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tile that each peak belongs to; the first of several that are as good.

    Parameters
    ----------
    peaks : ndarray, (regions, 2)
        Row and column.
    tiles : ndarray, (tiles, 2, 2)
        First row and column of each tile, and those behind the last.
    """
    outer = tiles[:, 0].min(axis=0), tiles[:, 1].max(axis=0)
    far = int(outer[1].max()) + 1
    depths = []
    for first, stop in tiles:
        # Nothing is cut off at the edge of the mosaic.
        before = np.where(first == outer[0], far, peaks - first)
        behind = np.where(stop == outer[1], far, stop - 1 - peaks)
        inside = ((peaks >= first) & (peaks < stop)).all(axis=1)
        depths.append(np.where(inside, np.minimum(before, behind).min(axis=1), -1))
    return np.asarray(np.argmax(depths, axis=0))
