"""``morpheus-core map``."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from morpheus_core.commands.arguments import (
    add_check_sky,
    add_check_sums,
    add_mask_bits,
    add_no_progress,
    add_products,
    add_sink,
    add_verbose,
    add_worker_arguments,
    class_count,
    worker_options,
)
from morpheus_core.commands.executors import add_executor_argument, open_executor
from morpheus_core.commands.models import add_model_arguments, complete, load_model
from morpheus_core.commands.preparing import add_prepare, prepare_of
from morpheus_core.commands.records import RECORD, compare_inputs, write_record
from morpheus_core.commands.requests import add_config
from morpheus_core.commands.windows import add_grid_arguments, window_options
from morpheus_core.errors import InputError, MorpheusError
from morpheus_core.exposures import class_tables
from morpheus_core.exposures.arguments import default_class_names
from morpheus_core.exposures.mapping import MASK_SINKS, map_exposures
from morpheus_core.exposures.run import Outcome
from morpheus_core.progress import write_line
from morpheus_core.results.blocks import THRESHOLD_RULES

EXAMPLE = """examples:
  morpheus-core map night1 --model mynetwork:make --class-names CR SKY \\
      --window 400 400 --stride 200 200 --crop 100 --keep-border --thresholds 0.9 0.5
      write night1/*.masks.fits, with the same HDUs, for all FITS files in night1 and below

  morpheus-core map 'a.fits[3]' b.fits.fz --model mynetwork:make --class-names CR SKY \\
      --window 400 400 --stride 200 200 --single-mask --out-dir masks
      write masks/a.masks3.fits and masks/b.masks.fits, one image of flags for each image

  morpheus-core map night1 --hdu SCI --mask DQ --mask-bits 1,256 --model mynetwork:make \\
      --class-names CR SKY --window 400 --stride 200 --out-dir masks
      leave VAR and DQ out, and let pixels that DQ flags have no result

  morpheus-core map night1 --model maximask_network:make --prepare maximask_network:normalize \\
      --class-names CR SKY --window 400 --stride 200 --crop 100 --keep-border \\
      --thresholds classes.thresh --threshold-rule '>'
      do what MaxiMask does: prepare each whole image by a function, keep the borders of windows at
      its edge, and mask what is above a threshold

Numbers of classes are in the order of --class-names. In place of them a file may be named that
has a line for each class, in any order: its name, blanks, and a value.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "map",
        help="write masks of the classes in exposures, files of many images each",
        description="Run a model over each image of two dimensions in each file, and write files\n"
        "with the same HDUs, in which masks of the classes take the place of the images.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FILE|DIRECTORY",
        help="FITS files, file.fits[HDU] for one HDU, or directories with all that is below",
    )
    add_hdu_arguments(parser)
    add_model_arguments(parser)
    add_grid_arguments(parser, batch_size=8)
    add_check_sky(parser)
    add_class_arguments(parser)
    add_worker_arguments(parser)
    add_executor_argument(parser)
    add_config(parser)
    add_products(parser)
    add_output_arguments(parser)
    add_check_sums(parser)
    add_no_progress(parser)
    add_verbose(parser)
    parser.set_defaults(run=run)


def add_hdu_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose images of files, and their bad pixels."""
    group = parser.add_argument_group("images")
    group.add_argument(
        "--hdu",
        nargs="+",
        metavar="HDU",
        help="make masks of these alone: SCI, SCI,2, CCD* (in quotes), or numbers; other images,\n"
        "as VAR and DQ, are left out",
    )
    group.add_argument(
        "--mask", metavar="HDU", help="what marks bad pixels, as DQ: that of the image's EXTVER"
    )
    add_mask_bits(group)
    add_prepare(group)


def add_class_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what is written of which classes."""
    parser.add_argument("--n-classes", type=int, metavar="N", help="classes of the model")
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="the classes of the model, in its order (class_0, class_1, ...)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME|FILE",
        help="the classes that are wanted, or a file: 1 for classes that are, 0 for others",
    )
    parser.add_argument(
        "--priors",
        nargs="+",
        metavar="X|FILE",
        help="the share of pixels of each class that is expected",
    )
    parser.add_argument(
        "--trained-priors",
        nargs="+",
        metavar="X|FILE",
        help="the share that it had in training",
    )
    written = parser.add_mutually_exclusive_group()
    written.add_argument(
        "--thresholds",
        nargs="+",
        metavar="X|FILE",
        help="masks are 1 where probabilities are at least this, one number for all classes or\n"
        "one for each (0.5)",
    )
    parser.add_argument(
        "--threshold-rule",
        choices=tuple(THRESHOLD_RULES),
        default=">=",
        help="whether masks hold what equals the threshold, or as '>' only what is above it (>=)",
    )
    written.add_argument(
        "--probabilities", action="store_true", help="write probabilities, not masks"
    )
    parser.add_argument(
        "--single-mask", action="store_true", help="write one image whose bits are the masks"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide where masks go."""
    parser.add_argument(
        "--out-dir", metavar="DIR", help="where masks go (default: beside the exposures)"
    )
    add_sink(parser, MASK_SINKS)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace masks that are there, and remove what a killed run left of them",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run over the same paths; needs --out-dir or --work-dir",
    )
    parser.add_argument(
        "--work-dir", metavar="DIR", help="where finished images are kept until their file is"
    )


def run(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.exposures.mapping.map_exposures`.

    Raises
    ------
    MorpheusError
        If a file has no masks, once the others have theirs.
    """

    def report(outcome: Outcome) -> None:
        write_line(f"{outcome.source} -> {outcome.output or 'failed'}")
        if outcome.error is not None and arguments.verbose:
            traceback.print_exception(outcome.error)

    complete(arguments)
    compare_inputs(arguments)
    with open_executor(arguments) as executor:
        model = load_model(arguments)
        outcomes = map_exposures(model, **map_options(arguments), executor=executor, on_file=report)
    made = {one.source: one.output for one in outcomes if one.output is not None}
    if made:
        place = arguments.out_dir or next(iter(made.values())).parent
        write_record(arguments, Path(place).expanduser() / RECORD, made, made.values())
    failed = [f"  {one.source}: {one.error}" for one in outcomes if one.error is not None]
    if failed:
        raise MorpheusError(
            "\n".join([f"{len(failed)} of {len(outcomes)} files have no masks", *failed])
        )


def map_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `map_exposures`, but for the model."""
    return {
        **window_options(arguments),
        **worker_options(arguments),
        **class_options(arguments),
        "paths": arguments.paths,
        "n_classes": class_count(arguments.n_classes, arguments.class_names),
        "class_names": arguments.class_names,
        "threshold_rule": arguments.threshold_rule,
        "single_mask": arguments.single_mask,
        "hdus": arguments.hdu,
        "mask": arguments.mask,
        "mask_bits": arguments.mask_bits,
        "prepare": prepare_of(arguments.prepare),
        "check_sky": arguments.check_sky,
        "check_sums": arguments.check_sums,
        "out_dir": arguments.out_dir,
        "overwrite": arguments.overwrite,
        "resume": arguments.resume,
        "work_dir": arguments.work_dir,
        "patience": arguments.patience,
        "sink": arguments.sink,
        "products": arguments.product,
        "product_dtype": arguments.product_dtype,
        "progress": not arguments.no_progress,
    }


def class_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is written of which classes."""
    names = arguments.class_names or default_class_names(
        class_count(arguments.n_classes, arguments.class_names)
    )
    limits = values_of("--thresholds", arguments.thresholds, class_tables.read_thresholds, names)
    if limits is None:
        limits = None if arguments.probabilities else [0.5]
    return {
        "classes": wanted_classes(arguments.classes, names),
        "priors": values_of("--priors", arguments.priors, class_tables.read_priors, names),
        "trained_priors": values_of(
            "--trained-priors", arguments.trained_priors, class_tables.read_priors, names
        ),
        "thresholds": limits[0] if limits is not None and len(limits) == 1 else limits,
    }


def wanted_classes(words: list[str] | None, names: Sequence[str]) -> list[str] | None:
    """Return classes that are named, or those that a file wants."""
    if words is None or len(words) > 1 or words[0] in names:
        return words
    return class_tables.read_wanted_classes(words[0], names)


def values_of(
    option: str,
    words: list[str] | None,
    read: Callable[[str, Sequence[str]], list[float]],
    names: Sequence[str],
) -> Any:
    """Return numbers that are given, or those of a file.

    Raises
    ------
    InputError
        If it is neither.
    """
    if words is None:
        return None
    try:
        return [float(word) for word in words]
    except ValueError:
        if len(words) == 1 and Path(words[0]).expanduser().exists():
            return read(words[0], names)
    raise InputError(
        f"{option} must be numbers, one per class, or a text file, got {' '.join(words)}"
    )
