"""In which order the gallery shows the scripts of `examples/`, and what it shows of them."""

import textwrap
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper

ORDER = (
    "pixel_classifier",
    "morphology",
    "contaminant_masks",
    "lens_finder",
    "galaxy_zoo",
    "galaxy_pictures",
    "photometric_redshifts",
    "evaluation",
    "dilation",
    "killed_and_resumed",
)


def place(filename: str) -> int:
    """Return where a script comes; those that are not listed come last."""
    name = Path(filename).stem
    return ORDER.index(name) if name in ORDER else len(ORDER)


def figures(block: object, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Show the figures that a block made with pyplot."""
    return _box(matplotlib_scraper(block, variables, settings))


def drawn_by_itself(block: object, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Show what a block ends with if a notebook would, as `quicklook`, without pyplot."""
    ends_with = variables["example_globals"].get("___")
    if not hasattr(ends_with, "_repr_png_"):
        return ""
    path = next(variables["image_path_iterator"])
    Path(path).write_bytes(ends_with._repr_png_())
    variables["example_globals"]["___"] = None  # what follows shall not show it again
    return _box(figure_rst([path], settings["src_dir"]))


def _box(shown: str) -> str:
    """Put figures where style.css lets them scroll on a narrow screen."""
    return f"\n.. container:: figures\n{textwrap.indent(shown, '   ')}" if shown.strip() else ""
