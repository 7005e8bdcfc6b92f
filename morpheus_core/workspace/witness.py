"""Whether the model of a run that goes on is the one with which it began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import ModelError
from morpheus_core.pipeline.batches import Batch
from morpheus_core.pipeline.halves import Halves
from morpheus_core.pipeline.models import Model, StandIn, failure, given, to_numpy
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import save_array


class Witness(StandIn):
    """A model that leaves its first predictions on disk, so that a later run can tell it apart.

    Parameters
    ----------
    model : callable
        The user's model.
    path : Path
        Where the predictions are, or will be.
    """

    def __init__(self, model: Model, path: Path) -> None:
        self.model = Halves.around(model)
        self._path = path
        self._has_testified = is_there(path)

    def testify(self, first_batch: Callable[[], Batch]) -> None:
        """Raise unless the model predicts what was predicted before, if anything was.

        Raises
        ------
        ModelError
            If it does not.
        """
        if not self._has_testified:
            return
        before = np.load(self._path)
        windows = first_batch().windows
        try:
            now = to_numpy(self.model(windows))
        except Exception as error:
            raise failure(error, given(windows)) from error
        # A GPU may differ in the last bits from run to run; another model differs by more.
        if now.shape != before.shape or not np.allclose(now, before, 1e-4, 1e-6, equal_nan=True):
            raise ModelError(
                "the model does not predict what it did when this run was begun; resume with the "
                "same model, or begin a new run in another out_dir (work_dir of a catalogue)"
            )

    def __call__(self, windows: list[NDArray[Any]]) -> Any:
        """Predict, and keep the first predictions."""
        answer = self.model(windows)
        if not self._has_testified:
            self._has_testified = True
            predictions = to_numpy(answer)
            if predictions.dtype.kind in "biuf":  # else it is refused anyway
                save_array(self._path, predictions)
        return answer


class LoneWitness(Witness):
    """A witness that keeps its first windows too, where nobody else can tell them later."""

    @property
    def _windows_path(self) -> Path:
        return self._path.with_name("first_windows.npz")

    def compare(self) -> None:
        """Raise unless the model predicts what was predicted before, if anything was."""
        self.testify(self._stored)

    def _stored(self) -> Batch:
        with np.load(self._windows_path) as arrays:
            windows = [arrays[f"arr_{k}"] for k in range(len(arrays))]
        none = np.empty(0, np.int64)
        return Batch(windows, none, none)

    def __call__(self, windows: list[NDArray[Any]]) -> Any:
        """Predict, and keep the first windows and predictions."""
        if not self._has_testified:
            np.savez(self._windows_path, *windows)
        return super().__call__(windows)
