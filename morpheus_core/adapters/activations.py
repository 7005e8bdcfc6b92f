"""From a network's scores to probabilities, (..., classes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from morpheus_core import checks
from morpheus_core.adapters.normalizers import Float32
from morpheus_core.errors import ModelError

Activation = Literal["softmax", "sigmoid"]


def softmax(scores: Float32) -> Float32:
    """Return probabilities that add up to one over the classes.

    Raises
    ------
    ModelError
        If there is only one class, whose probability would be 1 everywhere.
    """
    if scores.shape[-1] == 1:
        raise ModelError('softmax needs at least two classes, got 1; pass activation="sigmoid"')
    powers: Float32 = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def sigmoid(scores: Float32) -> Float32:
    """Return a probability of each class by itself."""
    # 1 / (1 + exp(-x)) would overflow for x < -88.
    probabilities: Float32 = np.exp(-np.logaddexp(np.float32(0), -scores))
    return probabilities


ACTIVATIONS: dict[Activation, Callable[[Float32], Float32]] = {
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
