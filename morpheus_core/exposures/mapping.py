"""Exposures of many images → files of masks with the same HDUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from morpheus_core import checks
from morpheus_core.adapters import adjust_priors
from morpheus_core.errors import InputError
from morpheus_core.exposures.class_masks import MaskedClass, MaskFormat
from morpheus_core.exposures.files import Exposure, find_exposures
from morpheus_core.exposures.mask_files import Recipe, write_masks
from morpheus_core.images.check_sums import CheckSums
from morpheus_core.images.image import ArrayImage
from morpheus_core.images.stack import ImageStack
from morpheus_core.morpheus_core import predict
from morpheus_core.parallel.devices import plan_workers
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS, NanPolicy
from morpheus_core.pipeline.descriptions import model_name
from morpheus_core.pipeline.models import FactoryModel, Model, resolve
from morpheus_core.preparation import arguments_of, make_job
from morpheus_core.results.exports import checked_thresholds
from morpheus_core.sky.alignment import CHECKS
from morpheus_core.windows.grid import Edges, Padding


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file.

    Attributes
    ----------
    source : str
        The file, with the HDU in brackets if only one was meant.
    output : Path or None
        Its masks.
    error : Exception or None
        Why it has none.
    """

    source: str
    output: Path | None = None
    error: Exception | None = None


def map_exposures(
    model: Model | str,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    n_classes: int,
    batch_size: int,
    window_shape: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    update_map: ArrayLike | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    gpus: Sequence[int | str] | None = None,
    cpus: int | None = None,
    *,
    edges: Edges = "cover",
    padding: Padding | None = None,
    nan_policy: NanPolicy = "propagate",
    skip_blank: bool = False,
    check_sums: CheckSums = "warn",
    class_names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    trained_priors: Sequence[float] | None = None,
    priors: Sequence[float] | None = None,
    thresholds: float | Sequence[float] | None = 0.5,
    single_mask: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    on_file: Callable[[Outcome], object] | None = None,
) -> list[Outcome]:
    """Write masks of the classes in exposures, each file on its own.

    Every image of two dimensions in a file, of whatever size and type, goes through
    :func:`morpheus_core.predict`; the mean probability of each class becomes a mask, which takes
    the place of the image. All other HDUs are copied as they are: tables, cubes, images without
    pixels, and also images with a third axis of length one. Images that are smaller than the
    window need `padding`.

    Parameters
    ----------
    model : callable or str
        As for `predict`; returns one probability per class.
    paths : path or list of paths
        FITS files, ``"exposure.fits"``; one HDU of a file, ``"exposure.fits[3]"``; or directories,
        of which all files that end in .fits, .fit or .fts, perhaps with .fz or .gz, are taken,
        those in subdirectories too. In directories, masks, hidden files and links to other
        directories are left out.
    n_classes, batch_size, window_shape, stride, update_map, gpus, cpus
        As for `predict`.
    out_dir : path, optional
        Where masks are written; those of a directory's files keep their place below it. By default
        beside the exposures.
    edges, padding, nan_policy, skip_blank, check_sums, progress
        As for `predict`.
    class_names : list of str, optional
        What the classes of the model are called.
    classes : list of str, optional
        The classes that are wanted; all by default.
    trained_priors, priors : list of float, optional
        For each class of the model the share of pixels it had in training, and the one that is
        expected in the exposures, for :func:`morpheus_core.adapters.adjust_priors`.
    thresholds : float, list of float or None, default 0.5
        A mask is 1 where the probability is at least this, from 0 to 1: one number for all classes,
        or one for each class of the model. None writes the probabilities themselves.
    single_mask : bool, default False
        Write one (height, width) image, whose bit k is the mask of class k of the model (cards
        ``BIT0``, ``BIT1``, ... name those that are wanted), of the smallest of uint8, int16, int32
        and int64. By default the masks are (classes, height, width), uint8 or, of probabilities,
        float32; cards ``CLASS0``, ``CLASS1``, ... name the planes. Pixels without a result are 0 in
        masks and NaN in probabilities.
    overwrite : bool, default False
        Replace existing files, once the new ones are complete, and what a killed run left.
    on_file : callable, optional
        Called with the outcome of each file when it is known.

    Returns
    -------
    list of Outcome
        One per file: where its masks are, or why there are none. ``exposure.fits``,
        ``exposure.fits.fz`` and ``exposure.fits.gz`` give ``exposure.masks.fits``;
        ``exposure.fits[3]`` gives ``exposure.masks3.fits``, which holds only that HDU. A file has
        its name only when it is complete.

    Raises
    ------
    InputError
        If an argument cannot be used, whatever the files hold; nothing was done then. What is
        wrong with a file, or goes wrong with it, is in its outcome, and the others go on.
    ModelError
        If the model cannot be made.
    """
    numbers: dict[str, Any] = {
        "n_classes": n_classes,
        "batch_size": batch_size,
        "window_shape": window_shape,
        "stride": stride,
        "update_map": update_map,
        "edges": edges,
        "padding": padding,
        "nan_policy": nan_policy,
        "skip_blank": skip_blank,
        "check_sums": checks.one_of("check_sums", check_sums, CHECKS),
        "class_names": class_names,
        "aggregate_method": AGGREGATION_METHODS.MEAN_VAR,
    }
    refuse_arguments(model, numbers)
    sources = checked_sources(paths)
    if on_file is not None and not callable(on_file):
        raise InputError(f"on_file must be callable, got {on_file!r}")
    slots = plan_workers(cpus, gpus)
    names = [f"class_{k}" for k in range(n_classes)] if class_names is None else class_names
    mask_format = make_format(names, classes, trained_priors, priors, thresholds, single_mask)
    directory = None if out_dir is None else checks.path("out_dir", out_dir)
    used = model if slots else resolve(model)  # once, not for each HDU
    if priors is not None and trained_priors is not None:
        called = FactoryModel(used) if isinstance(used, str) else used
        used = adjust_priors(called, trained=trained_priors, expected=priors)
    shown = checks.flag("progress", progress)
    run = partial(predict, used, **numbers, gpus=gpus, cpus=cpus, progress=shown)
    recipe = Recipe(run, model_name(model), mask_format)
    exposures, refused = find_exposures(sources, directory)
    outcomes = []
    for outcome in chain(
        (Outcome(source, error=error) for source, error in refused.items()),
        outcomes_of(exposures, recipe, checks.flag("overwrite", overwrite)),
    ):
        outcomes.append(outcome)
        if on_file is not None:
            on_file(outcome)
    return outcomes


