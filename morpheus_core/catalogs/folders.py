"""The folders in which records of a catalogue are kept until they are in a table.

Folder "0" holds what is run and how files were when it began; each holds the rows and the records
of a block. They are as in `parallel` otherwise.
"""

from __future__ import annotations

from itertools import count, takewhile
from pathlib import Path

from morpheus_core.errors import OutputError
from morpheus_core.parallel.folders import Folders, clear, is_free
from morpheus_core.storage.names import names_in


def remove(directory: Path | None) -> None:
    """Remove the folders of a run, if it has some; the one that says what it is goes last."""
    for folder in reversed(folders_of(directory)) if directory else ():
        clear(folder, set())


def refuse_what_is_in_the_way(directory: Path, resumed: bool) -> None:
    """Raise if a folder that a run may need is not its own."""
    own = folders_of(directory) if resumed else []
    others = [folder for folder in numbered(directory) if folder not in own]
    in_the_way = [folder for folder in others if not is_free(folder)]
    if in_the_way:
        raise OutputError(
            f"a new run needs the place of {directory}, which may be of a run that is going on or "
            f"was interrupted: it holds {in_the_way[0].name}; pass resume=True to continue that "
            f"one, or remove all of it, or pass another work_dir"
        )


def numbered(directory: Path) -> list[Path]:
    """Return the folders that are called "0", "1", ..."""
    found = (path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())
    return sorted(found, key=lambda path: int(path.name))


def folders_of(directory: Path) -> list[Path]:
    """Return the folders of a run, also of one that has left no more than a log.

    Their numbers follow each other, so that a folder "2021" is nobody's but the user's.
    """
    in_order = (directory / str(index) for index in count())
    return list(takewhile(is_of_run, in_order))


def is_of_run(folder: Path) -> bool:
    """Say whether a folder holds what a run has put there."""
    own = not names_in(folder).isdisjoint(("catalog.json", "rows.npy"))
    return own or (is_free(folder) and any(folder.iterdir()))


def file_states_path(run: Folders) -> Path:
    """Return where it is noted how files were when the run began."""
    return run.folder(0) / "files.npy"


def rows_path(run: Folders, index: int) -> Path:
    """Return where the rows of a block are."""
    return run.folder(index) / "rows.npy"


def record_path(run: Folders, index: int) -> Path:
    """Return where the records of a block are."""
    return run.folder(index) / "records"
