"""The entry point for catalogues: one answer per source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import DTypeLike

from morpheus_core import checks
from morpheus_core.adapters.trained_names import refuse_other_classes, refuse_other_order
from morpheus_core.catalogs.arguments import kept, make_cut, make_predictor
from morpheus_core.catalogs.batches import SetReader
from morpheus_core.catalogs.choices import with_choices
from morpheus_core.catalogs.cutouts import RESIZES, Resize
from morpheus_core.catalogs.folders import remove
from morpheus_core.catalogs.inputs import find_inputs, find_sources, place_rows, some_images
from morpheus_core.catalogs.places import input_paths, places_of
from morpheus_core.catalogs.provenance import catalog_provenance
from morpheus_core.catalogs.run import CatalogRequest, CatalogRun, collect, in_order
from morpheus_core.catalogs.statuses import refuse_no_answer, summarize, texts_of
from morpheus_core.catalogs.tables import (
    refuse_names,
    result_table,
    write_table,
)
from morpheus_core.catalogs.windows import CatalogEdges
from morpheus_core.catalogs.work import CATALOG_ON_NAN, CatalogJob, CatalogOnNan
from morpheus_core.columns.derived import Derived
from morpheus_core.errors import InputError
from morpheus_core.images.check_sums import CheckSums
from morpheus_core.images.check_sums import check_sums as compare_sums
from morpheus_core.images.image import Bands, Image
from morpheus_core.images.stack import ModelInputs
from morpheus_core.packages.filling import filled
from morpheus_core.packages.package import as_model, card_of
from morpheus_core.packages.sky_check import SKY_CHECKS, CheckSky
from morpheus_core.packages.sky_check import check_sky as check_sky_of
from morpheus_core.parallel.choice import choose_workers
from morpheus_core.parallel.folders import Folders, held
from morpheus_core.parallel.threads import limited_threads
from morpheus_core.pipeline.models import Model
from morpheus_core.results.outputs import output_errors
from morpheus_core.sky.alignment import CHECKS, check_alignment
from morpheus_core.sky.mending import warn_of_other_distortions
from morpheus_core.windows.grid import Padding

if TYPE_CHECKING:
    from astropy.table import Table


def predict_catalog(
    model: Model | str,
    model_inputs: ModelInputs,
    catalog: Any = None,
    n_classes: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    window_shape: tuple[int, int] | None = None,
    out: str | os.PathLike[str] | None = None,
    gpus: Sequence[int | str] | None = None,
    cpus: int | None = None,
    *,
    ra: str | None = None,
    dec: str | None = None,
    x: str | None = None,
    y: str | None = None,
    origin: Literal[0, 1] | None = None,
    bands: Bands | Sequence[str] = "last",
    edges: CatalogEdges = "shift",
    padding: Padding | None = None,
    resize: Resize | None = None,
    aperture: float | None = None,
    columns: str | Derived | Sequence[str | Derived] | None = None,
    class_names: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    ids: Sequence[int | str] | None = None,
    output_dtype: DTypeLike = "float32",
    work_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    prefetch: int | None = None,
    executor: Any = None,
    check_sky: CheckSky = "error",
    patience: float | None = None,
    check_sums: CheckSums = "warn",
    storage_options: Mapping[str, Any] | None = None,
    on_nan: CatalogOnNan = "warn",
    threads: int | None = None,
) -> Table:
    """Ask a model about a window around each position of a catalogue.

    Parameters
    ----------
    model : callable or str
        As for :func:`morpheus_core.predict`: called with a list that holds one (batch, height,
        width, bands) array per input. Returns (batch, n_classes), or (batch, height, width,
        n_classes), of which the pixel at the position counts; without the last axis if `n_classes`
        is 1.
    model_inputs : array, path, HDU, NDData, or list of these
        The images of all rows, as for `predict`; masks are not heeded. Each sky position goes
        through the world coordinates of each image, with all distortions, so images of a row may
        differ in pointing and size; their pixel scales must agree to 1 %, their orientations to
        three degrees. Or paths that name columns of the catalogue in braces, as `str.format` takes
        them, one set of files per row:
        ``"frame-{band}-{run:06d}-{camcol}-{field:04d}.fits.bz2"``; braces that are part of a name
        are doubled, ``"{{"``. Each file is opened once, the files of one row at a time. Addresses
        of both kinds, ``"s3://bucket/{id}.fits"``, need the extra ``remote``. Pictures, .jpg, .png
        and .tif, need the extra ``pictures``; where templates name them, the middle of each is the
        position, if no columns are given. Or cut-outs in one array, in memory or in a file .npy or
        .npz (``"file.npz[name]"``) which is mapped into memory: (rows, height, width, bands), or
        with ``bands="first"`` (rows, bands, height, width).
    catalog : Table, DataFrame or path, optional
        Without it a row is made for each cut-out: of an array, or of files, of which
        `model_inputs` are folders, patterns such as ``"galaxies/*.jpg"``, or names. The column
        OBJID has the names of files without their ends, as numbers if all are. Else an
        astropy Table or QTable, a pandas DataFrame, or a file: .csv, .ecsv, .fits, .fit, .xml,
        .vot, .votable, or .parquet (extra ``catalog``); .cat, .ldac and .txt are catalogues of
        SExtractor (any type but ASCII) and of gnuastro. An array has a cut-out for each row.
    n_classes, batch_size, window_shape
        As for `predict`. Batches are filled from several files where these have few rows. Of
        cut-outs without a catalogue, windows are as large as the first of them by default.
    out : path, optional
        Write the table there, when it is complete: .csv, .ecsv, .fits, .parquet, .xml,
        .hdf5, .h5, .vot or .votable. Missing values are blank in CSV, null in Parquet, and TNULL in
        FITS. CSV takes no vector.
    gpus, cpus
        As for `predict`; need `out` or `work_dir`.
    ra, dec : str, optional
        Columns of sky positions (ICRS): numbers in degrees, quantities, or text as
        `astropy.coordinates.Angle` reads it. Text with colons or blanks is sexagesimal,
        ``"00:00:00.41"`` and ``"-10:22:25.7"``: right ascensions in hours unless they say "d",
        declinations in degrees. `ra` alone may be a column of SkyCoord, of any frame.
    x, y : str, optional
        Columns of pixel positions: column and row of the image, pixel centres being whole numbers.
        If no column is named, those called ra and dec are taken, else ALPHAWIN_J2000 and the like
        of SExtractor, else x and y, in capitals or not, else XWIN_IMAGE and the like, else the only
        column of SkyCoord.
    origin : {0, 1}, optional
        What `x` and `y` are at the centre of the first pixel. By default 0, but 1 for columns of
        SExtractor (X_IMAGE, XWIN_IMAGE, XPSF_IMAGE) and of gnuastro.
    bands : {"last", "first"} or list of str
        As for `predict`; or what ``{band}`` stands for in a template, which gives one input per
        band.
    edges : {"shift", "pad", "skip"}
        What becomes of windows that reach beyond an image: they are moved inside, or the image is
        continued as `padding` says, or the row has no result.
    padding : {"reflect", "symmetric", "edge", "constant"}, optional
        As for `predict`, with ``edges="pad"``; "constant" by default, which is 0.
    resize : {"area", "crop"}, optional
        What becomes of cut-outs, whose middle is the position, if they are larger or smaller than
        the window: all of their pixels are averaged over the area of each new one, or their middle
        is taken. By default they are refused.
    aperture : float, optional
        Of models that score pixels, the mean over the pixels whose centres are at most this far
        from the position, in pixels, and over the nearest one; less than half a window. Near the
        edge of an image it is the mean over those that there are.
    columns : str, or list of str or of :mod:`morpheus_core.columns`, optional
        What is kept of the scores: ``["argmax", "entropy"]``,
        ``[columns.expected_value(bin_centres, name="Z")]``. By default one column for each class;
        with ``"vector"`` one column ``scores``, (rows, n_classes), of them all.
    class_names : list of str, optional
        What classes are called; "class_0", "class_1", ... by default.
    keep : list of str, optional
        Which columns of the catalogue the result has; all by default.
    ids : list of int or str, optional
        What rows are called that have no catalogue, in the order of the cut-outs.
    output_dtype : {"float32", "float64", "float16"}
        Of the results. With "float16" that of a vector, beside which other columns are float32;
        FITS and VOTable, which have no such numbers, get the vector as float32.
    work_dir : path, optional
        Where finished rows are kept until the table is complete; ``<out>.morpheus`` by default.
        Without that and `out` they are kept in memory.
    resume : bool, default False
        Continue the run that was interrupted, with the same arguments, catalogue and inputs, or
        begin one. Rows of a template's files that were missing or unreadable, or that have another
        size or time of change than when the run began, are run again.
    overwrite : bool, default False
        Replace an existing `out`, once the new one is complete.
    progress : bool, default True
        Show a progress bar.
    prefetch : int, optional
        As for `predict`.
    executor : executor, optional
        As for `predict`, for blocks of rows; needs `out` or `work_dir`.
    check_sky : {"error", "warn", "ignore"}
        As for `predict`. Of files that a template names, those of the first row are compared.
    patience : float, optional
        As for `predict`.
    check_sums : {"warn", "error", "ignore"}
        As for `predict`; each file of a template is compared when it is opened, and with "error"
        its rows have the status "unreadable file".
    storage_options : dict, optional
        As for `predict`. A run that is resumed does not see changes of files at addresses.
    on_nan : {"warn", "raise"}
        What to do if windows hold NaN and the answers about them do: their rows have the status
        "not finite" and are counted in the warning at the end, or the first such batch ends the
        run.
    threads : int, optional
        As for `predict`.

    Returns
    -------
    Table
        The catalogue's columns untouched and in its order, then the results, then `status`: "ok",
        "no position", "bad position" (text that is no angle, one beyond a pole or a turn, or
        infinity), "missing file", "unreadable file", "no world coordinates" (that are of use),
        "other scale", "other orientation", "too small" (an image, for a window), "other size" and
        "other bands" (of a cut-out, than the window and the first have), "off image", "at the
        edge" (``edges="skip"``), "blank" (NaN in every pixel of every input), "not finite"
        (what the model returned, or what is derived of it) or "no probabilities" (what columns
        need that are derived of a distribution). Results of all but "ok" are NaN, or
        masked if they are no floats. `meta` says of which run they are, as the headers of `predict`
        do; a CSV file has no place for that.

    Raises
    ------
    InputError
        If an argument, the catalogue, or an image of all rows cannot be used, no row has a
        position, or none lies on an image that can be read.
    ModelError, OutputError, WorkerError
        As `predict`.

    Warns
    -----
    MorpheusWarning
        If some rows have no result, with counts, or inputs show another sky at `x` and `y` or seem
        to have their bands elsewhere.

    Notes
    -----
    The first row of a window of n rows around the row p is ``ceil(p - n / 2)``, and so for columns:
    the convention of `astropy.nddata.Cutout2D`. A position half-way between two pixels is on the
    lower one. Positions are rounded to a millionth of a pixel before, so that the same place gives
    the same window as `x` and `y` and as `ra` and `dec`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import Table
    >>> from morpheus_core import predict_catalog
    >>> def brightest(batch):
    ...     (image,) = batch  # (batch, height, width, 1)
    ...     return image.max(axis=(1, 2))  # (batch, 1)
    >>> image = np.arange(100.0).reshape(10, 10)
    >>> catalog = Table({"x": [4.0, 7.2], "y": [4.0, 0.9]})
    >>> print(predict_catalog(brightest, image, catalog, 1, 8, (3, 3), progress=False))
     x   y  class_0 status
    --- --- ------- ------
    4.0 4.0    55.0     ok
    7.2 0.9    28.0     ok
    """
    place = places_of(out, work_dir, overwrite)
    workers = choose_workers(cpus, gpus, executor, prefetch, patience=patience, threads=threads)
    if (workers or resume) and place.directory is None:
        raise InputError(
            "cpus, gpus, executor and resume need out or work_dir, where finished rows are kept"
        )
    request = CatalogRequest(place.directory, workers, checks.flag("resume", resume), progress)
    model = as_model(model)
    sky_check = checks.one_of("check_sky", check_sky, SKY_CHECKS)
    found = find_inputs(model_inputs, catalog, bands, ids)
    resize = None if resize is None else checks.one_of("resize", resize, RESIZES)
    if window_shape is None and resize is None and card_of(model) is None:
        window_shape = found.usual_window("first" if bands == "first" else "last")
    told = filled(
        model,
        {
            "n_classes": n_classes,
            "batch_size": batch_size,
            "window_shape": window_shape,
            "class_names": class_names,
        },
    )
    predictor = make_predictor(
        model,
        told["n_classes"],
        told["window_shape"],
        aperture,
        columns,
        told["class_names"],
        output_dtype,
    )
    if origin not in (0, 1, None):
        raise InputError(f"origin must be 0 or 1, got {origin!r}")
    table = found.table
    positions = place_rows(found, (ra, dec, x, y), origin, predictor.window_shape, resize)
    sums = checks.one_of("check_sums", check_sums, CHECKS)
    cut = make_cut(positions, predictor.window_shape, told["batch_size"], edges, padding)
    cut = replace(cut, resize=resize)
    spread = checks.one_of("on_nan", on_nan, CATALOG_ON_NAN)
    with ExitStack() as opened:
        opened.enter_context(limited_threads(workers.threads))
        sources, set_of_row, images = find_sources(found, bands, opened, storage_options)
        sources = replace(sources, check=sums, storage_options=storage_options)
        rows = in_order(positions, set_of_row)
        if images is not None:
            compare_sums(images, sums)
            # Only for the error that it raises.
            list(SetReader(images, cut).pieces(rows.to_run[:1]))
        with some_images(images, sources, rows.to_run) as looked_at:
            if cut.in_middle and looked_at:
                SetReader(looked_at, cut)  # only for the error that it raises
                cut = replace(cut, bands=tuple(image.shape[2] for image in looked_at))
            look_at(looked_at, model, predictor.class_names, cut.on_sky, sky_check)
        table = kept(table, keep)
        refuse_names(table, [*predictor.names, "status"])
        place.check(table, predictor, lambda: input_paths(catalog, sources, images or ()))
        if place.directory is not None:
            opened.enter_context(output_errors(place.directory))
            opened.enter_context(held(Folders(place.directory)))
        job = with_choices(
            CatalogJob(predictor, cut, sources, spread, workers.threads),
            None if told["batch_size"] == "auto" else cut.batch_size,
            images,
            rows.to_run,
            place.directory if request.resume else None,
        )
        run = CatalogRun(job, images, rows.to_run, request)
        del positions, set_of_row
        values, statuses = collect(run, predictor, rows.statuses)
        try:
            refuse_no_answer(statuses)
        except InputError:
            remove(place.directory)  # records of no answer are worth nothing
            raise
        del run, rows  # memory that the table needs
        result = result_table(
            table, predictor.names, predictor.finished(values), texts_of(statuses)
        )
        named = model if isinstance(model, str) else job.predictor.model
        result.meta.update(catalog_provenance(named, found.provenance, bands, job))
        if place.out is not None:
            write_table(result, place.out, place.overwrite)
        remove(place.directory)
    summarize(statuses)
    return result


def look_at(
    images: Sequence[Image],
    model: Model | str,
    class_names: Sequence[str],
    on_sky: bool,
    check_sky: CheckSky,
) -> None:
    """Refuse images and classes that the model was not trained for; warn of other skies."""
    check_sky_of(model, images, check_sky)
    refuse_other_order(model, images)
    refuse_other_classes(model, class_names)
    if on_sky:
        warn_of_other_distortions(images)
    else:
        check_alignment(images, "warn", "give sky positions, ra= and dec=")
