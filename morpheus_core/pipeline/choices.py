"""What is chosen by trying when a run begins, and kept until it ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morpheus_core.pipeline.batch_sizes import (
    SIZES,
    FirstWindows,
    fastest_size,
    speeds_of,
)
from morpheus_core.pipeline.memory_formats import TriedFormats, formats_of, try_formats
from morpheus_core.pipeline.models import Model, resolve

logger = logging.getLogger("morpheus_core")


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen.

    Attributes
    ----------
    model : callable or str
        The user's model, with nothing left open.
    batch_size : int
        How many windows it gets at once.
    memory_format : str or None
        How its network's tensors lie in memory, where that was open.
    tried : TriedFormats or None
        What was found about that, if it was not known before.
    """

    model: Model | str
    batch_size: int
    memory_format: str | None = None
    tried: TriedFormats | None = None


def is_open(model: Any, batch_size: int | None) -> bool:
    """Say whether there is anything to be chosen."""
    return batch_size is None or bool(formats_of(model))


def choose(
    model: Model | str,
    batch_size: int | None,
    first_windows: FirstWindows,
    stored: Mapping[str, Any] | None,
) -> Choices:
    """Choose what is left open.

    Parameters
    ----------
    model : callable or str
        The user's model.
    batch_size : int or None
        How many windows it gets at once; None is to be chosen.
    first_windows : callable
        Gives what the model is tried with.
    stored : mapping or None
        What a run that goes on has chosen when it began, by the names of :class:`Choices`.

    Raises
    ------
    InputError
        If the size is neither.
    ModelError
        If the model fails, but for want of memory.
    """
    stored = stored or {}
    size = stored.get("batch_size") if batch_size is None else batch_size
    memory_format, tried, models = None, None, formats_of(model)
    if models:
        memory_format = stored.get("memory_format")
        if memory_format not in models:
            tried = try_formats(models, first_windows, size or SIZES[0])
            logger.info("%s", tried)
            memory_format = tried.chosen
        model = models[memory_format]
    if size is None:
        speeds = dict(speeds_of(resolve(model), first_windows))
        size = fastest_size(speeds)
        most = speeds.get(size, 0.0)
        logger.info("batch_size=%d was the fastest, with %.0f windows per second", size, most)
    return Choices(model, size, memory_format, tried)
