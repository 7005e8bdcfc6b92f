"""What a job produces: names, shapes and headers of the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from astropy.io import fits

from morpheus_core.fits.blocks import ImageUnit
from morpheus_core.fits.cards import Cards, commented, observation_cards
from morpheus_core.images.image import Image
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model
from morpheus_core.results.chosen import ChosenPlane, chosen_planes, class_cards
from morpheus_core.results.outputs import Product
from morpheus_core.results.provenance import provenance_cards
from morpheus_core.sky.headers import Sky, readable_wcs, sky_of

#: Every name that an output of any job without products can have.
OUTPUT_NAMES = ("output", *(f"output_{method}" for method in AGGREGATION_METHODS), "n")
#: The name of the file of products.
PRODUCTS_NAME = "products"
FILE_NAMES = (*OUTPUT_NAMES, PRODUCTS_NAME)


@dataclass(frozen=True, slots=True)
class Origin:
    """What the headers of all outputs of a job say alike.

    Attributes
    ----------
    sky : Sky
        Where their pixels are.
    observation : dict
        What was observed.
    provenance : Header
        How they came about.
    """

    sky: Sky = field(default_factory=Sky)
    observation: Cards = field(default_factory=dict)
    provenance: fits.Header = field(default_factory=fits.Header)


def origin_of(job: Job, stack: ImageStack, model: Model | str) -> Origin:
    """Return what the outputs inherit from the inputs, and how they come about."""
    provenance = provenance_cards(job, stack, model)
    source = source_of_header(stack.images)
    if source is None:
        return Origin(provenance=provenance)
    return Origin(
        sky_of(source.header, job.grid.dilation, source.layout.fits_axes),
        observation_cards(source.header, source.primary),
        provenance,
    )


def source_of_header(images: Sequence[Image]) -> Image | None:
    """Return the first image that knows its place on the sky, else the first with a header."""
    with_header = [image for image in images if image.header is not None]
    on_sky = (image for image in with_header if readable_wcs(image) is not None)
    return next(chain(on_sky, with_header), None)


def products_of(job: Job, origin: Origin) -> list[Product]:
    """Return one output per aggregate method, then n; or one per image of the chosen products."""
    shape, dtype = job.grid.output_shape, np.dtype(job.output_dtype)
    if job.products is not None:
        return [image_of(chosen, job, origin) for chosen in chosen_planes(job)]
    products = []
    for method, aggregator in zip(job.methods, job.aggregators, strict=True):
        name = "output" if len(job.methods) == 1 else f"output_{method}"
        cards = origin.sky.cards(aggregator.axes)
        cards["EXTNAME"] = method.upper()
        cards["BUNIT"] = ("", "no unit")
        for index, class_name in enumerate(job.class_names):
            cards[f"CLASS{index}"] = commented(class_name, f"class of index {index}")
        shape_of_all = (*shape, *aggregator.result_shape(job.n_classes))
        products.append(Product(name, make_unit(shape_of_all, dtype, cards, origin)))
    cards = origin.sky.cards({})
    cards["EXTNAME"] = "N"
    cards["BUNIT"] = ("count", "predictions, or the sum of their weights")
    return [*products, Product("n", make_unit(shape, dtype, cards, origin))]


def image_of(chosen: ChosenPlane, job: Job, origin: Origin) -> Product:
    """Describe an image of a product, which says all that must be known to read it."""
    plane, cards = chosen.plane, chosen.plane.cards.copy()
    cards["PRODUCT"] = commented(chosen.product, "what was asked for")
    for key, value in class_cards(job.names_of_classes).items():
        if key not in cards:
            cards[key] = value
    cards.extend(origin.sky.cards({}))
    unit = make_unit(job.grid.output_shape, plane.dtype, cards, origin, extension=True)
    return Product(cards["EXTNAME"], unit, PRODUCTS_NAME, chosen.product)


def make_unit(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    cards: fits.Header,
    origin: Origin,
    extension: bool = False,
) -> ImageUnit:
    """Complete the cards of an output and describe it."""
    for key, value in origin.observation.items():
        if key not in cards:
            cards[key] = value
    cards.extend(origin.provenance)
    return ImageUnit(shape, dtype, cards, extension, summed=True)
