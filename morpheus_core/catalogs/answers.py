"""What a model says of windows → the values of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.batches import RowBatch, Skipped
from morpheus_core.catalogs.records import Field, record_type
from morpheus_core.catalogs.statuses import NO_PROBABILITIES_WAY_OUT, Status
from morpheus_core.columns.derived import Derived
from morpheus_core.errors import ModelError
from morpheus_core.pipeline.halves import Halves
from morpheus_core.pipeline.models import ROUNDING, Model, as_float, failure, given, to_numpy

#: Rows that are named where a model fails.
NAMED_ROWS = 5
#: Rows without probabilities, and none with, after which it is the model.
DOUBTFUL_ROWS = 32
#: How far from 1 the sum of many probabilities may be that were rounded to float16.
SUM_ROUNDING = 1e-2
#: A type that holds the scores of a vector, but not every index of a class.
HALF = "float16"

#: What rows have, (rows, values), by the field of their records.
Values = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class RowPredictor:
    """Makes records of finished rows.

    Attributes
    ----------
    model : callable
        The user's model.
    class_names : tuple of str
        One per class.
    columns : tuple of Derived
        What is kept of the scores.
    window_shape : tuple of int
        Height and width.
    aperture : float or None
        Radius in pixels of what is averaged of predictions of pixels.
    dtype : str
        Of the values; if that is "float16", of the vector among them, and others are float32.
    """

    model: Model
    class_names: tuple[str, ...]
    columns: tuple[Derived, ...]
    window_shape: tuple[int, int]
    aperture: float | None
    dtype: str

    @cached_property
    def fitted(self) -> Model:
        """The model, with batches that its memory holds."""
        return Halves.around(self.model)

    @property
    def names(self) -> list[str]:
        """The columns of the values."""
        return [name for column in self.columns for name in column.names]

    @cached_property
    def fields(self) -> list[Field]:
        """The fields of records that hold the values of each of the columns."""
        return [
            (
                f"values_{place}",
                "float32" if self.dtype == HALF and not column.is_vector else self.dtype,
                (column.size(len(self.class_names)),),
            )
            for place, column in enumerate(self.columns)
        ]

    @cached_property
    def record_type(self) -> np.dtype[Any]:
        """The type of the records."""
        return record_type(self.fields)

    def empty(self, rows: int) -> Values:
        """Return arrays for the values of so many rows, which hold nothing of use."""
        # As the table holds them: values of a vector row by row, others column by column.
        return {
            name: np.empty((rows, *size), dtype, "C" if column.is_vector else "F")
            for (name, dtype, size), column in zip(self.fields, self.columns, strict=True)
        }

    def records(self, batch: RowBatch | Skipped) -> NDArray[Any]:
        """Return the records of rows, after a call of the model if it is to see them."""
        records = np.empty(len(batch), self.record_type)
        records["row"] = batch.rows
        if isinstance(batch, Skipped):
            records["status"] = batch.status
            for name, _, _ in self.fields:
                records[name] = np.nan
            return records
        scores = self._scores(batch)
        finite = np.isfinite(scores).all(axis=1)
        unlike = finite & self._are_no_probabilities(scores)
        finite &= ~unlike
        stored = finite.copy()
        # Vectors are long: where all rows have scores, none of them is copied for it.
        chosen = slice(None) if finite.all() else finite
        for (name, _, _), column in zip(self.fields, self.columns, strict=True):
            with np.errstate(over="ignore"):
                records[name][chosen] = column.of_scores(scores[chosen])
            # What logarithms and float32 make of finite scores need not be so.
            stored[chosen] &= np.isfinite(records[name][chosen]).all(axis=1)
        records["status"] = np.where(stored, Status.OK, Status.NOT_FINITE)
        records["status"][unlike] = Status.NO_PROBABILITIES
        if not stored.all():
            for name, _, _ in self.fields:
                records[name][~stored] = np.nan
        return records

    def finished(self, values: Values) -> list[Any]:
        """Return the columns of the table."""
        return [
            finished
            for column, of_column in zip(self.columns, values.values(), strict=True)
            for finished in column.finished(of_column, self.class_names)
        ]

    def _scores(self, batch: RowBatch) -> NDArray[Any]:
        """Return the scores of rows, (rows, classes)."""
        try:
            answer = to_numpy(self.fitted(batch.windows))
        except ModelError:  # which says it all
            raise
        except Exception as error:
            rows = ", ".join(map(str, batch.rows[:NAMED_ROWS]))
            more = f" and {len(batch) - NAMED_ROWS} more" if len(batch) > NAMED_ROWS else ""
            place = f"row(s) {rows}{more} of the catalogue"
            raise failure(error, f"{given(batch.windows)}, {place}") from error
        predictions = as_float(answer)
        size, count = len(batch), len(self.class_names)
        if count == 1 and predictions.shape in ((size,), (size, *self.window_shape)):
            predictions = predictions[..., np.newaxis]
        if predictions.shape == (size, *self.window_shape, count):
            return self._as_needed(self._at_positions(predictions, batch))
        if predictions.shape != (size, count):
            raise ModelError(
                f"model returned {predictions.shape} for n_classes={count}; expected "
                f"{(size, count)}, or {(size, *self.window_shape, count)} for pixels"
            )
        if self.aperture is not None:
            raise ModelError(
                f"aperture={self.aperture:g} needs a model of pixels, and this one scores whole "
                f"windows; leave it out"
            )
        return self._as_needed(predictions)

    def _as_needed(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return scores in the precision that columns are derived in; a vector is what it is."""
        if all(one.is_vector and not one.of_probabilities for one in self.columns):
            return scores
        return scores.astype(np.float64)

    def _are_no_probabilities(self, scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which rows have scores that columns cannot be derived from, (rows,)."""
        if not any(one.of_probabilities for one in self.columns):
            return np.zeros(len(scores), bool)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = scores.sum(axis=1)
            unlike_one = (abs(sums - 1) > SUM_ROUNDING) & (sums != 0)
            return np.asarray((scores < -ROUNDING).any(axis=1) | unlike_one)

    def _at_positions(self, predictions: NDArray[Any], batch: RowBatch) -> NDArray[Any]:
        """Return the prediction of the pixel at each position, or the mean around it."""
        nearest = np.ceil(batch.offsets - 0.5).astype(np.int64)
        if self.aperture is None:
            return np.asarray(predictions[np.arange(len(predictions)), *nearest])
        squares = []
        for axis, length in enumerate(self.window_shape):
            pixels, offsets = np.arange(length), batch.offsets[axis, :, np.newaxis]
            first, stop = batch.borders[:, axis, :, np.newaxis]
            in_image = (pixels >= first) & (pixels < stop)
            squares.append(np.where(in_image, (pixels - offsets) ** 2, np.inf))
        within = squares[0][:, :, np.newaxis] + squares[1][:, np.newaxis, :] <= self.aperture**2
        within[np.arange(len(within)), *nearest] = True
        sums = np.where(within[..., np.newaxis], predictions, 0).sum(axis=(1, 2), dtype=float)
        return np.asarray(sums / within.sum(axis=(1, 2))[:, np.newaxis])


class Doubt:
    """Raises where it is the model that gives no probabilities: none of the first rows has any."""

    def __init__(self) -> None:
        self._without, self._dispelled = 0, False

    def look(self, statuses: NDArray[np.uint8]) -> None:
        """Take the statuses of the next rows."""
        self._without += int(np.count_nonzero(statuses == Status.NO_PROBABILITIES))
        self._dispelled |= bool((statuses == Status.OK).any())
        if self._without >= DOUBTFUL_ROWS and not self._dispelled:
            raise ModelError(
                f"columns need probabilities, >= 0 and with a sum of 1, and none of the first "
                f"{self._without} rows has such scores; {NO_PROBABILITIES_WAY_OUT}"
            )


def column_names(n_classes: int, class_names: Sequence[str]) -> tuple[str, ...]:
    """Return what the classes are called, "class_0" where they have no names."""
    return tuple(class_names) or tuple(f"class_{k}" for k in range(n_classes))
