"""A first look at a result, as one figure; needs matplotlib, the ``plot`` extra."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, OutputError
from morpheus_core.extras import require_package
from morpheus_core.images.image import BANDS, Bands
from morpheus_core.images.sources import open_image
from morpheus_core.images.stack import ModelInputs, as_list
from morpheus_core.pictures.looks import backdrop_of, dilation_of, look_at
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.finished import Outputs
from morpheus_core.results.opened import GivenResults, open_outputs
from morpheus_core.results.outputs import refuse_to_replace
from morpheus_core.sky.headers import wcs_of

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.figure import Figure


def quicklook(
    results: GivenResults,
    image: ModelInputs | None = None,
    *,
    class_names: Sequence[str] | None = None,
    bands: Bands = "last",
    max_pixels: int = 1000,
    class_name: str | None = None,
    candidates: Table | None = None,
    aggregate_method: str | None = None,
) -> Figure:
    """Draw a result: the image, the class of each pixel, its dispersion, and n.

    Parameters
    ----------
    results : path, or what predict returns
        The `out_dir` of a finished run; or ``output_hduls``, ``output_arrays``, or both as
        :func:`morpheus_core.predict` returns them.
    image : array, path, HDU, NDData, or list of these, optional
        What the model saw, as `predict` takes it; of several images or bands the first is drawn.
        It must show the sky of the result, so its size times the dilation is that of the result.
    class_names : list of str, optional
        One per class; by default those that the headers of the result hold. A class called
        "background" or "sky" is drawn dark.
    bands : {"last", "first"}
        Where the bands of an image with three axes are.
    max_pixels : int, default 1000
        The most rows, and the most columns, that are drawn. Of a larger result every k-th row is
        read, and every k-th pixel of it is drawn as it is, without averaging: what is smaller than
        k pixels may be missing. All panels show the same pixels, and a note says which.
    class_name : str, optional
        Draw the mean, or the share of votes, of this class alone in place of all classes. All
        pixels are read, and the highest of each k × k is drawn, so what is rare is seen.
    candidates : Table, optional
        What `find_candidates` returned: a circle is drawn around each object, of many a small one.
    aggregate_method : {"mean_var", "rank_vote"}, optional
        Which result is drawn. By default it is, of a run with both, mean and variance, and the
        picture says so.

    Returns
    -------
    Figure
        Of matplotlib; ``figure.savefig("look.png")`` writes it, and a notebook shows it. Its first
        axes are the panels, in celestial coordinates of the result, or else of the image; data
        coordinates are (column, row) of the result. The brightness of a colour is the mean, or the
        share of votes, of the class that wins the pixel (the lowest one wins a tie). The dispersion
        is the standard deviation of that class over the windows that saw the pixel, or, of votes,
        what its share lacks to one: how much windows disagree, which is not a calibrated error.
        Pixels without a result (n is 0, or a class is not finite) are grey.

    Raises
    ------
    InputError
        If there is no finished run, an argument does not fit the result, or something cannot be
        read.
    MissingPackageError
        If matplotlib is not installed.

    Warns
    -----
    MorpheusWarning
        If means are no probabilities, from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from morpheus_core import predict, quicklook
    >>> def brighter(batch):
    ...     bright = batch[0] > 0.5  # (batch, height, width, 1)
    ...     return np.concatenate([bright, ~bright], axis=-1).astype(np.float32)
    >>> image = np.zeros((60, 80))
    >>> image[20:40, 30:60] = 1
    >>> results = predict(brighter, image, 2, 8, (20, 20), stride=(5, 5), progress=False)
    >>> figure = quicklook(results, image, class_names=["source", "background"])
    >>> figure.savefig("look.png")
    """
    most = checks.whole_number("max_pixels", max_pixels)
    layout = checks.one_of("bands", bands, BANDS)
    marks = places_of(candidates)
    require_package("matplotlib", "plot", "quicklook")
    with ExitStack() as opened:
        outputs = opened.enter_context(open_outputs(results, scattered=True))
        names = checks.class_names(class_names, len(outputs.class_names)) or outputs.class_names
        chosen = None if class_name is None else checks.one_of("class_name", class_name, names)
        wcs, backdrop = wcs_of(outputs.n.header), None
        if image is not None:
            source = open_image(as_list(image)[0], "image", layout)
            opened.callback(source.close)
            dilation = dilation_of(source, outputs)
            backdrop = backdrop_of(source, dilation, most)
            wcs = wcs or wcs_of(source.header, dilation, source.layout.fits_axes)
        method = drawn_of(outputs, aggregate_method)
        look = look_at(outputs, method, names, most, chosen, marks)
    # The only module here that imports matplotlib.
    from morpheus_core.pictures.panels import draw

    return draw(look, backdrop, wcs)


def drawn_of(outputs: Outputs, aggregate_method: str | None) -> AGGREGATION_METHODS:
    """Return which result is drawn."""
    moments = AGGREGATION_METHODS.MEAN_VAR
    if aggregate_method is None and moments in outputs.methods:
        return moments
    return outputs.method(aggregate_method)


def places_of(candidates: Table | None) -> NDArray[np.float64]:
    """Return columns and rows of objects, (2, objects)."""
    if candidates is None:
        return np.empty((2, 0))
    if not {"x", "y"} <= set(getattr(candidates, "colnames", ())):
        raise InputError(
            f"candidates must be a table of find_candidates, got {type(candidates).__name__}"
        )
    return np.array([candidates["x"], candidates["y"]], np.float64)


def save_quicklook(
    path: Path,
    results: str | os.PathLike[str],
    image: ModelInputs | None = None,
    *,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Write what :func:`quicklook` draws.

    Parameters
    ----------
    path : Path
        The picture; its suffix says which kind.
    results, image, **options
        As `quicklook` takes them.
    overwrite : bool, default False
        Replace the picture.

    Raises
    ------
    InputError, MissingPackageError
        As `quicklook`.
    OutputError
        If the picture exists, before anything is drawn, or cannot be written.
    """
    refuse_to_replace([path], [], overwrite)
    save_figure(quicklook(results, image, **options), path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, as the suffix of the path says."""
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
