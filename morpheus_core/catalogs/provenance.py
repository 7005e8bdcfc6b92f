"""How the results of a catalogue came about, for the header of its table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from morpheus_core.catalogs.answers import RowPredictor, column_names
from morpheus_core.catalogs.work import CatalogJob
from morpheus_core.columns.bins import BINS, as_text
from morpheus_core.images.stack import ModelInputs, as_list
from morpheus_core.pipeline.descriptions import model_digest, model_name
from morpheus_core.pipeline.models import Model
from morpheus_core.results.provenance import as_card_value, ascii_text
from morpheus_core.version import __version__


def catalog_provenance(
    model: Model | str,
    model_inputs: ModelInputs,
    bands: str | Sequence[str],
    job: CatalogJob,
) -> dict[str, Any]:
    """Return how results of a catalogue came about, by the keywords of cards."""
    inputs = {
        f"INPUT{index}": ascii_text(os.fspath(source))
        if isinstance(source, (str, os.PathLike))
        else type(source).__name__
        for index, source in enumerate(as_list(model_inputs))
    }
    digest, cut, threads = model_digest(model), job.cut, job.threads
    return {
        "CREATOR": f"morpheus_core {__version__}",
        "MODEL": ascii_text(model_name(model)),
        **({} if digest is None else {"MODELSUM": digest}),
        **inputs,
        "BANDS": ascii_text(bands if isinstance(bands, str) else ", ".join(bands)),
        "WINDOW": as_card_value([*cut.window_shape]),
        "EDGES": cut.edges,
        "PADDING": as_card_value(cut.padding),
        **({} if cut.resize is None else {"RESIZE": cut.resize}),
        "APERTURE": as_card_value(job.predictor.aperture),
        "BATCHSIZ": cut.batch_size,
        **({} if threads is None else {"THREADS": threads}),
        **vector_cards(job.predictor),
    }


def vector_cards(predictor: RowPredictor) -> dict[str, str]:
    """Return what the values of a vector stand for: bins, or classes that have names."""
    names = predictor.class_names
    for column in predictor.columns:
        if column.is_vector and column.bin_centres is not None:
            return {BINS: as_text(column.bin_centres)}
        if column.is_vector and names != column_names(len(names), ()):
            return {f"CLASS{index}": name for index, name in enumerate(names)}
    return {}
