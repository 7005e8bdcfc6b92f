"""What became of the rows of a catalogue, in words."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.batches import CUT, Status
from morpheus_core.catalogs.folders import remove
from morpheus_core.errors import InputError, MorpheusWarning

logger = logging.getLogger("morpheus_core")

#: What may be wrong with all rows that have a status.
WAYS_OUT = {
    Status.OFF_IMAGE: "are positions ICRS in degrees, right ascension and declination not swapped?",
    Status.MISSING_FILE: "is the template right, and are its whole numbers whole in the catalogue?",
}


def refuse_no_answer(statuses: NDArray[np.uint8], directory: Path | None) -> None:
    """Raise if no row lies on an image that could be read; records of that are worth nothing."""
    if not len(statuses) or np.isin(statuses, CUT).any():
        return
    remove(directory)
    found, counts = np.unique(statuses, return_counts=True)
    status = Status(found[counts.argmax()])
    way_out = WAYS_OUT.get(status, "the log says what is wrong with the first of them")
    raise InputError(
        f"a row of the catalogue must lie on an image that can be read, got {counts.max()} of "
        f'{len(statuses)} rows with status "{status.text}"; {way_out}'
    )


def texts_of(statuses: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return what the table says of statuses."""
    return np.array([status.text for status in Status])[statuses]


def summarize(statuses: NDArray[np.uint8]) -> None:
    """Log how many rows have which status, and warn if some have no result."""
    counts = [
        f"{count} {Status(status).text}"
        for status, count in zip(*np.unique(statuses, return_counts=True), strict=True)
    ]
    logger.info("%d rows: %s", len(statuses), ", ".join(counts))
    without = int(np.count_nonzero(statuses))
    if without:
        warnings.warn(
            f"{without} of {len(statuses)} rows have no result: {', '.join(counts)}; see the "
            f"column status",
            MorpheusWarning,
            stacklevel=3,
        )
