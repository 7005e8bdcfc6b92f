"""Angles that catalogues write as text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Text of columns that stands for nothing.
NO_TEXT = ("", "--", "nan", "NaN", "None", "<NA>")
#: The usual forms of text, which are read a hundred times faster than by astropy: sign, whole part
#: and its unit, minutes, seconds, as in "-10:22:25.7", "10 22 25", "0h00m0.41s".
SEXAGESIMAL = re.compile(r"([+-]?)(\d+)\s*([:hd\s])\s*([0-5]?\d)\s*[:m\s]\s*([0-5]?\d(?:\.\d*)?)s?")


def parse_angles(texts: Sequence[str], degrees_per_hour: float) -> NDArray[np.float64]:
    """Return angles in degrees, NaN where a text is empty, infinity where it is no angle.

    Parameters
    ----------
    texts : sequence of str
        Numbers in degrees, ``"0.0017"``, or what `astropy.coordinates.Angle` reads:
        ``"00:00:00.41"``, ``"0 0 0.41"``, ``"0h0.5m"``, ``"12.5d"``.
    degrees_per_hour : {15, 1}
        What the whole part of text without units is: 15 where that is hours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 60 seconds, which are a minute
        return np.array([parse_angle(text, degrees_per_hour) for text in texts], float)


def parse_angle(text: str, degrees_per_hour: float) -> float:
    """Return one angle in degrees."""
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    if text in NO_TEXT:
        return np.nan
    try:
        return float(text)
    except ValueError:
        parts = SEXAGESIMAL.fullmatch(text)
    if parts is None:
        return parse_unusual_angle(text, degrees_per_hour)
    sign, whole, unit, minutes, seconds = parts.groups()
    unit_size = {"h": 15.0, "d": 1.0}.get(unit, degrees_per_hour)
    angle = (int(whole) + int(minutes) / 60 + float(seconds) / 3600) * unit_size
    return -angle if sign == "-" else angle


def parse_unusual_angle(text: str, degrees_per_hour: float) -> float:
    """Return an angle as astropy reads it."""
    from astropy.coordinates import Angle

    try:
        return float(Angle(text, "hourangle" if degrees_per_hour == 15 else "deg").deg)
    except ValueError:
        return np.inf
