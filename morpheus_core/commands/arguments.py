"""Options that several commands share, and what they mean to :func:`morpheus_core.predict`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from morpheus_core import checks
from morpheus_core.commands.preparing import add_prepare, prepare_of
from morpheus_core.commands.windows import add_grid_arguments, window_options
from morpheus_core.errors import InputError
from morpheus_core.images.image import BANDS
from morpheus_core.packages.sky_check import SKY_CHECKS
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.choices import KINDS
from morpheus_core.results.chosen import PRODUCT_DTYPES
from morpheus_core.results.sinks import SINKS
from morpheus_core.sky.alignment import CHECKS


def add_check_sky(group: argparse._ActionsContainer) -> None:
    """Add the option that says what images may be given to a model package."""
    group.add_argument(
        "--check-sky",
        choices=SKY_CHECKS,
        default="error",
        help="what to do if images are not what a model package is for (%(default)s)",
    )


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide where the model runs."""
    group = parser.add_argument_group("workers")
    workers = group.add_mutually_exclusive_group()
    workers.add_argument("--cpus", type=int, metavar="N", help="run in this many processes")
    workers.add_argument(
        "--gpus", nargs="+", metavar="GPU", help="run in one process per index or UUID"
    )
    group.add_argument(
        "--threads", type=int, metavar="N", help="threads that libraries have in each process"
    )


