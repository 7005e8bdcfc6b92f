"""The option that prepares whole images."""

from __future__ import annotations

import argparse
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from morpheus_core.commands.models import look_here
from morpheus_core.errors import InputError
from morpheus_core.images.preparing_steps import Preparing, checked_preparing
from morpheus_core.preparing import GlobalMedian, MeshBackground, Percentiles

#: Ready ones by their names, with the numbers that may follow.
READY: dict[str, tuple[Callable[..., Preparing], tuple[str, ...]]] = {
    "mesh": (MeshBackground, ("box",)),
    "median": (GlobalMedian, ()),
    "percentiles": (Percentiles, ("low", "high")),
}


def add_prepare(group: argparse._ActionsContainer) -> None:
    """Add the option."""
    group.add_argument(
        "--prepare",
        nargs="+",
        metavar="STEP",
        help="what is done to each whole image first: mesh [BOX], median, percentiles [LOW HIGH],\n"
        "or module:name of a function of the image or of what has fit and apply",
    )


def prepare_of(words: Sequence[str] | None) -> Preparing | None:
    """Return the step that is named.

    Raises
    ------
    InputError
        If there is none of that name, or numbers do not go with it.
    """
    if words is None:
        return None
    name, *numbers = words
    if ":" in name and not numbers:
        return checked_preparing(imported(name))
    make, takes = READY.get(name, (None, ()))
    if make is None or len(numbers) not in (0, len(takes)):
        known = ", ".join(" ".join([one, *most]) for one, (_, most) in READY.items())
        raise InputError(f"--prepare must be {known} or module:name, got {' '.join(words)}")
    return make(**dict(zip(takes, map(number, numbers), strict=False)))


def number(word: str) -> float:
    """Return a number, a whole one where it is one."""
    try:
        return int(word) if word.isdecimal() else float(word)
    except ValueError:
        raise InputError(f"--prepare must have numbers behind its name, got {word}") from None


def imported(name: str) -> Any:
    """Return what a module has under a name; a class is called."""
    look_here()
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        return found() if inspect.isclass(found) else found
    except Exception as error:
        raise InputError(
            f"--prepare {name} cannot be used: {type(error).__name__}: {error}"
        ) from error
