"""Exposures as pieces of work: whole files, or HDUs of them, that any process can do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count, takewhile
from pathlib import Path

from morpheus_core import errors
from morpheus_core.errors import MorpheusError, WorkerError
from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.hdu_choice import HduChoice, planes_of
from morpheus_core.exposures.mask_files import Recipe, opened, write_masks
from morpheus_core.parallel.folders import Folders
from morpheus_core.parallel.pieces import OnSteps, Work
from morpheus_core.pipeline.models import FactoryModel, Model, unpickle_model
from morpheus_core.storage.locks import unlock, wait_for_lock
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import write_text
from morpheus_core.workspace.fingerprints import state_of
from morpheus_core.workspace.witness import LoneWitness

#: Endings of files that are unpacked before anything of them can be read.
WHOLLY_COMPRESSED = (".gz", ".bz2", ".xz", ".z")


@dataclass(frozen=True, slots=True)
class Piece:
    """An exposure, or some HDUs of it.

    Attributes
    ----------
    exposure : Exposure
        The file.
    hdus : tuple of int or None
        Which HDUs; all that masks are made of by default.
    state : tuple of int
        Size and time of the last change of the file when the piece was made.
    """

    exposure: Exposure
    hdus: tuple[int, ...] | None
    state: tuple[int, int]

    def __str__(self) -> str:
        if self.hdus is None:
            return f"exposure {self.exposure}"
        return f"exposure {self.exposure.path}[{', '.join(map(str, self.hdus))}]"


def pieces_of(exposure: Exposure, choice: HduChoice, whole: bool) -> list[Piece]:
    """Return an exposure as one piece, or as one for each HDU that masks are made of.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    state = state_of(exposure.path)
    # What is compressed as a whole would be unpacked for each of its HDUs.
    if whole or exposure.path.suffix.lower() in WHOLLY_COMPRESSED:
        return [Piece(exposure.absolute(), None, state)]
    with opened(exposure.path) as (_, hdus):
        planes = planes_of(hdus, choice.chosen(exposure, hdus))
    return [Piece(exposure.absolute(), (index,), state) for index in planes]


def piece_path(folders: Folders, index: int) -> Path:
    """Return where it is written what a piece is."""
    return folders.folder(index) / "piece.json"


def store_piece(folders: Folders, index: int, piece: Piece) -> None:
    """Write what a piece is."""
    values = {
        "path": str(piece.exposure.path),
        "extension": piece.exposure.extension,
        "output": str(piece.exposure.output),
        "hdus": piece.hdus,
        "state": piece.state,
    }
    write_text(piece_path(folders, index), json.dumps(values))


def load_piece(folders: Folders, index: int) -> Piece:
    """Read what :func:`store_piece` wrote."""
    values = json.loads(piece_path(folders, index).read_text())
    return Piece(
        Exposure(Path(values["path"]), values["extension"], Path(values["output"])),
        None if values["hdus"] is None else tuple(values["hdus"]),
        (values["state"][0], values["state"][1]),
    )


def load_pieces(folders: Folders) -> list[Piece]:
    """Return all pieces of a run, in the order of their numbers."""
    numbers = takewhile(lambda index: is_there(piece_path(folders, index)), count())
    return [load_piece(folders, index) for index in numbers]


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a piece.

    Attributes
    ----------
    error : str or None
        The class of what went wrong.
    message : str
        What it said.
    spoilt, windows : int
        How many of how many windows were spoilt by NaN.
    """

    error: str | None = None
    message: str = ""
    spoilt: int = 0
    windows: int = 0

    @classmethod
    def of(cls, error: BaseException) -> Ending:
        """Describe what went wrong."""
        return cls(type(error).__name__, str(error))

    def exception(self) -> MorpheusError:
        """Return what went wrong as an error of this package."""
        kind = getattr(errors, self.error or "", None)
        if isinstance(kind, type) and issubclass(kind, MorpheusError):
            return kind(self.message)
        return MorpheusError(f"{self.error}: {self.message}")


class ExposureWork(Work):
    """Exposures, opened from what their run has stored."""

    def piece(self, index: int) -> Piece:
        """Return a piece."""
        return load_piece(self.folders, index)

    def name(self, index: int) -> str:
        """Return the file, and the HDUs if only some are meant."""
        return str(self.piece(index))

    def record_path(self, index: int) -> Path:
        """Return the file that is locked while a piece is done."""
        return self.folders.folder(index) / "record"

    def ending_path(self, index: int) -> Path:
        """Return where it is noted what became of a piece."""
        return self.folders.folder(index) / "ending.json"

    def published_path(self, index: int) -> Path:
        """Return where the file is described that began with a piece, once it has its name."""
        return self.folders.folder(index) / "published.json"

    def note_ending(self, index: int, ending: Ending) -> None:
        """Note what became of a piece."""
        write_text(self.ending_path(index), json.dumps(asdict(ending)))

    def ending(self, index: int) -> Ending | None:
        """Return what became of a piece, or None as long as it is not done."""
        path = self.ending_path(index)
        return Ending(**json.loads(path.read_text())) if is_there(path) else None

    def has_masks(self, index: int) -> bool:
        """Say whether the masks of a piece are there, which go into its file."""
        return any(self.folders.folder(index).glob("masks*"))

    def is_finished(self, index: int) -> bool:
        """Say whether it is known what became of a piece."""
        return is_there(self.ending_path(index))

    def input_paths(self) -> list[Path]:
        """Return no files: exposures that are not seen are told of one by one."""
        return []

    def load(self, guard: Callable[[Model], Model]) -> Recipe:
        """Return how masks are made, with the model.

        Raises
        ------
        ModelError
            If the run began in one process, with another model.
        """
        pickled = self.folders.stored_model()
        assert pickled is not None, "it was stored before any piece was begun"
        recipe: Recipe = unpickle_model(pickled)
        model = recipe.arguments.model
        model = model.model if isinstance(model, FactoryModel) else model  # made now, or never
        assert not isinstance(model, str), "a factory is a model that makes itself"
        LoneWitness(model, self.folders.first_batch_path(0)).compare()
        arguments = replace(recipe.arguments, model=guard(model), prefetch=self.prefetch)
        return replace(recipe, arguments=arguments)

    def do(self, index: int, loaded: Recipe, on_steps: OnSteps) -> None:
        """Write the masks of a piece, or note why there are none.

        Raises
        ------
        WorkerError
            If the run has ended meanwhile.
        """
        piece, folder = self.piece(index), self.folders.folder(index)
        with locked(self.record_path(index)):
            if self.is_finished(index):
                return
            spread: list[tuple[int, int]] = []

            def on_spread(*counts: int) -> None:
                spread.append((counts[0], counts[1]))

            try:
                write_masks(
                    piece.exposure, piece.hdus, loaded, folder, lambda _: on_steps(0), on_spread
                )
            except WorkerError:
                raise
            except Exception as error:  # whatever it is, other files may be well
                self.note_ending(index, Ending.of(error))
            else:
                spoilt, windows = (sum(one) for one in zip((0, 0), *spread, strict=True))
                self.note_ending(index, Ending(spoilt=spoilt, windows=windows))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        wait_for_lock(descriptor, path)
        yield
    finally:
        unlock(descriptor)
        os.close(descriptor)
