"""A run over exposures: begun or resumed, done here or elsewhere, and assembled file by file."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from morpheus_core.errors import MorpheusError, OutputError, WorkerError
from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.mask_files import Recipe, assemble
from morpheus_core.exposures.work import (
    Ending,
    ExposureWork,
    Piece,
    load_pieces,
    pieces_of,
    store_pieces,
)
from morpheus_core.parallel.engines import PIECES_PER_WORKER
from morpheus_core.parallel.folders import Folders, clear, held, is_free
from morpheus_core.parallel.pieces import OnSteps, Watch, ignore
from morpheus_core.parallel.workers import Workers
from morpheus_core.pipeline.models import pickle_model
from morpheus_core.progress import progress_bar
from morpheus_core.results.outputs import refuse_to_replace
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
        on_outcome: Callable[[Outcome], object],
    ) -> None:
        self._recipe, self._fingerprint, self._request = recipe, fingerprint, request
        self._on_outcome = on_outcome
        self._folders = Folders(request.directory)
        self._work = ExposureWork(
            directory=str(request.directory.absolute()), prefetch=request.workers.prefetch
        )
        self._pieces: list[Piece] = []
        self._indices: dict[Exposure, list[int]] = {}
        self._left: dict[Exposure, set[int]] = {}
        self._has_failed = False

    def run(self, exposures: Sequence[Exposure]) -> None:
        """Write the masks of all exposures."""
        try:
            with held(self._folders):
                self._run(exposures)
        finally:
            if self._request.directory.parent.name == MAP_FOLDER:
                with suppress(OSError):  # other runs are in it
                    self._request.directory.parent.rmdir()

    def _run(self, exposures: Sequence[Exposure]) -> None:
        self._folders.close_session()  # of an executor that may still be at it
        self._begin()
        try:
            whole = self._are_many(exposures)
            for exposure in exposures:
                self._add(exposure, whole)
            store_pieces(self._folders, self._pieces)
            self._finish_all("files" if whole else "images")
        except BaseException as error:
            self._clean_up(error)
            raise
        if self._has_failed and self._request.is_resumable:
            self._ended_path.touch()
        else:
            self._remove()

    @property
    def _ended_path(self) -> Path:
        """What says that nothing was interrupted, though some files have no masks."""
        return self._folders.folder(0) / "ended"

    def _begin(self) -> None:
        """Note what is run, or make sure that it is what was begun here."""
        request, path = self._request, self._folders.folder(0) / "map.json"
        if path.exists():
            if request.resume:
                refuse_other_run(path, self._fingerprint)
            elif not (request.overwrite or self._ended_path.exists()):
                raise OutputError(
                    f"{request.directory} holds a run that was interrupted; pass resume=True to "
                    f"continue it, or overwrite=True to remove what it left"
                )
            self._pieces = load_pieces(self._folders)
        if request.resume and self._pieces:
            self._ended_path.unlink(missing_ok=True)
            return
        self._remove()
        self._pieces = []
        self._make_folder(0)
        write_text(path, json.dumps(self._fingerprint))

    def _are_many(self, exposures: Sequence[Exposure]) -> bool:
        """Say whether there are enough files to keep all workers busy, each with whole ones."""
        return len(exposures) >= PIECES_PER_WORKER * max(1, self._request.workers.count() or 1)

    def _add(self, exposure: Exposure, whole: bool) -> None:
        """Take in an exposure, with what is already finished of it."""
        old = self._old_pieces.get((exposure.absolute(), state_of(exposure.path)), [])
        if old and self._work.published_path(old[0]).exists() and exposure.output.exists():
            self._on_outcome(Outcome(str(exposure), exposure.output))
            return
        try:
            refuse_to_replace([exposure.output], [exposure.path], self._may_replace(exposure))
            indices = old or [self._number(piece) for piece in pieces_of(exposure, whole)]
        except MorpheusError as error:
            self._tell(exposure, error)
            return
        self._indices[exposure] = indices
        for index in indices:
            ending = self._work.ending(index)
            if ending is not None and ending.error is not None:
                self._work.ending_path(index).unlink()  # it is tried again
        self._left[exposure] = {k for k in indices if not self._work.is_finished(k)}

    @cached_property
    def _old_pieces(self) -> dict[tuple[Exposure, tuple[int, int]], list[int]]:
        """The pieces of each file, as it was when the run was interrupted."""
        old = defaultdict(list)
        for index, piece in enumerate(self._pieces):
            old[piece.exposure, piece.state].append(index)
        return dict(old)

    @cached_property
    def _published(self) -> dict[Exposure, set[str]]:
        """How the files were that the run has written before it was interrupted."""
        published = defaultdict(set)
        for (exposure, _), (first, *_) in self._old_pieces.items():
            if self._work.published_path(first).exists():
                published[exposure].add(self._work.published_path(first).read_text())
        return published

    def _may_replace(self, exposure: Exposure) -> bool:
        """Say whether masks may be replaced, as those may that this run itself has written."""
        written = self._published.get(exposure.absolute(), set())
        return self._request.overwrite or json.dumps(state_of(exposure.output)) in written

    def _number(self, piece: Piece) -> int:
        """Give a piece its number and its folder."""
        index = len(self._pieces)
        if index > 0:
            self._make_folder(index)
        self._pieces.append(piece)
        return index

    def _make_folder(self, index: int) -> None:
        folder = self._folders.folder(index)
        if folder.exists() and not is_free(folder):
            raise OutputError(
                f"a run needs the place of {folder}, which is not of one; remove it, or pass "
                f"another work_dir"
            )
        folder.mkdir(mode=0o700, exist_ok=True)

    def _finish_all(self, unit: str) -> None:
        """Do what is left, and assemble each file when its last piece is done."""
        left = [index for indices in self._left.values() for index in sorted(indices)]
        exposure_of = {k: one for one, indices in self._indices.items() for k in indices}
        total = len(exposure_of)
        for exposure in [one for one, indices in self._left.items() if not indices]:
            self._publish(exposure)
        with progress_bar(total, total - len(left), self._request.progress, unit) as advance:

            def finish(index: int) -> None:
                advance(1)
                exposure = exposure_of[index]
                self._left[exposure].discard(index)
                if not self._left[exposure]:
                    self._publish(exposure)

            def lose(index: int, error: WorkerError) -> None:
                self._work.note_ending(index, Ending.of(error))
                finish(index)

            if not self._request.workers:
                self._do_here(left, finish)
                return
            if not self._folders.has_model():
                self._folders.store_model(pickle_model(self._recipe))
            steps = dict.fromkeys(left, 0)
            self._request.workers.run(self._work, steps, Watch(ignore, finish, lose))

    def _do_here(self, indices: Sequence[int], finish: OnSteps) -> None:
        """Do pieces in this process, with the model that the run began with."""
        if self._folders.has_model():
            recipe = self._work.load(lambda model: model)
        else:
            arguments = self._recipe.arguments
            assert not isinstance(arguments.model, str), "a factory is a model that makes itself"
            witness = LoneWitness(arguments.model, self._folders.first_batch_path(0))
            witness.compare()
            recipe = replace(self._recipe, arguments=replace(arguments, model=witness))
        for index in indices:
            self._work.do(index, recipe, ignore)
            finish(index)

    def _publish(self, exposure: Exposure) -> None:
        """Give a file its name, or tell why it has none."""
        indices = self._indices[exposure]
        endings = [self._work.ending(index) for index in indices]
        failures = [one.exception() for one in endings if one is not None and one.error]
        if failures:
            self._tell(exposure, failures[0])
            return
        folders = [self._folders.folder(index) for index in indices]
        try:
            assemble(exposure, folders, self._may_replace(exposure))
        except MorpheusError as error:
            self._tell(exposure, error)
            return
        write_text(self._work.published_path(indices[0]), json.dumps(state_of(exposure.output)))
        for folder in folders:
            for path in folder.glob("masks*"):
                path.unlink()
        self._on_outcome(Outcome(str(exposure), exposure.output))

    def _tell(self, exposure: Exposure, error: Exception) -> None:
        """Tell why an exposure has no masks."""
        self._has_failed = True
        self._on_outcome(Outcome(str(exposure), error=error))

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
        for index in reversed(range(max(1, len(self._pieces)))):
            folder = self._folders.folder(index)
            shutil.rmtree(folder / "run", ignore_errors=True)
            clear(folder, set())
