"""Arguments as users give them → a job, open inputs, and where it is to run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import Any, Literal, ParamSpec

from numpy.typing import ArrayLike, DTypeLike

from morpheus_core import checks
from morpheus_core.adapters.trained_names import refuse_other_classes, refuse_other_order
from morpheus_core.errors import InputError, OutputError, warn
from morpheus_core.images.check_sums import CheckSums, check_sums
from morpheus_core.images.image import BANDS, Bands
from morpheus_core.images.preparing_steps import Preparing
from morpheus_core.images.sources import ModelInput
from morpheus_core.images.stack import (
    ImageStack,
    ModelInputs,
    as_list,
    checked_steps,
    open_inputs,
    with_steps,
)
from morpheus_core.packages.filling import filled
from morpheus_core.packages.package import as_model
from morpheus_core.packages.sky_check import SKY_CHECKS, CheckSky, check_sky
from morpheus_core.parallel.choice import Workers, choose_workers
from morpheus_core.parallel.strip_counts import count_strips
from morpheus_core.parallel.threads import limited_threads
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.batch_sizes import windows_of
from morpheus_core.pipeline.choices import choose
from morpheus_core.pipeline.descriptions import model_name
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.memory_formats import TriedFormats
from morpheus_core.pipeline.models import Model
from morpheus_core.pipeline.nan_policy import NAN_POLICIES, ON_NAN, NanPolicy, OnNan
from morpheus_core.results.choices import checked_products
from morpheus_core.results.chosen import PRODUCT_DTYPES, ProductDtype
from morpheus_core.results.outputs import Product, output_errors
from morpheus_core.results.planes import checked_thresholds
from morpheus_core.results.products import origin_of, products_of
from morpheus_core.results.sinks import SinkName, checked_sink
from morpheus_core.sky.alignment import CHECKS, CheckWcs, check_alignment
from morpheus_core.sky.mending import warn_of_other_distortions
from morpheus_core.windows.grid import EDGES, PADDINGS, Edges, Padding, WindowGrid
from morpheus_core.workspace.folders import Workspace

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments of a call of :func:`morpheus_core.predict`, which says what they mean.

    They are as users gave them: nothing is checked. None has a default here, so that a type
    checker sees where one is left out.
    """

    model: Model | str
    model_inputs: ModelInputs
    n_classes: int | None
    batch_size: int | Literal["auto"] | None
    window_shape: tuple[int, int] | None
    dilation: float | Fraction
    stride: tuple[int, int]
    update_map: ArrayLike | None
    aggregate_method: str | Sequence[str]
    out_dir: str | os.PathLike[str] | None
    gpus: Sequence[int | str] | None
    cpus: int | None
    parallel_check_interval: float
    edges: Edges
    padding: Padding | None
    nan_policy: NanPolicy
    on_nan: OnNan
    fill_value: float
    overwrite: bool
    resume: bool
    progress: bool
    bands: Bands
    mask: ModelInput | None
    mask_bits: int | str | Sequence[int] | None
    skip_blank: bool
    check_wcs: CheckWcs
    check_sky: CheckSky
    check_sums: CheckSums
    storage_options: Mapping[str, Any] | None
    class_names: Sequence[str] | None
    output_dtype: DTypeLike
    prefetch: int | None
    executor: Any
    strips: int | None
    rows_apart: bool | None
    patience: float | None
    begin_only: bool
    sink: SinkName
    threads: int | None
    products: Sequence[str | tuple[str, str]] | None
    product_dtype: ProductDtype
    thresholds: float | Sequence[float] | Mapping[str, float]
    prepare: Preparing | Sequence[Preparing | None] | None


