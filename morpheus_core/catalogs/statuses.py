"""What became of the rows of a catalogue, in words."""

from __future__ import annotations

import logging
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError, warn

logger = logging.getLogger("morpheus_core")


class Status(IntEnum):
    """What became of a row."""

    OK = 0
    NO_POSITION = 1
    MISSING_FILE = 2
    UNREADABLE_FILE = 3
    OFF_IMAGE = 4
    AT_THE_EDGE = 5
    BLANK = 6
    NOT_FINITE = 7
    BAD_POSITION = 8
    NO_WORLD_COORDINATES = 9
    OTHER_SCALE = 10
    OTHER_ORIENTATION = 11
    TOO_SMALL = 12
    NO_PROBABILITIES = 13
    OTHER_SIZE = 14
    OTHER_BANDS = 15

    @property
    def text(self) -> str:
        """What the table says."""
        return "ok" if self is Status.OK else self.name.lower().replace("_", " ")


#: What becomes of rows that lie on an image that could be read, if the model is right.
CUT = (Status.OK, Status.AT_THE_EDGE, Status.BLANK, Status.NOT_FINITE)
NO_PROBABILITIES_WAY_OUT = (
    'does the model lack activation="softmax"? Or divide its scores by their sum; an aperture must '
    "not hold pixels without any"
)
#: What may be wrong with all rows that have a status.
WAYS_OUT = {
    Status.OFF_IMAGE: "are positions ICRS in degrees, right ascension and declination not swapped?",
    Status.NO_PROBABILITIES: NO_PROBABILITIES_WAY_OUT,
    Status.MISSING_FILE: "is the template right, and are its whole numbers whole in the catalogue?",
}


def refuse_no_answer(statuses: NDArray[np.uint8]) -> None:
    """Raise if nothing can be said of any row, which one mistake has caused."""
    if not len(statuses) or np.isin(statuses, CUT).any():
        return
    found, counts = np.unique(statuses, return_counts=True)
    status = Status(found[counts.argmax()])
    way_out = WAYS_OUT.get(status, "the log says what is wrong with the first of them")
    raise InputError(
        f"a row of the catalogue must lie on an image that can be read, and have scores of use, "
        f'got {counts.max()} of {len(statuses)} rows with status "{status.text}"; {way_out}'
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
        warn(
            f"{without} of {len(statuses)} rows have no result: {', '.join(counts)}; see the "
            f"column status"
        )
