"""The folders inside of `out_dir` in which a run works: "0", "1", "2", … one per strip.

Folder "0" holds what is common to all: the plan, the update map, the model, array inputs and the
state. Every folder holds its strip's journal, seam and log. All are gone once the outputs are
complete.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.images.stack import ImageStack, reopen, stored_paths
from morpheus_core.results.outputs import Product, part_path
from morpheus_core.storage import pickles
from morpheus_core.storage.locks import lock
from morpheus_core.storage.whole_files import write_secret, write_text
from morpheus_core.workspace.plan import Plan

logger = logging.getLogger("morpheus_core")

#: The name of a worker's log.
LOG = "log"
#: What can be noted of a run, as empty files.
FACTS = ("overwrite", "ready")
#: What a run that has ended may leave in a folder, some of it by strips that end later.
REMAINS = {LOG, "run.tmp", "job.tmp", "session", "progress", "journal", "seam", *FACTS}
REMAINS |= {"files.npy", "files.tmp.npy", "catalog.tmp"}  # of catalogues


class Workspace:
    """The folders of one run.

    Parameters
    ----------
    directory : Path
        The user's `out_dir`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shared = directory / "0"
        # The plan is renamed when the strips are stitched, and is the last thing to be removed.
        self._plan_path = self._shared / "run.json"
        self._stitched_path = self._shared / "stitched.json"
        self._inputs_path = self._shared / "inputs.json"
        self._session_path = self._shared / "session"
        self._model_path = self._shared / "model.pkl"

    def folder(self, index: int) -> Path:
        """Return the folder of a strip."""
        return self.directory / str(index)

    def journal_path(self, index: int) -> Path:
        """Return where a strip's finished rows are recorded."""
        return self.folder(index) / "journal"

    def seam_path(self, index: int) -> Path:
        """Return where a strip's part of shared rows is."""
        return self.folder(index) / "seam"

    def log_path(self, index: int) -> Path:
        """Return where a worker's output goes."""
        return self.folder(index) / LOG

    def error_path(self, index: int) -> Path:
        """Return where a worker says what stopped it."""
        return self.folder(index) / "error"

    def progress_path(self, index: int) -> Path:
        """Return where a worker counts its windows."""
        return self.folder(index) / "progress"

    def first_batch_path(self, index: int) -> Path:
        """Return where the predictions of a strip's first batch are, if the model is not."""
        return self.folder(index) / "first_batch.npy"

    def open_session(self) -> str:
        """Begin a session and return its name; strips of earlier sessions end by themselves.

        Executors cannot be made to end a strip that they are running, so it looks at this.
        """
        session = uuid.uuid4().hex
        self._session_path.touch(mode=0o600)
        write_in_place(self._session_path, session)
        return session

    def close_session(self) -> None:
        """End whatever session there was."""
        if self._session_path.exists():
            write_in_place(self._session_path, "0" * 32)

    def session(self) -> str | None:
        """Return the name of the session that was opened last."""
        try:
            return self._session_path.read_text("ascii")
        except FileNotFoundError:
            return None

    def holds_a_run(self) -> bool:
        """Say whether a run was begun here and not finished."""
        return self._plan_path.is_file() or self.is_stitched()

    def is_stitched(self) -> bool:
        """Say whether the outputs are complete, and perhaps have their names."""
        return self._stitched_path.is_file()

    def mark_stitched(self) -> None:
        """Note that the outputs are complete."""
        self._plan_path.replace(self._stitched_path)

    def load(self) -> Plan:
        """Return the plan of the run that was begun here.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        path = self._stitched_path if self.is_stitched() else self._plan_path
        try:
            return Plan.from_json(path.read_text())
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"{path} is damaged or of another version, so that run cannot be "
                f"continued; begin a new one in another out_dir"
            ) from error

    def refuse_what_is_in_the_way(self, products: Sequence[Product], n_strips: int) -> None:
        """Raise if files have a name that this run needs and are of another one.

        Raises
        ------
        OutputError
            They are never deleted: they may be the finished rows of a long run.
        """
        found = [part_path(product, self.directory) for product in products]
        found = [path for path in found if path.exists()]
        folders = [self.folder(index) for index in range(n_strips)]
        found += [path for path in folders if path.exists() and not is_free(path)]
        if found:
            raise OutputError(
                f"a new run needs the place of {', '.join(map(str, found))}, which may be of a run "
                f"that is going on or was interrupted; pass resume=True to continue that one, or "
                f"remove them, or pass another out_dir"
            )

    def create(self, plan: Plan, update_map: NDArray[np.float64], overwrite: bool) -> None:
        """Make the folders; from its first moment the run can be found by its plan."""
        for index, strip in enumerate(plan.strips):
            self.folder(index).mkdir(mode=0o700, exist_ok=True)
            self.folder(index).chmod(0o700)
            for name in REMAINS - {LOG}:
                (self.folder(index) / name).unlink(missing_ok=True)
            if index == 0:
                write_text(self._plan_path, plan.to_json())
            job = {"run": plan.run, "window_rows": list(strip)}
            write_text(self.folder(index) / "job.json", json.dumps(job))
            # Of a file that was not there, network file systems may say so long after it is.
            self.journal_path(index).touch(mode=0o600)
        np.save(self._shared / "update_map.npy", update_map)
        if overwrite:
            self.mark("overwrite")

    def check_folders(self, plan: Plan) -> None:
        """Raise if a folder is of another run than the plan.

        Raises
        ------
        OutputError
            What it holds is of other inputs or arguments.
        """
        for index in range(len(plan.strips)):
            if not self._belongs_to(plan, index):
                raise OutputError(f"{self.folder(index)} is of another run than {self._plan_path}")

    def update_map(self) -> NDArray[np.float64]:
        """Return the stored update map."""
        update_map: NDArray[np.float64] = np.load(self._shared / "update_map.npy")
        return update_map

    def store_inputs(self, stack: ImageStack) -> None:
        """Make sure that workers can open the images."""
        write_text(self._inputs_path, json.dumps(stack.store(self._shared)))

    def open_inputs(self) -> ImageStack:
        """Open the images, as a worker does."""
        return reopen(json.loads(self._inputs_path.read_text()))

    def input_paths(self) -> list[Path]:
        """Return the files that a worker has to open."""
        return stored_paths(json.loads(self._inputs_path.read_text()))

    def store_model(self, pickled: bytes) -> None:
        """Store a pickled model."""
        write_secret(self._model_path, pickled)

    def has_model(self) -> bool:
        """Say whether a pickled model is stored."""
        return self._model_path.exists()

    def stored_model(self) -> bytes | None:
        """Return the pickled model, if there is one that nobody else can have written.

        Raises
        ------
        OutputError
            If others could have.
        """
        return pickles.read(self._model_path) if self.has_model() else None

    def mark(self, fact: str) -> None:
        """Note one of `FACTS`: replacing is allowed, all is ready to run."""
        (self._shared / fact).touch()

    def is_marked(self, fact: str) -> bool:
        """Say whether a fact was noted."""
        return (self._shared / fact).exists()

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
                    continue  # the one who held it has just ended, and removed it
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
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

    def remove(self, plan: Plan, keep_logs: bool = False) -> None:
        """Remove the folders of the run, or all but the logs in them; the plan is the last."""
        kept = {LOG} if keep_logs else set()
        for index in range(1, len(plan.strips)):
            if self._belongs_to(plan, index):
                clear(self.folder(index), kept)
        clear(self._shared, {*kept, self._plan_path.name, self._stitched_path.name})
        clear(self._shared, kept)

    def _belongs_to(self, plan: Plan, index: int) -> bool:
        """Say whether a folder is there and of this run, or empty."""
        folder = self.folder(index)
        try:
            job = json.loads((folder / "job.json").read_text())
        except FileNotFoundError:
            return folder.is_dir() and is_free(folder)
        except ValueError:
            return False
        return bool(job["run"] == plan.run)

    def discard(self, plan: Plan, products: Sequence[Product], keep_logs: bool = False) -> None:
        """Remove the run and its unfinished outputs."""
        # First of all it is no run to be resumed any more.
        (self._shared / "ready").unlink(missing_ok=True)
        for product in products:
            part_path(product, self.directory).unlink(missing_ok=True)
        self.remove(plan, keep_logs)


def is_free(folder: Path) -> bool:
    """Say whether a folder holds nothing but what a run may leave that has ended."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= REMAINS


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
    # What says whose folder it is goes last.
    for path in sorted(
        folder.iterdir(), key=lambda path: path.name in ("job.json", "catalog.json")
    ):
        if path.name not in kept and not path.is_dir():
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
