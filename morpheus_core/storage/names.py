"""Names in folders that other machines write to.

A network file system may answer from memory whether a name exists, and that for a minute. So
names are never asked for: folders are listed, after a change of our own, which makes the system
look anew.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("morpheus_core")

#: Seconds for which a network file system may show what was; NFS keeps folders for a minute.
PATIENCE = 75.0
#: Seconds that need no explanation.
PROMPT = 2.0
#: Between two looks, in seconds: the first, and the longest.
PAUSES = (0.05, 2.0)
#: How the file begins whose coming and going makes a folder change.
LOOK = "look"


def names_in(folder: Path) -> set[str]:
    """Return the names that are in a folder; none where there is no such folder."""
    look_anew(folder)
    try:
        return {entry.name for entry in os.scandir(folder)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def is_found(path: Path) -> bool:
    """Say whether there is something, and raise where that cannot be found out.

    `Path.exists` says no of what may not be looked at, from Python 3.14 on.

    Raises
    ------
    OSError
        If a folder may not be searched, or a name is too long.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_there(path: Path) -> bool:
    """Say whether a name is in its folder."""
    return path.name in names_in(path.parent)


def look_anew(folder: Path) -> None:
    """Change a folder, so that the system forgets what it remembers of its names."""
    path = folder / f"{LOOK}.{uuid.uuid4().hex}"
    for change in (path.touch, path.unlink):
        with suppress(OSError):  # it may be read-only, or gone
            change()


def comes_true(condition: Callable[[], bool], what: str, folder: Path) -> bool:
    """Ask again and again whether something is there that another machine says it has written.

    Parameters
    ----------
    condition : callable
        Says whether it is.
    what : str
        It, for the log.
    folder : Path
        Where it is.

    Returns
    -------
    bool
        Whether it came true for as long as a network file system may take to show it.
    """
    start = time.monotonic()
    pause, told = PAUSES[0], False
    while not condition():
        waited = time.monotonic() - start
        if waited > PATIENCE:
            return False
        if waited > PROMPT and not told:
            logger.warning("waiting until this machine sees %s", what)
            told = True
        time.sleep(pause)
        pause = min(2 * pause, PAUSES[1])
        look_anew(folder)
    return True
