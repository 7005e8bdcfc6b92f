"""Whether bands and classes have the names and the order that an estimator was trained with."""

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


def refuse_other_classes(model: Any, class_names: Sequence[str]) -> None:
    """Raise if classes are called as in training, but in another order.

    Nothing is said of other names, which may be better ones.

    Raises
    ------
    InputError
        If they are.
    """
    classifier = classifier_in(model)
    known = [str(name) for name in getattr(getattr(classifier, "estimator", None), "classes_", [])]
    if list(class_names) != known and sorted(class_names) == sorted(known):
        raise InputError(
            f"class_names must be in the order of the classes that the estimator was trained "
            f"with, {', '.join(known)}, got {', '.join(class_names)}; pass "
            f"class_names=list(estimator.classes_)"
        )


def names_of(model: Any) -> list[str] | None:
    """Return what bands were called in training, unless the user has said what they are."""
    classifier = classifier_in(model)
    if classifier is None or classifier.features is not None or classifier.named:
        return None
    known = getattr(classifier.estimator, "feature_names_in_", None)
    return None if known is None else [str(name) for name in known]


def classifier_in(model: Any) -> PixelClassifier | None:
    """Return the estimator that a model is, or that lies within models of models."""
    while model is not None and not isinstance(model, PixelClassifier):
        model = getattr(model, "__dict__", {}).get("model")
    return model


def features_in(image: Image, names: Sequence[str]) -> Iterator[str]:
    """Yield the names of features that are words of the name of a file and HDU."""
    if image.path is None:
        return
    text = image.path.name + image.name.removeprefix(str(image.path))
    for name in names:
        if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text, re.IGNORECASE):
            yield name
