"""The folders "0", "1", "2", … in which a run works, one per piece of it.

Folder "0" holds what is common to all, as the model and the session. All are gone once what the
run is for is complete.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from morpheus_core.errors import MorpheusError, OutputError
from morpheus_core.storage import pickles
from morpheus_core.storage.locks import lock, unlock
from morpheus_core.storage.names import LOOK, is_there, look_anew
from morpheus_core.storage.whole_files import write_secret

logger = logging.getLogger("morpheus_core")

#: The name of a worker's log.
LOG = "log"
#: What a run that has ended may leave in a folder, some of it by pieces that end later.
REMAINS = {LOG, "run.tmp", "job.tmp", "session", "progress", "journal"}
REMAINS |= {"overwrite", "ready", "spread", "spread.tmp"}  # of images
REMAINS |= {"files.npy", "files.tmp.npy", "catalog.tmp"}  # of catalogues
REMAINS |= {"map.tmp", "piece.tmp", "record"}  # of exposures
#: How names of such files begin that each attempt has of its own, and those that NFS keeps.
REMAINS_OF_ATTEMPTS = ("journal.", "seam.", "rows.", f"{LOOK}.", ".nfs")
#: What says whose folder it is, and before it what must be there as long as anything else is.
OF_WHOM = ("files.npy", "job.json", "catalog.json", "map.json", "piece.json")


class Folders:
    """The folders of one run.

    Parameters
    ----------
    directory : Path
        Where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shared = directory / "0"
        self._session_path = self._shared / "session"
        self._model_path = self._shared / "model.pkl"

    def folder(self, index: int) -> Path:
        """Return the folder of a piece."""
        return self.directory / str(index)

    def log_path(self, index: int) -> Path:
        """Return where the output of a worker goes."""
        return self.folder(index) / LOG

    def progress_path(self, index: int) -> Path:
        """Return where it is noted how far a piece is."""
        return self.folder(index) / "progress"

    def first_batch_path(self, index: int) -> Path:
        """Return where the predictions of a first batch are, if the model is not."""
        return self.folder(index) / "first_batch.npy"

    def open_session(self) -> str:
        """Begin a session and return its name; pieces of earlier sessions end by themselves.

        Executors cannot be made to end a piece that they are running, so it looks at this.
        """
        session = uuid.uuid4().hex
        self._session_path.touch(mode=0o600)
        write_in_place(self._session_path, session)
        return session

    def close_session(self) -> None:
        """End whatever session there was."""
        if is_there(self._session_path):
            write_in_place(self._session_path, "0" * 32)

    def session(self) -> str | None:
        """Return the name of the session that was opened last."""
        try:
            return self._session_path.read_text("ascii")
        except FileNotFoundError:
            return None

    def store_model(self, pickled: bytes) -> None:
        """Store a pickled model."""
        write_secret(self._model_path, pickled)

    def has_model(self) -> bool:
        """Say whether a pickled model is stored."""
        return is_there(self._model_path)

    def stored_model(self) -> bytes | None:
        """Return the pickled model, if there is one that nobody else can have written.

        Raises
        ------
        OutputError
            If others could have.
        """
        return pickles.read(self._model_path) if self.has_model() else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory, so that no other process begins or resumes a run in it meanwhile.

        Raises
        ------
        OutputError
            If another one does.
        """
        path = self.directory / ".morpheus_core.lock"
        while True:
            with path.open("a") as file:
                self._lock_file(file)
                if not is_same_file(path, file):
                    unlock(file.fileno())
                    continue  # the one who held it has just ended, and removed it
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                    unlock(file.fileno())
                return

    def _lock_file(self, file: TextIO) -> None:
        try:
            lock(file.fileno())
        except BlockingIOError as error:
            raise OutputError(
                f"another process is running in {self.directory}; wait for it or end it"
            ) from error
        except OSError:  # not every file system has locks
            logger.info("%s cannot be locked", self.directory)


@contextmanager
def held(folders: Folders) -> Iterator[None]:
    """Hold the directory of a run, which is removed at the end if nothing is in it.

    One that was empty before stays: the user has made it.

    Raises
    ------
    OutputError
        If another process holds it, or it cannot be made.
    """
    directory = folders.directory
    was_given = directory.is_dir() and not any(directory.iterdir())
    try:
        with ExitStack() as stack:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(folders.lock())
            except OSError as error:
                if isinstance(error, MorpheusError):
                    raise
                raise OutputError(f"cannot write to {directory}: {error}") from error
            yield
    finally:
        if not was_given:
            with suppress(OSError):  # something is in it
                directory.rmdir()


def is_free(folder: Path) -> bool:
    """Say whether a folder holds nothing but what a run may leave that has ended."""
    return folder.is_dir() and all(is_remainder(path.name) for path in folder.iterdir())


def is_remainder(name: str) -> bool:
    """Say whether a file may be what a run has left that has ended."""
    return name in REMAINS or name.startswith(REMAINS_OF_ATTEMPTS)


def write_in_place(path: Path, text: str) -> None:
    """Write a text over another one of the same length.

    Of a file that is renamed, network file systems may show the old one for long.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text.encode("ascii"), 0)
    finally:
        os.close(descriptor)


def is_same_file(path: Path, file: TextIO) -> bool:
    """Say whether an open file still has its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def clear(folder: Path, kept: set[str]) -> None:
    """Remove what a run has put in a folder, and the folder if nothing is left in it."""
    if not folder.is_dir():
        return
    look_anew(folder)
    # What says whose folder it is goes last.
    order = {name: place for place, name in enumerate(OF_WHOM, 1)}
    for path in sorted(folder.iterdir(), key=lambda path: order.get(path.name, 0)):
        if path.name not in kept and not path.is_dir():
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        with suppress(OSError):  # a piece that ends late has just made a file
            folder.rmdir()
