"""What users pass as images and masks → one stack of equally large images, read row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from astropy.io import fits

from morpheus_core.errors import InputError
from morpheus_core.images.fits_images import FitsImage
from morpheus_core.images.image import ArrayImage, Bands, Image
from morpheus_core.images.lazy_images import LazyImage, reopen_lazy
from morpheus_core.images.mask_planes import bits_of
from morpheus_core.images.masks import PixelMask
from morpheus_core.images.prepared import SteppedImage, prepared_by, reopen_stepped
from morpheus_core.images.preparing_steps import Preparing, checked_preparing
from morpheus_core.images.scales import Reading
from morpheus_core.images.sources import (
    ModelInput,
    brings_mask,
    open_image,
    own_mask,
    warn_of_other_order,
)
from morpheus_core.storage.resources import Resource

ModelInputs: TypeAlias = "ModelInput | Sequence[ModelInput]"

#: What a stored image is, by the key under which its place is kept.
PLACES = ("array", "pickle", "path", "step")

#: How masks are read: their integers are flags, whatever BLANK says.
AS_FLAGS = Reading(blank=False)


class ImageStack(Resource):
    """Images of the same height and width, and their bad pixels; closes them.

    Parameters
    ----------
    images : sequence of Image
        At least one.
    mask : PixelMask, optional
        Bad pixels of all images alike.

    Raises
    ------
    InputError
        If the images have different sizes.
    """

    def __init__(self, images: Sequence[Image], mask: PixelMask | None = None) -> None:
        self.images, self.mask = list(images), mask
        first = self.images[0]
        for image in self.images[1:]:
            if image.shape[:2] != first.shape[:2]:
                raise InputError(
                    f"all inputs must have the same height and width, got {image.shape[:2]} for "
                    f"{image.name} but {first.shape[:2]} for {first.name}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.images[0].shape[:2]

    @property
    def images_and_masks(self) -> list[Image]:
        """Everything that is read."""
        return [*self.images, *(self.mask.parts if self.mask else ())]

    @property
    def paths(self) -> list[Path]:
        """The files that are being read."""
        return [part.path for part in self.images_and_masks if part.path is not None]

    def identity(self) -> dict[str, Any]:
        """Return what tells this stack from another, as JSON values."""
        return {
            "images": [image.identity() for image in self.images],
            "mask": None if self.mask is None else self.mask.identity(),
        }

    def check_portable(self) -> None:
        """Make sure that the stack can be stored for other processes.

        Raises
        ------
        InputError
            If one of its parts holds what cannot be sent, an open file for one.
        """
        for part in self.images_and_masks:
            if isinstance(part, SteppedImage):
                part.check_portable()
                part = part.source
            if isinstance(part, LazyImage):
                part.pickled()

    def check_pixels(self, identity: dict[str, Any]) -> None:
        """Make sure that what is sliced lazily has the pixels here that it had when a run began.

        Zarr, for one, gives the fill value for chunks that it does not find.

        Parameters
        ----------
        identity : dict
            What :meth:`identity` returned there.

        Raises
        ------
        InputError
            If a few rows are others.
        """
        masks = identity["mask"]["parts"] if identity["mask"] else []
        for part, known in zip(self.images_and_masks, [*identity["images"], *masks], strict=True):
            if isinstance(part, SteppedImage):
                part, known = part.source, as_given(known)
            if isinstance(part, LazyImage) and part.identity() != known:
                raise InputError(
                    f"{part.name} has other pixels in this process; its files must lie where all "
                    f"workers see them, and be named by absolute paths"
                )

    def store(self, folder: Path) -> dict[str, Any]:
        """Make sure that other processes can open the stack, with files in a folder if need be.

        Returns
        -------
        dict
            Where everything is, as JSON values for :func:`reopen`.
        """
        places = [image.store(folder / f"input_{k}.npy") for k, image in enumerate(self.images)]
        mask = None if self.mask is None else self.mask.store(folder)
        return {"images": places, "mask": mask}

    def close(self) -> None:
        """Close all images, which were only read: that their server is away changes nothing."""
        with ExitStack() as opened:
            for part in self.images_and_masks:
                opened.enter_context(suppress(OSError))
                opened.callback(part.close)


def open_inputs(
    model_inputs: ModelInputs,
    bands: Bands = "last",
    mask: ModelInput | None = None,
    mask_bits: int | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> ImageStack:
    """Open images and masks as :func:`morpheus_core.predict` takes them.

    Raises
    ------
    InputError
        If there is no image, they are of different sizes, or one cannot be read.
    """
    sources = as_list(model_inputs)
    with ExitStack() as opened:
        images = open_images(sources, bands, opened, storage_options)
        parts = []
        if mask is not None:
            parts.append(open_mask(mask, mask_bits, storage_options))
            opened.callback(parts[0].close)
        parts += [own for source in sources for own in own_mask(source, bands)]
        if mask_bits is not None and not any(part.dtype.kind in "iu" for part in parts):
            raise InputError(
                f"mask_bits needs a mask of integers, got mask_bits={mask_bits} and "
                f"{'booleans of an input' if parts else 'no mask'}"
            )
        if isinstance(mask_bits, str):
            mask_bits = bits_of(mask_bits, parts)
        shape = images[0].shape[:2]
        stack = ImageStack(images, PixelMask(parts, mask_bits, shape) if parts else None)
        opened.pop_all()
    return stack


def reopen(places: dict[str, Any]) -> ImageStack:
    """Open the stack whose :meth:`ImageStack.store` returned these places."""
    with ExitStack() as opened:

        def open_all(parts: Sequence[dict[str, Any]]) -> list[Image]:
            images = [reopen_image(place) for place in parts]
            for image in images:
                opened.callback(image.close)
            return images

        images, mask = open_all(places["images"]), None
        if places["mask"] is not None:
            parts = open_all(places["mask"]["parts"])
            mask = PixelMask(parts, places["mask"]["bits"], images[0].shape[:2])
        stack = ImageStack(images, mask)
        opened.pop_all()
    return stack


def stored_paths(places: dict[str, Any]) -> list[Path]:
    """Return the files of a stack whose :meth:`ImageStack.store` returned these places."""
    parts = [*places["images"], *(places["mask"]["parts"] if places["mask"] else ())]
    parts += [part["source"] for part in parts if "source" in part]
    return [Path(part[kind]) for part in parts for kind in PLACES if kind in part]


def as_given(identity: dict[str, Any]) -> dict[str, Any]:
    """Return what tells an image from another, without what was done to it."""
    return {key: value for key, value in identity.items() if key != "prepared"}


def checked_steps(prepare: Any, count: int | None = None) -> list[Preparing | None]:
    """Return what prepares each image: one step for all, or a list with one for each.

    Parameters
    ----------
    prepare : PreparingStep, callable, None, or list of these
        As users give it.
    count : int, optional
        How many images there are, if that is known.

    Raises
    ------
    InputError
        If it is none of these, or there are more or less than images.
    """
    if not isinstance(prepare, (list, tuple)):
        return [checked_preparing(prepare)] * (count or 1)
    if count is not None and len(prepare) != count:
        raise InputError(
            f"prepare must be one step, or a list with one for each of the {count} images, got "
            f"{len(prepare)}; None leaves an image as it is"
        )
    return list(map(checked_preparing, prepare))


def with_steps(
    stack: ImageStack, steps: Sequence[Preparing | None], name_of: Callable[[Any], str]
) -> ImageStack:
    """Return a stack whose images are prepared; its masks stay as they are.

    Parameters
    ----------
    stack : ImageStack
        The images as they were given.
    steps : sequence of PreparingStep, callable or None
        One per image.
    name_of : callable
        Returns what a step is called.
    """
    images = [
        prepared_by(image, step, name_of(step))
        for image, step in zip(stack.images, steps, strict=True)
    ]
    return ImageStack(images, stack.mask)


def reopen_image(place: dict[str, Any]) -> Image:
    """Open an image whose :meth:`Image.store` returned this place."""
    if "step" in place:
        return reopen_with_step(place)
    if "pickle" in place:
        return reopen_lazy(place)
    if "array" in place:
        array = np.load(place["array"], mmap_mode="r")
        return ArrayImage(array, place["name"], "first")
    reading = Reading(**place["reading"])
    image = FitsImage(Path(place["path"]), place["extension"], place["bands"], reading=reading)
    image.name = place["name"]  # the file may be an unpacked one
    return image


def reopen_with_step(place: dict[str, Any]) -> Image:
    """Open an image whose :meth:`SteppedImage.store` returned this place."""
    source = reopen_image(place["source"])
    try:
        return reopen_stepped(place, source)
    except BaseException:
        source.close()
        raise


def as_list(model_inputs: ModelInputs) -> list[ModelInput]:
    """Return the inputs as a list; a lone image is a list of one."""
    if isinstance(model_inputs, (list, tuple)) and not isinstance(model_inputs, fits.HDUList):
        if not model_inputs:
            raise InputError("model_inputs must name at least one image, got an empty list")
        return list(model_inputs)
    return [model_inputs]


def open_images(
    sources: Sequence[ModelInput],
    bands: Bands,
    opened: ExitStack,
    storage_options: Mapping[str, Any] | None = None,
) -> list[Image]:
    """Open inputs, which are closed with `opened`."""
    images = []
    for index, source in enumerate(sources):
        images.append(open_image(source, f"model_inputs[{index}]", bands, None, storage_options))
        opened.callback(images[-1].close)
        warn_of_other_order(images[-1], bands)
    return images


def open_mask(
    mask: ModelInput, mask_bits: int | str | None, storage_options: Mapping[str, Any] | None
) -> Image:
    """Open what the user passed as `mask`."""
    if brings_mask(mask):
        raise InputError(
            f"a mask must not have one of its own, got {type(mask).__name__} with a mask; pass its "
            f"data alone, with the pixels filled that it marks"
        )
    image = open_image(mask, "mask", "last", AS_FLAGS, storage_options)
    try:
        if image.shape[2] != 1:
            raise InputError(f"a mask must be (height, width), got {image.shape} for {image.name}")
        if mask_bits is not None and image.dtype.kind not in "iu":
            raise InputError(
                f"mask_bits needs a mask of integers, got dtype {image.dtype} for {image.name}"
            )
    except InputError:
        image.close()
        raise
    return image
