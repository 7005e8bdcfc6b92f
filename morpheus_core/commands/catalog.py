"""``morpheus-core catalog``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from morpheus_core import checks, columns
from morpheus_core.catalogs.arguments import CATALOG_DTYPES
from morpheus_core.catalogs.cutouts import RESIZES
from morpheus_core.catalogs.prediction import predict_catalog
from morpheus_core.catalogs.windows import CATALOG_EDGES
from morpheus_core.catalogs.work import CATALOG_ON_NAN
from morpheus_core.commands.arguments import (
    add_check_sky,
    add_check_sums,
    add_no_progress,
    add_storage_options,
    add_verbose,
    add_worker_arguments,
    class_count,
    worker_options,
)
from morpheus_core.commands.executors import add_executor_argument, open_executor
from morpheus_core.commands.models import add_model_arguments, complete, load_model
from morpheus_core.commands.records import RECORD, compare_inputs, write_record
from morpheus_core.commands.requests import add_config
from morpheus_core.commands.windows import add_edges, add_windows
from morpheus_core.errors import InputError
from morpheus_core.results.table_files import with_texts

#: Columns by their names, and what makes those that need the value of each class.
OF_CLASSES = ("classes", "argmax", "top", "entropy", "vector")
OF_BINS: dict[str, Callable[[Any], columns.Derived]] = {
    "expected_value": columns.expected_value,
    "std": columns.std,
    "mode": columns.mode,
    "odds": columns.odds,
}
EXAMPLE = """examples:
  morpheus-core catalog mosaic_g.fits mosaic_r.fits --catalog sources.csv --model net.onnx \\
      --class-names star galaxy --window 32 --columns classes argmax --out classes.csv
      ask about the window around each RA, DEC of the table

  morpheus-core catalog galaxies/ --model zoo.onnx --class-names P_EL P_CW P_ACW --out votes.csv
      ask about each picture of a folder

  morpheus-core catalog 'frame-{band}-{run:06d}-{camcol}-{field:04d}.fits.bz2' --bands u g r i z \\
      --catalog galaxies.fits --model photoz.pt2 --n-classes 180 --window 64 \\
      --columns expected_value std q0.16 q0.84 --bin-centres bins.txt --out photoz.parquet
      cut windows from the frames that each row names
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "catalog",
        help="ask a model about each position of a catalogue, and write a table",
        description="Cut a window around each position of a table, let a model score it, and write "
        "the\ntable with the answers.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE|TEMPLATE|FOLDER",
        help="images of all rows, or names with columns of the table in braces; without --catalog\n"
        "cut-outs: folders, patterns or files (.jpg, .png, .tif, FITS), or an array (.npy, .npz)",
    )
    parser.add_argument(
        "--catalog",
        metavar="TABLE",
        help=".csv, .ecsv, .fits, .xml or .parquet (a row for each cut-out)",
    )
    parser.add_argument(
        "--id",
        nargs="+",
        dest="ids",
        metavar="ID",
        help="what rows of cut-outs are called (as files)",
    )
    add_model_arguments(parser)
    add_position_arguments(parser)
    add_check_sky(parser)
    add_window_arguments(parser)
    add_table_arguments(parser)
    add_check_sums(parser)
    add_storage_options(parser)
    add_worker_arguments(parser)
    add_executor_argument(parser)
    add_config(parser)
    parser.add_argument(
        "--prefetch", type=int, metavar="N", help="batches that are read ahead of the model"
    )
    add_no_progress(parser)
    add_verbose(parser)
    parser.set_defaults(run=run)


