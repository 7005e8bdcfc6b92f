"""Probabilities of classes as what is written of them: masks, flags, or themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.fits.cards import commented
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.blocks import Block, ThresholdRule
from morpheus_core.results.planes import flag_type, packed

#: "THRESH99" is the longest keyword there can be.
MOST_CLASSES = 100


@dataclass(frozen=True, slots=True)
class MaskedClass:
    """A class that is wanted.

    Attributes
    ----------
    index : int
        Which one of the model's.
    name : str
        What it is called.
    threshold : float or None
        Its mask is 1 where its probability is at least this, or above it; see `MaskFormat.rule`.
    priors : tuple of float or None
        Its shares of pixels in training and in the exposures.
    """

    index: int
    name: str
    threshold: float | None = None
    priors: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class MaskFormat:
    """How the classes of an image are written.

    Attributes
    ----------
    classes : sequence of MaskedClass
        In the order of the model; all of them with a threshold, or none.
    single : bool
        Whether bit k of one image is the mask of class k; else each class is a plane.
    rule : {">=", ">"}
        Whether a probability that equals its threshold is in the mask.
    """

    classes: Sequence[MaskedClass]
    single: bool
    rule: ThresholdRule = ">="

    def __post_init__(self) -> None:
        if self.single and not self.has_thresholds:
            raise InputError("single_mask=True needs thresholds, got thresholds=None")
        if self.classes[-1].index >= MOST_CLASSES:
            raise InputError(
                f"classes must be the first {MOST_CLASSES} at most, got one of index "
                f"{self.classes[-1].index}"
            )
        _ = self.dtype  # only for the error that it raises

    @property
    def has_thresholds(self) -> bool:
        """Whether masks are written, not probabilities."""
        return self.classes[0].threshold is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels."""
        if self.single:
            return flag_type(self.classes[-1].index)
        return np.dtype(np.uint8 if self.has_thresholds else np.float32)

    def shape(self, image_shape: tuple[int, int]) -> tuple[int, ...]:
        """Return (height, width), or (classes, height, width)."""
        return image_shape if self.single else (len(self.classes), *image_shape)

    def planes(self, block: Block) -> Iterator[NDArray[Any]]:
        """Yield what some rows of each plane are: masks, flags, or the means of a run."""
        masks = {
            one.index: block.reach(
                AGGREGATION_METHODS.MEAN_VAR, one.index, one.threshold, self.rule
            )
            for one in self.classes
            if one.threshold is not None
        }
        if self.single:
            yield packed(masks)
        elif self.has_thresholds:
            yield from masks.values()
        else:
            means = block.shares(AGGREGATION_METHODS.MEAN_VAR)
            yield from (means[..., one.index] for one in self.classes)

    def cards(self) -> fits.Header:
        """Return what the header says of the classes."""
        cards = fits.Header()
        for plane, one in enumerate(self.classes):
            k = one.index if self.single else plane
            if self.single:
                cards[f"BIT{k}"] = commented(one.name, f"flag {1 << k}")
            else:
                cards[f"CLASS{k}"] = commented(one.name, f"class of plane {k}, from 0")
            if one.threshold is not None:
                cards[f"THRESH{k}"] = (one.threshold, f"the mask is 1 where p {self.rule} this")
            if one.priors is not None:
                trained, expected = one.priors
                cards[f"TRAIN{k}"] = (trained, "share of pixels in training")
                cards[f"PRIOR{k}"] = (expected, "share of pixels that is expected")
        return cards
