"""The entry point: check what the user asked for, plan it, run it."""

from __future__ import annotations

import logging
import math
import operator
import os
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from morpheus_core import update_maps
from morpheus_core.aggregators import AGGREGATION_METHODS, NAN_POLICIES, NanPolicy
from morpheus_core.errors import InputError, MorpheusWarning
from morpheus_core.headers import product_header
from morpheus_core.inputs import ImageStack, ModelInputs
from morpheus_core.models import Model
from morpheus_core.outputs import FitsOutputs, MemoryOutputs, Outputs, Product
from morpheus_core.pipeline import Job, run_strip
from morpheus_core.progress import progress_bar
from morpheus_core.windows import EDGES, PADDINGS, Edges, Padding, Visits, WindowGrid

__all__ = ["AGGREGATION_METHODS", "predict"]

logger = logging.getLogger("morpheus_core")

Choice = TypeVar("Choice")


def predict(
    model: Model,
    model_inputs: ModelInputs,
    n_classes: int,
    batch_size: int,
    window_shape: tuple[int, int],
    dilation: float | Fraction = 1,
    stride: tuple[int, int] = (1, 1),
    update_map: ArrayLike | None = None,
    aggregate_method: str | Sequence[str] = AGGREGATION_METHODS.RANK_VOTE,
    out_dir: str | os.PathLike[str] | None = None,
    gpus: Sequence[int | str] | None = None,
    cpus: int | None = None,
    parallel_check_interval: float = 1,
    *,
    edges: Edges = "cover",
    padding: Padding | None = None,
    nan_policy: NanPolicy = "propagate",
    fill_value: float = math.nan,
    overwrite: bool = False,
    progress: bool = True,
) -> tuple[list[fits.HDUList], list[NDArray[Any]]]:
    """Classify every pixel of an image with a model that sees one window at a time.

    A window slides over the image; the model scores batches of windows; the overlapping
    predictions of each pixel are folded into statistics. Images are read, and results are written,
    a few rows at a time: memory grows with the image's width, not with its height.

    All shapes are in numpy order, (row, column). FITS counts the other way: NAXIS1 is the last
    axis.

    Parameters
    ----------
    model : callable
        Called with a *list* that holds one array per input image, (batch, height, width, bands),
        in the image's dtype. Returns the predictions: (batch, height × dilation, width × dilation,
        n_classes), or without the last axis if `n_classes` is 1, or (batch, n_classes) for a model
        that scores whole windows, whose scores then hold for each pixel of the window. Arrays of
        numpy, PyTorch, TensorFlow, JAX and CuPy are understood.
    model_inputs : array, path, or list of either
        The images, (height, width) or (height, width, bands), all of the same height and width:
        numpy arrays, or paths of FITS files that hold one image each.
    n_classes : int
        Classes that the model scores.
    batch_size : int
        The most windows that the model gets at once.
    window_shape : tuple of int
        Height and width of a window, in input pixels.
    dilation : float or Fraction, default 1
        Output pixels per input pixel along each axis, for models that predict at another
        resolution. Window, stride and image times the dilation must be whole numbers.
    stride : tuple of int, default (1, 1)
        Rows and columns between neighbouring windows, in input pixels.
    update_map : array_like, optional
        Which pixels of a window's prediction count, (height × dilation, width × dilation): boolean,
        or non-negative weights. See :mod:`morpheus_core.update_maps`. All count by default.
    aggregate_method : {"rank_vote", "mean_var"} or list of both
        What becomes of a pixel's predictions: the share of windows in which each class scored
        highest (the lowest class wins a tie), or the mean and the population variance of each
        class's score. A list computes both in one pass. The variance describes how much
        overlapping windows disagree; it is not a calibrated uncertainty.
    out_dir : path, optional
        Write ``output.fits`` and ``n.fits`` there (``output_mean_var.fits`` and
        ``output_rank_vote.fits`` for a list of methods), float32. By default the outputs are
        arrays in memory.
    gpus, cpus : optional
        Reserved for running on several devices; must be None.
    parallel_check_interval : float
        Without effect in a single process.
    edges : {"cover", "drop"}
        Where the stride does not divide the image: "cover" sets a last window flush to the border,
        "drop" leaves the border without predictions.
    padding : {"reflect", "symmetric", "edge", "constant"}, optional
        Continue the image beyond its borders, as `numpy.pad` does, by ``max(window - stride, 0)``
        pixels, so that border pixels are visited as often as inner ones, and by more if the image
        is smaller than the window. The outputs keep the size of the image.
    nan_policy : {"propagate", "omit"}
        "propagate": a pixel that got a prediction with a non-finite class is NaN in every class.
        "omit": that prediction of that pixel is left out of the statistics and of n.
    fill_value : float, default NaN
        The result of pixels that no prediction reached; their n is 0.
    overwrite : bool, default False
        Replace existing outputs, once the new ones are complete.
    progress : bool, default True
        Show a progress bar.

    Returns
    -------
    output_hduls : list of HDUList
        Open over the outputs, in the order of `output_arrays`, if the inputs were files or
        `out_dir` was given; empty otherwise. Close them when you are done.
    output_arrays : list of ndarray of float32
        One array per aggregate method, then n. Mean and variance: (H, W, n_classes, 2); votes:
        (H, W, n_classes), adding up to one; n: (H, W), the number of predictions of each pixel, or
        the sum of their weights. With `out_dir` these are copy-on-write memory maps of the files.

    Raises
    ------
    InputError
        If an argument or an image cannot be used; nothing was done then.
    ModelError
        If the model raises, or returns something other than promised.
    OutputError
        If an output exists, would replace an input, or cannot be written.

    Warns
    -----
    MorpheusWarning
        If some pixels are reached by no window.

    Examples
    --------
    A "model" of two classes, above and below the mean of the window:

    >>> import numpy as np
    >>> from morpheus_core import predict
    >>> def brighter(batch):
    ...     (image,) = batch  # (batch, height, width, 1)
    ...     bright = image > image.mean(axis=(1, 2), keepdims=True)
    ...     return np.concatenate([bright, ~bright], axis=-1).astype(np.float32)
    >>> image = np.zeros((6, 6))
    >>> image[2:4, 2:4] = 1
    >>> _, (votes, n) = predict(brighter, image, 2, 8, (3, 3), progress=False)
    >>> votes[..., 0].round(1)
    array([[0., 0., 0., 0., 0., 0.],
           [0., 0., 0., 0., 0., 0.],
           [0., 0., 1., 1., 0., 0.],
           [0., 0., 1., 1., 0., 0.],
           [0., 0., 0., 0., 0., 0.],
           [0., 0., 0., 0., 0., 0.]], dtype=float32)
    >>> n[0]
    array([1., 2., 3., 3., 2., 1.], dtype=float32)
    """
    if gpus is not None or cpus is not None:
        raise InputError("gpus and cpus must be None: this version runs in one process")
    with ImageStack(model_inputs) as stack:
        grid = WindowGrid(
            image_shape=stack.shape,
            window_shape=positive_pair("window_shape", window_shape),
            stride=positive_pair("stride", stride),
            edges=one_of("edges", edges, EDGES),
            padding=padding if padding is None else one_of("padding", padding, PADDINGS),
            dilation=positive_fraction("dilation", dilation),
        )
        job = Job(
            grid=grid,
            n_classes=positive_integer("n_classes", n_classes),
            batch_size=positive_integer("batch_size", batch_size),
            update_map=update_maps.checked(update_map, grid.output_window_shape),
            methods=checked_methods(aggregate_method),
            nan_policy=one_of("nan_policy", nan_policy, NAN_POLICIES),
            fill_value=float(fill_value),
        )
        if not callable(model):
            raise InputError(f"model must be callable, got {type(model).__name__}")
        warn_of_vain_requests(job)
        with (
            open_outputs(job, stack, out_dir, overwrite) as outputs,
            progress_bar(len(grid), progress) as on_windows,
        ):
            for rows in run_strip(job, grid.whole(), stack.images, model, on_windows):
                outputs.write(rows.first, rows.blocks)
            return outputs.finish()


