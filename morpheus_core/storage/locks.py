"""Locks of files: who writes to one holds its lock, and others can tell."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from morpheus_core.errors import OutputError

logger = logging.getLogger("morpheus_core")

#: Seconds to wait for a process that is about to end.
LOCK_PATIENCE = 60.0


def lock(descriptor: int) -> None:
    """Take the lock of an open file.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    OSError
        If the file system has no locks.
    """
    import fcntl  # which Windows does not have; nothing there needs a lock

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(descriptor: int) -> None:
    """Give up the lock of an open file, which children of this process hold on to otherwise."""
    import fcntl

    with suppress(OSError):  # not every file system has locks
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def wait_for_lock(descriptor: int, path: Path) -> None:
    """Take the lock of a file, and say so where that takes time.

    Raises
    ------
    OutputError
        If that takes too long.
    """
    deadline = time.monotonic() + LOCK_PATIENCE
    said = False
    while True:
        try:
            lock(descriptor)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise OutputError(
                    f"another process, or thread, still writes {path}; end it"
                ) from error
        except OSError:  # not every file system has locks
            logger.info("%s cannot be locked", path)
            return
        if not said:
            logger.warning("waiting for the process that still writes %s", path)
            said = True
        time.sleep(0.1)


def wait_until_free(path: Path, deadline: float) -> None:
    """Wait until no process holds a journal.

    Raises
    ------
    OutputError
        If one still does at a time of `time.monotonic`.
    """
    while is_held(path):
        if time.monotonic() > deadline:
            raise OutputError(f"another process, or thread, still writes {path}; end it")
        time.sleep(0.1)


def is_held(path: Path) -> bool:
    """Say whether a process holds a journal."""
    try:
        with path.open("r+b") as file:
            lock(file.fileno())
    except BlockingIOError:
        return True
    except OSError:  # there is none, or the file system has no locks
        return False
    return False
