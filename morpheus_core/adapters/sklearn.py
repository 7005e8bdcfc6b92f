"""Estimators of scikit-learn, which score each pixel by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from morpheus_core.adapters.normalizers import Float32, Normalizer
from morpheus_core.adapters.preparation import Preparation, make_preparation
from morpheus_core.errors import InputError, ModelError
from morpheus_core.extras import require_package
from morpheus_core.pipeline.descriptions import described
from morpheus_core.storage import pickles

Features = Callable[[Float32], Float32]


@dataclass(frozen=True, repr=False, eq=False)
class PixelClassifier:
    """An estimator as a callable for `predict`.

    Attributes
    ----------
    estimator : object
        Has `predict_proba`.
    preparation : Preparation
        What comes before it.
    features : callable, optional
        From (batch, height, width, bands) to (batch, height, width, features).
    keep_nan : bool
        Whether pixels with NaN among their features go to the estimator; else they get NaN.
    named : bool
        Whether the user has said what the bands are called.
    """

    estimator: Any
    preparation: Preparation
    features: Features | None = None
    keep_nan: bool = False
    named: bool = field(default=False, repr=False)

    __repr__ = described

    def digested(self) -> Iterable[bytes]:
        """Yield what an estimator is pickled as, for a checksum."""
        try:
            return [pickles.dump(self.estimator)]
        except Exception:  # an estimator that cannot be pickled runs here, but has no checksum
            return []

    def __call__(self, windows: list[NDArray[Any]]) -> Float32:
        """Score windows, each (batch, height, width, bands) → (batch, height, width, classes)."""
        (pixels,) = self.preparation(windows)
        table = pixels if self.features is None else self._computed(self.features, pixels)
        # CatBoost says 0 of an estimator that was pickled.
        expected = getattr(self.estimator, "n_features_in_", 0) or table.shape[-1]
        if table.shape[-1] != expected:
            raise ModelError(
                f"the estimator takes {expected} features of a pixel, got {table.shape[-1]}; pass "
                f"the bands that it was trained on, or features="
            )
        return self._scores(table.reshape(-1, expected)).reshape(*table.shape[:3], -1)

    def _scores(self, table: Float32) -> Float32:
        """Return probabilities, (pixels, classes), of features, (pixels, features)."""
        good = np.isfinite(table).all(axis=1) | self.keep_nan
        if good.all():
            return self._asked(table)
        # Trees take NaN for a value like any other, and say with confidence what they make of it.
        scores = self._asked(table[good] if good.any() else np.zeros_like(table[:1]))
        result = np.full((len(table), scores.shape[1]), np.nan, np.float32)
        result[good] = scores[: np.count_nonzero(good)]
        return result

    def _asked(self, table: Float32) -> Float32:
        """Return what the estimator says of features."""
        with warnings.catch_warnings():
            # Names of features were compared once, and arrays have none.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            scores = self.estimator.predict_proba(table)
        if np.ndim(scores[0]) != 1 or len(scores) != len(table):  # a table for each output, say
            raise ModelError(
                f"predict_proba must return one row of probabilities per pixel, for {len(table)} "
                f"pixels, got {len(scores)} of shape {np.shape(scores[0])}; wrap an estimator "
                f"of one output"
            )
        return np.asarray(scores, np.float32)

    def _computed(self, features: Features, pixels: Float32) -> Float32:
        table = np.asarray(features(pixels), np.float32)
        if table.ndim != 4 or table.shape[:3] != pixels.shape[:3]:
            raise ModelError(
                f"features must return (batch, height, width, features), with "
                f"{pixels.shape[:3]} first, got {table.shape}"
            )
        return table


def sklearn_model(
    estimator: Any,
    *,
    features: Features | None = None,
    fill_nan: float | Sequence[float] | Literal["median", "keep"] | None = None,
    normalize: Normalizer | None = None,
    band_names: Sequence[str] | None = None,
) -> PixelClassifier:
    """Wrap an estimator of scikit-learn that classifies pixels as a callable for `predict`.

    The bands of all images are stacked, NaN is filled, pixels are normalized, features are
    computed, and `predict_proba` scores each pixel: the classes are those of
    ``estimator.classes_``, in that order.

    Parameters
    ----------
    estimator : object
        A fitted classifier, or pipeline, with `predict_proba`.
    features : callable, optional
        From float32 pixels, (batch, height, width, bands), to the features of each, (batch,
        height, width, features); a filter, say, that looks at the neighbours. By default the
        bands are the features.
    fill_nan : float, sequence of float, "median" or "keep", optional
        What takes the place of NaN, in the units of the image: a number for all bands, one for
        each, or the median of the band in the window (0 where all is NaN). By default a pixel with
        a feature that is not finite gets NaN. "keep" hands it on: boosted trees, among others, give
        confident classes for NaN, which mean something only if they were trained with it.
    normalize : callable, optional
        `min_max`, `z_score`, `standardize`, or a function of yours from float32 (batch, height,
        width, bands) to the same shape.
    band_names : list of str, optional
        What the features are called, in their order. They are compared with those that the
        estimator was trained with, where it knows them (``feature_names_in_``). Without them runs
        compare the names of the files, where each holds the name of one feature.

    Returns
    -------
    PixelClassifier
        From a list of (batch, height, width, bands) arrays to float32 (batch, height, width,
        classes).

    Raises
    ------
    InputError
        If an argument is wrong. What is wrong about the number of features is a `ModelError` at
        the first call.
    MissingPackageError
        If scikit-learn is not installed.
    """
    require_package("sklearn", "sklearn", "sklearn_model")
    if not hasattr(estimator, "predict_proba") or isinstance(estimator, type):
        raise InputError(
            f"estimator must be a fitted classifier with predict_proba, got "
            f"{type(estimator).__qualname__}"
        )
    if features is not None and not callable(features):
        raise InputError(f"features must be callable, got {features!r}")
    refuse_other_features(estimator, band_names)
    keep_nan = fill_nan == "keep"
    filled = None if keep_nan else fill_nan
    preparation = make_preparation("last", fill_nan=filled, normalize=normalize)
    return PixelClassifier(estimator, preparation, features, keep_nan, band_names is not None)


def refuse_other_features(estimator: Any, names: Any) -> None:
    """Raise unless features are called as they were when the estimator was trained."""
    if names is None:
        return
    known = getattr(estimator, "feature_names_in_", None)
    if known is None:
        raise InputError(
            f"band_names are compared with the names that an estimator was trained with, and "
            f"{type(estimator).__qualname__} has none: leave them out"
        )
    if list(names) != list(known):
        raise InputError(
            f"band_names must be those that the estimator was trained with, in their order, "
            f"{', '.join(known)}, got {', '.join(map(str, names))}"
        )
