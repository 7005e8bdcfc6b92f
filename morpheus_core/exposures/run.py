"""A run over exposures: begun or resumed, done here or elsewhere, and assembled file by file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from morpheus_core.errors import InputError, MorpheusError, OutputError, WorkerError
from morpheus_core.exposures.choices import map_path
from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.mask_files import Recipe, assemble
from morpheus_core.exposures.old_pieces import OldPieces
from morpheus_core.exposures.work import (
    Ending,
    ExposureWork,
    Piece,
    load_pieces,
    pieces_of,
    store_piece,
)
from morpheus_core.parallel.choice import Workers
from morpheus_core.parallel.executors import PIECES_PER_WORKER
from morpheus_core.parallel.folders import Folders, clear, held, is_free
from morpheus_core.parallel.pieces import Watch, ignore
from morpheus_core.pipeline.models import FactoryModel, pickle_model, warn_of_another_model
from morpheus_core.pipeline.nan_policy import warn_of_spread
from morpheus_core.progress import progress_bar
from morpheus_core.results.outputs import give_name, refuse_to_replace
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import write_text
from morpheus_core.workspace.fingerprints import refuse_other_run, state_of
from morpheus_core.workspace.witness import LoneWitness

#: Where runs keep their folders that have no other place.
MAP_FOLDER = ".morpheus-map"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file.

    Attributes
    ----------
    source : str
        The file, with the HDU in brackets if only one was meant.
    output : Path or None
        Its masks.
    error : Exception or None
        Why it has none.
    """

    source: str
    output: Path | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class MapRequest:
    """How a run is done: see :func:`morpheus_core.map_exposures`.

    Attributes
    ----------
    directory : Path
        Where pieces are kept until their files are assembled.
    is_resumable : bool
        Whether they are kept when the run is interrupted.
    workers : Workers
        Where pieces are done.
    resume, overwrite, progress : bool
        As there.
    """

    directory: Path
    is_resumable: bool
    workers: Workers
    resume: bool
    overwrite: bool
    progress: bool