def arguments_of(function: Callable[P, object], *given: P.args, **named: P.kwargs) -> Arguments:
    """Return the arguments of a call of `predict`, which is the function, with its defaults."""
    bound = signature(function).bind(*given, **named)
    bound.apply_defaults()
    return Arguments(**bound.arguments)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job whose arguments are checked and whose inputs are open.

    Attributes
    ----------
    arguments : Arguments
        As they were given; `overwrite`, `resume`, `progress` and `begin_only` are flags.
    job : Job
        What to compute.
    stack : ImageStack
        The images.
    products : list of Product
        What becomes of it.
    directory : Path or None
        The user's `out_dir`.
    workers : Workers
        Where strips run.
    n_strips : int
        Into how many strips to cut the image, at most.
    sink : str
        What kind of files the outputs become.
    tried : TriedFormats or None
        What was found about formats of memory, if any were tried.
    """

    arguments: Arguments
    job: Job
    stack: ImageStack
    products: list[Product]
    directory: Path | None
    workers: Workers
    n_strips: int
    sink: SinkName
    tried: TriedFormats | None


@contextmanager
def prepare(arguments: Arguments) -> Iterator[Prepared]:
    """Check the arguments, and open the inputs."""
    arguments = with_package(arguments)
    for name in ("overwrite", "resume", "progress", "begin_only"):
        checks.flag(name, getattr(arguments, name))
    if arguments.rows_apart is not None:
        checks.flag("rows_apart", arguments.rows_apart)
    interval = checks.positive_number("parallel_check_interval", arguments.parallel_check_interval)
    workers = choose_workers(
        arguments.cpus,
        arguments.gpus,
        arguments.executor,
        arguments.prefetch,
        interval,
        arguments.patience,
        arguments.threads,
    )
    sink = checked_sink(arguments.sink)
    if sink == "zarr" and arguments.product_dtype != "float32":
        raise InputError(
            'product_dtype needs sink="fits" or "fits.fz": in a store of Zarr nothing says that '
            "numbers are scaled"
        )
    directory = run_directory(arguments)
    if arguments.begin_only:
        refuse_workers(arguments)
    layout = checks.one_of("bands", arguments.bands, BANDS)
    check = checks.one_of("check_wcs", arguments.check_wcs, CHECKS)
    sky_check = checks.one_of("check_sky", arguments.check_sky, SKY_CHECKS)
    sums = checks.one_of("check_sums", arguments.check_sums, CHECKS)
    bits = checks.mask_bits(arguments.mask_bits)
    steps = checked_steps(arguments.prepare, len(as_list(arguments.model_inputs)))
    with (
        limited_threads(workers.threads),
        open_inputs(
            arguments.model_inputs, layout, arguments.mask, bits, arguments.storage_options
        ) as given,
        with_steps(given, steps, model_name) as stack,
    ):
        job = make_job(stack, arguments)
        n_strips = count_strips(arguments.strips, job.grid, workers, arguments.begin_only)
        checks.model(arguments.model)
        check_sums(given.images_and_masks, sums)
        warn_of_other_distortions(stack.images)
        check_alignment(stack.images_and_masks, check)
        check_sky(arguments.model, stack.images, sky_check)
        refuse_other_order(arguments.model, stack.images)
        refuse_other_classes(arguments.model, job.class_names)
        warn_of_vain_requests(job)
        choices = choose(
            arguments.model,
            None if arguments.batch_size == "auto" else job.batch_size,
            windows_of(job, stack),
            stored_choices(directory) if arguments.resume else None,
        )
        arguments = replace(arguments, model=choices.model)
        job = replace(job, batch_size=choices.batch_size, memory_format=choices.memory_format)
        products = products_of(job, origin_of(job, stack, arguments.model))
        tried = choices.tried
        yield Prepared(arguments, job, stack, products, directory, workers, n_strips, sink, tried)


def with_package(arguments: Arguments) -> Arguments:
    """Return arguments with a callable for a model, and with what its package says, if it has one.

    Raises
    ------
    InputError
        If the model cannot be used, or an argument is left out that no package says.
    """
    model = as_model(arguments.model)
    names = ("n_classes", "batch_size", "window_shape", "class_names", "update_map")
    told = filled(model, {name: getattr(arguments, name) for name in names})
    return replace(arguments, model=model, **told)


def stored_choices(directory: Path | None) -> dict[str, Any] | None:
    """Return what the run has chosen that was begun in a folder, if there is one."""
    workspace = None if directory is None else Workspace(directory)
    if workspace is None or not workspace.holds_a_run():
        return None
    return workspace.load().parameters


def run_directory(arguments: Arguments) -> Path | None:
    """Return where a run works, if that is not in memory."""
    if arguments.out_dir is not None:
        directory = checks.path("out_dir", arguments.out_dir)
        with output_errors(directory):  # its server may be away
            if directory.exists() and not directory.is_dir():
                raise OutputError(f"out_dir must be a folder, got the file {directory}")
        return directory
    for name in ("cpus", "gpus", "executor", "strips"):
        if getattr(arguments, name) is not None:
            raise InputError(f"{name} needs out_dir: strips are written to files there")
    if arguments.resume:
        raise InputError("resume=True needs the out_dir of the run that was interrupted")
    if arguments.begin_only:
        raise InputError("begin_only=True needs out_dir, where others find what they are to run")
    if arguments.sink != "fits":
        raise InputError(f'sink="{arguments.sink}" needs out_dir, where its files go')
    if checks.one_of("product_dtype", arguments.product_dtype, PRODUCT_DTYPES) != "float32":
        raise InputError("product_dtype needs out_dir: it says how files hold numbers")
    return None


def refuse_workers(arguments: Arguments) -> None:
    """Raise if workers are given to a call that runs nothing."""
    for name in ("cpus", "gpus", "executor"):
        if getattr(arguments, name) is not None:
            raise InputError(
                f"begin_only=True runs no strips, so it takes no {name}; leave one of them out"
            )


def make_job(stack: ImageStack, arguments: Arguments) -> Job:
    """Check the arguments that decide the numbers."""
    padding = arguments.padding
    grid = WindowGrid(
        image_shape=stack.shape,
        window_shape=checks.positive_pair("window_shape", arguments.window_shape),
        stride=checks.positive_pair("stride", arguments.stride),
        edges=checks.one_of("edges", arguments.edges, EDGES),
        padding=None if padding is None else checks.one_of("padding", padding, PADDINGS),
        dilation=checks.positive_fraction("dilation", arguments.dilation),
    )
    n_classes = checks.whole_number("n_classes", arguments.n_classes)
    job = Job(
        grid=grid,
        n_classes=n_classes,
        batch_size=first_size(arguments.batch_size),
        update_map=checks.update_map(arguments.update_map, grid.output_window_shape),
        methods=checks.methods(arguments.aggregate_method),
        nan_policy=checks.one_of("nan_policy", arguments.nan_policy, NAN_POLICIES),
        fill_value=checks.real_number("fill_value", arguments.fill_value),
        output_dtype=checks.output_dtype(arguments.output_dtype),
        skip_blank=checks.flag("skip_blank", arguments.skip_blank),
        masked=stack.mask is not None,
        class_names=checks.class_names(arguments.class_names, n_classes),
        on_nan=checks.one_of("on_nan", arguments.on_nan, ON_NAN),
        threads=arguments.threads,
    )
    return with_products(job, arguments)


def with_products(job: Job, arguments: Arguments) -> Job:
    """Return a job that keeps the products that are asked for, if any are."""
    products = checked_products(arguments.products, job.methods, job.names_of_classes)
    dtype = checks.one_of("product_dtype", arguments.product_dtype, PRODUCT_DTYPES)
    if products is None and dtype != "float32":
        raise InputError(f"product_dtype={dtype!r} is of products; say which, products=[...]")
    if products is None:
        return job
    if job.output_dtype != "float32":
        raise InputError(
            f'products are made of float32, so output_dtype must be "float32", got '
            f"{job.output_dtype!r}"
        )
    if dtype != "float32" and not math.isnan(job.fill_value):
        raise InputError(
            f"fill_value must be NaN with product_dtype={dtype!r}, whose pixels without a result "
            f"are blank, got {job.fill_value}"
        )
    limits: dict[int, float] = {}
    if any(product.startswith("bits") for product in products):
        limits = checked_thresholds(arguments.thresholds, job.names_of_classes)
    return replace(job, products=products, product_dtype=dtype, thresholds=tuple(limits.items()))


def first_size(batch_size: Any) -> int:
    """Return the size of batches as long as none was chosen."""
    return 1 if batch_size == "auto" else checks.whole_number("batch_size", batch_size)


def warn_of_vain_requests(job: Job) -> None:
    """Warn of what is allowed but hardly meant."""
    height, width = job.grid.output_shape
    unreached = job.visits.count_unreached()
    if unreached:
        cover = ' or edges="cover",' if job.grid.edges == "drop" else ""
        is_cropped = not (job.update_map[0].any() and job.update_map[:, 0].any())
        border = ' (keep_border=True of centre_crop), or padding="reflect"' if is_cropped else ""
        warn(
            f"{unreached} of {height * width} output pixels are reached by no window: they get "
            f"the fill value and n = 0; use a smaller stride,{cover} or an update_map that counts "
            f"more of the window{border}"
        )
    if job.n_classes == 1 and AGGREGATION_METHODS.RANK_VOTE in job.methods:
        warn('rank votes of a single class are 1 everywhere; use aggregate_method="mean_var"')
