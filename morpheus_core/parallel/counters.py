"""How many windows are finished: noted by workers, added up by the process that waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from morpheus_core.parallel.folders import Folders, write_in_place
from morpheus_core.parallel.pieces import OnSteps
from morpheus_core.storage.resources import Resource

#: Seconds between two notes of the progress.
PROGRESS_INTERVAL = 0.2


class WindowCounter(Resource):
    """Notes for the parent how many windows are finished, where :class:`Progress` looks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._windows = 0
        self._noted = 0.0

    def close(self) -> None:
        """Note the last windows."""
        self._note()

    def __call__(self, windows: int) -> None:
        """Count windows."""
        self._windows += windows
        if time.monotonic() - self._noted > PROGRESS_INTERVAL:
            self._note()

    def _note(self) -> None:
        with suppress(FileNotFoundError):  # the run has ended
            write_in_place(self._path, as_note(self._windows))
        self._noted = time.monotonic()


class Progress:
    """Adds up the windows that workers say they have finished.

    Parameters
    ----------
    folders : Folders
        Where the run is.
    on_steps : callable or None
        Told how many windows were just finished; nothing is looked at for nobody.
    interval : float
        Seconds between two looks.
    """

    def __init__(self, folders: Folders, on_steps: OnSteps | None, interval: float) -> None:
        self._folders, self._on_steps, self._interval = folders, on_steps, interval
        self._seen: dict[int, int] = {}
        self._looked = time.monotonic()

    def begin(self, index: int) -> None:
        """Make the note of a piece that is given to a worker."""
        if self._on_steps is not None:
            path = self._folders.progress_path(index)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text(as_note(0))

    def look_now_and_then(self, indices: Iterable[int]) -> None:
        """Look at pieces, if the last look was some time ago."""
        if time.monotonic() - self._looked >= self._interval:
            self.look(indices)
            self._looked = time.monotonic()

    def look(self, indices: Iterable[int]) -> None:
        """Tell how many windows of some pieces were finished since the last time."""
        if self._on_steps is None:
            return
        for index in indices:
            self.reaches(index, read_count(self._folders.progress_path(index)))

    def reaches(self, index: int, windows: int) -> None:
        """Tell that a piece is so far.

        A piece that was lost and begun anew counts only once it is farther than before.
        """
        news = max(0, windows - self._seen.get(index, 0))
        self._seen[index] = self._seen.get(index, 0) + news
        if self._on_steps is not None:
            self._on_steps(news)


def as_note(windows: int) -> str:
    """Return a count as text, which always has the same length."""
    return f"{windows:20d}"


def read_count(path: Path) -> int:
    """Return the windows that were noted in a file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # it is looked at while it changes, on a network file system
        return 0
