"""How an output came about, as cards of its header."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from astropy.io import fits

from morpheus_core.fits.cards import quietly_mended
from morpheus_core.images.image import Image
from morpheus_core.images.prepared import PreparedImage
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.descriptions import model_digest, model_name
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model
from morpheus_core.version import __version__

#: Arguments of `predict` and the cards that keep them.
KEYWORDS = {
    "window_shape": "WINDOW",
    "stride": "STRIDE",
    "dilation": "DILATION",
    "edges": "EDGES",
    "padding": "PADDING",
    "update_map": "UPDATMAP",
    "nan_policy": "NANPOLIC",
    "fill_value": "FILLVAL",
    "skip_blank": "SKIPBLNK",
    "batch_size": "BATCHSIZ",
}
#: What a HISTORY card holds.
LINE = 72


def provenance_cards(job: Job, stack: ImageStack, model: Model | str) -> fits.Header:
    """Return cards that say which program made an output, of what, with which arguments.

    Parameters
    ----------
    job : Job
        What is computed.
    stack : ImageStack
        Of which images.
    model : callable or str
        With which model; only its name is kept, and the settings of an adapter.
    """
    cards = fits.Header()
    cards["CREATOR"] = (f"morpheus_core {__version__}", "the program that made this file")
    cards["MODEL"] = ascii_text(model_name(model))
    digest = model_digest(model)
    if digest is not None:
        cards["MODELSUM"] = (digest, "of its weights")
    parameters = job.parameters()
    for name, keyword in KEYWORDS.items():
        cards[keyword] = (as_card_value(parameters[name]), name)
    cards["BANDS"] = ("first" if stack.images[0].layout.bands_first else "last", "bands")
    if job.threads is not None:
        cards["THREADS"] = (job.threads, "of each process")
    masks = [] if stack.mask is None else stack.mask.parts
    if stack.mask is not None and stack.mask.bits is not None:
        cards["MASKBITS"] = (stack.mask.bits, "mask_bits, added up")
    for keyword, images in (("INPUT", stack.images), ("MASK", masks)):
        for key, name, digest in described(keyword, images):
            cards[key] = name
            if digest:
                cards[f"{keyword[:2]}SUM{key.removeprefix(keyword)}"] = (digest, "of its header")
    for index, image in enumerate(stack.images):
        if isinstance(image, PreparedImage):
            cards[f"PREPARE{index}"] = ascii_text(image.step)
    methods = " and ".join(parameters["aggregate_method"])
    history = (
        f"morpheus_core {__version__} ran the model on {len(stack.images)} image(s) in windows of "
        f"{as_card_value(parameters['window_shape'])} pixels and folded its predictions of "
        f"{job.n_classes} classes into {methods}."
    )
    for line in textwrap.wrap(history, LINE):
        cards["HISTORY"] = line
    return cards


def described(keyword: str, images: Sequence[Image]) -> Iterator[tuple[str, str, str | None]]:
    """Yield card, name and the digest of the header, if there is one, of each image."""
    for index, image in enumerate(map(as_given, images)):
        if image.path is None:
            height, width, bands = image.shape
            name = f"array of {height} x {width} x {bands} {image.dtype}"
        else:
            name = image.path.name + image.name.removeprefix(str(image.path))
        digest = None if image.header is None else digest_of(image.header)
        yield f"{keyword}{index}", ascii_text(name), digest


def as_given(image: Image) -> Image:
    """Return the image that was given, of one that is prepared."""
    return image.source if isinstance(image, PreparedImage) else image


def digest_of(header: fits.Header) -> str | None:
    """Return a checksum of a header's text, if that can be had."""
    try:
        with quietly_mended():
            text = header.tostring().encode()
    except Exception:  # astropy refuses to write cards that it has read
        return None
    return "sha256 " + hashlib.sha256(text).hexdigest()[:32]


def as_card_value(value: Any) -> bool | int | str:
    """Return an argument as the value of a card; shapes in numpy order, "40 x 40"."""
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "none" if value is None else value


def ascii_text(text: str) -> str:
    """Escape what a FITS header cannot hold."""
    return text.encode("unicode_escape").decode("ascii")
