"""Exposures as pieces of work: whole files, or HDUs of them, that any process can do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from morpheus_core import errors
from morpheus_core.errors import MorpheusError, WorkerError
from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.mask_files import Recipe, choose, opened, planes_of, write_masks
from morpheus_core.parallel.folders import Folders
from morpheus_core.parallel.pieces import OnSteps, Work
from morpheus_core.pipeline.models import Model, unpickle_model
from morpheus_core.storage.locks import unlock, wait_for_lock
from morpheus_core.storage.whole_files import write_text
from morpheus_core.workspace.fingerprints import state_of

#: Endings of files that are unpacked before anything of them can be read.
WHOLLY_COMPRESSED = (".gz", ".bz2", ".xz", ".Z")


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


def pieces_of(exposure: Exposure, whole: bool) -> list[Piece]:
    """Return an exposure as one piece, or as one for each HDU that masks are made of.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    state = state_of(exposure.path)
    # What is compressed as a whole would be unpacked for each of its HDUs.
    if whole or exposure.path.suffix in WHOLLY_COMPRESSED:
        return [Piece(exposure.absolute(), None, state)]
    with opened(exposure.path) as (_, hdus):
        planes = planes_of(hdus, choose(exposure, hdus))
    return [Piece(exposure.absolute(), (index,), state) for index in planes]


def store_pieces(folders: Folders, pieces: Sequence[Piece]) -> None:
    """Write the list of pieces, by whose numbers processes know them."""
    values = [
        {
            "path": str(piece.exposure.path),
            "extension": piece.exposure.extension,
            "output": str(piece.exposure.output),
            "hdus": piece.hdus,
            "state": piece.state,
        }
        for piece in pieces
    ]
    write_text(folders.folder(0) / "pieces.json", json.dumps(values))


def load_pieces(folders: Folders) -> list[Piece]:
    """Read what :func:`store_pieces` wrote; paths are absolute."""
    path = folders.folder(0) / "pieces.json"
    return [
        Piece(
            Exposure(Path(value["path"]), value["extension"], Path(value["output"])),
            None if value["hdus"] is None else tuple(value["hdus"]),
            (value["state"][0], value["state"][1]),
        )
        for value in json.loads(path.read_text())
    ]


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a piece.

    Attributes
    ----------
    error : str or None
        The class of what went wrong.
    message : str
        What it said.
    """

    error: str | None = None
    message: str = ""

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

    @cached_property
    def pieces(self) -> list[Piece]:
        """All pieces."""
        return load_pieces(self.folders)

    def name(self, index: int) -> str:
        """Return the file, and the HDUs if only some are meant."""
        return str(self.pieces[index])

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
        try:
            return Ending(**json.loads(self.ending_path(index).read_text()))
        except FileNotFoundError:
            return None

    def is_finished(self, index: int) -> bool:
        """Say whether it is known what became of a piece."""
        return self.ending_path(index).exists()

    def input_paths(self) -> list[Path]:
        """Return no files: exposures that are not seen are told of one by one."""
        return []

    def load(self, guard: Callable[[Model], Model]) -> Recipe:
        """Return how masks are made, with the model."""
        pickled = self.folders.stored_model()
        assert pickled is not None, "it was stored before any piece was begun"
        recipe: Recipe = unpickle_model(pickled)
        model = recipe.arguments.model
        assert not isinstance(model, str), "factories are models that make themselves"
        return replace(recipe, arguments=replace(recipe.arguments, model=guard(model)))

    def do(self, index: int, loaded: Recipe, on_steps: OnSteps) -> None:
        """Write the masks of a piece, or note why there are none.

        Raises
        ------
        WorkerError
            If the run has ended meanwhile.
        """
        piece, folder = self.pieces[index], self.folders.folder(index)
        with locked(self.record_path(index)):
            if self.is_finished(index):
                return
            try:
                write_masks(piece.exposure, piece.hdus, loaded, folder, lambda _: on_steps(0))
            except WorkerError:
                raise
            except Exception as error:  # whatever it is, other files may be well
                self.note_ending(index, Ending.of(error))
            else:
                self.note_ending(index, Ending())


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
