"""Exposures of many images → files of masks with the same HDUs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import ArrayLike

from morpheus_core import checks
from morpheus_core.adapters import adjust_priors
from morpheus_core.errors import InputError, warn
from morpheus_core.exposures.arguments import (
    checked_job,
    checked_sources,
    default_class_names,
    make_choice,
    make_format,
    refuse_masks,
)
from morpheus_core.exposures.choices import choices_of
from morpheus_core.exposures.files import Exposure, find_exposures
from morpheus_core.exposures.mask_files import Recipe
from morpheus_core.exposures.run import MAP_FOLDER, MapRequest, MapRun, Outcome
from morpheus_core.images.check_sums import CheckSums
from morpheus_core.images.preparing_steps import Preparing
from morpheus_core.morpheus_core import predict
from morpheus_core.packages.package import card_of
from morpheus_core.packages.sky_check import SKY_CHECKS, CheckSky
from morpheus_core.parallel.choice import choose_workers
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.descriptions import model_name
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import FactoryModel, Model
from morpheus_core.pipeline.nan_policy import NanPolicy, OnNan
from morpheus_core.preparation import arguments_of, with_package
from morpheus_core.results.blocks import ThresholdRule
from morpheus_core.results.chosen import ProductDtype
from morpheus_core.sky.alignment import CHECKS
from morpheus_core.windows.grid import Edges, Padding
from morpheus_core.workspace.fingerprints import BUILD

#: What kind of files masks can be in.
MaskSink = Literal["fits", "fits.fz"]
MASK_SINKS: tuple[MaskSink, ...] = get_args(MaskSink)


def map_exposures(
    model: Model | str,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    n_classes: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    window_shape: tuple[int, int] | None = None,
    stride: tuple[int, int] = (1, 1),
    update_map: ArrayLike | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    gpus: Sequence[int | str] | None = None,
    cpus: int | None = None,
    *,
    edges: Edges = "cover",
    padding: Padding | None = None,
    nan_policy: NanPolicy = "propagate",
    on_nan: OnNan = "warn",
    skip_blank: bool = False,
    check_sums: CheckSums = "warn",
    class_names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    trained_priors: Sequence[float] | None = None,
    priors: Sequence[float] | None = None,
    thresholds: float | Sequence[float] | None = 0.5,
    threshold_rule: ThresholdRule = ">=",
    single_mask: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    on_file: Callable[[Outcome], object] | None = None,
    executor: Any = None,
    resume: bool = False,
    work_dir: str | os.PathLike[str] | None = None,
    check_sky: CheckSky = "error",
    patience: float | None = None,
    threads: int | None = None,
    sink: MaskSink = "fits",
    products: Sequence[str | tuple[str, str]] | None = None,
    product_dtype: ProductDtype = "float32",
    hdus: int | str | Sequence[int | str] | None = None,
    mask: int | str | None = None,
    mask_bits: int | str | Sequence[int] | None = None,
    prepare: Preparing | None = None,
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
        As for `predict`. ``batch_size="auto"`` is chosen once, by the first image that can be read.
    out_dir : path, optional
        Where masks are written; those of a directory's files keep their place below it. By default
        beside the exposures.
    edges, padding, nan_policy, on_nan, skip_blank, check_sums, progress
        As for `predict`.
    class_names : list of str, optional
        What the classes of the model are called; "class_0", "class_1", ... by default.
    classes : list of str, optional
        The classes that are wanted; all by default.
    trained_priors, priors : list of float, optional
        For each class of the model the share of pixels it had in training, and the one that is
        expected in the exposures, for :func:`morpheus_core.adapters.adjust_priors`. A model package
        may say the former.
    thresholds : float, list of float or None, default 0.5
        A mask is 1 where the probability reaches this, from 0 to 1: one number for all classes,
        or one for each class of the model. None writes the probabilities themselves.
    threshold_rule : {">=", ">"}
        Whether a probability that equals its threshold is in the mask (">="), or only higher ones
        are (">"), as in MaxiMask.
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
    executor : executor, optional
        As for `predict`; needs `out_dir` or `work_dir`, which all workers see, as they see the
        exposures.
    resume : bool, default False
        Continue the run over the same `paths` that was interrupted, with the same arguments:
        exposures that have their masks are not done again unless they have changed since, and
        those that failed are tried again. Where there is none, begin. As in `predict`, the model is
        the one that was stored for workers when the run began. Needs `out_dir` or `work_dir`.
    work_dir : path, optional
        Where finished HDUs are kept until their file is complete; by default a folder for these
        `paths` in ``.morpheus-map``, which is in `out_dir`, or beside the masks of the first
        exposure. Of a run in which files failed it is kept for `resume`, if that has `out_dir` or
        `work_dir`.
    check_sky : {"error", "warn", "ignore"}
        As for `predict`; a refused image is in the outcome of its file.
    patience, threads
        As for `predict`.
    sink : {"fits", "fits.fz"}
        With "fits.fz" masks are tile-compressed, without loss, in files whose names end so. Those
        of a first HDU are in the second then. All other HDUs are copied as they are.
    products : list of str, optional
        What is written of each image in place of masks: the products of `predict` with
        ``aggregate_method="mean_var"``, each image of them an HDU. Their names are those of
        `predict`, behind the name of the image, ``SCI_CLASS_MAP``. `thresholds` are those of
        "bits".
    product_dtype : {"float32", "uint8", "int16"}
        As for `predict`.
    hdus : int, str or list of these, optional
        The HDUs that are exposed to the model: numbers, names, or patterns of names, ``"SCI"``,
        ``"SCI,2"``, ``"CCD*"``. All other images of two dimensions, VAR or DQ for instance, are
        left out of the masks. By default masks are made of all. Brackets of a path count before
        this.
    mask : int or str, optional
        The HDU of the same file that marks bad pixels, as `mask` of `predict` does: its number, or
        its name, ``"DQ"``, which stands for the one that has the EXTVER of the image. Bad pixels
        have no result.
    mask_bits : int, str or list of int, optional
        As for `predict`.
    prepare : object, callable or None
        As for `predict`, for each image by itself. What it raises is in the outcome of its file.

    Returns
    -------
    list of Outcome
        One per file, in the order of `paths`, refused ones first: where its masks are, or why
        there are none. ``exposure.fits``, ``exposure.fits.fz`` and ``exposure.fits.gz`` give
        ``exposure.masks.fits``; ``exposure.fits[3]`` gives ``exposure.masks3.fits``, which holds
        only that HDU. A file has its name only when it is complete.

    Raises
    ------
    InputError
        If an argument cannot be used, whatever the files hold; nothing was done then. What is
        wrong with a file, or goes wrong with it, is in its outcome, and the others go on, also
        where that ends a worker of `cpus` or `gpus`.
    ModelError
        If the model cannot be made, or not be sent to workers.
    OutputError
        If another process runs in `work_dir`, or a run was interrupted there.
    WorkerError
        If the executor is broken.
    """
    kind = checks.one_of("sink", sink, MASK_SINKS)
    asked = arguments_of(
        predict,
        model,
        [],
        n_classes,
        batch_size,
        window_shape,
        stride=stride,
        update_map=update_map,
        aggregate_method=AGGREGATION_METHODS.MEAN_VAR,
        edges=edges,
        padding=padding,
        nan_policy=nan_policy,
        on_nan=on_nan,
        skip_blank=skip_blank,
        check_sums=checks.one_of("check_sums", check_sums, CHECKS),
        class_names=class_names,
        check_sky=checks.one_of("check_sky", check_sky, SKY_CHECKS),
        mask_bits=mask_bits,
        progress=False,
        threads=threads,
        products=products,
        product_dtype=product_dtype,
        thresholds=0.5 if thresholds is None else thresholds,
        prepare=prepare,
    )
    refuse_masks(products, classes, single_mask)
    choice = make_choice(hdus, mask, mask_bits)
    arguments = with_package(asked)
    model = arguments.model
    job = checked_job(arguments)
    sources = checked_sources(paths)
    if on_file is not None and not callable(on_file):
        raise InputError(f"on_file must be callable, got {on_file!r}")
    workers = choose_workers(cpus, gpus, executor, None, patience=patience, threads=threads)
    card = card_of(arguments.model)
    if card is not None and priors is not None and trained_priors is None:
        trained_priors = card.classes.priors
    names = job.class_names or default_class_names(job.n_classes)
    mask_format = make_format(
        names, classes, trained_priors, priors, thresholds, threshold_rule, single_mask
    )
    directory = None if out_dir is None else checks.path("out_dir", out_dir)
    exposures, refused = find_exposures(sources, directory, f".{kind}")
    request = MapRequest(
        run_directory(sources, directory, work_dir, exposures),
        out_dir is not None or work_dir is not None,
        workers,
        checks.flag("resume", resume),
        checks.flag("overwrite", overwrite),
        checks.flag("progress", progress),
    )
    refuse_request(request, executor)
    choices = choices_of(
        arguments, choice, exposures, request.directory if request.resume else None
    )
    model = choices.model
    job = replace(job, batch_size=choices.batch_size, memory_format=choices.memory_format)
    called = FactoryModel(model) if isinstance(model, str) else model
    if priors is not None and trained_priors is not None:
        called = adjust_priors(called, trained=trained_priors, expected=priors)
    arguments = replace(arguments, model=called, batch_size=choices.batch_size)
    recipe = Recipe(arguments, model_name(model), mask_format, choice)
    outcomes: dict[str | Exposure, Outcome] = {}

    def tell(key: str | Exposure, outcome: Outcome) -> None:
        outcomes[key] = outcome
        if on_file is not None:
            on_file(outcome)

    for source, error in refused.items():
        tell(source, Outcome(source, error=error))
    if exposures:
        fingerprint = {**fingerprint_of(job, model, recipe), "sink": kind}
        MapRun(recipe, fingerprint, request, tell).run(exposures)
    told = [outcomes[source] for source in refused] + [outcomes[one] for one in exposures]
    if on_file is None:
        warn_of_failures(told)
    return told