def add_position_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the windows are."""
    group = parser.add_argument_group("positions")
    for name in ("ra", "dec", "x", "y"):
        group.add_argument(f"--{name}", metavar="COLUMN", help=f"column of {name}, if not {name}")
    group.add_argument(
        "--origin",
        type=int,
        choices=(0, 1),
        help="what x and y are at the centre of the first pixel (1 for columns of SExtractor and\n"
        "gnuastro, else 0)",
    )
    group.add_argument(
        "--bands",
        nargs="+",
        default=["last"],
        metavar="BAND",
        help="last or first, where bands of cubes are; or what {band} of a template stands for",
    )


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what the model sees."""
    group = add_windows(parser, batch_size=64)
    add_edges(
        group,
        CATALOG_EDGES,
        "shift",
        "what becomes of windows that reach beyond an image",
        "how --edges pad continues an image",
    )
    group.add_argument(
        "--resize",
        choices=RESIZES,
        help="average cut-outs of another size than the window, or crop them to their middle",
    )
    group.add_argument(
        "--on-nan",
        choices=CATALOG_ON_NAN,
        default="warn",
        help="what to do if NaN of windows spoils the answers of their rows (%(default)s)",
    )
    group.add_argument(
        "--aperture",
        type=float,
        metavar="PIXELS",
        help="average scores of pixels up to so far from the position",
    )


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what is written."""
    group = parser.add_argument_group("table")
    group.add_argument(
        "--out",
        metavar="FILE",
        help=".csv, .ecsv, .fits, .hdf5 or .parquet (text like .csv on the screen)",
    )
    group.add_argument("--n-classes", type=int, metavar="N", help="classes of the model")
    group.add_argument("--class-names", nargs="+", metavar="NAME", help="names of the classes")
    group.add_argument(
        "--columns",
        nargs="+",
        metavar="COLUMN",
        help="classes, argmax, top, entropy, vector; of bins also expected_value, std, mode, odds\n"
        "and quantiles, as q0.16 (classes)",
    )
    group.add_argument(
        "--bin-centres", metavar="FILE", help="the value of each class, as text or .npy"
    )
    group.add_argument("--keep", nargs="+", metavar="COLUMN", help="columns of the catalogue (all)")
    group.add_argument(
        "--output-dtype",
        choices=CATALOG_DTYPES,
        default="float32",
        help="type of the answers (%(default)s); float16 is for a vector",
    )
    group.add_argument(
        "--work-dir", metavar="DIR", help="where finished rows are kept (FILE.morpheus)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace a table that is there")
    group.add_argument("--resume", action="store_true", help="continue an interrupted run")


def run(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.predict_catalog`."""
    complete(arguments, needs_window=arguments.catalog is not None)
    inputs = [name for name in (arguments.catalog, *arguments.inputs) if name is not None]
    compare_inputs(arguments, inputs)
    with open_executor(arguments) as executor:
        model = load_model(arguments)
        table = predict_catalog(model, **catalog_options(arguments), executor=executor)
    if arguments.out is None:
        with_texts(table).write(sys.stdout, format="ascii.csv")
        return
    ok = int(np.count_nonzero(table["status"] == "ok"))
    print(f"{arguments.out}  {len(table)} rows, {ok} of them with an answer")
    out = Path(arguments.out).expanduser()
    write_record(arguments, out.with_name(f"{out.name}.{RECORD}"), inputs, [out])


def catalog_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `predict_catalog`, but for the model."""
    bands = arguments.bands
    return {
        **worker_options(arguments),
        "model_inputs": arguments.inputs,
        "catalog": arguments.catalog,
        "n_classes": class_count(arguments.n_classes, arguments.class_names),
        "batch_size": arguments.batch_size,
        "window_shape": arguments.window,
        "out": arguments.out,
        "ra": arguments.ra,
        "dec": arguments.dec,
        "x": arguments.x,
        "y": arguments.y,
        "origin": arguments.origin,
        "bands": bands[0] if bands in (["last"], ["first"]) else bands,
        "edges": arguments.edges,
        "padding": arguments.padding,
        "resize": arguments.resize,
        "aperture": arguments.aperture,
        "columns": wanted_columns(arguments.columns, arguments.bin_centres),
        "class_names": arguments.class_names,
        "keep": arguments.keep,
        "ids": arguments.ids,
        "output_dtype": arguments.output_dtype,
        "work_dir": arguments.work_dir,
        "resume": arguments.resume,
        "overwrite": arguments.overwrite,
        "progress": not arguments.no_progress,
        "prefetch": arguments.prefetch,
        "check_sky": arguments.check_sky,
        "check_sums": arguments.check_sums,
        "patience": arguments.patience,
        "storage_options": arguments.storage_options,
        "on_nan": arguments.on_nan,
    }


def wanted_columns(names: list[str] | None, bins: str | None) -> list[str | columns.Derived] | None:
    """Return columns by their names, of which some need the centres of bins.

    Raises
    ------
    InputError
        If they are not given, or cannot be read.
    """
    if names is None:
        return None
    centres = None if bins is None else read_centres(bins)
    return [column_of(name, centres) for name in names]


def column_of(name: str, centres: Any) -> str | columns.Derived:
    """Return a column by its name."""
    share = re.fullmatch(r"q([0-9.]+)", name)
    known = [*OF_CLASSES, *OF_BINS]
    if name not in known and share is None:
        raise InputError(f"--columns must be of {', '.join(known)} and q0.16, got {name}")
    if name == "vector" and centres is not None:
        return columns.vector(centres)
    if name in OF_CLASSES:
        return name
    if centres is None:
        raise InputError(f"--columns {name} needs --bin-centres, the value of each class")
    if share is not None:
        return columns.quantiles(float(share[1]), bin_centres=centres)
    return OF_BINS[name](centres)


def read_centres(name: str) -> Any:
    """Return the numbers of a file."""
    path = checks.path("bin_centres", name)
    try:
        return np.load(path) if path.suffix == ".npy" else np.loadtxt(path, ndmin=1)
    except (OSError, ValueError) as error:
        raise InputError(f"--bin-centres must be a file of numbers, got {name}: {error}") from error
