"""The masks of one exposure as a file with the same HDUs."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from morpheus_core.errors import InputError, ModelError, MorpheusWarning
from morpheus_core.exposures.class_masks import MaskFormat
from morpheus_core.exposures.files import Exposure
from morpheus_core.fits.blocks import FITS_BLOCK, ImageUnit, write_all, writing
from morpheus_core.images.expansion import expand
from morpheus_core.images.hdus import (
    NAMES,
    describe_hdu,
    find_hdu,
    is_image,
    least_end,
    open_without_map,
    quiet,
)
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.models import ROUNDING
from morpheus_core.results.exports import make_room, new_file
from morpheus_core.results.finished import Block, FinishedRun
from morpheus_core.results.outputs import Results, give_name, refuse_to_replace
from morpheus_core.results.provenance import ascii_text
from morpheus_core.sky.headers import with_planes

#: The name of a table that holds a compressed image; the image itself has none then.
COMPRESSED_IMAGE = "COMPRESSED_IMAGE"
#: Bytes that are copied at once.
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """How masks are made of an image.

    Attributes
    ----------
    predict : callable
        :func:`morpheus_core.predict`, which lacks only `model_inputs` and `out_dir`.
    model : str
        The name of the model.
    mask_format : MaskFormat
        What becomes of the results.
    """

    predict: Callable[..., Results]
    model: str
    mask_format: MaskFormat

    @contextmanager
    def run(self, image: Any, out_dir: Path) -> Iterator[FinishedRun]:
        """Predict an HDU, in a folder that is gone afterwards; a killed run may have left it."""
        shutil.rmtree(out_dir, ignore_errors=True)
        try:
            with warnings.catch_warnings():
                # Masks get their sky position from n, which keeps the distortion.
                warnings.filterwarnings("ignore", "the output gets a linear", MorpheusWarning)
                hduls, _ = self.predict(model_inputs=image, out_dir=out_dir)
            for hdul in hduls:
                hdul.close()
            with FinishedRun(out_dir) as run:
                yield run
        finally:
            shutil.rmtree(out_dir, ignore_errors=True)


def write_masks(exposure: Exposure, recipe: Recipe, overwrite: bool) -> None:
    """Write the masks of an exposure to a file that gets its name when it is complete.

    Raises
    ------
    MorpheusError
        If the exposure cannot be read or processed, or the file exists or cannot be written.
    """
    output = exposure.output
    refuse_to_replace([output], [exposure.path], overwrite)
    part = output.with_name(f"{output.name}.part")
    scratch = output.with_name(f".{output.name}.run")  # of one process, as the part is
    with opened(exposure.path) as (stored, hdus):
        chosen = choose(exposure, hdus)
        with writing(part):
            part.parent.mkdir(parents=True, exist_ok=True)
        with new_file(part, overwrite) as descriptor:
            for index in chosen:
                if is_plane(hdus[index]):
                    with recipe.run(hdus[index], scratch) as run:
                        cards = cards_of(hdus[index], run, recipe)
                        cards["INPUT0"] = ascii_text(f"{exposure.path.name}[{index}]")
                        add_masks(part, descriptor, run, recipe.mask_format, cards)
                else:
                    copy_hdu(stored, hdus[index], part, descriptor)
            with writing(part):
                os.fsync(descriptor)
    give_name(part, output, overwrite)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, fits.HDUList]]:
    """Open an exposure, unpacked if need be.

    Yields
    ------
    tuple of Path and HDUList
        Where it lies without compression of the whole file, and its HDUs.

    Raises
    ------
    InputError
        If it is damaged.
    """
    with ExitStack() as stack:
        try:
            scratch = expand(path)
            if scratch is not None:
                stack.callback(scratch.unlink, missing_ok=True)
            stored = scratch or path
            with quiet():
                hdus = stack.enter_context(open_without_map(stored))
                refuse_lost_hdus(stored, hdus)
        except InputError:
            raise
        except Exception as error:  # damaged headers raise half a dozen different classes
            raise InputError(f"it cannot be read as FITS: {error}") from error
        yield stored, hdus


def refuse_lost_hdus(path: Path, hdus: fits.HDUList) -> None:
    """Raise if the file ends too early, or goes on where astropy found no more HDUs."""
    length, end = path.stat().st_size, least_end(hdus[-1])
    if end > length:
        raise InputError(f"it is truncated: it has {length} bytes of at least {end}")
    with path.open("rb") as file:
        file.seek(end_of(hdus[-1]))
        if file.read(FITS_BLOCK).strip(b"\0 "):  # more than what fills up a tape
            raise InputError(f"it is damaged: what follows HDU {len(hdus) - 1} cannot be read")


def end_of(hdu: Any) -> int:
    """Return where the blocks of an HDU end in its file."""
    place = hdu.fileinfo()
    return int(place["datLoc"] + place["datSpan"])


def is_plane(hdu: Any) -> bool:
    """Say whether an HDU is an image of two dimensions, compressed or not."""
    return is_image(hdu) and len(hdu.shape) == 2 and all(hdu.shape)


def choose(exposure: Exposure, hdus: fits.HDUList) -> Sequence[int]:
    """Return which HDUs the masks will have.

    Raises
    ------
    InputError
        If there is no image of two dimensions among them.
    """
    planes = [index for index, hdu in enumerate(hdus) if is_plane(hdu)]
    candidates = ", ".join(map(describe_hdu, range(len(hdus)), hdus))
    if exposure.extension is None:
        if not planes:
            raise InputError(f"it must hold an image of two dimensions, got only {candidates}")
        return range(len(hdus))
    index = find_hdu(hdus, exposure.extension, str(exposure.path))
    if index not in planes:
        raise InputError(
            f"[{exposure.extension}] must be an image of two dimensions, got {candidates}"
        )
    return [index]


def copy_hdu(source: Path, hdu: Any, path: Path, descriptor: int) -> None:
    """Copy an HDU byte by byte behind what a file holds, and fill up its last block."""
    start, stop = hdu.fileinfo()["hdrLoc"], end_of(hdu)
    offset = os.fstat(descriptor).st_size - start
    with source.open("rb") as file, writing(path):
        os.ftruncate(descriptor, offset + stop)
        for first in range(start, stop, COPY_BYTES):
            file.seek(first)
            write_all(descriptor, file.read(min(COPY_BYTES, stop - first)), offset + first)


def cards_of(hdu: Any, run: FinishedRun, recipe: Recipe) -> fits.Header:
    """Return what is to be said of the masks of an image."""
    cards = fits.Header([hdu.header.cards[key] for key in NAMES if key in hdu.header])
    if cards.get("EXTNAME") == COMPRESSED_IMAGE:
        del cards["EXTNAME"]
    cards.extend(recipe.mask_format.cards())
    cards.extend(run.cards if recipe.mask_format.single else with_planes(run.cards))
    cards["MODEL"] = ascii_text(recipe.model)
    return cards


def add_masks(
    path: Path, descriptor: int, run: FinishedRun, mask_format: MaskFormat, cards: fits.Header
) -> None:
    """Write the masks of one image behind what a file holds, a few rows at a time."""
    extension = os.fstat(descriptor).st_size > 0
    if not extension:
        cards.remove("INHERIT", ignore_missing=True)  # there is nothing to inherit from
    unit = ImageUnit(mask_format.shape(run.shape), mask_format.dtype, cards, extension)
    (writer,) = make_room(path, descriptor, [unit])
    height, width = run.shape
    data_sum = 0
    for block in run.blocks():
        refuse_scores(block)
        for plane, pixels in enumerate(mask_format.planes(block)):
            first = (plane * height + block.first) * width
            data_sum += writer.write_at(first * unit.dtype.itemsize, pixels)
    writer.seal(data_sum)


def refuse_scores(block: Block) -> None:
    """Raise if means are no probabilities, which is what thresholds and priors are for."""
    means = block.shares(AGGREGATION_METHODS.MEAN_VAR)
    lowest, highest = np.nanmin(means, initial=0.0), np.nanmax(means, initial=1.0)
    if lowest < -ROUNDING or highest > 1 + ROUNDING:
        raise ModelError(
            f"masks need probabilities, from 0 to 1, got means from {lowest:.3g} to {highest:.3g}; "
            f'does the model lack an activation, "sigmoid" or "softmax"?'
        )
