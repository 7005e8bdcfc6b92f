"""The entry point: prepare what the user asked for, and run it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from numpy.typing import ArrayLike, DTypeLike

from morpheus_core.images.check_sums import CheckSums
from morpheus_core.images.image import Bands
from morpheus_core.images.preparing_steps import Preparing
from morpheus_core.images.sources import ModelInput
from morpheus_core.images.stack import ModelInputs
from morpheus_core.packages.sky_check import CheckSky
from morpheus_core.parallel.pieces import OnSteps, ignore
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.finisher import Rows
from morpheus_core.pipeline.models import Model, resolve
from morpheus_core.pipeline.nan_policy import NanPolicy, OnNan, OnSpread, warn_of_spread
from morpheus_core.pipeline.strip import count_windows, run_strip
from morpheus_core.preparation import Arguments, Prepared, prepare
from morpheus_core.progress import both, progress_bar
from morpheus_core.results.chosen import ProductDtype, row_maker
from morpheus_core.results.outputs import MemoryOutputs, Results
from morpheus_core.results.sinks import SinkName
from morpheus_core.run import Run
from morpheus_core.sky.alignment import CheckWcs
from morpheus_core.windows.grid import Edges, Padding

__all__ = ["AGGREGATION_METHODS", "predict"]

logger = logging.getLogger("morpheus_core")


def predict(
    model: Model | str,
    model_inputs: ModelInputs,
    n_classes: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    window_shape: tuple[int, int] | None = None,
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
    on_nan: OnNan = "warn",
    fill_value: float = math.nan,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    bands: Bands = "last",
    mask: ModelInput | None = None,
    mask_bits: int | str | Sequence[int] | None = None,
    skip_blank: bool = False,
    check_wcs: CheckWcs = "warn",
    check_sky: CheckSky = "error",
    check_sums: CheckSums = "warn",
    storage_options: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    output_dtype: DTypeLike = "float32",
    prefetch: int | None = None,
    executor: Any = None,
    strips: int | None = None,
    rows_apart: bool | None = None,
    patience: float | None = None,
    begin_only: bool = False,
    sink: SinkName = "fits",
    threads: int | None = None,
    products: Sequence[str | tuple[str, str]] | None = None,
    product_dtype: ProductDtype = "float32",
    thresholds: float | Sequence[float] | Mapping[str, float] = 0.5,
    prepare: Preparing | Sequence[Preparing | None] | None = None,
) -> Results:
    """Classify every pixel of an image with a model that sees one window at a time.

    A window slides over the image; the model scores batches of windows; the overlapping
    predictions of each pixel are folded into statistics. Images are read, and results are written,
    a few rows at a time: with files as inputs and with `out_dir`, memory does not grow with the
    height of the image.

    All shapes are in numpy order, (row, column). FITS counts the other way: NAXIS1 is the last
    axis.

    Parameters
    ----------
    model : callable or str
        Called with a *list* that holds one array per input image, (batch, height, width, bands),
        in the image's dtype. Returns the predictions: (batch, height × dilation, width × dilation,
        n_classes), or without the last axis if `n_classes` is 1, or (batch, n_classes) for a model
        that scores whole windows, whose scores then hold for each pixel of the window. Arrays of
        numpy, PyTorch, TensorFlow, JAX and CuPy are understood. Or the name of a function without
        arguments that makes such a callable, ``"package.module:factory"``. Or a network, or the
        path of one, or of a model package, which also says what is left out of `n_classes`,
        `batch_size`, `window_shape`, `class_names` and `update_map`.
    model_inputs : array, path, HDU, NDData, lazy array, or list of these
        The images, (height, width) or (height, width, bands), all of the same height and width:
        numpy arrays, paths of FITS files, image HDUs or `astropy.nddata.NDData` objects, whose own
        mask counts like `mask`. Leading axes of length one are left out. Where a file holds several
        images, the path says which in brackets: ``"file.fits[1]"``, ``"file.fits[SCI]"``,
        ``"file.fits[SCI,2]"``. Scaled integers become what they stand for. Tile-compressed files
        are read a few rows at a time; files that are compressed as a whole (gzip, bzip2, xz) are
        unpacked once, to the folder for temporary files. Arrays of Dask and Zarr, and anything else
        that has shape and dtype and gives rows when it is sliced, are read slab by slab, in rows of
        whole chunks.
    n_classes : int
        Classes that the model scores. Only with a model package may this and the next two be left
        out.
    batch_size : int or "auto"
        The most windows that the model gets at once. "auto" tries sizes up to 512 in this process,
        for about ten seconds, and takes the smallest that is about as fast as any; a run that is
        resumed keeps the size that it began with.
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
        overlapping windows disagree; it is not a calibrated uncertainty. Scatter below about 1e-7
        of the mean is lost in rounding.
    out_dir : path, optional
        Write ``output.fits`` and ``n.fits`` there (``output_mean_var.fits`` and
        ``output_rank_vote.fits`` for a list of methods; ``products.fits`` with `products`).
        By default the outputs are arrays in memory.
    gpus : list of int or str, optional
        Run in one process per entry, each of which sees only that GPU: an index into the devices
        that this process may use, or a UUID. The same device twice means two processes on it.
        Needs `out_dir`.
    cpus : int, optional
        Run in this many processes, which share the cores that this process may use and see no GPU.
        Needs `out_dir`. The model is sent to them with dill.
    parallel_check_interval : float, default 1
        Seconds between two updates of the progress bar while other processes run. Their end is
        noticed at once.
    edges : {"cover", "drop"}
        Where the stride does not divide the image: "cover" sets a last window flush to the border,
        "drop" leaves the border without predictions.
    padding : {"reflect", "symmetric", "edge", "constant"}, optional
        Continue the image beyond its borders, as `numpy.pad` does, by ``max(window - stride, 0)``
        pixels, so that border pixels are visited as often as inner ones (exactly so where the
        stride divides window and image), and by more if the image is smaller than the window. The
        outputs keep the size of the image.
    nan_policy : {"propagate", "omit"}
        "propagate": a pixel that got a prediction with a non-finite class is NaN in every class,
        unless the prediction's weight is below a thousandth of the largest of the pixel in the
        `update_map`: that prediction is left out as with "omit".
        "omit": that prediction of that pixel is left out of the statistics and of n.
    on_nan : {"warn", "raise", "ignore"}
        What to do when NaN of the images spreads: when a larger share of what the model says of
        a batch is NaN than of its windows; or when it says nothing but NaN of windows that hold
        none. "warn" does so at the first such batch, in the
        log of a worker where `cpus`, `gpus` or `executor` is given, and sums up at the end;
        "raise" ends the run.
    fill_value : float, default NaN
        The result of pixels that no prediction reached; their n is 0.
    overwrite : bool, default False
        Replace existing outputs, once the new ones are complete. Those of a run with another
        aggregate_method, products or sink are refused: they would be left beside the new ones.
    resume : bool, default False
        Continue the run in `out_dir` that was interrupted, with the same arguments and unchanged
        inputs; the data have the bytes of a run that was not interrupted. Where there is none,
        begin; a run that was finished is not touched, its files are refused like any others. The
        number of processes may change. The model is the one that was stored for the workers when
        the run began, not the one that is passed now; a run in one process stores none and needs
        the same model again.
    progress : bool, default True
        Show a progress bar.
    bands : {"last", "first"}
        Where the bands of inputs with three axes are: (height, width, bands) or (bands, height,
        width).
    mask : array, path, HDU, NDData or lazy array, optional
        Bad pixels of all inputs, (height, width): True, or not zero, is bad. They get no
        statistics (n is 0), and windows without a good pixel are never sent to the model, which
        sees bad pixels as they are in all others. An output pixel is bad if all input pixels that
        it covers are.
    mask_bits : int, str or list of int, optional
        Which flags of an integer mask are bad, as `astropy.nddata.bitmask.interpret_bit_flags`
        takes them: ``[4, 16]``, their sum ``20``, ``"4,16"``, or ``"~4"`` for all others; or by the
        names that cards ``MP_SAT``, ... in the mask's header give them, as those of Rubin and HSC
        have: ``"BAD|SAT"``, ``"~DETECTED"``. All flags by default.
    skip_blank : bool, default False
        Never send windows to the model that are NaN in every input, apart from padding and from
        bad pixels of `mask`. To know how many are left, the inputs are read once more before the
        run.
    check_wcs : {"warn", "error", "ignore"}
        What to do if the sky positions of two inputs disagree by more than a tenth of a pixel.
    check_sky : {"error", "warn", "ignore"}
        What to do if the inputs have another number of bands, pixel scale, filter or unit than a
        model package was made for, as far as their headers say. Other models know of no sky.
    check_sums : {"warn", "error", "ignore"}, default "warn"
        What to do if a FITS file of an image or mask is not what its CHECKSUM and DATASUM cards
        were made of. Files with such cards are read once more for it, before the run; those at
        addresses are not.
    storage_options : dict, optional
        What fsspec needs to open images at addresses, ``"s3://bucket/image.fits[SCI]"``: keys, or
        an end point. With workers they are written to `out_dir`, readable by you alone.
    class_names : list of str, optional
        What classes are called in the headers of the outputs.
    output_dtype : {"float32", "float64"}
        Of the outputs, n included.
    prefetch : int, optional
        How many batches are read ahead of the model, in a thread of their own, while another one
        folds the predictions before. 0 does everything in the caller's thread, in which the model
        is called in any case. By default 2 where there is a core or a GPU for it and with
        `executor`, else 0. Each batch takes memory; the results do not depend on it.
    executor : executor, optional
        Run strips of the image where this has its workers, on other machines perhaps: anything with
        a ``submit`` that returns futures, such as `concurrent.futures.ProcessPoolExecutor`, a
        `dask.distributed.Client`, `mpi4py.futures.MPIPoolExecutor`. Needs `out_dir`, on a file
        system that all workers share, as the inputs are. It is not shut down.
    strips : int, optional
        Into how many strips the image is cut; no worker has more than one at a time. By default
        one per process of `cpus` or `gpus`, and several per worker of `executor`. Needs `out_dir`.
        A run that is resumed keeps those that it began with.
    rows_apart : bool, optional
        Whether each strip writes its rows to files of its own, from which they are copied when all
        strips are finished, so that no file of the run is written by two machines. By default so
        where `out_dir` is on a file system that other machines may have (anything but a local
        disk), or workers of `executor` may be on other machines. False needs a file system that
        keeps bytes of several machines apart.
    patience : float, optional
        Seconds for which a cluster of Dask may have no workers before that is a WorkerError; what
        is finished is kept. By default the call waits for them, and says so. Other executors do not
        tell whether they have workers.
    begin_only : bool, default False
        Write plan, model and folders to `out_dir`, and return two empty lists: jobs of a cluster
        run the strips then, each by :func:`~morpheus_core.run_strip`, and the last one makes the
        outputs, by :func:`~morpheus_core.stitch`. Strips keep their rows apart, as with
        ``rows_apart=True``, unless that is False.
    sink : {"fits", "fits.fz", "zarr"}
        What kind of files the outputs in `out_dir` become: plain FITS files; tile-compressed ones,
        ``output.fits.fz``, of which nothing is lost; or stores of Zarr, ``output.zarr`` (extra
        ``zarr``). The latter two are made of plain files when all rows are there, which takes the
        disk space of both.
    threads : int, optional
        With how many threads libraries compute in each process, be it a worker or this one, which
        gets its own number back at the end. By default workers of `cpus` and `gpus` share the
        cores, and all else is left as it is. The last bits of a network's answers may depend on
        it, so the number is in the outputs, and a run that is resumed needs the same.
    products : list of str, optional
        What to keep in place of all results: nothing else is written, n neither. ``"mean"``,
        ``"variance"`` and ``"std"`` (the root of the variance) of "mean_var", ``"votes"`` of
        "rank_vote", and of either method ``"class_map"`` (index of the highest class, the lowest
        of several; uint8, or int16 beyond 255 classes; 255 or -1 without a result), ``"top"`` (its
        mean or share of votes), ``"margin"`` (by how much that is above the class that follows),
        ``"entropy"`` (of the classes' shares of their sum, in nats), ``"bits"`` (bit k is set where
        class k reaches its threshold; see `thresholds`); and ``"n"``. ``"mean:source"``, or
        ``("mean", "source")``, is the mean of one class. With both methods a name such as
        ``"class_map:mean_var"`` says which is meant.
    product_dtype : {"float32", "uint8", "int16"}
        How files hold products that are real numbers, but for n: as integers they are rounded, to
        1/508 or 1/65,534 of the highest value there can be (1, for variances 1/4, for standard
        deviations 1/2, for entropies log(n_classes)), and programs give the numbers back by the
        cards ``BSCALE`` and ``BLANK``; ``MAXERROR`` is the largest error. The model must predict
        probabilities. Needs `out_dir`.
    thresholds : float, list of float or dict, default 0.5
        Of the product "bits": one for all classes, one per class, or one by class name, for these
        classes only.
    prepare : object, callable, None, or list of these
        What is done to each whole image before windows are cut of it: one for all images, or a list
        with one for each. Either an object with ``fit(rows)``, which returns what must be known of
        the whole image, from an iterator of its blocks of rows, and ``apply(rows, first_row,
        state)``, which prepares some rows; :mod:`morpheus_core.preparing` has some. Or a function
        of the whole image, (height, width), or (height, width, bands) where there are several,
        which is in memory then; what it returns goes to a temporary file, and where there are
        workers to one in `out_dir` that all of them read. Pixels get the same shape, whatever
        type. Masks and `check_sums` are of the image as it was given, `skip_blank` and `on_nan` of
        what the model sees. A run that is resumed needs the same preparation, of which digests are
        compared.

    Returns
    -------
    output_hduls : list of HDUList
        Open over the outputs, in the order of `output_arrays`, if `out_dir` was given or an input
        came with a header; empty otherwise. Close them when you are done.
    output_arrays : list of ndarray
        One array per aggregate method, then n. Mean and variance: (H, W, n_classes, 2); votes:
        (H, W, n_classes), adding up to one; n: (H, W), the number of predictions of each pixel, or
        the sum of their weights. With `out_dir` these are copy-on-write memory maps of the files,
        and big-endian as all FITS data: ``array.astype("f4")`` gives what PyTorch takes, and what
        ``fitsio.write`` writes right (1.3.0 to 1.4.2 change a pixel in 256 of big-endian arrays).
        With ``sink="fits.fz"`` they are sections of HDUs, and with "zarr" arrays of Zarr, without
        HDULists: ``array[:100]`` unpacks a hundred rows, ``array[:]`` all. Of products they are one
        per image then.

        With `products` there is one HDUList, of ``products.fits``, and one array per product, in
        their order: (H, W), or (H, W, n_classes) where each class has an image. In the file every
        image is an extension: ``<CLASS>_MEAN`` ..., ``CLASS_MAP``, ``TOP``, ``FLAGS``, ``N``.
        Arrays of a `product_dtype` of integers hold these; HDUs give the numbers.

    Raises
    ------
    InputError
        If an argument or an image cannot be used. Arguments are refused before any work is done;
        pixels that cannot be read may show later.
    ModelError
        If the model raises, or returns something other than promised.
    OutputError
        If an output exists, would replace an input, or cannot be written.
    WorkerError
        If another process failed or was killed, or does not see the files of the run; the others
        are ended then.

    Warns
    -----
    MorpheusWarning
        If some pixels are reached by no window, if no window holds a good pixel, if inputs show
        different sky or seem to have their bands elsewhere, if the outputs cannot have the sky
        position of the input, or if a resumed run ignores the model that is passed.

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
    return results_of(
        Arguments(
            model=model,
            model_inputs=model_inputs,
            n_classes=n_classes,
            batch_size=batch_size,
            window_shape=window_shape,
            dilation=dilation,
            stride=stride,
            update_map=update_map,
            aggregate_method=aggregate_method,
            out_dir=out_dir,
            gpus=gpus,
            cpus=cpus,
            parallel_check_interval=parallel_check_interval,
            edges=edges,
            padding=padding,
            nan_policy=nan_policy,
            on_nan=on_nan,
            fill_value=fill_value,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
            bands=bands,
            mask=mask,
            mask_bits=mask_bits,
            skip_blank=skip_blank,
            check_wcs=check_wcs,
            check_sky=check_sky,
            check_sums=check_sums,
            storage_options=storage_options,
            class_names=class_names,
            output_dtype=output_dtype,
            prefetch=prefetch,
            executor=executor,
            strips=strips,
            rows_apart=rows_apart,
            patience=patience,
            begin_only=begin_only,
            sink=sink,
            threads=threads,
            products=products,
            product_dtype=product_dtype,
            thresholds=thresholds,
            prepare=prepare,
        )
    )


