"""From the abundances that a model was trained with to those that are expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, ModelError
from morpheus_core.pipeline.descriptions import described
from morpheus_core.pipeline.kernels import Predictions
from morpheus_core.pipeline.models import ROUNDING, Model, as_float, to_numpy


@dataclass(frozen=True, repr=False, eq=False)
class AdjustedModel:
    """A model whose probabilities hold for other abundances than it was trained with.

    Attributes
    ----------
    model : callable
        The model, which returns probabilities.
    trained, expected : tuple of float
        Share of the pixels in each class, or one for all classes.
    """

    model: Model
    trained: tuple[float, ...]
    expected: tuple[float, ...]

    __repr__ = described

    def digested(self) -> Iterable[Any]:
        """Yield the model, for a checksum of its weights."""
        return [self.model]

    def __call__(self, windows: list[NDArray[Any]]) -> Predictions:
        """Score windows, each (batch, height, width, bands)."""
        p = as_float(to_numpy(self.model(windows)))
        if (p < -ROUNDING).any() or (p > 1 + ROUNDING).any():
            raise ModelError(
                f"priors apply to probabilities, from 0 to 1, got scores from {np.nanmin(p):.3g} "
                f'to {np.nanmax(p):.3g}; does the model lack activation="sigmoid"?'
            )
        p = np.clip(p, 0, 1)  # below 0, small factors would bring the denominator to 0
        factors = self._factors()
        if len(factors) not in (1, p.shape[-1]):
            raise ModelError(
                f"priors must be one number, or one per class, {p.shape[-1]}, got {len(factors)}"
            )
        adjusted: Predictions = (p / (p + factors * (1 - p))).astype(p.dtype)  # float64 between
        return adjusted

    def _factors(self) -> NDArray[np.float64]:
        """Return by how much the odds of each class go down, (classes,)."""
        trained, expected = np.array(self.trained), np.array(self.expected)
        return np.asarray(trained / (1 - trained) * (1 - expected) / expected)


def adjust_priors(
    model: Model,
    *,
    trained: float | Sequence[float],
    expected: float | Sequence[float],
) -> AdjustedModel:
    r"""Correct the probabilities of a model for how often each class is expected.

    Networks are trained on samples in which rare classes are frequent. Their probabilities hold
    for such samples, and are too high where the classes are rare. By Bayes' rule the odds of a
    class are those of the data, times those of the prior, so that

    .. math:: p' = \frac{p}{p + f\,(1 - p)}, \qquad f = \frac{T}{1 - T}\,\frac{1 - P}{P},

    with the share T of a class in the training and the expected share P.

    This holds for classes that a pixel may belong to independently of the others, each with a
    probability of its own, as a sigmoid gives them; and if only the shares differ, not what members
    of a class look like. Probabilities that add up to one over the classes (softmax) do not do so
    afterwards.

    Parameters
    ----------
    model : callable
        As for `predict`: an adapter, or a callable of yours. It returns probabilities.
    trained, expected : float or sequence of float
        Share of the pixels that belong to each class, or one for all classes, above 0 and below 1.

    Returns
    -------
    AdjustedModel
        A callable for `predict`.

    Raises
    ------
    InputError
        If an argument is wrong. Scores that are no probabilities, and another number of classes,
        are a `ModelError` at the first call.

    References
    ----------
    .. [1] Saerens, Latinne & Decaestecker 2002, Neural Computation 14, 21.
    .. [2] Bailer-Jones et al. 2008, MNRAS 391, 1838.
    .. [3] Paillassa, Bertin & Bouy 2020, A&A 634, A48, who apply it to contaminants of images.
    """
    if not callable(model):
        raise InputError(f"model must be callable, got {model!r}")
    priors = [shares("trained", trained), shares("expected", expected)]
    if len({len(prior) for prior in priors} - {1}) > 1:
        raise InputError(
            f"trained and expected must have as many classes, got {trained!r} and {expected!r}"
        )
    return AdjustedModel(model, *priors)


def shares(name: str, value: Any) -> tuple[float, ...]:
    """Return one or several numbers between 0 and 1."""
    numbers = tuple(checks.real_number(name, number) for number in np.atleast_1d(value))
    if not numbers or not all(0 < number < 1 for number in numbers):
        raise InputError(f"{name} must be > 0 and < 1, got {value!r}")
    return numbers
