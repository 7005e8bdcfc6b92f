"""``morpheus-core predict`` and ``morpheus-core plan``, which take the same arguments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from morpheus_core.commands.arguments import (
    add_predict_arguments,
    class_count,
    predict_options,
    thresholds_of,
)
from morpheus_core.commands.executors import add_executor_argument, open_executor
from morpheus_core.commands.models import add_model_arguments, complete, load_model
from morpheus_core.commands.records import RECORD, compare_inputs, write_record
from morpheus_core.commands.requests import add_config
from morpheus_core.errors import InputError
from morpheus_core.images.hdus import split_extension
from morpheus_core.morpheus_core import predict
from morpheus_core.planning.forecast import plan
from morpheus_core.results.exports import export_masks, export_planes
from morpheus_core.results.image_files import refuse_export
from morpheus_core.results.planes import checked_thresholds
from morpheus_core.storage.paths import at_home
from morpheus_core.workspace.folders import Workspace

EXAMPLE = """examples:
  morpheus-core predict h.fits j.fits v.fits z.fits --model net.onnx --activation softmax \\
      --class-names spheroid disk irregular "point source" background --window 40 40 \\
      --aggregate mean_var --aggregate rank_vote --cpus 4 --out-dir results
      write output_mean_var.fits, output_rank_vote.fits and n.fits, with four processes

  morpheus-core predict field.fits --model mynetwork:make --n-classes 2 --window 256 --stride 128 \\
      --padding reflect --out-dir results --masks masks.fits --threshold 0.9
      also write where each class reaches a probability of 0.9
"""
PLAN_EXAMPLE = """example:
  morpheus-core plan h.fits j.fits v.fits z.fits --model net.onnx --n-classes 5 --window 40 40 \\
      --cpus 4 --out-dir results
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    predict = commands.add_parser(
        "predict",
        help="classify every pixel of images and write FITS files",
        description="Slide a window over images, let a model score it, and write statistics of\n"
        "the overlapping predictions of each pixel.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(predict)
    predict.set_defaults(run=run_predict)

    plan = commands.add_parser(
        "plan",
        help="say what predict would do and take",
        description="Take the arguments of predict, try the model for a moment, and say what the\n"
        "run would do and take: windows, coverage, disk, memory, time. Nothing is written\n"
        "to --out-dir; --resume is planned as a whole run.",
        epilog=PLAN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(plan)
    plan.add_argument("--json", action="store_true", help="print numbers as JSON, not a table")
    plan.set_defaults(run=run_plan)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both commands take."""
    add_model_arguments(parser)
    add_predict_arguments(parser)
    add_executor_argument(parser)
    add_config(parser)
    exports = parser.add_argument_group("one image per result")
    exports.add_argument("--planes", metavar="FILE", help="write all results as 2-D images as well")
    exports.add_argument("--masks", metavar="FILE", help="write where classes reach a threshold")
    exports.add_argument(
        "--threshold",
        type=float,
        nargs="+",
        metavar="X",
        help="one, or one per class, for --masks and --product bits",
    )


def run_predict(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.predict`, then to the exports that are asked for."""
    complete(arguments)
    refuse_exports(arguments)
    inputs = images_of(arguments)
    compare_inputs(arguments, inputs)
    with open_executor(arguments) as executor:
        model = load_model(arguments)
        hduls, arrays = predict(model, **predict_options(arguments), executor=executor)
    out_dir = Path(at_home(arguments.out_dir))
    outputs = [hdul.filename() for hdul in hduls]
    if arguments.begin_only:
        print(len(Workspace(out_dir).load().strips))
    print_results(hduls, arrays)
    write_record(arguments, out_dir / RECORD, inputs, outputs)
    if arguments.begin_only:
        return
    if arguments.planes is not None:
        export_planes(arguments.out_dir, arguments.planes, overwrite=arguments.overwrite)
        print(arguments.planes)
    if arguments.masks is not None:
        export_masks(
            arguments.out_dir,
            arguments.masks,
            thresholds_of(arguments.threshold),
            overwrite=arguments.overwrite,
        )
        print(arguments.masks)


def print_results(hduls: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Print what a run has made, and close it."""
    for hdul in hduls:
        for hdu in hdul:
            if hdu.shape:
                print(f"{hdul.filename()}  {hdu.name}  {hdu.shape}")
        hdul.close()
    for array in [] if hduls else arrays:
        print(f"{array.store.root}  {array.basename}  {array.shape}")


def refuse_exports(arguments: argparse.Namespace) -> None:
    """Raise before the run if its exports could not be written after it.

    Raises
    ------
    InputError
        If options do not go together, or thresholds do not fit the classes.
    OutputError
        If a file cannot be made, is in the way, or is one that is read.
    """
    if arguments.begin_only and (arguments.masks is not None or arguments.planes is not None):
        raise InputError(
            "--begin-only makes no results; call export_masks or export_planes after stitch"
        )
    flags = any(product.startswith("bits") for product in arguments.product or ())
    if arguments.threshold is None and (arguments.masks is not None or flags):
        raise InputError("--masks and --product bits need --threshold, got none")
    if arguments.threshold is not None and arguments.masks is None and not flags:
        raise InputError("--threshold needs --masks or --product bits, got neither")
    if arguments.masks is not None:
        if len(arguments.aggregate or [""]) > 1:
            raise InputError("--masks needs a single --aggregate, got two")
        n_classes = class_count(arguments.n_classes, arguments.class_names)
        checked_thresholds(thresholds_of(arguments.threshold), [""] * n_classes)
    named = [path for path in (arguments.planes, arguments.masks) if path is not None]
    exports = [Path(at_home(path)) for path in named]
    if len({path.resolve() for path in exports}) < len(exports):
        raise InputError(f"--planes and --masks must be two files, got {exports[0]} for both")
    for path in exports:
        out_dir = Path(at_home(arguments.out_dir))
        refuse_export(out_dir, path, files_read(arguments), arguments.overwrite)


def images_of(arguments: argparse.Namespace) -> list[str]:
    """Return the images and the mask, as they were named."""
    return [*arguments.inputs, *([] if arguments.mask is None else [arguments.mask])]


def files_read(arguments: argparse.Namespace) -> list[Path]:
    """Return the files that the run reads, as far as they exist."""
    paths = [split_extension(image)[0] for image in images_of(arguments)]
    others = (arguments.model, arguments.update_map or "")
    paths += [Path(at_home(name)) for name in others]
    return [path for path in paths if path.is_file()]


def run_plan(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.plan`."""
    complete(arguments)
    refuse_exports(arguments)
    with open_executor(arguments) as executor:
        forecast = plan(load_model(arguments), **predict_options(arguments), executor=executor)
    print(json.dumps(asdict(forecast), indent=2) if arguments.json else forecast)
