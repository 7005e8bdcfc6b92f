"""Columns of distributions, for models whose classes are bins of a quantity such as redshift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from morpheus_core import checks
from morpheus_core.columns.derived import Derived, Float64
from morpheus_core.columns.distributions import (
    edges_of,
    mean_of,
    mode_of,
    odds_of,
    quantiles_of,
    std_of,
)
from morpheus_core.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

#: The keyword under which a table says what the values of its vector stand for.
BINS = "BINS"


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


def mode(bin_centres: ArrayLike, *, name: str = "mode") -> Derived:
    """Make column "mode": the centre of the bin in which the distribution is densest.

    Of several that are as dense it is the first.

    Parameters
    ----------
    bin_centres : array_like
        One number per class, increasing.
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
    return of_bins([checked_name(name)], partial(mode_of, centres=centres), centres)


def odds(bin_centres: ArrayLike, *, half_width: float = 0.06, name: str = "odds") -> Derived:
    """Make column "odds": how much of the distribution of a redshift is near its mode.

    That is the share from ``mode - half_width * (1 + mode)`` to ``mode + half_width * (1 + mode)``
    [1]_.

    Parameters
    ----------
    bin_centres : array_like
        One redshift per class, increasing.
    half_width : float
        Of the interval, at redshift 0. Surveys choose their own.
    name : str
        What the column is called.

    Returns
    -------
    Derived
        For ``columns=`` of `predict_catalog`.

    Raises
    ------
    InputError
        If the numbers do not increase, `half_width` is not > 0, or `name` is not a non-empty
        string.

    References
    ----------
    .. [1] N. Benítez, "Bayesian photometric redshift estimation", ApJ 536, 571 (2000)
    """
    centres, reach = checked_centres(bin_centres), checks.positive_number("half_width", half_width)
    find = partial(odds_of, centres=centres, half_width=reach)
    return of_bins([checked_name(name)], find, centres)


def vector(bin_centres: ArrayLike, *, name: str = "scores") -> Derived:
    """Make column "scores": the whole distribution, (rows, bins), as the model gives it.

    The bins are in the table's metadata, where `bins_of` finds them.

    Parameters
    ----------
    bin_centres : array_like
        One number per class, increasing.
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
    return replace(of_bins([checked_name(name)], np.asarray, centres), is_vector=True)


def bins_of(table: Table) -> Float64:
    """Return the centres of the bins of a table's `vector`.

    Parameters
    ----------
    table : Table
        What `predict_catalog` returned, or astropy has read from its ``out``; CSV and VOTable do
        not keep the bins.

    Returns
    -------
    ndarray, (bins,)
        As they were given.

    Raises
    ------
    InputError
        If the table has none.
    """
    text = table.meta.get(BINS)
    if not isinstance(text, str):
        raise InputError(
            f"a table must have {BINS} in its meta, as of columns.vector(bin_centres), got "
            f"{', '.join(table.meta) or 'none'}"
        )
    return np.array(text.split(), float)


def as_text(centres: Sequence[float]) -> str:
    """Return numbers as `bins_of` finds them: a card of FITS holds no list, and no 17 digits."""
    return " ".join(map(repr, centres))


def bin_edges(bin_centres: ArrayLike) -> Float64:
    """Return the edges of bins.

    Parameters
    ----------
    bin_centres : array_like
        Increasing numbers.

    Returns
    -------
    ndarray, (bins + 1,)
        The middles between two centres, and the ends of the first and the last bin, which are as
        far outwards.

    Raises
    ------
    InputError
        If the numbers do not increase.

    Examples
    --------
    >>> from morpheus_core import columns
    >>> columns.bin_edges([0.5, 1.5, 3.5])
    array([0. , 1. , 2.5, 4.5])
    """
    return edges_of(checked_centres(bin_centres))


def of_bins(
    names: Sequence[str], of_scores: Callable[[Float64], Float64], centres: Float64
) -> Derived:
    """Return columns of a distribution over bins."""
    return Derived(tuple(names), of_scores, tuple(centres.tolist()), of_probabilities=True)


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
