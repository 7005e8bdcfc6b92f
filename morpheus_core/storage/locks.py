"""Locks of files: who writes to one holds its lock, and others can tell."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from morpheus_core.errors import OutputError

logger = logging.getLogger("morpheus_core")

#: Seconds to wait for a process that is about to end.
LOCK_PATIENCE = 60.0


#: Which files the descriptors are of that this process has locked, as device and inode.
LOCKED: dict[int, tuple[int, int]] = {}


def file_of(descriptor: int) -> tuple[int, int]:
    """Return what tells an open file from others."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def let_go() -> None:
    """Give up the locks of the process from which this one was just forked.

    It would hold them when that process is gone. The descriptors stay valid, of another file.
    """
    for descriptor, file in LOCKED.items():
        with suppress(OSError):  # it is closed
            if file_of(descriptor) == file:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)
    LOCKED.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=let_go)


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
    LOCKED[descriptor] = file_of(descriptor)


def unlock(descriptor: int) -> None:
    """Give up the lock of an open file."""
    import fcntl

    LOCKED.pop(descriptor, None)
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
            unlock(file.fileno())
    except BlockingIOError:
        return True
    except OSError:  # there is none, or the file system has no locks
        return False
    return False
