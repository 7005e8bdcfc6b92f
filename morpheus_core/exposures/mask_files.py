"""The masks of one exposure as a file with the same HDUs."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astropy.io import fits

from morpheus_core.errors import InputError, ModelError, MorpheusError, MorpheusWarning
from morpheus_core.exposures.class_masks import MaskFormat
from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.hdu_choice import HduChoice, is_plane, planes_of
from morpheus_core.exposures.product_hdus import add_products
from morpheus_core.fits.blocks import FITS_BLOCK, ImageUnit, write_all, writing
from morpheus_core.images.expansion import expand
from morpheus_core.images.hdus import (
    NAMES,
    least_end,
    open_without_map,
    quiet,
)
from morpheus_core.images.sources import StoredHdu
from morpheus_core.morpheus_core import results_of
from morpheus_core.parallel.pieces import OnSteps
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.nan_policy import OnSpread
from morpheus_core.preparation import Arguments
from morpheus_core.results.blocks import Block, no_probabilities
from morpheus_core.results.finished import FinishedRun
from morpheus_core.results.image_files import make_room, new_file
from morpheus_core.results.product_runs import ProductRun
from morpheus_core.results.products import PRODUCTS_NAME
from morpheus_core.results.provenance import ascii_text
from morpheus_core.results.stored_images import TILES
from morpheus_core.results.tile_files import append_tiles
from morpheus_core.results.verification import refuse_differences, starts_between
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
    arguments : Arguments
        Of :func:`morpheus_core.predict`, but for `model_inputs`, `mask` and `out_dir`.
    model : str
        The name of the model.
    mask_format : MaskFormat
        What becomes of the results.
    choice : HduChoice
        Of which images, and where their bad pixels are marked.
    """

    arguments: Arguments
    model: str
    mask_format: MaskFormat
    choice: HduChoice

    @contextmanager
    def run(
        self,
        image: StoredHdu,
        mask: StoredHdu | None,
        out_dir: Path,
        on_windows: OnSteps,
        on_spread: OnSpread,
    ) -> Iterator[FinishedRun | ProductRun]:
        """Predict an HDU, in a folder that is gone afterwards; a killed run may have left it."""
        shutil.rmtree(out_dir, ignore_errors=True)
        try:
            with warnings.catch_warnings():
                # Masks get their sky position from n, which keeps the distortion.
                warnings.filterwarnings("ignore", "the output gets a linear", MorpheusWarning)
                asked = replace(self.arguments, model_inputs=image, mask=mask, out_dir=out_dir)
                hduls, _ = results_of(asked, on_windows, on_spread)
            for hdul in hduls:
                hdul.close()
            kept = out_dir / f"{PRODUCTS_NAME}.fits"
            products = self.arguments.products is not None
            with ProductRun(kept, scaled=False) if products else FinishedRun(out_dir) as run:
                yield run
        finally:
            shutil.rmtree(out_dir, ignore_errors=True)


def write_masks(
    exposure: Exposure,
    indices: Sequence[int] | None,
    recipe: Recipe,
    folder: Path,
    on_windows: OnSteps,
    on_spread: OnSpread,
) -> None:
    """Write the masks of some HDUs of an exposure, each to a file of its own in a folder.

    Parameters
    ----------
    exposure : Exposure
        The file.
    indices : sequence of int or None
        The HDUs; all of which masks are made by default.
    recipe : Recipe
        How masks are made.
    folder : Path
        Where the files go.
    on_windows : callable
        Told how many windows were just finished.
    on_spread : callable
        Told, of each HDU, how many of how many windows were spoilt by NaN.

    Raises
    ------
    MorpheusError
        If the exposure cannot be read or processed, or the files cannot be written.
    """
    with opened(exposure.path, folder) as (stored, hdus):
        chosen = recipe.choice.chosen(exposure, hdus)
        for index in planes_of(hdus, chosen) if indices is None else indices:
            path = masks_path(folder, index)
            path.unlink(missing_ok=True)  # of a process that was killed
            image, marks = (
                StoredHdu(exposure.path, index, stored),
                recipe.choice.mask_of(hdus, index),
            )
            mask = None if marks is None else replace(image, index=marks)
            with (
                named(exposure, hdus[index], index),
                recipe.run(image, mask, folder / "run", on_windows, on_spread) as run,
                new_file(path, overwrite=False) as descriptor,
            ):
                cards = cards_of(hdus[index], run, recipe)
                extension = index != chosen[0]
                if isinstance(run, ProductRun):
                    add_products(path, descriptor, run, cards, extension)
                else:
                    add_masks(path, descriptor, run, recipe.mask_format, cards, extension)
                with writing(path):
                    os.fsync(descriptor)


