"""What users call the products of a run: images that it makes in place of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS

#: Products that have an image for each class, and the aggregate method that gives them.
OF_CLASSES = {
    "mean": AGGREGATION_METHODS.MEAN_VAR,
    "variance": AGGREGATION_METHODS.MEAN_VAR,
    "std": AGGREGATION_METHODS.MEAN_VAR,
    "votes": AGGREGATION_METHODS.RANK_VOTE,
}
#: Products that are made of all classes, of either method.
DERIVED = ("class_map", "top", "margin", "entropy", "bits")
KINDS = (*OF_CLASSES, "n", *DERIVED)


@dataclass(frozen=True, slots=True)
class Choice:
    """A product that is asked for.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    method : AGGREGATION_METHODS or None
        Of what it is made; None for n.
    class_name : str or None
        The only class that is wanted.
    """

    kind: str
    method: AGGREGATION_METHODS | None = None
    class_name: str | None = None

    def __str__(self) -> str:
        detail = self.method if self.kind in DERIVED else self.class_name
        return self.kind if detail is None else f"{self.kind}:{detail}"


def checked_products(
    products: Any, methods: Sequence[AGGREGATION_METHODS], class_names: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the full names of the products that are asked for; see :func:`choice_of`.

    Raises
    ------
    InputError
        If one is unknown or asked for twice, or the methods do not give it.
    """
    if products is None:
        return None
    if not isinstance(products, (list, tuple)) or not products:
        raise InputError(
            f'products must be a list of names, as in ["class_map", "top"], got {products!r}'
        )
    choices = [choice_of(product, methods, class_names) for product in products]
    images = [image for choice in choices for image in images_of(choice, class_names)]
    for image in images:
        if images.count(image) > 1:
            raise InputError(f"products must differ, got {image} more than once in {products!r}")
    return tuple(map(str, choices))


def choice_of(
    product: Any, methods: Sequence[AGGREGATION_METHODS], class_names: Sequence[str]
) -> Choice:
    """Return what is meant by "mean", "mean:source", ("mean", "source") or "top:mean_var"."""
    parts = tuple(product.split(":", 1)) if isinstance(product, str) else product
    if (
        not isinstance(parts, tuple)
        or not 1 <= len(parts) <= 2
        or not all(isinstance(part, str) for part in parts)
        or parts[0] not in KINDS
    ):
        kinds = ", ".join(map(repr, KINDS))
        raise InputError(f"a product must be one of {kinds}, got {product!r}")
    kind, *details = parts
    if kind in OF_CLASSES:
        method = OF_CLASSES[kind]
        if method not in methods:
            raise refusal(product, methods, method)
        for name in details:
            checks.one_of(f"the class of {product!r}", name, class_names)
        return Choice(kind, method, *details)
    if kind == "n":
        if details:
            raise InputError(f"the product n is of all classes, got {product!r}")
        return Choice(kind)
    if kind == "margin" and len(class_names) < 2:
        raise InputError("the product margin is between two classes, got a model of one")
    if not details and len(methods) > 1:
        raise InputError(
            f"a product of a run with both methods must say of which it is, as in "
            f"'{kind}:{methods[0]}', got {product!r}"
        )
    asked = details[0] if details else methods[0]
    known = [str(method) for method in AGGREGATION_METHODS]
    method = AGGREGATION_METHODS(checks.one_of(f"the method of {product!r}", asked, known))
    if method not in methods:
        raise refusal(product, methods, method)
    return Choice(kind, method)


def refusal(
    product: Any, methods: Sequence[AGGREGATION_METHODS], needed: AGGREGATION_METHODS
) -> InputError:
    """Return the error for a product that the methods do not give."""
    return InputError(
        f"the product {product!r} needs aggregate_method={str(needed)!r}, got "
        f"{' and '.join(map(repr, map(str, methods)))}"
    )


def images_of(choice: Choice, class_names: Sequence[str]) -> list[Choice]:
    """Return the images of a product, one for each class of those that have several."""
    if choice.kind in OF_CLASSES and choice.class_name is None:
        return [replace(choice, class_name=name) for name in class_names]
    return [choice]
