"""Probabilities for other proportions of classes than those a model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.models import Model, as_float, resolve, to_numpy


class AdjustedPriors:
    """A model whose independent probabilities are those for the expected priors.

    Parameters
    ----------
    model : callable or str
        Returns one probability per class; or the name of what makes it.
    factors : ndarray
        Odds of each class in training over its expected odds.
    """

    def __init__(self, model: Model | str, factors: NDArray[np.float64]) -> None:
        self._model, self._factors = model, factors

    def __call__(self, batch: list[NDArray[Any]]) -> NDArray[Any]:
        """Predict a batch."""
        self._model = resolve(self._model)
        probabilities = as_float(to_numpy(self._model(batch)))
        factors = self._factors.astype(probabilities.dtype)
        return probabilities / (probabilities + factors * (1 - probabilities))


def adjust_priors(
    model: Model | str, *, trained: Sequence[float], expected: Sequence[float]
) -> AdjustedPriors:
    """Return a model for other proportions of classes than those it was trained with.

    The probability p of each class becomes p / (p + f (1 − p)) with f = T / (1 − T) · (1 − P) / P,
    where T is the proportion of the class in training and P the one that is expected; see Saerens
    et al. 2002, Neural Computation 14, 21.

    Raises
    ------
    InputError
        If a prior is not between 0 and 1, or there are not as many of both.
    """
    old, new = np.asarray(trained, float), np.asarray(expected, float)
    if old.shape != new.shape or old.ndim != 1:
        raise InputError(
            f"trained and expected must be one prior per class, got {old.shape} and {new.shape}"
        )
    for name, priors in (("trained", old), ("expected", new)):
        if not ((priors > 0) & (priors < 1)).all():
            raise InputError(f"{name} priors must be > 0 and < 1, got {priors.tolist()}")
    return AdjustedPriors(model, old / (1 - old) * (1 - new) / new)