def results_of(
    arguments: Arguments, on_windows: OnSteps = ignore, on_spread: OnSpread = warn_of_spread
) -> Results:
    """Do what `predict` is asked for.

    Parameters
    ----------
    arguments : Arguments
        Of the call.
    on_windows : callable
        Told how many windows were just finished; the progress bar is told as well.
    on_spread : callable
        Told, at the end, how many of how many windows were spoilt by NaN.
    """
    with prepare(arguments) as ready:
        if ready.directory is None:
            return run_in_memory(ready, on_windows, on_spread)
        run = Run(ready, ready.directory, on_windows, on_spread)
        if arguments.begin_only:
            run.begin()
            return [], []
        return run.results()


def run_in_memory(ready: Prepared, on_windows: OnSteps, on_spread: OnSpread) -> Results:
    """Run a job as one strip into arrays."""
    job, stack = ready.job, ready.stack
    windows = int(count_windows(job, stack).sum())
    logger.info("%d of %d windows, into memory", windows, len(job.grid))
    has_header = any(image.header is not None for image in stack.images)
    outputs, make = MemoryOutputs(ready.products, as_hduls=has_header), row_maker(job)

    def keep(rows: Rows) -> None:
        if job.products is not None:  # else they are where they belong
            outputs.write(rows.first, make(rows.blocks))

    with progress_bar(windows, 0, ready.arguments.progress) as advance:
        run_strip(
            job,
            job.grid.whole(),
            stack,
            resolve(ready.arguments.model),
            on_rows=keep,
            on_windows=both(advance, on_windows),
            prefetch=ready.workers.prefetch,
            on_spread=on_spread,
            room=outputs.room if job.products is None else None,
        )
    return outputs.results()
