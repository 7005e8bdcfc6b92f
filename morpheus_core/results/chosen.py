"""Products as images, of which rows are made as soon as those of the result are finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import ModelError
from morpheus_core.fits.cards import commented
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import ROUNDING
from morpheus_core.results.blocks import Block, no_probabilities
from morpheus_core.results.choices import Choice, choice_of, images_of
from morpheus_core.results.planes import (
    Pixels,
    Plane,
    class_map,
    count,
    flags,
    of_class,
    plain,
    suffix_of,
)

ProductDtype = Literal["float32", "uint8", "int16"]
#: Integers that stand for real numbers: the highest, and the one of pixels without a result.
STORED = {"uint8": (254, 255), "int16": (32767, -1)}
#: How the pixels of products can be stored that are real numbers.
PRODUCT_DTYPES: tuple[ProductDtype, ...] = ("float32", "uint8", "int16")
#: Products of classes, by the end of their names.
SUFFIXES = {"mean": "MEAN", "variance": "VARIANCE", "std": "STD", "votes": "VOTE"}
#: What products can be at most, where predictions are probabilities; all others 1.
HIGHEST = {"variance": 0.25, "std": 0.5}


class ChosenPlane(NamedTuple):
    """One image of a product.

    Attributes
    ----------
    product : str
        The name of the product.
    plane : Plane
        The image.
    """

    product: str
    plane: Plane


def chosen_planes(job: Job) -> list[ChosenPlane]:
    """Return the images of the products of a job, in the order in which they were asked for."""
    names = job.names_of_classes
    choices = [choice_of(product, job.methods, names) for product in job.products or ()]
    return [
        ChosenPlane(str(choice), plane_of(image, job))
        for choice in choices
        for image in images_of(choice, names)
    ]


def row_maker(job: Job) -> Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]]:
    """Return what makes rows of the outputs of a job from finished rows.

    It takes one block per aggregate method, then n, (rows, width, ...), and returns one block per
    output.
    """
    if job.products is None:
        return lambda blocks: blocks
    planes = [plane for _, plane in chosen_planes(job)]

    def make(blocks: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        *results, n = blocks
        block = Block(0, dict(zip(job.methods, results, strict=True)), n)
        return [plane.pixels(block) for plane in planes]

    return make


def plane_of(image: Choice, job: Job) -> Plane:
    """Return one image of a product."""
    names, method, dtype = job.names_of_classes, image.method, np.dtype(job.output_dtype)
    if method is None:
        return count(dtype)
    suffix = suffix_of(method, job.methods)
    if image.kind == "class_map":
        return class_map(names, method, suffix, 0)
    if image.kind == "bits":
        return flags(names, method, dict(job.thresholds), suffix)
    if image.class_name is not None:
        plane = of_class(names, names.index(image.class_name), SUFFIXES[image.kind], dtype)
        if image.kind == "std":
            plane = replace(plane, pixels=roots(plane.pixels, job.fill_value))
    else:
        make = filled(DERIVED_PIXELS[image.kind], method, job.fill_value)
        plane = plain(f"{image.kind.upper()}{suffix}", make, dtype)
    if job.product_dtype == "float32":
        return plane
    most = math.log(max(2, job.n_classes))  # of entropies
    highest = most if image.kind == "entropy" else HIGHEST.get(image.kind, 1.0)
    return as_integers(plane, job.product_dtype, highest)


def top(block: Block, method: AGGREGATION_METHODS) -> Pixels:
    """Return the mean, or the share of votes, of the class that is highest."""
    return block.ranking(method).top


def margin(block: Block, method: AGGREGATION_METHODS) -> Pixels:
    """Return by how much the highest class is above the one that follows it."""
    ranking = block.ranking(method)
    above: Pixels = ranking.top - ranking.second
    return above


def entropy(block: Block, method: AGGREGATION_METHODS) -> Pixels:
    """Return the entropy of the classes' shares of their sum, in nats.

    See Shannon 1948, Bell System Technical Journal 27, 379.

    Raises
    ------
    ModelError
        If means are no probabilities.
    """
    shares = block.shares(method)
    complaint = no_probabilities(shares)
    if complaint is not None:
        raise ModelError(complaint)
    parts = np.clip(shares.astype(np.float64), 0, None)
    total = parts.sum(axis=-1, keepdims=True)
    parts = np.divide(parts, total, out=np.full_like(parts, np.nan), where=total > 0)
    logarithms = np.log(parts, out=np.zeros_like(parts), where=parts > 0)
    found: Pixels = -(parts * logarithms).sum(axis=-1)
    return found


DERIVED_PIXELS: dict[str, Callable[[Block, AGGREGATION_METHODS], Pixels]] = {
    "top": top,
    "margin": margin,
    "entropy": entropy,
}


def roots(variances: Callable[[Block], Pixels], fill_value: float) -> Callable[[Block], Pixels]:
    """Return standard deviations."""

    def pixels(block: Block) -> Pixels:
        found = np.sqrt(np.maximum(variances(block), 0))
        return np.where(block.n > 0, found, np.float32(fill_value))

    return pixels


def filled(
    make: Callable[[Block, AGGREGATION_METHODS], Pixels],
    method: AGGREGATION_METHODS,
    fill_value: float,
) -> Callable[[Block], Pixels]:
    """Let pixels without a result be NaN, or the fill value where no prediction came."""

    def pixels(block: Block) -> Pixels:
        with np.errstate(invalid="ignore"):
            found = np.where(block.ranking(method).known, make(block, method), np.nan)
        return (
            found
            if math.isnan(fill_value)
            else np.where(block.n > 0, found, np.float32(fill_value))
        )

    return pixels


def as_integers(plane: Plane, dtype: str, highest: float) -> Plane:
    """Return a plane of real numbers from 0 to `highest` as integers, by BSCALE.

    Raises
    ------
    ModelError
        While rows are made, if a number is another one.
    """
    last, blank = STORED[dtype]
    scale = highest / last
    cards = plane.cards.copy()
    cards["BSCALE"] = (scale, "pixels times this are what is meant")
    cards["BZERO"] = 0.0
    cards["BLANK"] = (blank, "pixels without a result")
    cards["MAXERROR"] = (scale / 2, "largest error by rounding")
    name, slack = cards["EXTNAME"], ROUNDING / scale

    def pixels(block: Block) -> Pixels:
        found = plane.pixels(block)
        whole = np.rint(found / scale)
        known = np.isfinite(whole)
        if not known.all():
            whole = np.where(known, whole, 0)
        lowest, most = whole.min(), whole.max()
        if lowest < -slack or most > last + slack:
            raise ModelError(
                f"product_dtype={dtype!r} holds values from 0 to {highest:.3g}, got "
                f"{found[known].min():.3g} to {found[known].max():.3g} for {name}; use "
                f'product_dtype="float32", unless the model lacks an activation, "sigmoid" or '
                f'"softmax"'
            )
        if lowest < 0 or most > last:
            whole = np.clip(whole, 0, last)
        return whole if known.all() else np.where(known, whole, blank)

    return Plane(np.dtype(dtype), cards, pixels)


def class_cards(class_names: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Return the cards that name the classes of a result."""
    return {
        f"CLASS{index}": commented(name, f"class of index {index}")
        for index, name in enumerate(class_names[: checks.MOST_CLASS_NAMES])
    }
