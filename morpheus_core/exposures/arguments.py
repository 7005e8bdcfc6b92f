"""What arguments of `map_exposures` mean."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.exposures.class_masks import MaskedClass, MaskFormat
from morpheus_core.exposures.hdu_choice import HduChoice, checked_hdus
from morpheus_core.images.image import ArrayImage
from morpheus_core.images.preparing_steps import checked_preparing
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.job import Job
from morpheus_core.preparation import Arguments, make_job
from morpheus_core.results.blocks import THRESHOLD_RULES, ThresholdRule
from morpheus_core.results.planes import checked_thresholds


def checked_sources(paths: Any) -> list[str | os.PathLike[str]]:
    """Return one or several paths as a list."""
    several = isinstance(paths, Iterable) and not isinstance(paths, (str, os.PathLike))
    sources = list(paths) if several else [paths]
    if not sources or not all(isinstance(source, (str, os.PathLike)) for source in sources):
        raise InputError(f"paths must be a path, or a list of at least one, got {paths!r}")
    return sources


def checked_job(arguments: Arguments) -> Job:
    """Return the job of an image of one window; raise what `predict` would raise of any image."""
    checks.model(arguments.model)
    checked_preparing(arguments.prepare)
    shape = checks.positive_pair("window_shape", arguments.window_shape)
    with ImageStack([ArrayImage(np.zeros(shape), "an image")]) as stack:
        return make_job(stack, arguments)


def refuse_masks(products: object, classes: object, single_mask: bool) -> None:
    """Raise if something of masks is asked for beside products."""
    if products is not None and (classes is not None or single_mask):
        raise InputError("products take the place of masks; leave out classes and single_mask")


def make_choice(hdus: Any, mask: Any, mask_bits: Any) -> HduChoice:
    """Return the rule by which HDUs are chosen, or raise."""
    names = checked_hdus("mask", mask)
    if names is not None and (len(names) > 1 or isinstance(mask, (list, tuple))):
        raise InputError(f"mask must be one HDU, got {mask!r}")
    if checks.mask_bits(mask_bits) is not None and names is None:
        raise InputError(f"mask_bits needs mask, which says where flags are, got {mask_bits!r}")
    return HduChoice(checked_hdus("hdus", hdus), None if names is None else names[0])


def default_class_names(n_classes: int) -> list[str]:
    """Return what classes are called that have no names."""
    return [f"class_{k}" for k in range(n_classes)]


def make_format(
    names: Sequence[str],
    classes: Sequence[str] | None,
    trained_priors: Sequence[float] | None,
    priors: Sequence[float] | None,
    thresholds: float | Sequence[float] | None,
    threshold_rule: ThresholdRule,
    single_mask: bool,
) -> MaskFormat:
    """Return what is to be written of which classes.

    Raises
    ------
    InputError
        If one is unknown, none is wanted, or arguments do not fit the classes.
    """
    unknown = [name for name in classes or () if name not in names]
    if unknown or (classes is not None and not len(classes)):
        raise InputError(f"classes must be some of {', '.join(names)}, got {classes!r}")
    if (priors is None) != (trained_priors is None):
        raise InputError(
            f"priors and trained_priors need each other, got {priors!r} and {trained_priors!r}"
        )
    for name, values in (("priors", priors), ("trained_priors", trained_priors)):
        if values is not None and np.shape(values) != (len(names),):
            raise InputError(f"{name} must be {len(names)}, one per class, got {values!r}")
    limits = {} if thresholds is None else checked_thresholds(thresholds, names)
    if not all(0 <= limit <= 1 for limit in limits.values()):
        raise InputError(f"thresholds must be >= 0 and <= 1, got {thresholds!r}")
    pairs: dict[int, tuple[float, float]] = {}
    if trained_priors is not None and priors is not None:
        pairs = dict(enumerate(zip(trained_priors, priors, strict=True)))
    wanted = [
        MaskedClass(k, name, limits.get(k), pairs.get(k))
        for k, name in enumerate(names)
        if classes is None or name in classes
    ]
    rule = checks.one_of("threshold_rule", threshold_rule, tuple(THRESHOLD_RULES))
    return MaskFormat(wanted, checks.flag("single_mask", single_mask), rule)
