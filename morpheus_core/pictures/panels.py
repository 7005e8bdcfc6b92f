"""Panels side by side on a figure; the only module here that imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.visualization import AsinhStretch, ImageNormalize
from astropy.visualization.wcsaxes import WCSAxes
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from morpheus_core.pictures.colours import MISSING_COLOUR, Colours, class_colours, class_map, rgb
from morpheus_core.pictures.layout import ANGLES, PIXELS, FigureLayout
from morpheus_core.pictures.looks import Backdrop, Look
from morpheus_core.pictures.sampling import Extent
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS

if TYPE_CHECKING:
    from astropy.wcs import WCS

#: Part of the width of a panel that its scale takes.
SCALE = 0.32
#: More classes than this are not all named.
MOST_NAMES = 24
DOTS_PER_INCH = 100
QUIET = "#595959"
TITLES = {
    AGGREGATION_METHODS.MEAN_VAR: ("Most probable class", "brighter: more probable"),
    AGGREGATION_METHODS.RANK_VOTE: ("Class with most votes", "brighter: more votes"),
}
SHARES = {
    AGGREGATION_METHODS.MEAN_VAR: "mean",
    AGGREGATION_METHODS.RANK_VOTE: "share of votes",
}
#: The colour map of one class by itself, and of circles around objects.
HEAT, MARK_COLOUR = "inferno", "#56B4E9"
#: Square points of a circle, if there are no more than so many.
MARK_AREA, FEW_MARKS = 60, 100
DISPERSIONS = {
    AGGREGATION_METHODS.MEAN_VAR: "standard deviation",
    AGGREGATION_METHODS.RANK_VOTE: "1 − share of votes",
}
#: What axes are called, by what they are.
AXIS_LABELS = {
    "pos.eq.ra": "RA",
    "pos.eq.dec": "Dec",
    "pos.galactic.lon": "Gal. longitude",
    "pos.galactic.lat": "Gal. latitude",
    "pos.ecliptic.lon": "Ecl. longitude",
    "pos.ecliptic.lat": "Ecl. latitude",
}


class Picture(Figure):
    """A figure that notebooks show, whether or not anyone has set up pyplot."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


@dataclass(frozen=True, slots=True)
class Panel:
    """One image of a figure.

    Attributes
    ----------
    title, subtitle : str
        What it shows.
    pixels : ndarray, (height, width) or (height, width, 3)
        Values, or colours.
    extent : tuple of float
        Left, right, bottom and top.
    colours : str
        The colour map of values.
    norm : Normalize, optional
        How values become places on the colour map.
    has_scale : bool
        Whether the colour map is shown.
    """

    title: str
    subtitle: str
    pixels: NDArray[Any]
    extent: Extent
    colours: str = "gray"
    norm: Normalize | None = None
    has_scale: bool = False


def draw(look: Look, backdrop: Backdrop | None, wcs: WCS | None) -> Picture:
    """Draw all panels, and a legend below them."""
    panels = [*panels_of(look)]
    if backdrop is not None:
        panels.insert(0, image_panel(backdrop))
    height, width = look.sampling.shape
    entries = legend_entries(look)
    left = PIXELS if wcs is None else ANGLES
    layout = FigureLayout.of(len(panels), width / height, left, list(entries), notes_of(look))
    figure = Picture(figsize=layout.size, dpi=DOTS_PER_INCH)
    axes = [add_axes(figure, layout, place, wcs) for place in range(len(panels))]
    for place, panel in enumerate(panels):
        drawn = fill(axes[place], panel)
        # What a sample stands for may end up to half a step before the image does.
        axes[place].set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))
        if panel.has_scale:
            add_scale(figure, layout, place, drawn)
    mark(axes[0 if backdrop is None else 1], look)
    add_legend(figure, layout, entries)
    at = layout.point(layout.left + layout.block / 2, 0.08)
    figure.text(*at, "\n".join(layout.note_lines), ha="center", size=8.5, color=QUIET)
    return figure


