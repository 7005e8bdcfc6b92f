"""Whether files hold what was computed: their data, read again, have the sums in their headers."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
from astropy.io import fits

from morpheus_core import checks
from morpheus_core.errors import MorpheusError, OutputError
from morpheus_core.fits.blocks import (
    FITS_BLOCK,
    row_ranges,
    row_sum_key,
    same_sum,
    sum_of_words,
)
from morpheus_core.fits.units import read_header
from morpheus_core.parallel.devices import available_cores
from morpheus_core.results.finished import outputs_in
from morpheus_core.results.stored_images import (
    METADATA,
    PLAIN,
    STORE,
    StoredImage,
    ending_of,
    open_images,
    open_store,
)
from morpheus_core.storage.file_systems import forget_pages

#: Bytes that are read at once, whole words; they stay in the processor's cache.
BLOCK_BYTES = 1 << 20
#: Threads that read a file; they hold no lock while they read and add up.
READERS = 4
#: First and last of a range of rows.
Rows = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a file has otherwise than it was computed.

    Parameters
    ----------
    path : Path
        The file.
    rows : tuple of int or None
        First and last row of the range that differs; None where that is not known, or it is not
        the data.
    what : str
        What differs.
    """

    path: Path
    rows: Rows | None
    what: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.path}: {self.what}"


def verify(out_dir: str | os.PathLike[str]) -> list[Difference]:
    """Read the outputs of a run, and compare them with the sums that were computed with them.

    The sums are those of the FITS standard (``CHECKSUM``, ``DATASUM``), and, in the cards
    ``ROWSUM0``, ``ROWSUM1``, ..., the data sums of up to 32 ranges of rows. They were added up
    while the rows were computed, before these went to any file.

    Parameters
    ----------
    out_dir : path
        Where :func:`morpheus_core.predict` has written its outputs.

    Returns
    -------
    list of Difference
        Empty if every byte of data and headers is as it was written.

    Raises
    ------
    InputError
        If `out_dir` holds no finished run.
    """
    directory = checks.path("out_dir", out_dir)
    paths = outputs_in(directory)
    return [difference for path in paths for difference in differences(path)]


def refuse_differences(path: Path, starts: Iterable[int]) -> None:
    """Raise unless a file that was just written holds what was computed.

    Parameters
    ----------
    path : Path
        The file.
    starts : iterable of int
        Where the units begin that are compared; what else is in it was copied from elsewhere.

    Raises
    ------
    OutputError
        If it does not.
    """
    with reading(path) as descriptor:
        for start in starts:
            _, found = differences_at(path, descriptor, start)
            if found:
                raise OutputError(
                    f"what is read back is not what was written: {found[0]}; write it again, and "
                    f"to another place if that does not help"
                )


def starts_between(path: Path, start: int, stop: int) -> list[int]:
    """Return where the units of a part of a file begin."""
    starts = []
    with reading(path) as descriptor:
        while start < stop:
            starts.append(start)
            start = StoredUnit(descriptor, start).stop
    return starts


def differences(path: Path, anew: bool = True) -> Iterator[Difference]:
    """Yield what a file of outputs, of whatever kind, has otherwise than its headers say.

    Tiles and chunks are unpacked for it.

    Parameters
    ----------
    path : Path
        The file.
    anew : bool
        Whether to read what is on the disk or the server, not what is remembered of it.
    """
    if ending_of(path) == PLAIN:
        yield from unit_differences(path, anew)
        return
    of_files = metadata_differences if ending_of(path) == STORE else unit_differences
    found = list(of_files(path))
    try:
        with ExitStack() as opened:
            images = open_images(path, opened, scaled=False)
            of_rows = [
                Difference(path, rows, not_computed(rows))
                for place, image in enumerate(images)
                for rows in rows_that_differ(path, place, image)
            ]
    except Exception as error:  # there is no end to what a damaged header may lead to
        of_rows = [] if found else [Difference(path, None, str(error))]
    yield from of_rows or found  # which rows differ says more


def metadata_differences(path: Path) -> Iterator[Difference]:
    """Yield what of a store is described otherwise than when it was made."""
    try:
        digests = open_store(path).attrs["sha256"]
    except MorpheusError:  # which is told by whoever opens it for its pixels
        return
    if not json.loads((path / METADATA).read_text()).keys() >= {"zarr_format", "node_type"}:
        yield Difference(path, None, f"{METADATA} is not what was written")  # Zarr is content
    for name, digest in digests.items():
        file = path / name / METADATA
        if not file.is_file() or sha256(file.read_bytes()).hexdigest() != digest:
            yield Difference(path, None, f"{name}/{METADATA} is not what was written")


def rows_that_differ(path: Path, place: int, image: StoredImage) -> list[Rows]:
    """Return the ranges of rows of an image that are not what its header says, unpacked."""
    height = image.shape[0]
    ranges = list(row_sums_of(image.header, height))
    ranges = ranges or [(0, height, int(image.header["DATASUM"]))]

    def others(share: Sequence[tuple[int, int, int]]) -> list[Rows]:
        with ExitStack() as opened:  # in each thread: they would read at each other's place
            rows = open_images(path, opened, scaled=False)[place]
            return [
                (first, stop - 1)
                for first, stop, wanted in share
                if not has_sum(rows, first, stop, wanted)
            ]

    # Zarr itself unpacks several chunks at a time.
    count = 1 if ending_of(path) == STORE else min(available_cores(), len(ranges))
    with ThreadPoolExecutor(count) as threads:
        return sorted(chain(*threads.map(others, [ranges[k::count] for k in range(count)])))


def has_sum(image: StoredImage, first: int, stop: int, wanted: int) -> bool:
    """Say whether rows of an image can be unpacked and have a data sum."""
    try:
        return same_sum(sum_of_pixels(image, first, stop), wanted)
    except Exception:  # what unpacks tiles and chunks raises what it likes
        return False


