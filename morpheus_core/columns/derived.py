"""Columns that are made of the scores of a row, whatever the classes stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError

Float64 = NDArray[np.float64]
Kind = Literal["number", "index", "name"]


@dataclass(frozen=True, slots=True)
class Derived:
    """Columns that are made of the scores of each row.

    Attributes
    ----------
    names : tuple of str
        What they are called.
    of_scores : callable
        From finite scores, (rows, classes), to values, (rows, columns).
    bin_centres : tuple of float, optional
        The values that classes stand for, of which there must be as many; any classes by default.
    of_probabilities : bool
        Whether scores must be >= 0 and have a sum of one.
    kinds : tuple of {"number", "index", "name"}, optional
        What values stand for: themselves, by default, the index of a class, or its name.
    is_vector : bool
        Whether there is one column, which holds a value per class.
    """

    names: tuple[str, ...]
    of_scores: Callable[[Float64], Float64]
    bin_centres: tuple[float, ...] | None = None
    of_probabilities: bool = False
    kinds: tuple[Kind, ...] | None = None
    is_vector: bool = False

    def size(self, n_classes: int) -> int:
        """Return how many values a row has."""
        return n_classes if self.is_vector else len(self.names)

    def finished(self, values: NDArray[Any], class_names: Sequence[str]) -> list[Any]:
        """Return what the table holds of values, (rows, values), NaN where there are none.

        Numbers stay as they are; the others become masked arrays.
        """
        if self.is_vector:
            return [values]
        kinds: Sequence[Kind] = self.kinds or ["number" for _ in self.names]
        return [as_kind(*pair, class_names) for pair in zip(values.T, kinds, strict=True)]


def as_kind(values: NDArray[Any], kind: Kind, class_names: Sequence[str]) -> Any:
    """Return numbers, or the indices or names that they stand for."""
    if kind == "number":
        return values
    missing = np.isnan(values)
    indices = np.where(missing, 0, values).astype(np.int64)
    return np.ma.array(np.array(class_names)[indices] if kind == "name" else indices, mask=missing)


def highest(scores: Float64) -> Float64:
    """Return the index of the highest score, (rows, 1); the lowest index wins a tie."""
    return np.asarray(scores.argmax(axis=1, keepdims=True), np.float64)


def highest_and_score(scores: Float64) -> Float64:
    """Return the index of the highest score, and that score."""
    return np.hstack([highest(scores), scores.max(axis=1, keepdims=True)])


def entropy_of(scores: Float64) -> Float64:
    """Return −Σ p ln p, (rows, 1)."""
    p = probabilities(scores)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(axis=1, keepdims=True))


def probabilities(scores: Float64) -> Float64:
    """Return scores divided by their sum, NaN where all are zero; rounding leaves some below 0."""
    scores = np.maximum(scores, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))


#: The index of the class with the highest score, from 0; the lowest index wins a tie.
argmax = Derived(("argmax",), highest, kinds=("index",))
#: The name of the class with the highest score, and that score.
top = Derived(("top", "top_score"), highest_and_score, kinds=("name", "number"))
#: −Σ p ln p over the classes, in nats.
entropy = Derived(("entropy",), entropy_of, of_probabilities=True)
#: The scores of all classes as one column, ``scores``, (rows, n_classes).
scores_vector = Derived(("scores",), np.asarray, is_vector=True)


def derived_columns(columns: Any, class_names: tuple[str, ...]) -> tuple[Derived, ...]:
    """Return what `predict_catalog` is to make of scores, which by default is what they are.

    Raises
    ------
    InputError
        If a column is unknown, or does not fit the number of classes.
    """
    classes = Derived(class_names, np.asarray)
    named = {
        "classes": classes,
        "argmax": argmax,
        "top": top,
        "entropy": entropy,
        "vector": scores_vector,
    }
    wanted = list(columns) if isinstance(columns, (list, tuple)) else [columns or classes]
    found: list[Any] = [named.get(one, one) if isinstance(one, str) else one for one in wanted]
    for column in found:
        if not isinstance(column, Derived):
            raise InputError(
                f"columns must be of {', '.join(named)}, or made by morpheus_core.columns, got "
                f"{column!r}"
            )
        if column.bin_centres is not None and len(column.bin_centres) != len(class_names):
            raise InputError(
                f"bin_centres must be {len(class_names)} numbers, one per class, got "
                f"{len(column.bin_centres)}"
            )
    if not found:
        raise InputError("columns must be at least one, got none")
    if sum(column.is_vector for column in found) > 1:
        raise InputError(f"columns must have one vector at most, got {columns!r}")
    return tuple(found)
