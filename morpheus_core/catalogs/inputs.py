"""What users pass as inputs of a catalogue → where its rows are cut from, and where in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.catalogs.cutouts import (
    CutoutFiles,
    Resize,
    are_pictures,
    list_cutouts,
    refuse_other_size,
    table_of,
)
from morpheus_core.catalogs.positions import Positions, find_positions
from morpheus_core.catalogs.sources import Int64, Sources, is_template, name_files
from morpheus_core.catalogs.tables import read_catalog
from morpheus_core.errors import InputError
from morpheus_core.images.cutout_arrays import CutoutArray, CutoutImage, is_array_of_cutouts
from morpheus_core.images.image import BANDS, Bands, Image
from morpheus_core.images.sources import brings_mask, warn_of_other_order
from morpheus_core.images.stack import ModelInputs, as_list, open_images

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True, slots=True)
class CatalogInputs:
    """Inputs of a catalogue, and the catalogue, which may be made of them.

    Attributes
    ----------
    inputs : list
        What the user passed.
    table : Table
        The catalogue.
    files : CutoutFiles or None
        Files of which each is a row.
    stacks : list of CutoutArray
        Arrays that hold the cut-outs of all rows.
    """

    inputs: list[Any]
    table: Table
    files: CutoutFiles | None
    stacks: list[CutoutArray]

    @property
    def templates(self) -> list[str]:
        """The inputs that name columns."""
        if self.files is not None or self.stacks:
            return []
        return [os.fspath(source) for source in self.inputs if is_template(source)]

    @property
    def provenance(self) -> list[Any]:
        """What is said of the inputs in a header, which is not the name of each file."""
        return self.inputs if self.files is None else [self.files.named]

    def usual_window(self, layout: Bands) -> tuple[int, int] | None:
        """Return how large the first cut-out is, if inputs are cut-outs that can be read."""
        if self.stacks:
            return self.stacks[0].size
        if self.files is not None:
            with Sources([[self.files.paths[0]]], layout, "ignore").open(0) as images:
                return images[0].shape[:2]
        return None


def find_inputs(
    model_inputs: ModelInputs, catalog: Any, bands: Any, ids: Sequence[Any] | None
) -> CatalogInputs:
    """Find out what inputs are, and read the catalogue, or make one of them.

    Raises
    ------
    InputError
        If they cannot be used.
    """
    inputs = as_list(model_inputs)
    if catalog is not None and ids is not None:
        raise InputError("ids are for cut-outs without a catalogue, got both")
    arrays = [
        is_array_of_cutouts(source) and (catalog is None or not is_single_image(source))
        for source in inputs
    ]
    if any(arrays):
        if not all(arrays):
            raise InputError("model_inputs must all be arrays of cut-outs, or none of them")
        stacks = [CutoutArray(source, checks.one_of("bands", bands, BANDS)) for source in inputs]
        return CatalogInputs(inputs, table_of_stacks(stacks, catalog, ids), None, stacks)
    if catalog is not None:
        return CatalogInputs(inputs, read_catalog(catalog), None, [])
    files = list_cutouts(inputs)
    return CatalogInputs(inputs, files.table(ids), files, [])


def is_single_image(source: Any) -> bool:
    """Say whether an array is an image with an axis of length one before those of an image."""
    return isinstance(source, np.ndarray) and len(source) == 1


def table_of_stacks(stacks: Sequence[CutoutArray], catalog: Any, ids: Any) -> Table:
    """Return the catalogue of arrays, whose rows are in the same order."""
    from astropy.table import Table

    count = stacks[0].count
    table = table_of(ids, count) or (
        Table({"OBJID": np.arange(count)}) if catalog is None else read_catalog(catalog)
    )
    for stack in stacks:
        if stack.count != len(table):
            raise InputError(
                f"an array must hold a cut-out for each of {len(table)} rows, got {stack.count} in "
                f"{stack.name}"
            )
    return table


def place_rows(
    found: CatalogInputs,
    columns: Sequence[str | None],
    origin: Any,
    window_shape: tuple[int, int],
    resize: Resize | None,
) -> Positions:
    """Return where windows are: at positions of the catalogue, or in the middle of cut-outs.

    Parameters
    ----------
    found : CatalogInputs
        Where from.
    columns : sequence of str or None
        Of ra, dec, x and y, as the user named them.
    origin : {0, 1, None}
        Of pixel positions.
    window_shape, resize
        How large windows are, and what becomes of cut-outs of another size.
    """
    middle = found.files is not None or bool(found.stacks) or are_pictures(found.templates)
    named = [name for name in columns if name is not None]
    if named and (found.files is not None or found.stacks):
        raise InputError(
            f"windows of cut-outs lie in their middle, got the columns {', '.join(named)}"
        )
    if not middle or named:
        if resize is not None:
            raise InputError(
                f"resize is for cut-outs whose middle is the position, got {resize!r} beside "
                f"positions"
            )
        ra, dec, x, y = columns
        return find_positions(found.table, (ra, dec), (x, y), origin)
    if found.stacks:
        return middles_of(found.stacks, window_shape, resize)
    return Positions.in_the_middle(len(found.table))


def middles_of(
    stacks: Sequence[CutoutArray], window_shape: tuple[int, int], resize: Resize | None
) -> Positions:
    """Return the middle of each cut-out of arrays, which may be resized for it."""
    for stack in stacks:
        refuse_other_size(stack.size, window_shape, resize, stack.name)
        if resize == "area":
            stack.resize(window_shape)
        elif np.any(np.array(stack.size) < window_shape):
            raise InputError(
                f"windows must lie within cut-outs, got {window_shape} for {stack.size} of "
                f'{stack.name}; resize="area" brings these to the size of the window'
            )
    height, width = stacks[0].shape[0] // stacks[0].count, stacks[0].shape[1]
    tops = np.arange(stacks[0].count, dtype=np.float64) * height
    return Positions(False, np.full_like(tops, (width - 1) / 2), tops + (height - 1) / 2)


def find_sources(
    found: CatalogInputs,
    bands: Any,
    opened: ExitStack,
    storage_options: Mapping[str, Any] | None,
) -> tuple[Sources, Int64, list[Image] | None]:
    """Return where rows are cut from, and the images, open, if all rows have the same."""
    names = list(bands) if isinstance(bands, (list, tuple)) else []
    templates, rows = found.templates, len(found.table)
    if templates and isinstance(bands, str) and bands not in BANDS:
        raise InputError(f"bands of a template must be a list, {list(bands)!r}, got {bands!r}")
    layout = "last" if names else checks.one_of("bands", bands, BANDS)
    if templates:
        if len(templates) < len(found.inputs):
            raise InputError("model_inputs must all be templates with fields, or none of them")
        return *name_files(templates, names, layout, found.table), None
    if names:
        raise InputError(f'bands must be "last" or "first" without a template, got {bands!r}')
    if found.files is not None:
        return Sources([[path] for path in found.files.paths], layout), np.arange(rows), None
    if found.stacks:
        images: list[Image] = [CutoutImage(stack) for stack in found.stacks]
        return Sources([[]], layout), np.zeros(rows, np.int64), images
    for source in filter(brings_mask, found.inputs):
        raise InputError(
            f"windows are cut from images without a mask, got {type(source).__name__} with a mask; "
            f"pass its data alone, with the pixels filled that it marks"
        )
    images = open_images(found.inputs, layout, opened, storage_options)
    return Sources([[]], layout), np.zeros(rows, np.int64), images


@contextmanager
def some_images(
    images: Sequence[Image] | None, sources: Sources, rows: NDArray[Any]
) -> Iterator[Sequence[Image]]:
    """Yield the images of all rows, or those that are named for the first of them.

    Warns
    -----
    MorpheusWarning
        If the bands of the latter seem to be elsewhere.
    """
    with ExitStack() as opened:
        if images is None and len(rows):
            sources = replace(sources, check="ignore")  # the run compares all
            with suppress(InputError):  # which becomes the status of its rows
                images = opened.enter_context(sources.open(int(rows["set"][0])))
            for image in images or ():
                warn_of_other_order(image, sources.layout)
        yield images or ()
