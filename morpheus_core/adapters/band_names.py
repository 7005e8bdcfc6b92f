"""Whether images come in the order in which an estimator was trained with their bands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from morpheus_core.adapters.sklearn import PixelClassifier
from morpheus_core.errors import InputError
from morpheus_core.images.image import Image


def refuse_other_order(model: Any, images: Sequence[Image]) -> None:
    """Raise if names of files say that bands are in another order.

    That is so where each name holds, as a word, one name of a feature, and no other has the same.
    Nothing is said of models that know no names, or whose user has named the bands.

    Raises
    ------
    InputError
        If they are.
    """
    names = names_of(model)
    if names is None or len(names) != len(images) or any(one.shape[2] != 1 for one in images):
        return
    found = [list(features_in(image, names)) for image in images]
    if any(len(one) != 1 for one in found):
        return
    order = [name for (name,) in found]
    if order != names and len(set(order)) == len(order):
        raise InputError(
            f"model_inputs must be in the order of the features that the estimator was trained "
            f"with, {', '.join(names)}, got {', '.join(order)} by the names of the files; if these "
            f"mean something else, pass sklearn_model(estimator, band_names=[...])"
        )


def names_of(model: Any) -> list[str] | None:
    """Return what bands were called in training, also of an estimator within models of models."""
    while model is not None:
        if isinstance(model, PixelClassifier):
            known = getattr(model.estimator, "feature_names_in_", None)
            asked = model.features is None and not model.named
            return [str(name) for name in known] if asked and known is not None else None
        model = getattr(model, "__dict__", {}).get("model")
    return None


def features_in(image: Image, names: Sequence[str]) -> Iterator[str]:
    """Yield the names of features that are words of the name of a file and HDU."""
    if image.path is None:
        return
    text = image.path.name + image.name.removeprefix(str(image.path))
    for name in names:
        if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text, re.IGNORECASE):
            yield name
