"""Results and truth side by side, a few rows at a time."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.evaluation.counts import Counts, Pixels
from morpheus_core.evaluation.strata import BORDER, Strata, border_distance
from morpheus_core.images.image import Image
from morpheus_core.images.masks import PixelMask
from morpheus_core.images.sources import ModelInput, open_image, own_mask
from morpheus_core.images.stack import as_list, open_mask
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.blocks import Block, no_probabilities
from morpheus_core.results.finished import Outputs
from morpheus_core.sky.alignment import TOLERANCE, largest_offset
from morpheus_core.sky.headers import readable_wcs, wcs_of

#: Why pixels are not compared.
REASONS = ("masked", "no result", "no truth", "weight 0")


@dataclass(frozen=True, slots=True)
class Labels:
    """What labels mean.

    Attributes
    ----------
    first : int
        That of the first class; lower ones are of none.
    no_data : float or None
        Another one that is of none.
    """

    first: int
    no_data: float | None

    @classmethod
    def of(cls, image: Image) -> Self:
        """Read the cards of a class map of `export_planes`; other labels count from 0."""
        header = image.header or {}
        return cls(int("CLASS1" in header and "CLASS0" not in header), header.get("NODATA"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared with what.

    Attributes
    ----------
    outputs : Outputs
        Of a run.
    method : AGGREGATION_METHODS
        Which result.
    truth : list of Image
        An image of labels, or planes of all classes.
    labels : Labels
        What labels mean.
    weights : Image or None
        How much pixels count.
    mask : PixelMask or None
        Which pixels are left out.
    strata : Strata or None
        What is looked at apart.
    values : Image or None
        Of these, if they are in an image.
    """

    outputs: Outputs
    method: AGGREGATION_METHODS
    truth: list[Image]
    labels: Labels
    weights: Image | None
    mask: PixelMask | None
    strata: Strata | None
    values: Image | None

    @property
    def n_classes(self) -> int:
        """How many classes the result has."""
        return len(self.outputs.class_names)

    @property
    def has_labels(self) -> bool:
        """Whether each pixel is of one class."""
        return self.n_classes > 1 and sum(image.shape[2] for image in self.truth) == 1

    def counts(self) -> tuple[Counts, dict[str, int]]:
        """Return what is counted of pixels, and how many are left out, by the reason."""
        n_strata = 1 + (0 if self.strata is None else len(self.strata.names))
        counts = Counts.none(n_strata, self.n_classes, self.weights is not None)
        left_out = dict.fromkeys(REASONS, 0)
        for block in self.outputs.blocks():
            counts.add(self._pixels(block, left_out))
        return counts, left_out

    def _pixels(self, block: Block, left_out: dict[str, int]) -> Pixels:
        """Return the pixels of a block that can be compared."""
        scores = block.shares(self.method)
        rows = block.first, block.first + len(scores)
        complaint = no_probabilities(scores)
        if complaint is not None:
            raise InputError(complaint)
        truth, is_known = self._truth(*rows)
        weights = self._weights(*rows)
        is_bad = {
            "masked": None if self.mask is None else self.mask.read(*rows)[..., 0],
            "no result": ~np.isfinite(scores).all(axis=-1),
            "no truth": ~is_known,
            "weight 0": None if weights is None else weights == 0,
        }
        good = np.ones(is_known.shape, bool)
        for reason, bad in is_bad.items():
            if bad is not None:
                left_out[reason] += int(np.count_nonzero(good & bad))
                good &= ~bad
        return Pixels(
            scores[good],
            truth[good],
            self._strata(*rows)[good],
            None if weights is None else weights[good],
        )

    def _truth(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the class of each pixel, or whether it is of each, and where that is known."""
        parts = [image.read(start, stop) for image in self.truth]
        values = np.concatenate(parts, axis=-1).astype(np.float64)  # which holds every label
        is_known: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=-1))
        values = np.where(is_known[..., np.newaxis], values, 0)
        if not self.has_labels:
            refuse_values(values, (values == 0) | (values == 1), start, "0 or 1 in each plane")
            return values == 1, is_known
        first, last = self.labels.first, self.labels.first + self.n_classes - 1
        labels = values[..., 0]
        is_known &= (labels >= first) & (labels != self.labels.no_data)
        is_label = (labels == np.floor(labels)) & (labels <= last)
        wanted = f"the label of a class, {first} to {last}, or a lower number for none"
        refuse_values(labels, is_label | ~is_known, start, wanted)
        return np.where(is_known, labels - first, 0).astype(np.int64), is_known

    def _weights(self, start: int, stop: int) -> NDArray[np.float64] | None:
        if self.weights is None:
            return None
        weights = self.weights.read(start, stop)[..., 0].astype(np.float64)
        is_weight = np.isfinite(weights) & (weights >= 0)
        refuse_values(weights, is_weight, start, "finite and >= 0", "weights")
        return weights

    def _strata(self, start: int, stop: int) -> NDArray[np.int64]:
        shape = self.outputs.shape
        if self.strata is None:
            return np.zeros((stop - start, shape[1]), np.int64)
        if self.values is None:
            return self.strata.of(border_distance(start, stop - start, shape))
        return self.strata.of(self.values.read(start, stop)[..., 0].astype(np.float64))


def refuse_values(
    values: NDArray[Any], fit: NDArray[np.bool_], first: int, wanted: str, name: str = "truth"
) -> None:
    """Raise if values, (rows, ...), do not fit what is wanted."""
    if not fit.all():
        place = tuple(np.argwhere(~fit)[0])
        raise InputError(
            f"{name} must be {wanted}, got {values[place]:g} in row {first + place[0]}"
        )


def open_comparison(
    outputs: Outputs,
    method: AGGREGATION_METHODS,
    truth: Any,
    weights: ModelInput | None,
    mask: ModelInput | None,
    strata: Strata | None,
    opened: ExitStack,
) -> Comparison:
    """Open what is compared, and make sure that all of it is of one pixel grid.

    Raises
    ------
    InputError
        If something is not, or cannot be read.
    """

    def plane(source: ModelInput, name: str) -> Image:
        image = open_image(source, name, "last")
        opened.callback(image.close)
        if image.shape[2] != 1:
            raise InputError(f"{name} must be (height, width), got {image.shape} for {image.name}")
        refuse_other_grid(image, outputs)
        return image

    n_classes = len(outputs.class_names)
    sources = as_list(truth)
    if len(sources) == 1:
        images = [open_planes(sources[0], outputs, n_classes, opened)]
    else:
        images = [plane(source, f"truth[{k}]") for k, source in enumerate(sources)]
    n_planes = sum(image.shape[2] for image in images)
    if n_planes not in (1, n_classes) or len(images) > 1 == n_classes:
        raise InputError(
            f"truth must be one image of labels, or {n_classes} planes, one per class, got "
            f"{n_planes}"
        )
    masks = [own for source in sources for own in own_mask(source, "last")]
    if mask is not None:
        masks.append(open_mask(mask, None, None))
        opened.callback(masks[-1].close)
        refuse_other_grid(masks[-1], outputs)
    is_image = strata is not None and not (
        isinstance(strata.source, str) and strata.source == BORDER
    )
    return Comparison(
        outputs,
        method,
        images,
        Labels.of(images[0]),
        None if weights is None else plane(weights, "weights"),
        PixelMask(masks, None, outputs.shape) if masks else None,
        strata,
        plane(strata.source, "strata") if strata is not None and is_image else None,
    )


def open_planes(source: ModelInput, outputs: Outputs, n_classes: int, opened: ExitStack) -> Image:
    """Open an image of labels, or of a plane per class, on its first or on its last axis."""
    image = open_image(source, "truth", "last")
    if image.shape[:2] != outputs.shape and image.shape[0] == n_classes:
        image.close()
        image = open_image(source, "truth", "first")
    opened.callback(image.close)
    refuse_other_grid(image, outputs)
    return image


def refuse_other_grid(image: Image, outputs: Outputs) -> None:
    """Raise unless an image has the pixels of a result."""
    way_out = "resample it to that grid (the package reproject does)"
    if image.shape[:2] != outputs.shape:
        raise InputError(
            f"{image.name} must have the height and width of the result, {outputs.shape}, got "
            f"{image.shape[:2]}; {way_out}"
        )
    wcs, other = wcs_of(outputs.n.header), readable_wcs(image)
    if wcs is None or other is None:
        return
    offset = largest_offset(wcs, other, outputs.shape)
    if offset > TOLERANCE:
        raise InputError(
            f"{image.name} must have the pixel grid of the result, got one up to {offset:.3g} "
            f"pixels away; {way_out}"
        )