@contextmanager
def named(exposure: Exposure, hdu: Any, index: int) -> Iterator[None]:
    """Let errors say of which HDU they are."""
    try:
        yield
    except MorpheusError as error:
        name = hdu.name if hdu.name not in ("", "PRIMARY", COMPRESSED_IMAGE) else index
        version = f",{hdu.ver}" if hdu.ver != 1 and name != index else ""
        place = f"exposure {exposure.path}[{name}{version}]"
        raise type(error)(f"{place}: {error}") from error


def assemble(
    exposure: Exposure, choice: HduChoice, folders: Sequence[Path], overwrite: bool
) -> Path:
    """Write a file with the HDUs of an exposure, in which masks take the place of images.

    Parameters
    ----------
    exposure : Exposure
        The file.
    choice : HduChoice
        Of which images there are masks.
    folders : sequence of Path
        Where :func:`write_masks` has put its masks.
    overwrite : bool
        Whether what a killed process has left of such a file is replaced.

    Returns
    -------
    Path
        The complete file, which has not got its name.

    Raises
    ------
    MorpheusError
        If the exposure cannot be read, or the file cannot be written.
    """
    part = exposure.output.with_name(f"{exposure.output.name}.part")
    with opened(exposure.path) as (stored, hdus):
        with writing(part):
            part.parent.mkdir(parents=True, exist_ok=True)
        computed: list[int] = []
        in_tiles = part.name.endswith(f"{TILES}.part")
        with new_file(part, overwrite) as descriptor:
            for index in choice.chosen(exposure, hdus):
                if is_plane(hdus[index]):
                    masks = next(filter(Path.exists, (masks_path(f, index) for f in folders)))
                    if in_tiles:
                        computed += append_tiles(part, descriptor, masks)
                        continue
                    first = os.fstat(descriptor).st_size
                    append(masks, 0, masks.stat().st_size, part, descriptor)
                    computed += starts_between(part, first, os.fstat(descriptor).st_size)
                else:
                    start, stop = hdus[index].fileinfo()["hdrLoc"], end_of(hdus[index])
                    append(stored, start, stop, part, descriptor)
            with writing(part):
                os.fsync(descriptor)
            refuse_differences(part, computed)
    return part


def masks_path(folder: Path, index: int) -> Path:
    """Return where the masks of an HDU are until their file is assembled."""
    return folder / f"masks{index}"


@contextmanager
def opened(path: Path, folder: Path | None = None) -> Iterator[tuple[Path, fits.HDUList]]:
    """Open an exposure, unpacked if need be.

    Parameters
    ----------
    path : Path
        The file.
    folder : Path, optional
        Where it is unpacked; the folder for temporary files by default. A worker may be killed,
        and only what is in the folders of a run is then removed with it.

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
            scratch = expand(path, folder)
            if scratch is not None:
                stack.callback(scratch.unlink, missing_ok=True)
            stored = scratch or path
            with quiet():
                hdus = stack.enter_context(open_without_map(stored, scaled=True))
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


def append(source: Path, start: int, stop: int, path: Path, descriptor: int) -> None:
    """Copy bytes of whole HDUs behind what a file holds, and fill up its last block."""
    offset = os.fstat(descriptor).st_size - start
    with source.open("rb") as file, writing(path):
        os.ftruncate(descriptor, offset + stop)
        for first in range(start, stop, COPY_BYTES):
            file.seek(first)
            write_all(descriptor, file.read(min(COPY_BYTES, stop - first)), offset + first)


def cards_of(hdu: Any, run: FinishedRun | ProductRun, recipe: Recipe) -> fits.Header:
    """Return what is to be said of the masks of an image."""
    cards = fits.Header([hdu.header.cards[key] for key in NAMES if key in hdu.header])
    if cards.get("EXTNAME") == COMPRESSED_IMAGE:
        del cards["EXTNAME"]
    if isinstance(run, ProductRun):
        cards.extend(run.cards)
    else:
        cards.extend(recipe.mask_format.cards())
        cards.extend(run.cards if recipe.mask_format.single else with_planes(run.cards))
    cards["MODEL"] = ascii_text(recipe.model)
    return cards


def add_masks(
    path: Path,
    descriptor: int,
    run: FinishedRun,
    mask_format: MaskFormat,
    cards: fits.Header,
    extension: bool,
) -> None:
    """Write the masks of one image to an empty file, a few rows at a time.

    They are the first HDU of the file that they will be in, or an extension.
    """
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
    complaint = no_probabilities(block.shares(AGGREGATION_METHODS.MEAN_VAR))
    if complaint is not None:
        raise ModelError(complaint)
