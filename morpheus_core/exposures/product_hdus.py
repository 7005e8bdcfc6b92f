"""The products of one image as HDUs of the file of an exposure."""

from __future__ import annotations

import re
from pathlib import Path

from astropy.io import fits

from morpheus_core.fits.blocks import ImageUnit
from morpheus_core.results.image_files import GrowingFile, make_room
from morpheus_core.results.product_runs import ProductRun

#: Cards of products that stay with their pixels.
PRODUCT_CARDS = re.compile(
    r"BUNIT|PRODUCT|NODATA|BSCALE|BZERO|BLANK|MAXERROR|BIT\d+|THRESH\d+|CLASS\d+"
)


def add_products(
    path: Path, descriptor: int, run: ProductRun, cards: fits.Header, extension: bool
) -> None:
    """Write the products of one image to an empty file, each an HDU; the first as of masks."""
    units = []
    for place, (name, image) in enumerate(run.images.items()):
        own = [card for card in image.header.cards if PRODUCT_CARDS.fullmatch(card.keyword)]
        header = cards.copy()
        header.set("EXTNAME", f"{cards['EXTNAME']}_{name}" if "EXTNAME" in cards else name)
        header.extend(own, strip=False)
        if not extension and place == 0:
            header.remove("INHERIT", ignore_missing=True)
        units.append(ImageUnit(run.shape, image.dtype, header, extension or place > 0))
    file = GrowingFile(path, descriptor, make_room(path, descriptor, units))
    for block in run.blocks():
        for place, image in enumerate(run.images.values()):
            file.write(place, block.first, image.read(block.first, block.stop))
    file.seal()
