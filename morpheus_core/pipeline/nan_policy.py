"""What NaN does: to the pixel that it was predicted for, and where the images have it.

A prediction that is not finite makes its pixel NaN in every class ("propagate"), or is left out of
the statistics and of n ("omit"): the kernels do either. One whose weight is nothing beside another
of its pixel is left out in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import ModelError, warn

NanPolicy = Literal["propagate", "omit"]
NAN_POLICIES: tuple[NanPolicy, ...] = get_args(NanPolicy)
OnNan = Literal["warn", "raise", "ignore"]
ON_NAN: tuple[OnNan, ...] = get_args(OnNan)
#: A prediction with less than this share of the largest weight of its pixel does not spoil it.
FAINT = 1e-3
#: Told how many of how many windows were spoilt by NaN.
OnSpread = Callable[[int, int], object]
WAYS_OUT = (
    "fill_nan= of an adapter hides NaN from the model, skip_blank=True leaves out windows of "
    'nothing else, nan_policy="omit" their predictions'
)

OWN_WAYS_OUT = (
    "are images scaled as those of its training (normalize= of an adapter), and are its weights "
    'finite? on_nan="ignore" if that is what it means to say'
)

#: Up to so many values it takes longer to tell numpy not to warn than to make a mask of them.
SMALL = 1 << 14


class NanWatch:
    """Compares how much of the windows is NaN with how much of the answers is.

    Parameters
    ----------
    on_nan : {"warn", "raise", "ignore"}
        What to do if answers hold a larger share of NaN than their windows.
    """

    def __init__(self, on_nan: OnNan) -> None:
        self._on_nan = on_nan
        self._windows, self._spoilt, self._warned = 0, 0, False

    def look(self, windows: Sequence[NDArray[Any]], predictions: NDArray[Any]) -> None:
        """Take a batch of windows, each (batch, height, width, bands), and what was said of them.

        Images without NaN may be left out.

        Raises
        ------
        ModelError
            If NaN has spread, and on_nan is "raise".
        """
        self._windows += len(predictions)
        if self._on_nan == "ignore":
            return
        pixels = [one for one in windows if is_float(one)]
        # Windows are in the processor's cache, and mostly smaller than what is said of them.
        if any(map(holds_nan, pixels)):
            if holds_nan(predictions):
                self._look_at_holes(pixels, predictions)
        elif np.isnan(middles(predictions)).any():
            self._look_at_whole(predictions)

    def _look_at_holes(self, pixels: list[NDArray[Any]], predictions: NDArray[Any]) -> None:
        """Find out whether predictions have more NaN than the windows that hold some."""
        holes = np.any([np.isnan(one).any(axis=-1) for one in pixels], axis=0)
        bad = np.isnan(predictions).any(axis=-1)
        if bad.mean() <= holes.mean():
            return  # pixels without a value have no answer
        touched = int(holes.any(axis=(1, 2)).sum())
        self._tell(
            int(bad.reshape(len(bad), -1).any(axis=1).sum()),
            f"NaN spreads: {touched} of {len(holes)} windows of a batch hold NaN, in "
            f"{holes.mean():.2%} of their pixels, and {bad.mean():.2%} of what the model says of "
            f"them is NaN; {WAYS_OUT}",
        )

    def _look_at_whole(self, predictions: NDArray[Any]) -> None:
        """Find out of how many windows without NaN a model says nothing at all."""
        whole = np.isnan(predictions).reshape(len(predictions), -1).all(axis=1)
        if whole.any():
            self._tell(
                int(whole.sum()),
                f"the model says NaN, and nothing else, of {whole.sum()} of {len(whole)} windows "
                f"of a batch that hold none; {OWN_WAYS_OUT}",
            )

    def _tell(self, spoilt: int, message: str) -> None:
        """Count windows that NaN has spoilt, and say so of the first of them."""
        self._spoilt += spoilt
        if self._warned:
            return
        self._warned = True
        if self._on_nan == "raise":
            raise ModelError(message)
        warn(message)

    def sum_up(self, on_spread: OnSpread) -> None:
        """Tell, at the end, how many windows were spoilt, unless nobody wants to know."""
        if self._on_nan != "ignore":
            on_spread(self._spoilt, self._windows)


def warn_of_spread(spoilt: int, windows: int, where: str = "") -> None:
    """Warn if some of so many windows were spoilt, in the files that are named."""
    if spoilt:
        warn(
            f"{spoilt} of {windows} windows ({spoilt / windows:.2%}){where} have more NaN in "
            f"their predictions than in their pixels; {WAYS_OUT}"
        )


def middles(predictions: NDArray[Any]) -> NDArray[Any]:
    """Return what is said of the middle pixel of each window, or of the window."""
    if predictions.ndim < 4:
        return predictions
    return predictions[:, predictions.shape[1] // 2, predictions.shape[2] // 2]


def is_float(array: NDArray[Any]) -> bool:
    """Say whether an array can hold NaN."""
    return array.dtype.kind == "f"


def holds_nan(array: NDArray[Any]) -> bool:
    """Say whether an array holds NaN, at the cost of little more than reading it."""
    if array.size <= SMALL or not array.flags.forc:
        return bool(np.isnan(array).any())
    values = array.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isnan(np.dot(values, values)))  # squares never cancel infinities