def refuse_arguments(model: Model | str, numbers: dict[str, Any]) -> None:
    """Raise what `predict` would raise of its arguments for any image, here one of one window."""
    checks.model(model)
    shape = checks.positive_pair("window_shape", numbers["window_shape"])
    with ImageStack([ArrayImage(np.zeros(shape), "an image")]) as stack:
        make_job(stack, arguments_of(predict, model, [], **numbers))


def checked_sources(paths: Any) -> list[str | os.PathLike[str]]:
    """Return one or several paths as a list."""
    several = isinstance(paths, Iterable) and not isinstance(paths, (str, os.PathLike))
    sources = list(paths) if several else [paths]
    if not sources or not all(isinstance(source, (str, os.PathLike)) for source in sources):
        raise InputError(f"paths must be a path, or a list of at least one, got {paths!r}")
    return sources


def make_format(
    names: Sequence[str],
    classes: Sequence[str] | None,
    trained_priors: Sequence[float] | None,
    priors: Sequence[float] | None,
    thresholds: float | Sequence[float] | None,
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
    return MaskFormat(wanted, checks.flag("single_mask", single_mask))


def outcomes_of(
    exposures: Sequence[Exposure], recipe: Recipe, overwrite: bool
) -> Iterator[Outcome]:
    """Write the masks of exposures, one after the other."""
    for exposure in exposures:
        try:
            write_masks(exposure, recipe, overwrite)
        except Exception as error:  # whatever it is, other files may be well
            yield Outcome(str(exposure), error=error)
        else:
            yield Outcome(str(exposure), exposure.output)
