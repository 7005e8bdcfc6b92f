"""What is to be computed: everything that decides the numbers but images and model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.aggregators import (
    AGGREGATION_METHODS,
    AGGREGATORS,
    Aggregator,
)
from morpheus_core.pipeline.nan_policy import FAINT, NanPolicy, OnNan
from morpheus_core.windows.grid import WindowGrid
from morpheus_core.windows.visits import Visits


@dataclass(frozen=True)
class Job:
    """Everything that decides the numbers, apart from the images and the model.

    Attributes
    ----------
    grid : WindowGrid
        The windows.
    n_classes, batch_size : int
        As in :func:`morpheus_core.predict`.
    update_map : ndarray of float64, shape (height, width)
        Weight of each pixel of a window's prediction.
    methods : tuple of AGGREGATION_METHODS
        What to make of the predictions, in the order of the outputs.
    nan_policy : {"propagate", "omit"}
        What a prediction that is not finite does.
    fill_value : float
        The result of pixels that no prediction reached.
    output_dtype : {"float32", "float64"}
        Of the results.
    skip_blank : bool
        Whether windows are left out that hold nothing but NaN.
    masked : bool
        Whether the images come with a mask of bad pixels.
    class_names : tuple of str
        One per class, or none.
    on_nan : {"warn", "raise", "ignore"}
        What to do if NaN of the images spreads in what the model says.
    threads : int, optional
        How many threads each process has, where that was asked for.
    memory_format : str, optional
        How the network's tensors lie in memory, where that was left to be tried.
    products : tuple of str or None
        What is kept of the results, by full names; all of them by default.
    product_dtype : {"float32", "uint8", "int16"}
        How products are stored that are real numbers.
    thresholds : tuple of (int, float)
        Of classes, for flags.
    """

    grid: WindowGrid
    n_classes: int
    batch_size: int
    update_map: NDArray[np.float64]
    methods: tuple[AGGREGATION_METHODS, ...]
    nan_policy: NanPolicy
    fill_value: float
    output_dtype: str = "float32"
    skip_blank: bool = False
    masked: bool = False
    class_names: tuple[str, ...] = ()
    on_nan: OnNan = "warn"
    threads: int | None = None
    memory_format: str | None = None
    products: tuple[str, ...] | None = None
    product_dtype: str = "float32"
    thresholds: tuple[tuple[int, float], ...] = ()

    @property
    def names_of_classes(self) -> Sequence[str]:
        """What classes are called, also where nobody has named them."""
        return self.class_names or [f"class_{index}" for index in range(self.n_classes)]

    @property
    def counted(self) -> bool:
        """Whether n has to be counted, because geometry does not say which predictions are in."""
        return self.nan_policy == "omit" or self.skip_blank or self.masked or self.has_faint

    @cached_property
    def has_faint(self) -> bool:
        """Whether the map has weights that may be nothing beside others of their pixel."""
        weights = self.update_map[self.update_map > 0]
        return bool(len(weights)) and bool(weights.min() < FAINT * weights.max())

    @cached_property
    def _heaviest(self) -> Visits:
        """The largest weight that a window gives to each output pixel."""
        return Visits(self.grid, self.update_map, np.maximum)

    def weights_that_count(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the least weights that are not faint beside the largest of their pixel.

        Parameters
        ----------
        first, stop : int
            Output rows ``[first, stop)``, some of which may lie in the padding.

        Returns
        -------
        ndarray, shape (rows, plane width)
            Zero in the padding, of which nothing is kept.
        """
        weights = np.zeros((stop - first, self.grid.plane_width))
        inside = range(max(first, 0), min(stop, self.grid.output_shape[0]))
        if len(inside):
            rows = slice(inside.start - first, inside.stop - first)
            largest = self._heaviest.rows(inside.start, inside.stop)
            weights[rows, self.grid.image_columns] = FAINT * largest
        return weights

    @cached_property
    def visits(self) -> Visits:
        """How often windows visit each output pixel, if none is left out."""
        return Visits(self.grid, self.update_map)

    @property
    def aggregators(self) -> list[Aggregator]:
        """The aggregators, in the order of the outputs."""
        return [AGGREGATORS[method] for method in self.methods]

    @property
    def plane_bytes(self) -> int:
        """What the sums of one output pixel take, in float64."""
        values = self.n_classes * sum(aggregator.n_planes for aggregator in self.aggregators)
        return 8 * (values + self.counted)

    @property
    def sums_bytes(self) -> int:
        """What the sums of all rows take that a window row touches."""
        return self.grid.output_window_shape[0] * self.grid.plane_width * self.plane_bytes

    def parameters(self) -> dict[str, Any]:
        """Return everything that decides the numbers as JSON values, under the users' names."""
        grid = self.grid
        return {
            "image_shape": list(grid.image_shape),
            "window_shape": list(grid.window_shape),
            "stride": list(grid.stride),
            "edges": grid.edges,
            "padding": grid.padding,
            "dilation": str(grid.dilation),
            "n_classes": self.n_classes,
            "batch_size": self.batch_size,
            "update_map": "sha256 " + hashlib.sha256(self.update_map.tobytes()).hexdigest()[:32],
            "aggregate_method": [str(method) for method in self.methods],
            "nan_policy": self.nan_policy,
            # NaN is not JSON, and not equal to itself.
            "fill_value": "nan" if math.isnan(self.fill_value) else repr(self.fill_value),
            "output_dtype": self.output_dtype,
            "skip_blank": self.skip_blank,
            "class_names": list(self.class_names),
            "on_nan": self.on_nan,
            "threads": self.threads,
            "memory_format": self.memory_format,
            "products": None if self.products is None else list(self.products),
            "product_dtype": self.product_dtype,
            "thresholds": [list(pair) for pair in self.thresholds],
        }