def open_outputs(
    job: Job, stack: ImageStack, out_dir: str | os.PathLike[str] | None, overwrite: bool
) -> Outputs:
    """Make room for the outputs, in memory or in `out_dir`."""
    products = products_of(job, stack.header)
    if out_dir is None:
        return MemoryOutputs(products, as_hduls=bool(stack.paths))
    return FitsOutputs(products, Path(out_dir), inputs=stack.paths, overwrite=overwrite)


def products_of(job: Job, source: fits.Header | None) -> list[Product]:
    """Return what the job produces: one output per aggregate method, then n."""
    dilation, shape = job.grid.dilation, job.grid.output_shape
    products = []
    for method, aggregator in zip(job.methods, job.aggregators, strict=True):
        name = "output" if len(job.methods) == 1 else f"output_{method}"
        result_shape = (*shape, *aggregator.result_shape(job.n_classes))
        header = product_header(source, dilation, aggregator.axes)
        products.append(Product(name, result_shape, header))
    return [*products, Product("n", shape, product_header(source, dilation, ()))]


def warn_of_vain_requests(job: Job) -> None:
    """Warn of what is allowed but hardly meant."""
    height, width = job.grid.output_shape
    unreached = Visits(job.grid, job.update_map).count_unreached()
    if unreached:
        warnings.warn(
            f"{unreached} of {height * width} output pixels are reached by no window: they get "
            f'the fill value and n = 0; use a smaller stride, edges="cover", padding, or an '
            f"update_map that counts more of the window",
            MorpheusWarning,
            stacklevel=3,
        )
    if job.n_classes == 1 and AGGREGATION_METHODS.RANK_VOTE in job.methods:
        warnings.warn(
            'rank votes of a single class are 1 everywhere; use aggregate_method="mean_var"',
            MorpheusWarning,
            stacklevel=3,
        )


