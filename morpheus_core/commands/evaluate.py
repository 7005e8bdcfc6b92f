"""``morpheus-core evaluate``."""

from __future__ import annotations

import argparse
from typing import Any

from morpheus_core import checks
from morpheus_core.commands.arguments import add_verbose
from morpheus_core.errors import InputError
from morpheus_core.evaluation.evaluate import evaluate
from morpheus_core.evaluation.reports import PixelEvaluation
from morpheus_core.evaluation.strata import BORDER
from morpheus_core.extras import require_package
from morpheus_core.pictures.quicklook import save_figure
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.outputs import refuse_to_replace
from morpheus_core.results.table_files import table_format

EXAMPLE = """examples:
  morpheus-core evaluate results truth.fits --out metrics.ecsv --picture metrics.png
      compare the pixels of a finished run with an image of labels
  morpheus-core evaluate results truth.fits --strata border --edges 0 20 40 1000
      the same by the distance to the border
  morpheus-core evaluate candidates.ecsv catalog.csv --match-radius 1 --strata mag --edges 18 20 22
      completeness and purity of objects, within an arcsecond, by magnitude
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        help="compare a result with what is known to be true",
        description="Say how good the pixels of a finished run are, or the objects found in it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results",
        metavar="DIR|TABLE",
        help="where predict has written its outputs; with --match-radius a table of objects",
    )
    parser.add_argument(
        "truth",
        nargs="+",
        metavar="FILE",
        help="labels, or planes, one per class; with --match-radius a catalogue",
    )
    parser.add_argument(
        "--match-radius",
        type=float,
        metavar="X",
        help="compare objects that are so close, in arcseconds, or in pixels of x and y",
    )
    parser.add_argument("--weights", metavar="FILE", help="how much each pixel counts")
    parser.add_argument("--mask", metavar="FILE", help="not zero where a pixel is left out")
    parser.add_argument(
        "--strata",
        metavar="FILE|COLUMN|border",
        help="metrics also by intervals of this: an image, a column, the distance to the border",
    )
    parser.add_argument(
        "--edges", type=float, nargs="+", metavar="X", help="ends of the intervals of --strata"
    )
    parser.add_argument(
        "--class-names", nargs="+", metavar="NAME", help="if the outputs do not name the classes"
    )
    parser.add_argument(
        "--aggregate",
        choices=[str(method) for method in AGGREGATION_METHODS],
        help="which result, if the run has both",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="table to write: .csv, .ecsv, .fits, .hdf5 or .parquet"
    )
    parser.add_argument("--picture", metavar="FILE", help="PNG, PDF or SVG file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the files")
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.evaluate`."""
    out, picture = (
        None if value is None else checks.path(name, value)
        for name, value in (("out", arguments.out), ("picture", arguments.picture))
    )
    if out is not None:
        table_format(out, "out")
    if picture is not None:
        require_package("matplotlib", "plot", "--picture")
    places = [path for path in (out, picture) if path is not None]
    refuse_to_replace(places, [], arguments.overwrite)
    truth = arguments.truth
    evaluation = evaluate(
        arguments.results,
        truth[0] if len(truth) == 1 else truth,
        class_names=arguments.class_names,
        weights=arguments.weights,
        mask=arguments.mask,
        strata=strata_of(arguments),
        match_radius=arguments.match_radius,
        aggregate_method=arguments.aggregate,
    )
    if isinstance(evaluation, PixelEvaluation):
        print("\n".join(evaluation.overall.pformat(max_lines=-1, max_width=-1)), end="\n\n")
    print("\n".join(evaluation.table.pformat(max_lines=-1, max_width=-1)))
    if out is not None:
        evaluation.write(out, overwrite=arguments.overwrite)
        print(out)
    if picture is not None:
        save_figure(evaluation.plot(), picture)
        print(picture)


def strata_of(arguments: argparse.Namespace) -> tuple[Any, list[float]] | None:
    """Return values and edges of intervals, which need each other."""
    if arguments.strata is None and arguments.edges is None:
        return None
    if arguments.strata is None or arguments.edges is None:
        raise InputError(
            f"--strata and --edges need each other, as in --strata {BORDER} --edges 0 20 100"
        )
    return arguments.strata, arguments.edges
