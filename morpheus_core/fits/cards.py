"""Cards of FITS headers: which say something of the observation, and what one can hold."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from astropy.io import fits

Cards = dict[str, Any]

#: Cards that say what was observed, by whom, when and how: section 4.4.2 and 9 of the FITS
#: standard 4.0, and what most observatories add. Others may speak of the pixels of the input.
NUMBERS = ("MJD-OBS", "MJD-BEG", "MJD-AVG", "MJD-END", "EXPTIME", "EXPOSURE", "XPOSURE", "TELAPSE")
OBSERVATION = (
    *("OBJECT", "TARGNAME", "TELESCOP", "INSTRUME", "DETECTOR", "FILTER", "FILTER1", "FILTER2"),
    *("OBSERVER", "OBS_ID", "PROGRAM", "AUTHOR", "REFERENC"),
    *("DATE-OBS", "TIME-OBS", "DATE-BEG", "DATE-AVG", "DATE-END", "TIMESYS"),
    *NUMBERS,
)
#: Characters of text and comment in a card, besides keyword and punctuation.
CARD_TEXT = 65
#: Characters that a number takes.
NUMBER_TEXT = 20


def observation_cards(source: fits.Header | None, primary: fits.Header | None = None) -> Cards:
    """Return what a header says of the observation, with comments.

    `primary` is the header of the primary HDU of the same file, which extensions inherit from
    unless they say otherwise.
    """
    cards: Cards = {}
    inherits = source is None or source.get("INHERIT", True) is not False
    headers = [header for header in (primary if inherits else None, source) if header is not None]
    for header in headers:
        for key in OBSERVATION:
            with quietly_mended():
                try:
                    value, comment = header[key], header.comments[key]
                    fits.Card(key, value, comment).verify("exception")
                except Exception:  # absent, or not as the standard wants it
                    continue
            if is_meant(key, value):
                cards[key] = commented(value, comment)
    return cards


def is_meant(key: str, value: Any) -> bool:
    """Say whether the value of a card is of the kind that its keyword promises."""
    if key in NUMBERS:
        return isinstance(value, (int, float)) and math.isfinite(value) and value is not True
    if key.startswith("DATE-"):
        with suppress(ValueError, TypeError):
            datetime.fromisoformat(value)
            return re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?)?", value) is not None
        return False
    return isinstance(value, str)


def commented(value: Any, comment: str) -> tuple[Any, str]:
    """Return a value and its comment, without the comment where a card cannot hold both."""
    length = len(value.replace("'", "''")) if isinstance(value, str) else NUMBER_TEXT
    return value, comment if length + len(comment) <= CARD_TEXT else ""


@contextmanager
def quietly_mended() -> Iterator[None]:
    """Leave out warnings of cards that were mended."""
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield
