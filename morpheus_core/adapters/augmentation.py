"""Averages over the views of a window that are as good as the window itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, ModelError
from morpheus_core.pipeline.descriptions import described
from morpheus_core.pipeline.kernels import Predictions
from morpheus_core.pipeline.models import Model, as_float, to_numpy

ROTATIONS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class View:
    """A way to look at windows, (batch, height, width, ...): turned, then perhaps mirrored.

    Attributes
    ----------
    quarters : int
        Quarter turns.
    mirrored : bool
        Whether left and right change places.
    """

    quarters: int
    mirrored: bool

    def of(self, windows: NDArray[Any]) -> NDArray[Any]:
        """Return what windows look like, in memory that a model may change."""
        turned = np.rot90(windows, self.quarters, axes=(1, 2))
        return np.array(np.flip(turned, axis=2) if self.mirrored else turned, order="C")

    def undone(self, predictions: Predictions) -> Predictions:
        """Return predictions of this view as they lie in the window."""
        turned = np.flip(predictions, axis=2) if self.mirrored else predictions
        return np.rot90(turned, -self.quarters, axes=(1, 2))


@dataclass(frozen=True, repr=False, eq=False)
class AugmentedModel:
    """A model whose predictions are means over views.

    Attributes
    ----------
    model : callable
        The model that sees the views.
    flips : bool
        Whether mirrored views are among them.
    rotations : {1, 2, 4}
        How many turned ones are.
    """

    model: Model
    flips: bool
    rotations: int

    __repr__ = described

    def digested(self) -> Iterable[Any]:
        """Yield the model, for a checksum of its weights."""
        return [self.model]

    @property
    def views(self) -> list[View]:
        """All different views."""
        turns = range(0, 4, 4 // self.rotations)
        return [View(turn, flip) for flip in (False, True)[: 1 + self.flips] for turn in turns]

    def __call__(self, windows: list[NDArray[Any]]) -> Predictions:
        """Score windows, each (batch, height, width, bands)."""
        height, width = windows[0].shape[1:3]
        if self.rotations == 4 and height != width:
            raise ModelError(
                f"rotations=4 needs square windows, got {height} x {width}; use rotations=2"
            )
        total = np.zeros(())
        for view in self.views:
            scores = self._scores(view, windows)
            total = np.add(total, scores, dtype=np.float64)
        return np.asarray(total / len(self.views), scores.dtype)

    def _scores(self, view: View, windows: list[NDArray[Any]]) -> Predictions:
        scores = as_float(to_numpy(self.model([view.of(window) for window in windows])))
        return view.undone(scores) if scores.ndim > 2 else scores


def test_time_augmentation(
    model: Model,
    *,
    flips: bool = True,  # noqa: PT028 - no test of pytest
    rotations: int = 4,  # noqa: PT028 - no test of pytest
) -> AugmentedModel:
    """Show a model each window from several sides, and average its predictions.

    The sky has no preferred side, but trained networks prefer one a little. The price is one call
    of the model per view.

    Parameters
    ----------
    model : callable
        As for `predict`: an adapter, or a callable of yours. Predictions of pixels are turned back
        before they are averaged; those of whole windows are averaged as they are.
    flips : bool, default True
        Add the mirror image of each view.
    rotations : {4, 2, 1}
        Turn windows by quarters (which have to be square), by half, or not at all. With flips these
        are 8, 4 and 2 different views; the 4 of halves are both mirror images and their
        combination.

    Returns
    -------
    AugmentedModel
        A callable for `predict`. Its predictions are as precise as the model's.

    Raises
    ------
    InputError
        If an argument is wrong. A window that is not square is a `ModelError` at the first call.
    """
    if not callable(model):
        raise InputError(f"model must be callable, got {model!r}")
    turns = checks.whole_number("rotations", rotations)
    if turns not in ROTATIONS:
        raise InputError(f"rotations must be one of 1, 2, 4, got {rotations!r}")
    return AugmentedModel(model, checks.flag("flips", flips), turns)
