"""What an interrupted run over exposures has left, so that another one goes on with it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.work import ExposureWork, Piece
from morpheus_core.storage.names import is_there
from morpheus_core.workspace.fingerprints import state_of


class OldPieces:
    """What a run that was interrupted has left of exposures.

    Parameters
    ----------
    pieces : list of Piece
        By number.
    work : ExposureWork
        Knows what became of them.
    """

    def __init__(self, pieces: list[Piece], work: ExposureWork) -> None:
        self.pieces, self._work = pieces, work
        self._indices: dict[tuple[Exposure, tuple[int, int]], list[int]] = defaultdict(list)
        for index, piece in enumerate(pieces):
            self._indices[piece.exposure, piece.state].append(index)
        self._written: dict[Exposure, set[str]] = defaultdict(set)
        for (exposure, _), (first, *_) in self._indices.items():
            if is_there(work.published_path(first)):
                self._written[exposure].add(work.published_path(first).read_text())

    def of(self, exposure: Exposure) -> list[int]:
        """Return the pieces of an exposure as it is."""
        return self._indices.get((exposure.absolute(), state_of(exposure.path)), [])

    def has_written(self, exposure: Exposure) -> bool:
        """Say whether the file of masks that is there is one that the run has written."""
        written = self._written.get(exposure.absolute(), set())
        return json.dumps(state_of(exposure.output)) in written

    def are_published(self, exposure: Exposure) -> bool:
        """Say whether the masks of an exposure as it is are in place, as they were written.

        If not, what was made of them is forgotten.
        """
        first, *_ = indices = self.of(exposure)
        published = self._work.published_path(first)
        if not is_there(published):
            return False
        if published.read_text() == json.dumps(state_of(exposure.output)):
            return True
        if not all(self._work.has_masks(index) for index in indices):
            for index in indices:
                self._work.ending_path(index).unlink(missing_ok=True)
        return False

    def forget_failures(self, indices: Sequence[int]) -> None:
        """Let pieces be tried again that have failed."""
        for index in indices:
            ending = self._work.ending(index)
            if ending is not None and ending.error is not None:
                self._work.ending_path(index).unlink()
