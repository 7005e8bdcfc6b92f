"""``morpheus-core view``."""

from __future__ import annotations

import argparse
from pathlib import Path

from morpheus_core import checks
from morpheus_core.commands.arguments import add_verbose
from morpheus_core.images.image import BANDS
from morpheus_core.pictures.quicklook import save_quicklook
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS

EXAMPLE = """example:
  morpheus-core view results --image h.fits --picture look.png

to move about in it, in DS9 or in a browser, write its planes in Python:
  from morpheus_core import export_planes
  export_planes("results", "planes", files="one per plane", first_label=1)
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "view",
        help="draw a result as a picture",
        description="Draw the image, the class of each pixel, its dispersion, and n.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", metavar="DIR", help="where predict has written its outputs")
    parser.add_argument("--image", metavar="FILE", help="what the model saw, to be drawn as well")
    parser.add_argument(
        "--bands",
        choices=BANDS,
        default="last",
        help="where the bands of an image with three axes are (%(default)s)",
    )
    parser.add_argument(
        "--class-names", nargs="+", metavar="NAME", help="if the outputs do not name the classes"
    )
    parser.add_argument("--class-name", metavar="NAME", help="draw this class alone")
    parser.add_argument(
        "--aggregate",
        choices=[str(method) for method in AGGREGATION_METHODS],
        help="which result, if the run has both (mean_var)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=1000,
        metavar="N",
        help="the most rows and columns that are drawn (%(default)s)",
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="PNG, PDF or SVG file to write (default: quicklook.png in DIR)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the picture")
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.quicklook`."""
    path = checks.path("picture", arguments.picture or Path(arguments.out_dir) / "quicklook.png")
    save_quicklook(
        path,
        arguments.out_dir,
        arguments.image,
        overwrite=arguments.overwrite,
        class_names=arguments.class_names,
        bands=arguments.bands,
        max_pixels=arguments.max_pixels,
        class_name=arguments.class_name,
        aggregate_method=arguments.aggregate,
    )
    print(path)
