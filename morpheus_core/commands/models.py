"""The model that a command is to run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from morpheus_core.errors import InputError


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model is meant."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODULE:FACTORY",
        help="the function without arguments that makes the model",
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load a model whose file may run any code; only if you know where it comes from",
    )


def load_model(name: str, trust_pickle: bool) -> str:
    """Return the model that a user named.

    Raises
    ------
    InputError
        If that is no model.
    """
    if name.count(":") != 1:
        raise InputError(f'--model must be "package.module:factory", got {name}')
    sys.path.insert(0, str(Path.cwd()))  # where `python -m` also looks for modules
    return name
