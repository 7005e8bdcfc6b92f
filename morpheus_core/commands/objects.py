"""``morpheus-core objects``."""

from __future__ import annotations

import argparse

from morpheus_core.commands.arguments import add_verbose
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.candidate_files import export_candidates, refuse_table
from morpheus_core.results.candidates import search_of
from morpheus_core.results.regions import CONNECTIVITIES
from morpheus_core.results.segments import export_segments

EXAMPLE = """example:
  morpheus-core objects results labels.fits --class-name lens --threshold 0.9 --table lenses.csv
      an image whose pixels hold the number of their object, and a table of the objects
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "objects",
        help="label the objects of a class in a finished run",
        description="Label the connected regions in which a class reaches a threshold.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", metavar="DIR", help="where predict has written its outputs")
    parser.add_argument("file", metavar="FILE", help="FITS file of labels to write")
    parser.add_argument("--class-name", required=True, metavar="NAME", help="the class")
    parser.add_argument(
        "--threshold", type=float, required=True, metavar="X", help="least probability of a pixel"
    )
    parser.add_argument(
        "--min-area", type=int, default=1, metavar="N", help="least pixels (%(default)s)"
    )
    parser.add_argument(
        "--connectivity",
        type=int,
        choices=list(CONNECTIVITIES),
        default=8,
        help="neighbours of a pixel (%(default)s)",
    )
    parser.add_argument(
        "--aggregate",
        choices=[str(method) for method in AGGREGATION_METHODS],
        help="which result, if the run has both",
    )
    parser.add_argument(
        "--table",
        metavar="FILE",
        help="write the table of objects as well: .csv, .ecsv, .fits, .parquet, .vot, or .reg for "
        "DS9",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files")
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.export_segments`."""
    if arguments.table is not None:
        refuse_table(arguments.table, arguments.overwrite)
    table = export_segments(
        arguments.out_dir,
        arguments.file,
        arguments.class_name,
        arguments.threshold,
        arguments.min_area,
        connectivity=arguments.connectivity,
        aggregate_method=arguments.aggregate,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.file}  {len(table)} objects{'' if len(table) else why_none(arguments)}")
    if arguments.table is not None:
        export_candidates(table, arguments.table, overwrite=arguments.overwrite)
        print(arguments.table)


def why_none(arguments: argparse.Namespace) -> str:
    """Say how far the class is from the threshold."""
    with search_of(
        arguments.out_dir,
        arguments.class_name,
        arguments.threshold,
        arguments.connectivity,
        arguments.aggregate,
    ) as search:
        return f"; the highest value of {arguments.class_name} is {search.highest():.4g}"
