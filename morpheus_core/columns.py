"""What a table says of a row's scores: themselves, the highest, or moments of a distribution.

For ``predict_catalog(columns=[...])``. `argmax`, `top`, `entropy` and the scores of all classes
may be named as text, ``["classes", "top"]``. `expected_value`, `std` and `quantiles` are for models
whose classes are bins of a quantity, such as redshift. They and `entropy` need probabilities:
scores >= 0 with a sum of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morpheus_core import checks
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
    n_bins : int, optional
        How many classes there must be; any number by default.
    of_probabilities : bool
        Whether scores must be >= 0 and have a sum of one.
    kinds : tuple of {"number", "index", "name"}, optional
        What values stand for: themselves, by default, the index of a class, or its name.
    """

    names: tuple[str, ...]
    of_scores: Callable[[Float64], Float64]
    n_bins: int | None = None
    of_probabilities: bool = False
    kinds: tuple[Kind, ...] | None = None

    def finished(self, values: NDArray[Any], class_names: Sequence[str]) -> list[Any]:
        """Return what the table holds of values, (rows, columns), NaN where there are none.

        Numbers stay as they are; the others become masked arrays.
        """
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


def mean_of(scores: Float64, centres: Float64) -> Float64:
    """Return Σ p c, (rows, 1)."""
    return np.asarray(probabilities(scores) @ centres[:, np.newaxis])


def std_of(scores: Float64, centres: Float64) -> Float64:
    """Return √(Σ p (c − mean)²), (rows, 1)."""
    squares = (centres - mean_of(scores, centres)) ** 2
    return np.asarray(np.sqrt((probabilities(scores) * squares).sum(axis=1, keepdims=True)))


def quantiles_of(scores: Float64, centres: Float64, shares: Sequence[float]) -> Float64:
    """Return where shares of the distribution end, (rows, shares)."""
    middles = (centres[1:] + centres[:-1]) / 2
    ends = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    edges = np.array([ends[0], *middles, ends[1]])
    sums = np.cumsum(probabilities(scores), axis=1)
    rows = [np.interp(shares, [0, *row], edges) for row in sums]
    return np.where(np.isnan(sums[:, -1:]), np.nan, np.reshape(rows, (-1, len(shares))))


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


def expected_value(bin_centres: ArrayLike, *, name: str = "expected_value") -> Derived:
    """Make column "expected_value": the mean of the distribution over bins, Σ p c.

    Parameters
    ----------
    bin_centres : array_like
        One number c per class, increasing.
    name : str
        What the column is called.

    Returns
    -------
    Derived
        For ``columns=`` of `predict_catalog`.

    Raises
    ------
    InputError
        If the numbers do not increase, or `name` is not a non-empty string.
    """
    centres = checked_centres(bin_centres)
    return of_bins([checked_name(name)], partial(mean_of, centres=centres), centres)


def std(bin_centres: ArrayLike, *, name: str = "std") -> Derived:
    """Make column "std": the standard deviation of the distribution over bins, √(Σ p (c − mean)²).

    Parameters
    ----------
    bin_centres : array_like
        One number c per class, increasing.
    name : str
        What the column is called.

    Returns
    -------
    Derived
        For ``columns=`` of `predict_catalog`.

    Raises
    ------
    InputError
        If the numbers do not increase, or `name` is not a non-empty string.
    """
    centres = checked_centres(bin_centres)
    return of_bins([checked_name(name)], partial(std_of, centres=centres), centres)


def quantiles(*shares: float, bin_centres: ArrayLike, name: str = "q") -> Derived:
    """Make columns "q0.16", "q0.5", ...: below which value these shares of the distribution are.

    Bins reach to the middle between two centres, the first and the last as far outwards as
    inwards, and the distribution is even within each.

    Parameters
    ----------
    *shares : float
        From 0 to 1.
    bin_centres : array_like
        One number per class, increasing.
    name : str
        What the names of the columns begin with.

    Returns
    -------
    Derived
        For ``columns=`` of `predict_catalog`.

    Raises
    ------
    InputError
        If a share is not from 0 to 1, the numbers do not increase, or `name` is not a non-empty
        string.
    """
    for share in shares:
        if not 0 <= checks.real_number("a quantile", share) <= 1:
            raise InputError(f"a quantile must be >= 0 and <= 1, got {share!r}")
    if not shares:
        raise InputError("quantiles must be at least one, got none")
    centres = checked_centres(bin_centres)
    names = [f"{checked_name(name)}{share:g}" for share in shares]
    return of_bins(names, partial(quantiles_of, centres=centres, shares=shares), centres)


def of_bins(
    names: Sequence[str], of_scores: Callable[[Float64], Float64], centres: Float64
) -> Derived:
    """Return columns of a distribution over bins."""
    return Derived(tuple(names), of_scores, len(centres), of_probabilities=True)


def checked_name(name: Any) -> str:
    """Return the name of a column."""
    if not isinstance(name, str) or not name:
        raise InputError(f"name must be the name of a column, got {name!r}")
    return name


def checked_centres(bin_centres: ArrayLike) -> Float64:
    """Return increasing numbers, at least two."""
    try:
        centres = np.asarray(bin_centres, float)
    except (TypeError, ValueError):
        centres = np.empty(0)
    is_row = centres.ndim == 1 and len(centres) > 1 and np.isfinite(centres).all()
    if not is_row or not (np.diff(centres) > 0).all():
        raise InputError(
            f"bin_centres must be increasing numbers, at least two, got {bin_centres!r}"
        )
    return centres


def derived_columns(columns: Any, class_names: tuple[str, ...]) -> tuple[Derived, ...]:
    """Return what `predict_catalog` is to make of scores, which by default is what they are.

    Raises
    ------
    InputError
        If a column is unknown, or does not fit the number of classes.
    """
    classes = Derived(class_names, np.asarray)
    named = {"classes": classes, "argmax": argmax, "top": top, "entropy": entropy}
    wanted = list(columns) if isinstance(columns, (list, tuple)) else [columns or classes]
    found: list[Any] = [named.get(one, one) if isinstance(one, str) else one for one in wanted]
    for column in found:
        if not isinstance(column, Derived):
            raise InputError(
                f"columns must be of {', '.join(named)}, or made by morpheus_core.columns, got "
                f"{column!r}"
            )
        if column.n_bins not in (None, len(class_names)):
            raise InputError(
                f"bin_centres must be {len(class_names)} numbers, one per class, got "
                f"{column.n_bins}"
            )
    if not found:
        raise InputError("columns must be at least one, got none")
    return tuple(found)
