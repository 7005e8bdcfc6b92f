"""From a network's scores to probabilities, (..., classes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from morpheus_core import checks
from morpheus_core.adapters.normalizers import Float32
from morpheus_core.errors import ModelError

Activation = Literal["softmax", "sigmoid"]


def softmax(scores: Float32, axis: int = -1) -> Float32:
    """Return probabilities that add up to one over the classes.

    Raises
    ------
    ModelError
        If there is only one class, whose probability would be 1 everywhere.
    """
    refuse_one_class(scores.shape[axis])
    powers: Float32 = scores - scores.max(axis=axis, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers


def refuse_one_class(count: int) -> None:
    """Raise unless there are several classes, over which a softmax says something."""
    if count == 1:
        raise ModelError('softmax needs at least two classes, got 1; pass activation="sigmoid"')


def sigmoid(scores: Float32, axis: int = -1) -> Float32:
    """Return a probability of each class by itself, wherever classes are."""
    probabilities: Float32 = np.negative(scores)
    with np.errstate(over="ignore"):  # 1 / inf is the right answer
        np.exp(probabilities, out=probabilities)
    probabilities += 1
    return np.reciprocal(probabilities, out=probabilities)


ACTIVATIONS: dict[Activation, Callable[[Float32, int], Float32]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
}


def checked_activation(value: Any) -> Activation | None:
    """Return the name of an activation, or None.

    Raises
    ------
    InputError
        If there is no activation of that name.
    """
    return None if value is None else checks.one_of("activation", value, tuple(ACTIVATIONS))
