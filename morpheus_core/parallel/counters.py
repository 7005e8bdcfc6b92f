"""How many windows are finished: noted by workers, added up by the process that waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from morpheus_core.parallel.folders import Folders, write_in_place
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
    indices : iterable of int
        Which pieces of it are done; none of them has finished any window yet.
    """

    def __init__(self, folders: Folders, indices: Iterable[int]) -> None:
        self._paths = {index: folders.progress_path(index) for index in indices}
        self._seen = dict.fromkeys(self._paths, 0)
        for path in self._paths.values():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text(as_note(0))

    def news(self) -> int:
        """Return how many windows were finished since the last time."""
        return sum(self.reaches(index, read_count(path)) for index, path in self._paths.items())

    def reaches(self, index: int, windows: int) -> int:
        """Note how far a piece is, and return how many windows of it are news.

        A piece that was lost and begun anew counts only once it is farther than before.
        """
        news = max(0, windows - self._seen[index])
        self._seen[index] += news
        return news


def as_note(windows: int) -> str:
    """Return a count as text, which always has the same length."""
    return f"{windows:20d}"


def read_count(path: Path) -> int:
    """Return the windows that were noted in a file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # it is looked at while it changes, on a network file system
        return 0