def sum_of_pixels(image: StoredImage, first: int, stop: int) -> int:
    """Add up the 32-bit words of rows of an image, as they are in a plain file."""
    total, row_bytes = 0, image.rows[:1].nbytes
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(first, stop, step):
        pixels = image.rows[start : min(start + step, stop)]
        big = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">"))
        total += sum_of_words(big, start * row_bytes)
    return total


def not_computed(rows: Rows) -> str:
    """Say that some rows differ."""
    return f"rows {rows[0]} to {rows[1]} are not what was computed"


def unit_differences(path: Path, anew: bool = True) -> Iterator[Difference]:
    """Yield what a FITS file has otherwise than its headers say, unit by unit."""
    with reading(path, anew) as descriptor:
        start: int | None = 0
        while start is not None:
            start, found = differences_at(path, descriptor, start)
            yield from found
            if start == os.fstat(descriptor).st_size:
                return


@contextmanager
def reading(path: Path, anew: bool = True) -> Iterator[int]:
    """Open a file; `anew`: to read what is on the disk or the server."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if anew:
            forget_pages(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def differences_at(path: Path, descriptor: int, start: int) -> tuple[int | None, list[Difference]]:
    """Compare the unit that begins at a byte of an open file.

    Returns
    -------
    int or None
        Where the next unit would begin, if that is known.
    list of Difference
        What the unit has otherwise than its header says.
    """
    size = os.fstat(descriptor).st_size
    try:
        unit = StoredUnit(descriptor, start)
    except Exception:  # there is no end to what a damaged header may hold
        return None, [Difference(path, None, f"the header at byte {start} cannot be read")]
    if unit.stop > size:
        what = f"it is truncated: it has {size} bytes of at least {unit.stop}"
        return None, [Difference(path, unit.rows_from(size), what)]
    if unit.data_sum is None:
        what = f"the header at byte {start} has no data sum"
        return unit.stop, [Difference(path, None, what)]
    return unit.stop, [Difference(path, rows, what) for rows, what in unit.differences()]


class StoredUnit:
    """A header and its data in an open file.

    Parameters
    ----------
    descriptor : int
        The file.
    start : int
        Where its header begins.
    """

    def __init__(self, descriptor: int, start: int) -> None:
        self._descriptor = descriptor
        self._block = read_header(descriptor, start)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what astropy mends on the way was not written so
            header = fits.Header.fromstring(self._block)
            shape = [header[f"NAXIS{axis}"] for axis in range(1, header["NAXIS"] + 1)]
            is_image = not header.get("ZIMAGE", False)  # or its rows are in tiles
            values = header.get("PCOUNT", 0) + prod(shape) if shape else 0
            size = abs(header["BITPIX"]) // 8 * header.get("GCOUNT", 1) * values
            self._height = shape[-1] if shape and is_image else 0
            #: Of all its data; None if it does not say.
            self.data_sum = int(header["DATASUM"]) if "DATASUM" in header else None
            self._row_sums = list(row_sums_of(header, self._height))
        self._data_start = start + len(self._block)
        self._row_bytes = size // self._height if self._height else 0
        #: Where its last block ends.
        self.stop = self._data_start + -(-size // FITS_BLOCK) * FITS_BLOCK

    def rows_from(self, byte: int) -> Rows | None:
        """Return the rows that lie behind a byte of the file."""
        first = max(0, byte - self._data_start) // self._row_bytes if self._row_bytes else 0
        return (first, self._height - 1) if first < self._height else None

    def differences(self) -> Iterator[tuple[Rows | None, str]]:
        """Yield which rows, or what else, differ from the sums in the header."""
        wrong = False
        with ThreadPoolExecutor(READERS) as threads:
            sums = list(threads.map(self._sum_of_rows, self._row_sums))
        for (first, stop, wanted), found in zip(self._row_sums, sums, strict=True):
            if not same_sum(found, wanted):
                wrong = True
                rows = first, stop - 1
                yield rows, not_computed(rows)
        stop = self._row_sums[-1][1] if self._row_sums else 0
        rest = self._data_start + stop * self._row_bytes
        total = sum(sums) + sum_of_bytes(self._descriptor, rest, self.stop)
        if not wrong and not same_sum(total, self.data_sum or 0):
            wrong = True
            yield None, "the data are not what was computed"
        words = np.frombuffer(self._block, dtype=">u4")
        if not wrong and not same_sum(int(words.sum(dtype=np.uint64)) + total, 0):
            yield None, "the header is not what was written"

    def _sum_of_rows(self, rows: tuple[int, int, int]) -> int:
        """Add up the words of the rows ``[first, stop)``."""
        first, stop = (self._data_start + row * self._row_bytes for row in rows[:2])
        return sum_of_bytes(self._descriptor, first, stop)


def row_sums_of(header: fits.Header, height: int) -> Iterator[tuple[int, int, int]]:
    """Yield the ranges of rows that have a data sum, ``[first, stop)``, and that sum."""
    for index, (first, stop) in enumerate(row_ranges(height)):
        if row_sum_key(index) in header:
            _, data_sum = header[row_sum_key(index)].split()
            yield first, stop, int(data_sum)


def sum_of_bytes(descriptor: int, start: int, stop: int) -> int:
    """Add up the 32-bit words of a range of a file, whose words begin where its blocks do."""
    total, first = 0, start
    buffer = np.empty(min(BLOCK_BYTES, stop - start), np.uint8)
    while first < stop:
        count = os.preadv(descriptor, [buffer[: stop - first].data], first)
        if not count:  # another process has just shortened it
            break
        total += sum_of_words(buffer[:count], first)
        first += count
    return total
