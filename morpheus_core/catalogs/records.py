"""Finished rows of a catalogue on disk, in the order in which they were finished.

A file of blocks: the length of what follows, its CRC-32, and records. A block that was cut short
or never reached the disk does not have its checksum, and ends what is read.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.storage.locks import unlock, wait_for_lock
from morpheus_core.storage.names import is_there
from morpheus_core.storage.resources import Resource

HEADER = struct.Struct("<QI")


#: A field of values: its name, its type, and how many a row has.
Field = tuple[str, str, tuple[int]]


def record_type(values: Sequence[Field]) -> np.dtype[Any]:
    """Return the type of records: the number of a row, its status, and its values."""
    return np.dtype([("row", "<i8"), ("status", "u1"), *values])


class RecordFile(Resource):
    """Takes records of finished rows; one process at a time may hold it.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    dtype : dtype
        Of the records.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path, self._dtype = path, dtype
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # A worker whose parent was killed may live for a moment longer: wait for its end.
            wait_for_lock(self._descriptor, path)
            size = sum(HEADER.size + records.nbytes for records in read_records(path, dtype))
            os.ftruncate(self._descriptor, size)
        except BaseException:  # Ctrl-C as well: nobody else could ever have the lock
            self.close()
            raise

    def read(self) -> Iterator[NDArray[Any]]:
        """Yield the records that are there."""
        return read_records(self._path, self._dtype)

    def append(self, records: NDArray[Any]) -> None:
        """Write records, which are not lost any more if this process is killed."""
        data = np.ascontiguousarray(records).view(np.uint8).data
        try:
            for part in (HEADER.pack(len(data), zlib.crc32(data)), data):
                left = memoryview(part)
                while left:
                    left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file, which is on disk then."""
        try:
            os.fsync(self._descriptor)
        finally:
            unlock(self._descriptor)
            os.close(self._descriptor)


def read_records(path: Path, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield the blocks of a file, which need not exist, before the first broken one."""
    if not is_there(path):
        return
    with path.open("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            length, checksum = HEADER.unpack(header)
            if not 0 < length <= path.stat().st_size:
                return
            block = file.read(length)
            if len(block) < length or zlib.crc32(block) != checksum:
                return
            yield np.frombuffer(block, dtype)


def bring_together(
    paths: Sequence[Path],
    dtype: np.dtype[Any],
    is_kept: Callable[[NDArray[Any]], NDArray[np.bool_]],
) -> None:
    """Write records of several files to the first one, and remove the others.

    Parameters
    ----------
    paths : sequence of Path
        They need not exist.
    dtype : dtype
        Of the records.
    is_kept : callable
        Says of records which ones remain.
    """
    unfinished = paths[0].with_suffix(".tmp")
    unfinished.unlink(missing_ok=True)
    with RecordFile(unfinished, dtype) as file:
        for path in paths:
            with RecordFile(path, dtype) as found:  # one at a time: there may be many
                for records in found.read():
                    kept = records[is_kept(records)]
                    if len(kept):
                        file.append(kept)
    unfinished.replace(paths[0])
    for path in paths[1:]:
        path.unlink()
