"""What a run over exposures chooses when it begins."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from morpheus_core import checks
from morpheus_core.errors import InputError, MorpheusWarning
from morpheus_core.exposures.files import Exposure
from morpheus_core.exposures.hdu_choice import HduChoice, planes_of
from morpheus_core.exposures.mask_files import opened
from morpheus_core.parallel.folders import Folders
from morpheus_core.pipeline.batch_sizes import SIZES
from morpheus_core.pipeline.choices import Choices, choose, is_open
from morpheus_core.preparation import Arguments, prepare
from morpheus_core.storage.names import is_there


def map_path(folders: Folders) -> Path:
    """Return where it is noted what is run."""
    return folders.folder(0) / "map.json"


def choices_of(
    arguments: Arguments, choice: HduChoice, exposures: Iterable[Exposure], begun: Path | None
) -> Choices:
    """Choose what is left open, by the first image that can be read.

    Parameters
    ----------
    arguments : Arguments
        Of :func:`morpheus_core.predict`, but for the image; they were checked.
    choice : HduChoice
        Of which images masks are made.
    exposures : iterable of Exposure
        The files.
    begun : Path or None
        The folder of a run that may go on.

    Raises
    ------
    ModelError
        If the model fails.
    """
    model = arguments.model
    automatic = arguments.batch_size == "auto"
    size = None if automatic else checks.whole_number("batch_size", arguments.batch_size)
    if not is_open(model, size):
        return choose(model, size, lambda _: None, None)
    path = None if begun is None else map_path(Folders(begun))
    if path is not None and is_there(path):
        return choose(model, size, lambda _: None, json.loads(path.read_text()))
    for exposure in exposures:
        with suppress(InputError):  # which will be its outcome
            return tried_with(arguments, choice, exposure)
    # None can be read, so that nothing will be run.
    return choose(model, size or SIZES[0], lambda _: None, None)


def tried_with(arguments: Arguments, choice: HduChoice, exposure: Exposure) -> Choices:
    """Choose by the first image of an exposure."""
    with warnings.catch_warnings(), opened(exposure.path) as (_, hdus):
        warnings.simplefilter("ignore", MorpheusWarning)  # they come when it is run
        first, *_ = planes_of(hdus, choice.chosen(exposure, hdus))
        marks = choice.mask_of(hdus, first)
        mask = None if marks is None else hdus[marks]
        asked = replace(arguments, model_inputs=hdus[first], mask=mask, check_sums="ignore")
        with prepare(asked) as ready:
            return Choices(ready.arguments.model, ready.job.batch_size, ready.job.memory_format)