def mark(axes: Any, look: Look) -> None:
    """Draw a circle around each object, smaller where there are many."""
    size = np.clip(MARK_AREA * FEW_MARKS / max(1, look.marks.shape[1]), 6, MARK_AREA)
    style = {"s": size, "facecolors": "none", "edgecolors": MARK_COLOUR, "linewidths": 1}
    axes.scatter(*look.marks, **style)


def panels_of(look: Look) -> Iterator[Panel]:
    """Yield what there is to see of a result."""
    extent = look.sampling.extent
    if look.heat is None:
        colours = class_map(look.shares, look.class_names)
        yield Panel(*TITLES[look.method], colours, extent)
    else:
        yield heat_panel(look, look.heat)
    yield Panel(
        "Dispersion",
        DISPERSIONS[look.method],
        look.dispersion,
        extent,
        "magma",
        from_zero(look.dispersion),
        has_scale=True,
    )
    n = np.where(look.n > 0, look.n, np.nan)
    values = np.unique(look.n)
    subtitle = f"n = {values[0]:g} everywhere" if len(values) == 1 else "n of each pixel"
    yield Panel("Predictions", subtitle, n, extent, "viridis", from_zero(n), has_scale=True)


def heat_panel(look: Look, heat: NDArray[Any]) -> Panel:
    """Return one class by itself."""
    step = look.sampling.step
    subtitle = SHARES[look.method] + (f", highest of {step} × {step}" if step > 1 else "")
    norm = Normalize(0, 1)
    extent = look.sampling.extent
    return Panel(f"{look.class_name}", subtitle, heat, extent, HEAT, norm, has_scale=True)


def image_panel(backdrop: Backdrop) -> Panel:
    """Return what the model saw."""
    norm = asinh_norm(backdrop.pixels)
    return Panel("Input", "asinh stretch", backdrop.pixels, backdrop.extent, norm=norm)


def from_zero(values: NDArray[Any]) -> Normalize:
    """Return a linear scale from zero to the highest value."""
    finite = values[np.isfinite(values)]
    return Normalize(0, finite.max(initial=0) or 1)


def asinh_norm(pixels: NDArray[Any]) -> ImageNormalize:
    """Return a stretch that shows the noise as dark grey and does not burn out the bright."""
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        finite = np.zeros(1)
    sky = np.median(finite)
    noise = 1.4826 * np.median(np.abs(finite - sky))
    lowest = sky - noise
    span = max(np.percentile(finite, 99.8) - lowest, 20 * noise) or 1.0
    linear_part = float(np.clip(4 * noise / span, 1e-3, 1))
    return ImageNormalize(vmin=lowest, vmax=lowest + span, stretch=AsinhStretch(linear_part))


def add_axes(figure: Figure, layout: FigureLayout, place: int, wcs: WCS | None) -> Any:
    """Add the axes of a panel; only the outer ones say what they are."""
    box = layout.box(*layout.corner(place), layout.width, layout.height)
    shown = {"x": layout.is_lowest(place), "y": layout.is_leftmost(place)}
    if wcs is None:
        axes = figure.add_axes(box)
        axes.tick_params(labelsize=8, labelbottom=shown["x"], labelleft=shown["y"])
        axes.set_xlabel("column" if shown["x"] else "", size=9)
        axes.set_ylabel("row" if shown["y"] else "", size=9)
        return axes
    axes = WCSAxes(figure, box, wcs=wcs)
    figure.add_axes(axes)
    for coordinate, kind, side in zip(
        axes.coords, wcs.world_axis_physical_types, sides(wcs), strict=True
    ):
        coordinate.set_ticks_position("b" if side == "x" else "l")
        coordinate.set_ticklabel_position("b" if side == "x" else "l")
        coordinate.set_ticks(number=4)
        coordinate.set_ticklabel(size=8, exclude_overlapping=True)
        coordinate.set_ticklabel_visible(shown[side])
        coordinate.set_axislabel_position("b" if side == "x" else "l")
        coordinate.set_axislabel(AXIS_LABELS.get(kind, kind) if shown[side] else " ", size=9)
    return axes


def sides(wcs: WCS) -> tuple[str, str]:
    """Return along which axis of pixels each world coordinate is read, "x" or "y"."""
    matrix = np.abs(wcs.pixel_scale_matrix)  # (world, pixel)
    upright = matrix[0, 0] * matrix[1, 1] >= matrix[0, 1] * matrix[1, 0]
    return ("x", "y") if upright else ("y", "x")


