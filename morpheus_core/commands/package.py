"""``morpheus-core model``: make, show and test a model package."""

from __future__ import annotations

import argparse
from typing import Any

from morpheus_core.commands.arguments import add_verbose
from morpheus_core.commands.models import add_model_arguments, fill_of, normalization
from morpheus_core.commands.windows import PAIR
from morpheus_core.errors import InputError
from morpheus_core.packages.creation import new_package
from morpheus_core.packages.package import load_package, read_description
from morpheus_core.packages.trial import check_package
from morpheus_core.pipeline.descriptions import model_digest

EXAMPLE = """examples:
  morpheus-core model new unet.zip --model unet.onnx --activation softmax --standardize \\
      --window 40 --bands h j v z --class-names spheroid disk irregular star sky \\
      --pixel-scale 0.06 --images h.fits j.fits v.fits z.fits
      pack a network, with a test whose windows are cut from these images

  morpheus-core model test unet.zip
      say by how much its answer differs on this machine
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "model",
        help="make, show or test a model package",
        description="Pack a network with what must be known to run it, or look at such a package.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="action", required=True)
    new = actions.add_parser("new", help="pack a network")
    add_new_arguments(new)
    show = actions.add_parser("show", help="print what a package says of itself")
    show.add_argument("package", metavar="PACKAGE", help="a folder with model.toml, or a zip file")
    show.set_defaults(run=run_show)
    test = actions.add_parser("test", help="compare its answer here with the stored one")
    test.add_argument("package", metavar="PACKAGE", help="a folder with model.toml, or a zip file")
    test.add_argument("--trust-pickle", action="store_true", help="run code that the package names")
    test.set_defaults(run=run_test)
    for action in (new, show, test):
        add_verbose(action)


def add_new_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a new package is made of."""
    parser.add_argument("package", metavar="PACKAGE", help="folder to make, or file ending in .zip")
    add_model_arguments(parser)
    group = parser.add_argument_group("description")
    group.add_argument("--name", help="what the package is called (the name of its file)")
    group.add_argument("--factory", metavar="MODULE:NAME", help="what makes a model of the weights")
    group.add_argument("--window", **PAIR, required=True, help="rows and columns of a window")
    group.add_argument("--crop", type=int, metavar="PIXELS", help="border that does not count")
    group.add_argument(
        "--keep-border",
        action="store_true",
        help="with --crop: but at the edge of the image, where no centre reaches",
    )
    group.add_argument("--batch-size", type=int, default=64, metavar="N", help="(%(default)s)")
    group.add_argument("--bands", nargs="+", metavar="NAME", required=True, help="in their order")
    group.add_argument(
        "--filters",
        nargs="+",
        metavar="NAME",
        help="what FILTER of images must say, one for each band (no header is compared)",
    )
    group.add_argument("--class-names", nargs="+", metavar="NAME", required=True)
    group.add_argument("--pixel-scale", type=float, metavar="ARCSEC", help="size of a pixel")
    group.add_argument("--images", nargs="+", metavar="FILE", help="what the test is cut from")
    parser.set_defaults(run=run_new)


def run_new(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.packages.new_package`."""
    package = new_package(
        arguments.package,
        arguments.model,
        description_of(arguments),
        arguments.images,
        trust_code=arguments.trust_pickle,
    )
    print(f"{package.path}  {model_digest(package)}")


def description_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what options say, as ``model.toml`` has it."""
    description = {
        "name": arguments.name or arguments.package.rpartition("/")[2].removesuffix(".zip"),
        "network": {
            "factory": arguments.factory,
            "channels": arguments.channels,
            "stack_inputs": False if arguments.separate_inputs else None,
            "fill_nan": fill_of(arguments.fill_nan),
            "activation": arguments.activation,
            "normalize": normalization(arguments),
        },
        "windows": {
            "shape": list(arguments.window),
            "batch_size": arguments.batch_size,
            "crop": arguments.crop,
            "keep_border": arguments.keep_border or None,
        },
        "bands": bands_of(arguments.bands, arguments.filters),
        "sky": {"pixel_scale": arguments.pixel_scale},
        "classes": {"names": arguments.class_names},
    }
    return {
        name: {key: one for key, one in value.items() if one is not None}
        if isinstance(value, dict)
        else value
        for name, value in description.items()
    }


def bands_of(names: list[str], filters: list[str] | None) -> list[dict[str, Any]]:
    """Return the tables of bands.

    Raises
    ------
    InputError
        If there is not one filter for each.
    """
    if filters is None:
        return [{"name": name} for name in names]
    if len(filters) != len(names):
        raise InputError(
            f"--filters must be one for each of the bands {' '.join(names)}, got "
            f"{' '.join(filters)}; model.toml may list several for one"
        )
    return [{"name": name, "filters": [one]} for name, one in zip(names, filters, strict=True)]


def run_show(arguments: argparse.Namespace) -> None:
    """Print ``model.toml``."""
    content, _ = read_description(arguments.package)
    print(content.decode())


def run_test(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.packages.check_package`."""
    package = load_package(arguments.package, trust_code=arguments.trust_pickle)
    outcome = check_package(package)
    print(
        f"{package.name}: {outcome.windows} windows, the answer differs by "
        f"{outcome.difference:.3g}, which may be {outcome.tolerance:g}"
    )
    print(f"MODELSUM {model_digest(package)}")
