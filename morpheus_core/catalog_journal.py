"""Finished rows of a catalogue on disk, in the order in which they were finished.

A file of blocks: the length of what follows, its CRC-32, and records. A block that was cut short
or never reached the disk does not have its checksum, and ends what is read.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.journal import wait_for_lock
from morpheus_core.resources import Resource

HEADER = struct.Struct("<QI")


def record_type(n_columns: int, dtype: str) -> np.dtype[Any]:
    """Return the type of records: the number of a row, its status, and its values."""
    return np.dtype([("row", "<i8"), ("status", "u1"), ("values", dtype, (n_columns,))])


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
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # A worker whose parent was killed may live for a moment longer: wait for its end.
        wait_for_lock(self._descriptor, path)
        os.ftruncate(self._descriptor, read_blocks(path, dtype)[1])

    def append(self, records: NDArray[Any]) -> None:
        """Write records, which are not lost any more if this process is killed."""
        data = records.tobytes()
        block = HEADER.pack(len(data), zlib.crc32(data)) + data
        try:
            while block:
                block = block[os.write(self._descriptor, block) :]
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_records(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return all records of a file, which need not exist."""
    return read_blocks(path, dtype)[0]


def read_blocks(path: Path, dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """Return all records before the first broken block, and where in the file they end."""
    data = memoryview(path.read_bytes() if path.exists() else b"")
    blocks, end = [], 0
    while end + HEADER.size <= len(data):
        length, checksum = HEADER.unpack_from(data, end)
        block = data[end + HEADER.size : end + HEADER.size + length]
        if len(block) < length or not length or zlib.crc32(block) != checksum:
            break
        blocks.append(np.frombuffer(block, dtype))
        end += HEADER.size + length
    return np.concatenate([np.empty(0, dtype), *blocks]), end
