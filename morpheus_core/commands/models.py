"""The model that a command is to run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from morpheus_core import adapters
from morpheus_core.adapters.activations import ACTIVATIONS
from morpheus_core.adapters.preparation import CHANNELS
from morpheus_core.errors import InputError
from morpheus_core.packages.package import is_package, load_package, read_description
from morpheus_core.packages.schema import Normalization
from morpheus_core.pipeline.models import Model

#: What the numbers of an option of pairs are, in turn.
PAIRED = {"min_max": ("min_pixel", "max_pixel"), "z_score": ("mean", "std")}


class Pairs(argparse.Action):
    """Takes two numbers, or two for each band."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store a list."""
        assert isinstance(values, list)
        if len(values) % 2:
            parser.error(f"{option_string} must be two numbers, or two per band, got {len(values)}")
        setattr(namespace, self.dest, values)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model is meant, and what is done around it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=True,
        metavar="FILE|MODULE:FACTORY",
        help="net.onnx, net.pt2, net.pt (TorchScript), net.keras, model.pkl, a model package, or "
        "the function without arguments that makes the model",
    )
    group.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load a pickle, which may run any code; only if you know where it comes from",
    )
    group.add_argument("--channels", choices=CHANNELS, help="where the network has its bands")
    group.add_argument(
        "--separate-inputs", action="store_true", help="give the network one tensor per image"
    )
    group.add_argument(
        "--fill-nan",
        nargs="+",
        metavar="X|median",
        help="replace NaN by a number, one for all bands or one for each, or by the median of its\n"
        "band in its window",
    )
    normalize = group.add_mutually_exclusive_group()
    normalize.add_argument(
        "--min-max",
        type=float,
        nargs="+",
        action=Pairs,
        metavar=("MIN MAX", "MIN MAX"),
        help="scale to 0 ... 1 and clip; two numbers, or two for each band",
    )
    normalize.add_argument(
        "--z-score",
        type=float,
        nargs="+",
        action=Pairs,
        metavar=("MEAN STD", "MEAN STD"),
        help="subtract mean, divide by standard deviation, of the images of the training; two\n"
        "numbers, or two for each band",
    )
    normalize.add_argument(
        "--standardize",
        action="store_true",
        help="subtract mean, divide by standard deviation, of each window",
    )
    group.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), help="makes probabilities of scores"
    )


def complete(arguments: argparse.Namespace, *, needs_window: bool = True) -> None:
    """Fill in options that were left out: as a model package says, or with what is usual.

    Without `needs_window`, windows may be as large as the images.

    Raises
    ------
    InputError
        If one is needed, and there is no package.
    """
    if is_package(arguments.model):
        _, card = read_description(arguments.model)
        names = list(card.classes.names)
        arguments.window = arguments.window or card.windows.shape
        arguments.batch_size = arguments.batch_size or card.windows.batch_size
        if getattr(arguments, "keep_border", False) and arguments.crop is None:
            arguments.crop = card.windows.crop
        if arguments.class_names is None and arguments.n_classes in (None, len(names)):
            arguments.class_names = names
    if arguments.window is None and needs_window:
        raise InputError("--window must say how large windows are, unless a model package does")
    if arguments.batch_size is None:
        arguments.batch_size = arguments.usual_batch_size


def load_model(arguments: argparse.Namespace) -> Model | str:
    """Return the model that a user named.

    Raises
    ------
    InputError
        If that is no model, or an option does not go with it.
    """
    options = adapter_options(arguments)
    if is_package(arguments.model):
        if options:
            raise InputError(f"a model package says itself what its {', '.join(options)} is")
        return load_package(arguments.model, trust_code=arguments.trust_pickle)
    model = adapters.load_model(arguments.model, trust_pickle=arguments.trust_pickle, **options)
    if isinstance(model, str):  # it is "module:factory"
        look_here()
    return model


def look_here() -> None:
    """Look for modules of models in the folder of this process, as `python -m` also does."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def adapter_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of an adapter that were given."""
    options = {
        "channels": arguments.channels,
        "fill_nan": fill_of(arguments.fill_nan),
        "activation": arguments.activation,
        "stack_inputs": False if arguments.separate_inputs else None,
        "normalize": None,
    }
    scaling = normalization(arguments)
    if scaling is not None:
        options["normalize"] = Normalization(**scaling).make()
    return {name: value for name, value in options.items() if value is not None}


def normalization(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return how pixels are to be scaled, as ``model.toml`` has it."""
    if arguments.standardize:
        return {"kind": "standardize"}
    for kind, (first, second) in PAIRED.items():
        pairs = getattr(arguments, kind)
        if pairs is not None:
            return {"kind": kind, first: pairs[::2], second: pairs[1::2]}
    return None


def fill_of(words: list[str] | None) -> list[float] | str | None:
    """Return numbers, or the word that stands for one."""
    if words is None:
        return None
    if words == ["median"]:
        return "median"
    try:
        return [float(word) for word in words]
    except ValueError:
        raise InputError(
            f"--fill-nan must be one number, one per band, or median, got {' '.join(words)}"
        ) from None