def positive_integer(name: str, value: SupportsIndex) -> int:
    """Return a whole number of at least one."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name} must be a whole number >= 1, got {value!r}")
    return number


def positive_pair(name: str, value: Sequence[SupportsIndex]) -> tuple[int, int]:
    """Return two whole numbers of at least one, (rows, columns)."""
    try:
        rows, columns = (operator.index(length) for length in value)
    except (TypeError, ValueError):
        rows = columns = 0
    if min(rows, columns) < 1:
        raise InputError(f"{name} must be two whole numbers >= 1, (rows, columns), got {value!r}")
    return rows, columns


def positive_fraction(name: str, value: float | Fraction) -> Fraction:
    """Return the simple fraction that a float such as 1/3 stands for."""
    try:
        fraction = Fraction(value).limit_denominator(10_000)
    except (TypeError, ValueError, OverflowError):
        fraction = Fraction(0)
    if fraction <= 0:
        raise InputError(f"{name} must be a finite number > 0, got {value!r}")
    return fraction


def one_of(name: str, value: Choice, choices: tuple[Choice, ...]) -> Choice:
    """Return a value that is among the choices."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def checked_methods(aggregate_method: str | Sequence[str]) -> tuple[AGGREGATION_METHODS, ...]:
    """Return one or several distinct aggregation methods."""
    values = [aggregate_method] if isinstance(aggregate_method, str) else list(aggregate_method)
    names = tuple(str(method) for method in AGGREGATION_METHODS)
    methods = tuple(AGGREGATION_METHODS(one_of("aggregate_method", v, names)) for v in values)
    if not methods or len(set(methods)) < len(methods):
        raise InputError(f"aggregate_method must name distinct methods, got {aggregate_method!r}")
    return methods
