"""Which rows of a strip are finished, and what a run that goes on may trust of that.

A journal is a file of lines, each a JSON list, written after the rows that it speaks of. The system
keeps what was written when the process is killed, so every line can be trusted then. When the
machine itself goes down, lines may survive that are newer than the rows: after a restart only those
lines count whose rows were known to be on disk.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from morpheus_core.fits.blocks import add_data_sums
from morpheus_core.storage.locks import unlock, wait_for_lock
from morpheus_core.storage.resources import Resource

#: Seconds between two times that the rows are forced to disk.
SYNC_INTERVAL = 10.0


class Entry(NamedTuple):
    """How far a strip is.

    Attributes
    ----------
    row : int
        Every output row of the strip before this one is written.
    data_sums : list of int
        Sum of the 32-bit words of the strip's finished rows, for each product.
    """

    row: int
    data_sums: list[int]


class Journal(Resource):
    """The record of one strip; one process at a time may hold it.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    n_products : int
        Data sums in an entry.
    sync : callable
        Forces the rows that were written so far to disk.
    """

    def __init__(self, path: Path, n_products: int, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._last_sync = time.monotonic()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # A worker whose parent was killed may live for a moment longer: wait for its end.
            wait_for_lock(self._descriptor, path)
            text = path.read_bytes()
            complete = text[: text.rfind(b"\n") + 1]
            os.ftruncate(self._descriptor, len(complete))
            self.entry = last_trusted(complete.decode("ascii"))
            self._data_sums = [0] * n_products if self.entry is None else self.entry.data_sums
            self._append("boot", boot_id())
        except BaseException:  # Ctrl-C as well: nobody else could ever have the lock
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        unlock(self._descriptor)
        os.close(self._descriptor)

    def record(self, row: int, data_sums: Sequence[int] | None = None) -> None:
        """Note that all rows before `row` are written, the newest of them with these data sums."""
        if data_sums is not None:
            self._data_sums = add_data_sums(self._data_sums, data_sums)
        self.entry = Entry(row, self._data_sums)
        if time.monotonic() - self._last_sync > SYNC_INTERVAL:
            self.force()
        else:
            self._append("written", *self.entry)

    def force(self) -> None:
        """Force all rows to disk, and then the entry that says so."""
        if self.entry is not None:
            self._sync()
            self._append("synced", *self.entry)
            os.fsync(self._descriptor)
            self._last_sync = time.monotonic()

    def _append(self, *values: object) -> None:
        line = json.dumps(values).encode("ascii") + b"\n"
        if os.write(self._descriptor, line) != len(line):  # the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_journal(path: Path) -> Entry | None:
    """Return the last entry of a journal that may be trusted, if there is one."""
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return None
    return last_trusted(text[: text.rfind("\n") + 1])


def last_trusted(text: str) -> Entry | None:
    """Return the last entry that speaks of rows which are sure to be there."""
    this_boot = boot_id()
    trusted, entry = False, None
    for line in text.splitlines():
        try:
            kind, *values = json.loads(line)
        except ValueError:  # the rest of a line that did not fit on the disk
            continue
        if kind == "boot":
            trusted = values[0] == this_boot != ""
        elif trusted or kind == "synced":
            entry = Entry(*values)
    return entry


def boot_id() -> str:
    """Return what is the same until this machine restarts; empty where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
