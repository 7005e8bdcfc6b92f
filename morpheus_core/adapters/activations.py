"""From a network's scores to probabilities, (..., classes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from morpheus_core import checks
from morpheus_core.adapters.normalizers import Float32
from morpheus_core.errors import ModelError

Activation = Literal["softmax", "sigmoid"]
#: Values of a tile: 64 KiB of float32. Of 2 KiB a value took ten times as long, of 2 MiB twice.
TILE = 16_384


def softmax(scores: Float32, axis: int = -1) -> Float32:
    """Return probabilities that add up to one over the classes.

    Raises
    ------
    ModelError
        If there is only one class, whose probability would be 1 everywhere.
    """
    refuse_one_class(scores.shape[axis])
    if axis % scores.ndim == scores.ndim - 1:
        return over_last_axis(scores)
    probabilities: Float32 = np.empty_like(scores)
    fill_with_softmax(probabilities, scores, axis)
    return probabilities


def over_last_axis(scores: Float32) -> Float32:
    """Return probabilities of classes that lie together.

    Largest scores and sums over so short an axis take numpy a call for each pixel. A tile that
    the processor's cache holds is turned round, and its classes go through as whole rows.
    """
    pixels = scores.reshape(-1, scores.shape[-1])
    probabilities: Float32 = np.empty(scores.shape, scores.dtype)
    results = probabilities.reshape(pixels.shape)
    height = max(1, TILE // pixels.shape[1])
    for first in range(0, len(pixels), height):
        tile = np.array(pixels[first : first + height].T, order="C")  # (class, pixel)
        fill_with_softmax(tile, tile, 0)
        results[first : first + height] = tile.T
    return probabilities


def fill_with_softmax(result: Float32, scores: Float32, axis: int) -> None:
    """Write probabilities to an array, which may be that of the scores."""
    np.subtract(scores, scores.max(axis=axis, keepdims=True), out=result)
    np.exp(result, out=result)
    result /= result.sum(axis=axis, keepdims=True)


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
