"""What a package says, in place of arguments that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morpheus_core import checks, update_maps
from morpheus_core.errors import InputError
from morpheus_core.packages.package import card_of
from morpheus_core.packages.schema import Card

#: Arguments that a model without a package needs.
NEEDED = ("n_classes", "batch_size", "window_shape")


def filled(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments, those that are None as the model's package says.

    Parameters
    ----------
    model : callable
        Perhaps of a package.
    given : mapping
        Arguments by name: those that any model needs, and perhaps others that packages know.

    Raises
    ------
    InputError
        If one that is needed is left out, and there is no package.
    """
    card = card_of(model)
    if card is None:
        missing = [name for name in NEEDED if given[name] is None]
        if missing:
            raise InputError(
                f"{', '.join(missing)} must be given: only a model package says what they are"
            )
        return dict(given)
    told = said(card, given)
    return {name: told.get(name) if value is None else value for name, value in given.items()}


def said(card: Card, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a package says, by the names of arguments."""
    names, own = card.classes.names, len(card.classes.names)
    told: dict[str, Any] = {
        "n_classes": own,
        "batch_size": card.windows.batch_size,
        "window_shape": card.windows.shape,
    }
    if given["n_classes"] in (None, own):
        told["class_names"] = names
    if card.windows.crop is not None and "update_map" in given:
        shape = given["window_shape"] or card.windows.shape
        told["update_map"] = update_maps.centre_crop(
            checks.positive_pair("window_shape", shape),
            card.windows.crop,
            keep_border=bool(card.windows.keep_border),
        )
    return told
