"""The colours of classes, as red, green and blue from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.float64]

#: Colours that stay apart for colour-blind eyes: Okabe & Ito 2008, "Color Universal Design".
PALETTE = ("#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#E69F00", "#0072B2")
#: For more classes than that, with as many steps between as it takes: the scheme "rainbow PuRd" of
#: Tol 2021, SRON/EPS/TN/09-002, "Colour Schemes", every third colour.
RAINBOW = (
    *("#6F4C9B", "#5568B8", "#4D8AC6", "#549EB3", "#60AB9E", "#77B77D"),
    *("#A6BE54", "#D1B541", "#E49C39", "#E67932", "#DA2222"),
)
BACKGROUND_COLOUR = "#15171C"
#: Classes of that colour, in any capitals.
BACKGROUND_NAMES = ("background", "sky")
#: Where there is no result.
MISSING_COLOUR = "#808080"
#: How bright a pixel is drawn whose winner is no more probable than the other classes.
FAINTEST = 0.35


def rgb(colour: str) -> Colours:
    """Return red, green and blue of a colour such as "#D55E00"."""
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def class_colours(class_names: Sequence[str]) -> Colours:
    """Return the colour of each class, (class, 3)."""
    bright = [name.lower() not in BACKGROUND_NAMES for name in class_names]
    colours = np.tile(rgb(BACKGROUND_COLOUR), (len(class_names), 1))
    colours[bright] = bright_colours(sum(bright))
    return colours


def bright_colours(count: int) -> Colours:
    """Return so many different colours, (count, 3)."""
    if count <= len(PALETTE):
        return np.array([rgb(colour) for colour in PALETTE[:count]]).reshape(count, 3)
    places = np.linspace(0, len(RAINBOW) - 1, count)
    known = np.array([rgb(colour) for colour in RAINBOW]).T
    return np.stack([np.interp(places, range(len(RAINBOW)), part) for part in known], axis=-1)


def class_map(shares: NDArray[Any], class_names: Sequence[str]) -> Colours:
    """Return the colour of each pixel's winner, as bright as its share, (height, width, 3).

    Pixels with a share that is not finite have no winner.
    """
    count = len(class_names)
    chance = 1 / count if count > 1 else 0
    certainty = np.clip((shares.max(axis=-1) - chance) / (1 - chance), 0, 1)
    brightness = FAINTEST + (1 - FAINTEST) * certainty[..., np.newaxis]
    dark = rgb(BACKGROUND_COLOUR)
    winners = class_colours(class_names)[shares.argmax(axis=-1)]
    colours: Colours = dark + brightness * (winners - dark)
    colours[~np.isfinite(shares).all(axis=-1)] = rgb(MISSING_COLOUR)
    return colours
