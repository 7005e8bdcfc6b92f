"""How the tensors of a network lie in memory: tried, where the user leaves it open."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.batch_sizes import GAIN, FirstWindows, seconds_of
from morpheus_core.pipeline.halves import Halves
from morpheus_core.pipeline.models import Model, failure, given

#: By how much answers may differ, as a share of their range. Rounding of convolutions stays at a
#: few 1e-7; group normalization with channels last lost two digits more, and is refused.
TOLERANCE = 1e-5
#: Calls that are timed, of which the fastest counts, after one that loads.
CALLS = 3
#: Windows that they are tried with, where the batches of the run are not larger.
WINDOWS = 32


@dataclass(frozen=True, slots=True)
class TriedFormats:
    """What was found.

    Attributes
    ----------
    chosen : str
        The format that is used.
    speeds : dict
        Windows per second by format.
    difference : float
        By how much their answers differ at most, as a share of their range.
    """

    chosen: str
    speeds: dict[str, float]
    difference: float

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in self.speeds.items())
        return (
            f"memory_format={self.chosen!r}; windows per second: {speeds}; answers differ by "
            f"{self.difference:.1g} of their range"
        )


def formats_of(model: Any) -> dict[str, Model]:
    """Return a model in each format of which one is to be chosen; none if nothing is left open.

    A model that leaves it open has a method ``in_formats``, as adapters of PyTorch do; it may be
    within another one that is a dataclass.
    """
    if inspect.isclass(model):
        return {}
    own = getattr(model, "in_formats", None)
    if own is not None:
        found: dict[str, Model] = own()
        return found
    if is_dataclass(model) and any(field.name == "model" for field in fields(model)):
        within: Any = model
        return {name: replace(within, model=one) for name, one in formats_of(within.model).items()}
    return {}


def try_formats(
    models: Mapping[str, Model], first_windows: FirstWindows, size: int
) -> TriedFormats:
    """Return the fastest format whose answers are those of the first one, up to rounding.

    Parameters
    ----------
    models : mapping
        The same model by format.
    first_windows : callable
        Gives what they are tried with.
    size : int
        How many windows the batches of the run have.

    Raises
    ------
    ModelError
        If the model fails.
    """
    usual, *_ = models
    batch = first_windows(max(size, WINDOWS))
    if batch is None:
        return TriedFormats(usual, {}, 0.0)
    seconds, answers = dict.fromkeys(models, np.inf), {}
    fitted = {name: Halves.around(model) for name, model in models.items()}
    try:
        for call in range(1 + CALLS):
            for name, model in fitted.items():
                taken, answers[name] = seconds_of(model, batch)
                if call > 0:
                    seconds[name] = min(seconds[name], taken)
    except Exception as error:
        raise failure(error, given(batch)) from error
    difference = max(distance(answer, answers[usual]) for answer in answers.values())
    fastest = min(seconds, key=lambda name: seconds[name])
    gains = seconds[usual] > GAIN * seconds[fastest] and difference <= TOLERANCE
    speeds = {name: len(batch[0]) / taken for name, taken in seconds.items()}
    return TriedFormats(fastest if gains else usual, speeds, difference)


def distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return by how much two answers differ at most, as a share of the range of one."""
    finite = np.isfinite(first) & np.isfinite(second)
    if not finite.any():
        return 0.0
    spread = float(np.ptp(second[finite]))
    most = float(np.abs(first[finite] - second[finite]).max())
    return most / spread if spread else float(most > 0)