def fill(axes: Any, panel: Panel) -> Any:
    """Draw a panel, write above it what it shows, and return the image."""
    axes.set_title(panel.title, loc="left", pad=19, size=11, weight="bold")
    axes.annotate(
        panel.subtitle,
        (0, 1),
        xytext=(0, 6.5),
        xycoords="axes fraction",
        textcoords="offset points",
        size=8.5,
        color=QUIET,
    )
    axes.set_facecolor(MISSING_COLOUR)
    return axes.imshow(
        panel.pixels,
        cmap=colormaps[panel.colours].with_extremes(bad=MISSING_COLOUR),
        norm=panel.norm,
        origin="lower",
        extent=panel.extent,
    )


def add_scale(figure: Figure, layout: FigureLayout, place: int, drawn: Any) -> None:
    """Show the colour map of a panel, above its right end."""
    left, bottom = layout.corner(place)
    width = SCALE * layout.cell
    box = layout.box(left + layout.cell - width, bottom + layout.height + 0.09, width, 0.1)
    bar = figure.colorbar(drawn, cax=figure.add_axes(box), orientation="horizontal")
    bar.ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    bar.ax.tick_params(
        labelsize=8, length=2, pad=1, top=True, labeltop=True, bottom=False, labelbottom=False
    )
    bar.outline.set_visible(False)


def legend_entries(look: Look) -> dict[str, Artist]:
    """Return what stands beside each name in the legend; of many classes those of most pixels."""
    missing = np.isnan(look.shares[..., 0])
    entries = class_entries(look, missing)
    if look.marks.size:
        entries["objects"] = Line2D(
            [], [], linestyle="", marker="o", fillstyle="none", color=MARK_COLOUR
        )
    if missing.any():
        entries["no result"] = swatch(rgb(MISSING_COLOUR))
    return entries


def notes_of(look: Look) -> list[str]:
    """Return what must be known of a picture besides its colours."""
    notes, step = [], look.sampling.step
    if step > 1:
        where = "" if look.heat is None else f", but for {look.class_name}"
        notes.append(f"One pixel of each {step} × {step} is drawn{where}.")
    if look.has_both:
        drawn = {
            AGGREGATION_METHODS.MEAN_VAR: "the mean and the variance",
            AGGREGATION_METHODS.RANK_VOTE: "the votes",
        }
        notes.append(f"Of the run's two results {drawn[look.method]} are drawn.")
    if look.flush:
        notes.append("More predictions where the last window is flush with the border.")
    return notes


def class_entries(look: Look, missing: NDArray[np.bool_]) -> dict[str, Artist]:
    """Return the colours of the classes that are drawn."""
    if look.class_name is not None:
        return {look.class_name: swatch(np.array(colormaps[HEAT](0.75)[:3]))}
    colours = class_colours(look.class_names)
    pixels = np.bincount(look.shares[~missing].argmax(axis=-1), minlength=len(colours))
    named = np.sort(np.argsort(-pixels, kind="stable")[:MOST_NAMES])
    entries = {look.class_names[k]: swatch(colours[k]) for k in named}
    if len(named) < len(colours):
        entries[f"and {len(colours) - len(named)} more"] = nothing()
    return entries


def swatch(colour: Colours) -> Artist:
    """Return a rectangle of a colour."""
    return Patch(facecolor=tuple(colour), edgecolor=MISSING_COLOUR, linewidth=0.5)


def nothing() -> Artist:
    """Return what stands beside a note: an empty box would be taken for a colour."""
    return Patch(visible=False)


def add_legend(figure: Figure, layout: FigureLayout, entries: dict[str, Artist]) -> None:
    """Name the colours below the panels."""
    figure.legend(
        handles=list(entries.values()),
        labels=list(entries),
        loc="lower center",
        bbox_to_anchor=layout.point(layout.left + layout.block / 2, layout.notes_height),
        ncols=layout.legend_columns,
        frameon=False,
        fontsize=10,
    )
