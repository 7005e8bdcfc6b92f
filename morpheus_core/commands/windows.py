"""Options that decide what the model sees, and which of its predictions count."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np

from morpheus_core import checks, update_maps
from morpheus_core.errors import InputError
from morpheus_core.pipeline.nan_policy import NAN_POLICIES, ON_NAN
from morpheus_core.windows.grid import EDGES, PADDINGS


class Pair(argparse.Action):
    """Takes one number for rows and columns, or one for each."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store a tuple of two."""
        assert isinstance(values, list)
        if len(values) > 2:
            parser.error(f"{option_string} must be one number or two, got {len(values)}")
        setattr(namespace, self.dest, (values[0], values[-1]))


#: What an option is that takes two numbers.
PAIR: dict[str, Any] = {"type": int, "nargs": "+", "action": Pair, "metavar": "PIXELS"}


def add_windows(parser: argparse.ArgumentParser, batch_size: int) -> argparse._ArgumentGroup:
    """Add the options of windows of whatever kind, and return their group.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command.
    batch_size : int
        What is usual, where neither the user nor a model package says.
    """
    group = parser.add_argument_group("windows")
    group.add_argument("--window", **PAIR, help="rows and columns of a window")
    group.add_argument(
        "--batch-size",
        type=size_or_auto,
        metavar="N",
        help=f"the most windows that the model gets at once, or auto ({batch_size})",
    )
    parser.set_defaults(usual_batch_size=batch_size)
    return group


def add_edges(
    group: argparse._ArgumentGroup, choices: Sequence[str], default: str, edges: str, padding: str
) -> None:
    """Add the options of borders, which these texts explain."""
    group.add_argument("--edges", choices=choices, default=default, help=f"{edges} (%(default)s)")
    group.add_argument("--padding", choices=PADDINGS, help=padding)


def add_grid_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Add the options of windows that slide over an image."""
    group = add_windows(parser, batch_size)
    add_edges(
        group,
        EDGES,
        "cover",
        "what to do where the stride does not divide the image",
        "continue images beyond their borders",
    )
    group.add_argument(
        "--stride",
        **PAIR,
        default=(1, 1),
        help="rows and columns between neighbouring windows (1)",
    )
    weights = group.add_mutually_exclusive_group()
    weights.add_argument(
        "--crop", type=int, metavar="PIXELS", help="border of each prediction that does not count"
    )
    group.add_argument(
        "--keep-border",
        action="store_true",
        help="with --crop: let the border count where no centre of a window reaches, at the\n"
        "edge of the image, which needs no padding then",
    )
    weights.add_argument(
        "--update-map",
        metavar="gaussian|hann|FILE.npy",
        help="weights of the pixels of each prediction",
    )
    group.add_argument(
        "--nan-policy",
        choices=NAN_POLICIES,
        default="propagate",
        help="what a prediction that is not finite does (%(default)s)",
    )
    group.add_argument(
        "--on-nan",
        choices=ON_NAN,
        default="warn",
        help="what to do if NaN of the images spreads in what the model says (%(default)s)",
    )
    group.add_argument(
        "--skip-blank", action="store_true", help="leave out windows that hold nothing but NaN"
    )


def size_or_auto(text: str) -> int | str:
    """Return a number, or the word that asks for one."""
    return text if text == "auto" else int(text)


def window_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what :func:`add_window_arguments` asks for."""
    return {
        "window_shape": arguments.window,
        "stride": arguments.stride,
        "batch_size": arguments.batch_size,
        "edges": arguments.edges,
        "padding": arguments.padding,
        "update_map": update_map(arguments),
        "nan_policy": arguments.nan_policy,
        "on_nan": arguments.on_nan,
        "skip_blank": arguments.skip_blank,
    }


def update_map(arguments: argparse.Namespace) -> Any:
    """Return the map that is named, of the size of a prediction."""
    dilation = checks.positive_fraction("dilation", getattr(arguments, "dilation", 1))
    height, width = checks.positive_pair("window_shape", arguments.window)
    shape = math.ceil(height * dilation), math.ceil(width * dilation)
    keeps = arguments.keep_border
    if keeps and arguments.crop is None:
        raise InputError("--keep-border needs --crop, which says how wide the border is")
    if arguments.crop is not None:
        return update_maps.centre_crop(shape, arguments.crop, keep_border=keeps)
    named = {"gaussian": update_maps.gaussian, "hann": update_maps.hann}
    if arguments.update_map is None or arguments.update_map in named:
        return named[arguments.update_map](shape) if arguments.update_map else None
    try:
        path = checks.path("update_map", arguments.update_map)
        with path.open("rb") as file:  # which np.load may leave open
            return np.load(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(
            f"--update-map must be gaussian, hann or a file of numpy.save, got "
            f"{arguments.update_map}: {error}"
        ) from error
