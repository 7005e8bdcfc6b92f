"""A first look at a result, as one figure; needs matplotlib, the ``plot`` extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from astropy.wcs import WCS
    from matplotlib.figure import Figure

#: Colours that stay apart for colour-blind eyes: Okabe & Ito 2008, "Color Universal Design".
PALETTE = ("#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#E69F00", "#0072B2")
BACKGROUND_COLOUR = "#15171C"
#: Where there is no result.
MISSING_COLOUR = "#808080"
#: How bright a pixel is drawn whose winner is no more probable than the other classes.
FAINTEST = 0.2


def quicklook(
    image: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    class_names: Sequence[str],
    wcs: WCS | None = None,
) -> Figure:
    """Draw an image beside its most probable classes and their dispersion.

    Parameters
    ----------
    image : array_like, shape (height, width)
        One band of the input.
    mean, variance : array_like, shape (height, width, classes)
        What ``aggregate_method="mean_var"`` gives: ``output[..., 0]`` and ``output[..., 1]``.
    class_names : sequence of str
        One per class. A class called "background" is drawn dark.
    wcs : WCS, optional
        Celestial coordinates of the image; pixels otherwise.

    Returns
    -------
    Figure
        Of matplotlib; ``figure.savefig(path)`` writes it. The brightness of a colour is the mean
        probability of the winning class. The dispersion is the standard deviation of that class's
        probability over the windows that saw the pixel: how much they disagree, which is not a
        calibrated error.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    pixels, probabilities = np.asarray(image), np.asarray(mean)
    # The layout engine does not see the titles of WCSAxes, so it is left room for them.
    layout = ConstrainedLayoutEngine(rect=(0, 0.02, 1, 0.93))
    figure = Figure(figsize=(12, 4.5), dpi=110, layout=layout)
    axes = [add_panel(figure, position, wcs) for position in (1, 2, 3)]
    axes[0].imshow(pixels, cmap="gray", norm=asinh_norm(pixels), origin="lower")
    axes[1].imshow(class_map(probabilities, class_names), origin="lower", interpolation="nearest")
    drawn = axes[2].imshow(
        dispersion_of_winner(probabilities, np.asarray(variance)), cmap="magma", origin="lower"
    )
    figure.colorbar(drawn, cax=axes[2].inset_axes((1.03, 0, 0.05, 1)))
    titles = ("Input", "Most probable class", "Dispersion between windows")
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title, fontsize=11)
    add_legend(figure, class_names)
    return figure


def add_panel(figure: Figure, position: int, wcs: WCS | None) -> Any:
    """Add one of three panels; only the first one says what its vertical axis is."""
    from astropy.visualization.wcsaxes import WCSAxes

    if wcs is None:
        axes = figure.add_subplot(1, 3, position)
        axes.set_xlabel("column", size=9)
        axes.set_ylabel("row" if position == 1 else "", size=9)
        axes.tick_params(labelsize=8, labelleft=position == 1)
        return axes
    panel: Any = figure.add_subplot(1, 3, position, axes_class=WCSAxes, wcs=wcs)
    sides = (("Right ascension", "b"), ("Declination", "l"))
    for coordinate, (name, side) in zip(panel.coords, sides, strict=True):
        coordinate.set_ticks(number=3)
        coordinate.set_ticks_position(side)
        coordinate.set_ticklabel(size=8, exclude_overlapping=True)
        coordinate.set_axislabel(name, size=9)
    if position > 1:
        panel.coords[1].set_ticklabel_visible(False)
        panel.coords[1].set_axislabel(" ")
    return panel


def asinh_norm(pixels: NDArray[Any]) -> Any:
    """Return a stretch that shows the noise as dark grey and does not burn out the bright."""
    # Importing this imports matplotlib.
    from astropy.visualization import AsinhStretch, ImageNormalize

    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        finite = np.zeros(1)
    sky = np.median(finite)
    noise = 1.4826 * np.median(np.abs(finite - sky))
    lowest = sky - noise
    span = max(np.percentile(finite, 99.8) - lowest, 20 * noise) or 1.0
    linear_part = float(np.clip(4 * noise / span, 1e-3, 1))
    return ImageNormalize(vmin=lowest, vmax=lowest + span, stretch=AsinhStretch(linear_part))


def class_colours(class_names: Sequence[str]) -> NDArray[np.float64]:
    """Return red, green and blue, 0 to 1, of each class, (class, 3)."""
    from matplotlib.colors import to_rgb

    bright = [name for name in class_names if name != "background"]
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(bright)}
    return np.array([to_rgb(colours.get(name, BACKGROUND_COLOUR)) for name in class_names])


def class_map(mean: NDArray[Any], class_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the colour of each pixel's winner, as bright as it is probable, (height, width, 3)."""
    from matplotlib.colors import to_rgb

    winner = mean.argmax(axis=-1)
    chance = 1 / len(class_names)
    certainty = np.clip((mean.max(axis=-1) - chance) / max(1 - chance, chance), 0, 1)
    brightness = FAINTEST + (1 - FAINTEST) * certainty[..., np.newaxis]
    dark = np.array(to_rgb(BACKGROUND_COLOUR))
    colours: NDArray[np.float64] = dark + brightness * (class_colours(class_names)[winner] - dark)
    colours[~np.isfinite(mean).all(axis=-1)] = to_rgb(MISSING_COLOUR)
    return colours


def dispersion_of_winner(mean: NDArray[Any], variance: NDArray[Any]) -> NDArray[Any]:
    """Return the standard deviation of the most probable class, (height, width)."""
    winner = mean.argmax(axis=-1)[..., np.newaxis]
    dispersion: NDArray[Any] = np.sqrt(np.take_along_axis(variance, winner, axis=-1)[..., 0])
    return dispersion


def add_legend(figure: Figure, class_names: Sequence[str]) -> None:
    """Name the colours below the panels."""
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=tuple(colour), edgecolor="#808080", linewidth=0.5, label=name)
        for name, colour in zip(class_names, class_colours(class_names), strict=True)
    ]
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=min(len(class_names), 8),
        frameon=False,
        fontsize=10,
    )
