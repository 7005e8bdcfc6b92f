"""Which rows of a strip are finished, and what a run that goes on may trust of that.

Whoever runs a strip is an *attempt*, and writes to files of its own: no file has two writers, on
whatever machines they are. A journal has one such file for each attempt. It is a file of lines,
each a JSON list, written after the rows that they speak of. The system keeps what was written when
the process is killed, so every line can be trusted then. When the machine itself goes down, and
from the view of another machine, lines may be there that are newer than the rows: then only those
lines count whose rows were known to be on disk.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from morpheus_core.fits.blocks import add_data_sums
from morpheus_core.storage.locks import unlock, wait_for_lock
from morpheus_core.storage.names import names_in
from morpheus_core.storage.resources import Resource

#: Seconds between two times that the rows are forced to disk.
SYNC_INTERVAL = 10.0


class Segment(NamedTuple):
    """Rows of a strip that one attempt has written.

    Attributes
    ----------
    attempt : str
        Which one.
    start, stop : int
        Output rows ``[start, stop)``.
    """

    attempt: str
    start: int
    stop: int


class Entry(NamedTuple):
    """How far a strip is.

    Attributes
    ----------
    row : int
        Every output row of the strip before this one is written.
    data_sums : list of int
        Sum of the 32-bit words of the strip's finished rows, for each product, and of its seam.
    segments : list of Segment
        Who has written them, in the order of rows.
    """

    row: int
    data_sums: list[int]
    segments: list[Segment]


class Journal(Resource):
    """The record of one strip; one process at a time may hold it.

    Parameters
    ----------
    path : Path
        What is locked. Nothing is written to it: records are beside it, one for each attempt.
    attempt : str
        The name of this one, from :func:`new_attempt`.
    first_row : int
        The first row of the strip, where it begins if there is no record.
    n_sums : int
        Data sums in an entry.
    sync : callable
        Forces the rows that were written so far to disk.
    """

    def __init__(
        self, path: Path, attempt: str, first_row: int, n_sums: int, sync: Callable[[], None]
    ) -> None:
        self._attempt, self._sync = attempt, sync
        self._last_sync = time.monotonic()
        self._record = -1
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # A worker whose parent was killed may live for a moment longer: wait for its end.
            wait_for_lock(self._lock, path)
            self.entry = read_journal(path, run_of(attempt))
            self._begun = self.entry or Entry(first_row, [0] * n_sums, [])
            self._data_sums = self._begun.data_sums
            self._record = os.open(
                attempt_path(path, attempt), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
            )
            self._append("begun", *self._begun)
            self._append("boot", boot_id())
        except BaseException:  # Ctrl-C as well: nobody else could ever have the lock
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        if self._record >= 0:
            os.close(self._record)
        unlock(self._lock)
        os.close(self._lock)

    def record(self, row: int, data_sums: Sequence[int]) -> None:
        """Note that all rows before `row` are written, the newest of them with these data sums."""
        self._data_sums = add_data_sums(self._data_sums, data_sums)
        segment = Segment(self._attempt, self._begun.row, row)
        self.entry = Entry(row, self._data_sums, [*self._begun.segments, segment])
        if time.monotonic() - self._last_sync > SYNC_INTERVAL:
            self.force()
        else:
            self._append("written", row, self._data_sums)

    def force(self) -> None:
        """Force all rows to disk, and then the entry that says so."""
        if self.entry is not None:
            self._sync()
            self._append("synced", self.entry.row, self.entry.data_sums)
            os.fsync(self._record)
            self._last_sync = time.monotonic()

    def _append(self, *values: object) -> None:
        line = json.dumps(values).encode("ascii") + b"\n"
        if os.write(self._record, line) != len(line):  # the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def new_attempt(run: str) -> str:
    """Return a name for an attempt at a strip of a run."""
    return f"{run}-{uuid.uuid4().hex[:12]}"


def run_of(attempt: str) -> str:
    """Return the run that an attempt is of."""
    return attempt.partition("-")[0]


def attempt_path(path: Path, attempt: str) -> Path:
    """Return the file of an attempt among those of all attempts."""
    return path.with_name(f"{path.name}.{attempt}")


def attempts(path: Path, run: str) -> list[str]:
    """Return the attempts of a run that have such a file; those of earlier runs may be late."""
    prefix = f"{path.name}."
    names = (name.removeprefix(prefix) for name in names_in(path.parent) if name.startswith(prefix))
    return sorted(name for name in names if run_of(name) == run)


def read_journal(path: Path, run: str) -> Entry | None:
    """Return the entry of a journal that is farthest and may be trusted, if there is one."""
    found: Entry | None = None
    for attempt in attempts(path, run):
        entry = last_trusted(attempt_path(path, attempt).read_bytes(), attempt)
        if entry is not None and (found is None or entry.row > found.row):
            found = entry
    return found


def last_trusted(content: bytes, attempt: str) -> Entry | None:
    """Return the last entry of an attempt that speaks of rows which are sure to be there."""
    this_boot = boot_id()
    trusted, begun, entry = False, None, None
    for kind, *values in lines_of(content):
        if kind == "begun":
            row, data_sums, segments = values
            begun = Entry(row, data_sums, [Segment(*segment) for segment in segments])
        elif kind == "boot":
            trusted = values[0] == this_boot != ""
        elif begun is not None and (trusted or kind == "synced"):
            row, data_sums = values
            segments = [*begun.segments, Segment(attempt, begun.row, row)]
            entry = Entry(row, data_sums, segments)
    return entry


def lines_of(content: bytes) -> list[list[Any]]:
    """Return the lines of a record that are whole."""
    lines = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # the rest of a line that did not fit on the disk
            continue
    return lines


def boot_id() -> str:
    """Return what is the same until this machine restarts; empty where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