class MapRun:
    """A run over exposures.

    Parameters
    ----------
    recipe : Recipe
        How masks are made, with the model.
    fingerprint : dict
        What decides the masks, as JSON values.
    request : MapRequest
        Where and how.
    on_outcome : callable
        Told what became of each exposure, as soon as that is known.
    """

    def __init__(
        self,
        recipe: Recipe,
        fingerprint: dict[str, Any],
        request: MapRequest,
        on_outcome: Callable[[Exposure, Outcome], object],
    ) -> None:
        self._recipe, self._fingerprint, self._request = recipe, fingerprint, request
        self._on_outcome = on_outcome
        self._folders = Folders(request.directory)
        self._work = ExposureWork(
            directory=str(request.directory.absolute()),
            prefetch=request.workers.prefetch,
            threads=request.workers.threads,
        )
        self._old = OldPieces([], self._work)
        self._n_pieces = 0
        self._indices: dict[Exposure, list[int]] = {}
        self._has_failed = False
        self._spoilt: dict[str, int] = {}
        self._windows = 0

    def run(self, exposures: Sequence[Exposure]) -> None:
        """Write the masks of all exposures."""
        try:
            with held(self._folders):
                self._begin()
                try:
                    whole = self._are_many(exposures)
                    for exposure in exposures:
                        self._add(exposure, whole)
                    self._finish("files" if whole else "images")
                except BaseException as error:
                    self._clean_up(error)
                    raise
                if self._has_failed and self._request.is_resumable:
                    self._ended_path.touch()
                else:
                    self._remove()
                warn_of_spread(
                    sum(self._spoilt.values()), self._windows, f" of {listed(self._spoilt)}"
                )
        finally:
            place = self._request.directory
            if place.parent.name == MAP_FOLDER:
                for folder in (place, place.parent):
                    with suppress(OSError):  # it is gone, or something is in it
                        folder.rmdir()

    @property
    def _ended_path(self) -> Path:
        """What says that nothing was interrupted, though some files have no masks."""
        return self._folders.folder(0) / "ended"

    def _begin(self) -> None:
        """Note what is run, or make sure that it is what was begun here."""
        request, path = self._request, map_path(self._folders)
        if is_there(path):
            self._folders.close_session()  # of an executor that may still be at it
            self._old = OldPieces(load_pieces(self._folders), self._work)
            self._n_pieces = len(self._old.pieces)
            if request.resume:
                refuse_other_run(path, self._fingerprint)
                self._ended_path.unlink(missing_ok=True)
                return
            if request.is_resumable and not (request.overwrite or is_there(self._ended_path)):
                raise OutputError(
                    f"{request.directory} holds a run that was interrupted; pass resume=True to "
                    f"continue it, or overwrite=True to remove what it left"
                )
            self._remove()
            self._old, self._n_pieces = OldPieces([], self._work), 0
        make_folder(self._folders.folder(0))
        write_text(path, json.dumps(self._fingerprint))

    def _are_many(self, exposures: Sequence[Exposure]) -> bool:
        """Say whether there are enough files to keep all workers busy, each with whole ones."""
        return len(exposures) >= PIECES_PER_WORKER * max(1, self._request.workers.count() or 1)

    def _add(self, exposure: Exposure, whole: bool) -> None:
        """Take in an exposure, with what is already finished of it."""
        old = self._old.of(exposure)
        if old and self._old.are_published(exposure):
            self._on_outcome(exposure, Outcome(str(exposure), exposure.output))
            return
        try:
            refuse_to_replace([exposure.output], [exposure.path], self._may_replace(exposure))
            self._indices[exposure] = old or [
                self._store(piece) for piece in pieces_of(exposure, self._recipe.choice, whole)
            ]
        except MorpheusError as error:
            self._tell(exposure, error)
        else:
            self._old.forget_failures(old)

    def _may_replace(self, exposure: Exposure) -> bool:
        """Say whether masks may be replaced, as those may that this run itself has written."""
        return self._request.overwrite or self._old.has_written(exposure)

    def _store(self, piece: Piece) -> int:
        """Give a piece its number and its folder."""
        index = self._n_pieces
        if index > 0:
            make_folder(self._folders.folder(index))
        store_piece(self._folders, index, piece)
        self._n_pieces += 1
        return index

    def _finish(self, unit: str) -> None:
        """Do what is left, and assemble each file when its last piece is done."""
        left = {
            exposure: {index for index in indices if not self._work.is_finished(index)}
            for exposure, indices in self._indices.items()
        }
        exposure_of = {k: one for one, indices in self._indices.items() for k in indices}
        to_do = [index for indices in left.values() for index in sorted(indices)]
        for exposure in [one for one, indices in left.items() if not indices]:
            self._publish(exposure)
        total, shown = len(exposure_of), self._request.progress
        with progress_bar(total, total - len(to_do), shown, unit) as advance:

            def finish(index: int) -> None:
                advance(1)
                exposure = exposure_of[index]
                left[exposure].discard(index)
                if not left[exposure]:
                    self._publish(exposure)

            def lose(index: int, error: WorkerError) -> None:
                self._work.note_ending(index, Ending.of(error))
                finish(index)

            if self._request.workers:
                self._store_recipe()
                steps = dict.fromkeys(to_do, 0)
                self._request.workers.run(self._work, steps, Watch(None, finish, lose))
            else:
                self._do_here(to_do, finish)

    def _store_recipe(self) -> None:
        """Store what workers need, unless the run has it since it began."""
        stored = self._folders.stored_model()
        if stored is None:
            self._folders.store_model(pickle_model(self._recipe))
        else:
            warn_of_another_model(self._recipe, stored, str(self._request.directory))

    def _do_here(self, indices: Sequence[int], finish: Callable[[int], object]) -> None:
        """Do pieces in this process, with the model that the run began with."""
        stored = self._folders.stored_model()
        if stored is not None:
            warn_of_another_model(self._recipe, stored, str(self._request.directory))
            recipe = self._work.load(lambda model: model)
            arguments = recipe.arguments
        else:
            model = self._recipe.arguments.model
            model = model.model if isinstance(model, FactoryModel) else model  # made now, or never
            assert not isinstance(model, str), "a factory is a model that makes itself"
            witness = LoneWitness(model, self._folders.first_batch_path(0))
            witness.compare()
            ahead = self._request.workers.prefetch
            arguments = replace(self._recipe.arguments, model=witness, prefetch=ahead)
        # A bar of each image below the one of all.
        arguments = replace(arguments, progress=self._request.progress)
        recipe = replace(self._recipe, arguments=arguments)
        for index in indices:
            self._work.do(index, recipe, ignore)
            finish(index)

    def _publish(self, exposure: Exposure) -> None:
        """Give a file its name, or tell why it has none."""
        indices = self._indices[exposure]
        endings = {index: self._work.ending(index) for index in indices}
        failures = []
        for index, ending in endings.items():
            if ending is None:
                continue
            self._windows += ending.windows
            if ending.spoilt:
                self._spoilt[str(self._work.piece(index))] = ending.spoilt
            if ending.error:
                failures.append(ending.exception())
        try:
            if failures:
                raise failures[0]
            self._assemble(exposure, indices)
        except MorpheusError as error:
            self._tell(exposure, error)
        else:
            self._on_outcome(exposure, Outcome(str(exposure), exposure.output))

    def _assemble(self, exposure: Exposure, indices: Sequence[int]) -> None:
        """Write a file, and give it its name."""
        request, folders = self._request, [self._folders.folder(index) for index in indices]
        if state_of(exposure.path) != self._work.piece(indices[0]).state:
            raise InputError("it was written to while its masks were made; make them again")
        replaces = request.overwrite or request.resume
        part = assemble(exposure, self._recipe.choice, folders, replaces)
        # Noted before: a process may be killed just after a file has got its name.
        write_text(self._work.published_path(indices[0]), json.dumps(state_of(part)))
        give_name(part, exposure.output, self._may_replace(exposure))
        for folder in folders:
            for path in folder.glob("masks*"):
                path.unlink()

    def _tell(self, exposure: Exposure, error: Exception) -> None:
        """Tell why an exposure has no masks."""
        self._has_failed = True
        self._on_outcome(exposure, Outcome(str(exposure), error=error))

    def _clean_up(self, error: BaseException) -> None:
        """Keep what is finished if somebody can go on with it."""
        if self._request.is_resumable:
            error.add_note(
                f"What is finished is kept in {self._request.directory}: resume=True continues "
                f"from there."
            )
        else:
            self._remove()

    def _remove(self) -> None:
        """Remove the folders of the run; the one that says what it is goes last."""
        for index in reversed(range(self._n_pieces or 1)):
            folder = self._folders.folder(index)
            shutil.rmtree(folder / "run", ignore_errors=True)
            clear(folder, set())


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    names = sorted(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def make_folder(folder: Path) -> None:
    """Make the folder of a piece.

    Raises
    ------
    OutputError
        If there is one of its name that is not of a run.
    """
    if is_there(folder) and not is_free(folder):
        raise OutputError(
            f"a run needs the place of {folder}, which is not of one; remove it, or pass another "
            f"work_dir"
        )
    folder.mkdir(mode=0o700, exist_ok=True)
