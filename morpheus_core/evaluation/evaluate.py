"""``evaluate``: results against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from morpheus_core import checks
from morpheus_core.catalogs.tables import read_catalog
from morpheus_core.errors import InputError
from morpheus_core.evaluation.objects import object_table
from morpheus_core.evaluation.pixels import open_comparison
from morpheus_core.evaluation.reports import Evaluation, PixelEvaluation, pixel_table
from morpheus_core.evaluation.strata import checked_strata
from morpheus_core.extras import require_package
from morpheus_core.images.sources import ModelInput
from morpheus_core.images.stack import ModelInputs
from morpheus_core.results.opened import GivenResults, open_outputs


def evaluate(
    results: GivenResults | Any,
    truth: ModelInputs | Any,
    *,
    class_names: Sequence[str] | None = None,
    weights: ModelInput | None = None,
    mask: ModelInput | None = None,
    strata: tuple[Any, Sequence[float]] | None = None,
    match_radius: float | None = None,
    aggregate_method: str | None = None,
) -> Evaluation:
    """Say how good a result is: of its pixels, or of the objects that were found in it.

    Parameters
    ----------
    results : path, or what predict returns
        The `out_dir` of a finished run; or ``output_hduls``, ``output_arrays``, or both as
        :func:`morpheus_core.predict` returns them. With `match_radius` a table of
        :func:`morpheus_core.find_candidates`, or any table with positions, or its file.
    truth : array, path, HDU, NDData, or list of these
        On the pixel grid of the result, either labels, (height, width), the index of the class of
        each pixel, negative or NaN where it is not known (a class map of
        :func:`morpheus_core.export_planes` says itself how it counts); or planes of 0 and 1, one
        per class, as a list, (height, width, n_classes) or (n_classes, height, width): then a pixel
        may be of several classes, or of none. With `match_radius` a catalogue, as
        :func:`morpheus_core.predict_catalog` takes it.
    class_names : list of str, optional
        One per class; by default those that the headers of the result hold.
    weights : array, path, HDU or NDData, optional
        How much each pixel counts, (height, width), >= 0.
    mask : array, path, HDU or NDData, optional
        Not zero where a pixel is left out, (height, width). So are the pixels that a mask of the
        truth marks, and those without a result.
    strata : tuple, optional
        A pair of values and increasing edges: metrics are also given for the pixels, or objects,
        whose value is in each interval, its upper edge excluded. Values are an image, (height,
        width), or ``"border"``, the number of pixels between a pixel and the nearest edge; of
        objects the name of a column of the truth, such as a magnitude.
    match_radius : float, optional
        Compare objects: how far apart they may be, in arcseconds, or in pixels where both have x
        and y. The closest pair is matched first, then the closest of what is left, and so on.
    aggregate_method : {"mean_var", "rank_vote"}, optional
        Which result; needed only if the run has both.

    Returns
    -------
    Evaluation
        ``table`` holds the metrics, ``plot()`` draws them, ``write(path)`` writes the table.

        Of pixels a row per class, for "all" and for each stratum: ``pixels`` of the class (the sum
        of their weights), ``precision``, ``recall``, ``iou`` (intersection over union, Jaccard's
        index), ``dice`` (F1), of the class with the highest score (of planes, of scores >= 0.5);
        ``roc_area``, ``average_precision``, ``brier`` and ``calibration_error`` of the score of
        this class against all others. ``confusion()``, ``reliability(class_name)``,
        ``roc(class_name)`` and ``overall`` are further tables. ``table.meta`` says how many pixels
        were compared, and why others were not.

        Of objects a row for "all" and for each stratum: ``completeness``, the share of the truth
        that was found, and ``purity``, the share of what was found that is in the truth, with the
        ends of binomial intervals of 68 %. Purity is split by strata if `results` has that column.

    Raises
    ------
    InputError
        If there is no finished run, what is compared does not fit the pixel grid of the result,
        scores are no probabilities, or something cannot be read.
    MissingPackageError
        If scipy is not installed, with `match_radius`.

    Notes
    -----
    Scores are rounded to 1,024 values, k / 1023, of which all metrics but the confusion matrix and
    what follows of it are made. Everything is a sum over pixels, so neither memory nor the result
    depends on how many rows are read at once. The metrics are those of scikit-learn for scores that
    were so rounded.

    The calibration error [1]_ is how far the share of hits is from the mean score, as a mean over
    ten intervals of the score that is weighted by their pixels.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using
       Bayesian binning", AAAI 29, 2901 (2015)

    Examples
    --------
    >>> import numpy as np
    >>> from morpheus_core import evaluate
    >>> scores = np.zeros((4, 6, 2))
    >>> scores[:, :3, 0], scores[:, 3:, 1] = 1, 1
    >>> truth = np.zeros((4, 6), int)
    >>> truth[:, 2:] = 1
    >>> evaluation = evaluate([scores, np.ones((4, 6))], truth, class_names=["star", "galaxy"])
    >>> print(evaluation.confusion())
     true  star galaxy
    ------ ---- ------
      star    8      0
    galaxy    4     12
    """
    parts = checked_strata(strata)
    if match_radius is None and hasattr(truth, "colnames"):
        raise InputError("a catalogue as the truth needs match_radius, in arcseconds or pixels")
    if match_radius is None:
        return of_pixels(results, truth, class_names, weights, mask, parts, aggregate_method)
    for name, value in {
        "class_names": class_names,
        "weights": weights,
        "mask": mask,
        "aggregate_method": aggregate_method,
    }.items():
        if value is not None:
            raise InputError(f"match_radius compares objects, which have no {name}; leave it out")
    radius = checks.positive_number("match_radius", match_radius)
    require_package("scipy", "candidates", "match_radius")
    return Evaluation(object_table(read_catalog(results), read_catalog(truth), radius, parts))


def of_pixels(
    results: Any,
    truth: Any,
    class_names: Any,
    weights: Any,
    mask: Any,
    strata: Any,
    aggregate_method: str | None,
) -> PixelEvaluation:
    """Compare the pixels of a result with the truth."""
    with ExitStack() as opened:
        outputs = opened.enter_context(open_outputs(results))
        method = outputs.method(aggregate_method)
        names = checks.class_names(class_names, len(outputs.class_names)) or outputs.class_names
        comparison = open_comparison(outputs, method, truth, weights, mask, strata, opened)
        counts, left_out = comparison.counts()
        has_labels = comparison.has_labels
    n_pixels = outputs.shape[0] * outputs.shape[1]
    parts = () if strata is None else tuple(strata.names)
    table = pixel_table(counts, names, parts, has_labels)
    table.meta = {"COMPARED": n_pixels - sum(left_out.values())}
    table.meta |= {reason.replace(" ", "").upper()[:8]: n for reason, n in left_out.items() if n}
    return PixelEvaluation(table, tuple(names), parts, has_labels, counts)