def add_no_progress(parser: argparse.ArgumentParser) -> None:
    """Add the option that shows no bar."""
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add the option that shows more of an error."""
    parser.add_argument("-v", "--verbose", action="store_true", help="show where an error arose")


def fraction(text: str) -> Fraction:
    """Return what a text such as "1/2" says."""
    try:
        return Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError(text) from error  # which argparse explains


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add everything that `predict` can be asked for."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="FITS images of the same height and width; file.fits[SCI] for one HDU of many",
    )
    images = parser.add_argument_group("images")
    images.add_argument(
        "--bands",
        choices=BANDS,
        default="last",
        help="where the bands of inputs with three axes are (%(default)s)",
    )
    images.add_argument("--mask", metavar="FILE", help="image that marks bad pixels")
    add_mask_bits(images)
    images.add_argument(
        "--check-wcs",
        choices=CHECKS,
        default="warn",
        help="what to do if inputs show different sky (%(default)s)",
    )
    add_check_sky(images)
    add_check_sums(images)
    add_storage_options(images)
    add_prepare(images)
    add_grid_arguments(parser, batch_size=64)
    results = parser.add_argument_group("results")
    results.add_argument("--n-classes", type=int, metavar="N", help="classes of the model")
    results.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="names of the classes, in the model's order",
    )
    results.add_argument(
        "--aggregate",
        action="append",
        choices=[method.value for method in AGGREGATION_METHODS],
        help="what becomes of overlapping predictions; twice for both (rank_vote)",
    )
    results.add_argument(
        "--dilation",
        type=fraction,
        default=Fraction(1),
        metavar="F",
        help="output pixels per input pixel, as 2 or 1/2",
    )
    results.add_argument(
        "--fill-value",
        type=float,
        default=float("nan"),
        metavar="X",
        help="value of pixels that no prediction reached (nan)",
    )
    results.add_argument(
        "--output-dtype",
        choices=checks.OUTPUT_DTYPES,
        default="float32",
        help="type of the output pixels (%(default)s)",
    )
    add_sink(results, tuple(SINKS))
    add_products(results)
    results.add_argument("--out-dir", metavar="DIR", required=True, help="where the results go")
    results.add_argument("--overwrite", action="store_true", help="replace files that are there")
    results.add_argument("--resume", action="store_true", help="continue an interrupted run")
    add_worker_arguments(parser)
    parser.add_argument(
        "--strips", type=int, metavar="N", help="strips that the image is cut into for workers"
    )
    parser.add_argument(
        "--begin-only",
        action="store_true",
        help="print the number of strips, and leave them to run-strip and stitch",
    )
    parser.add_argument(
        "--rows-apart",
        action=argparse.BooleanOptionalAction,
        help="let strips keep rows in files of their own until all are finished (default: where\n"
        "other machines may write to --out-dir)",
    )
    parser.add_argument(
        "--parallel-check-interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="between two updates of the progress of workers (%(default)s)",
    )
    parser.add_argument(
        "--prefetch", type=int, metavar="N", help="batches that are read ahead of the model"
    )
    add_no_progress(parser)
    add_verbose(parser)


def add_sink(group: argparse._ActionsContainer, names: Sequence[str]) -> None:
    """Add the option that says what kind of files is written."""
    group.add_argument(
        "--sink",
        choices=names,
        default="fits",
        help="what kind of files is written (%(default)s)",
    )


def add_products(group: argparse._ActionsContainer) -> None:
    """Add the option that says what is kept."""
    group.add_argument(
        "--product",
        action="append",
        metavar="NAME",
        help=f"write this alone: {', '.join(KINDS)}, or one class as in mean:source;\n"
        "may be repeated; of two --aggregate say which is meant, class_map:mean_var",
    )
    group.add_argument(
        "--product-dtype",
        choices=PRODUCT_DTYPES,
        default="float32",
        help="type of products that are probabilities (%(default)s)",
    )


def add_check_sums(group: argparse._ActionsContainer) -> None:
    """Add the option that says what damaged files lead to."""
    group.add_argument(
        "--check-sums",
        choices=CHECKS,
        default="warn",
        help="what to do if CHECKSUM or DATASUM of a file does not hold (%(default)s)",
    )


def add_mask_bits(group: argparse._ActionsContainer) -> None:
    """Add the option that says which flags of a mask count."""
    group.add_argument(
        "--mask-bits",
        metavar="BITS",
        help='flags that mark bad pixels: "4,16", their sum "20", "~4" for all others, or planes\n'
        'that the header names by cards MP_..., "BAD|SAT"',
    )


def add_storage_options(group: argparse._ActionsContainer) -> None:
    """Add the option for addresses."""
    group.add_argument(
        "--storage-options",
        type=json.loads,
        metavar="JSON",
        help="what opens addresses such as s3://bucket/image.fits: '{\"anon\": true}'",
    )


def predict_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `predict`, but for the model."""
    return {
        **window_options(arguments),
        **worker_options(arguments),
        "model_inputs": arguments.inputs,
        "n_classes": class_count(arguments.n_classes, arguments.class_names),
        "dilation": arguments.dilation,
        "aggregate_method": arguments.aggregate or AGGREGATION_METHODS.RANK_VOTE,
        "out_dir": arguments.out_dir,
        "parallel_check_interval": arguments.parallel_check_interval,
        "fill_value": arguments.fill_value,
        "overwrite": arguments.overwrite,
        "resume": arguments.resume,
        "progress": not arguments.no_progress,
        "bands": arguments.bands,
        "mask": arguments.mask,
        "mask_bits": arguments.mask_bits,
        "check_wcs": arguments.check_wcs,
        "check_sky": arguments.check_sky,
        "check_sums": arguments.check_sums,
        "storage_options": arguments.storage_options,
        "prepare": prepare_of(arguments.prepare),
        "class_names": arguments.class_names,
        "output_dtype": arguments.output_dtype,
        "prefetch": arguments.prefetch,
        "strips": arguments.strips,
        "rows_apart": arguments.rows_apart,
        "patience": arguments.patience,
        "begin_only": arguments.begin_only,
        "sink": arguments.sink,
        "products": arguments.product,
        "product_dtype": arguments.product_dtype,
        "thresholds": thresholds_of(arguments.threshold or [0.5]),
    }


def class_count(n_classes: int | None, class_names: Sequence[str] | None) -> int:
    """Return how many classes there are, which their names say as well."""
    if n_classes is not None:
        return n_classes
    if class_names is None:
        raise InputError("--n-classes must say how many classes the model has, or --class-names")
    return len(class_names)


def worker_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what :func:`add_worker_arguments` asks for."""
    gpus = arguments.gpus
    if gpus is not None:
        gpus = [int(gpu) if gpu.isdecimal() else gpu for gpu in gpus]
    return {"cpus": arguments.cpus, "gpus": gpus, "threads": arguments.threads}


def thresholds_of(values: list[float]) -> Any:
    """Return one threshold for all classes, or a list of one per class."""
    return values[0] if len(values) == 1 else values
