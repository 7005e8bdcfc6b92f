"""What can be done in any process: work that is cut into pieces, and stored in folders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from morpheus_core.errors import WorkerError
from morpheus_core.parallel.folders import Folders
from morpheus_core.pipeline.models import Model
from morpheus_core.version import __version__

#: Told how many windows, or rows, were just finished.
OnSteps = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Work(ABC):
    """Work whose pieces, known by their indices, any process can do, in any order.

    It travels to other processes, so it holds little: all else is in the folders of the run.

    Attributes
    ----------
    directory : str
        Where the folders are; absolute.
    prefetch : int
        How many batches are read ahead of the model.
    threads : int or None
        How many threads a process has that does a piece, where that was asked for.
    version : str
        Of the package that began the run.
    """

    directory: str
    prefetch: int
    threads: int | None = None
    version: str = __version__

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def folders(self) -> Folders:
        """The folders of the run."""
        return Folders(Path(self.directory))

    @abstractmethod
    def name(self, index: int) -> str:
        """Say what a piece is, as errors and dashboards tell it."""

    @abstractmethod
    def record_path(self, index: int) -> Path:
        """Return the file that notes what is finished of a piece; who does it holds its lock."""

    @abstractmethod
    def is_finished(self, index: int) -> bool:
        """Say whether nothing is left of a piece."""

    @abstractmethod
    def input_paths(self) -> list[Path]:
        """Return files that every worker has to see."""

    @abstractmethod
    def load(self, guard: Callable[[Model], Model]) -> Any:
        """Return what all pieces need, above all the model: once in each process.

        Parameters
        ----------
        guard : callable
            Wraps the model.
        """

    @abstractmethod
    def do(self, index: int, loaded: Any, on_steps: OnSteps) -> None:
        """Do what is left of a piece, with what :meth:`load` returned."""


class Failure(NamedTuple):
    """What a worker says of a piece that it could not do.

    Attributes
    ----------
    reason : str
        What went wrong.
    of_all : bool
        Whether it is of no use to try others.
    """

    reason: str
    of_all: bool


class NotLoadedError(WorkerError):
    """What all pieces need cannot be loaded: there is no use in trying others."""


def ignore(_: int) -> None:
    """Do nothing about a piece that is finished."""


def give_up(_: int, error: WorkerError) -> None:
    """End the run when a piece is lost."""
    raise error


@dataclass(frozen=True, slots=True)
class Watch:
    """What is to happen in the process that waits for pieces.

    Attributes
    ----------
    on_steps : callable or None
        Told how many windows, or rows, were just finished; None if nobody wants to know.
    on_finished : callable
        Told the index of a piece that is finished.
    on_lost : callable
        Told the index of a piece whose worker failed, and the error; raises it to end the run.
    """

    on_steps: OnSteps | None
    on_finished: Callable[[int], object] = ignore
    on_lost: Callable[[int, WorkerError], object] = give_up