def warn_of_failures(outcomes: Sequence[Outcome]) -> None:
    """Warn if some files have no masks, for nobody was told so one by one."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        first = failed[0]
        warn(
            f"{len(failed)} of {len(outcomes)} files have no masks; the first is {first.source}: "
            f"{first.error}; error of each Outcome says why"
        )


def run_directory(
    sources: Sequence[str | os.PathLike[str]],
    out_dir: Path | None,
    work_dir: Any,
    exposures: Sequence[Exposure],
) -> Path:
    """Return where a run over some paths keeps its pieces; runs over others have other places."""
    if work_dir is not None:
        return checks.path("work_dir", work_dir)
    places = "\n".join(str(checks.path("paths", source).absolute()) for source in sources)
    digest = hashlib.sha256(places.encode(errors="surrogateescape")).hexdigest()[:16]
    first = exposures[0].output.parent if exposures else Path()
    return (out_dir or first) / MAP_FOLDER / digest


def refuse_request(request: MapRequest, executor: object) -> None:
    """Raise if something is asked for that needs a place to keep pieces."""
    for name, asked in (("resume=True", request.resume), ("executor", executor is not None)):
        if asked and not request.is_resumable:
            raise InputError(f"{name} needs out_dir or work_dir, where finished HDUs are kept")


def fingerprint_of(job: Job, model: Model | str, recipe: Recipe) -> dict[str, Any]:
    """Return what decides masks, as JSON values."""
    mask_format, choice, prepare = recipe.mask_format, recipe.choice, recipe.arguments.prepare
    parameters = job.parameters()
    del parameters["image_shape"]
    return {
        **BUILD,
        **parameters,
        "model": model if isinstance(model, str) else "an object",
        "masks": [list(map(str, card)) for card in mask_format.cards().cards],
        "single_mask": mask_format.single,
        "hdus": None if choice.hdus is None else list(choice.hdus),
        "mask": choice.mask,
        "mask_bits": checks.mask_bits(recipe.arguments.mask_bits),
        "prepare": None if prepare is None else model_name(prepare),
    }
