"""Batches in parts, where the memory of a model does not hold them whole."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.models import Model, StandIn, to_numpy

logger = logging.getLogger("morpheus_core")

#: Errors by which PyTorch, TensorFlow and JAX say so.
ERRORS = ("OutOfMemoryError", "ResourceExhaustedError")
#: What other errors say: PyTorch on the processor, ONNX Runtime, XLA, CUDA's libraries.
WORDS = re.compile(
    r"out of memory|can't allocate memory|failed to allocate memory|not enough memory|bad_alloc"
    r"|RESOURCE_EXHAUSTED|ALLOC_FAILED",
    re.IGNORECASE,
)


class Halves(StandIn):
    """A model that gets a batch in halves, of halves, when its memory is too small for it.

    What worked is kept for the batches that follow. Which windows make a batch does not change, so
    the results are those of a larger memory, if the model takes each window by itself. A model
    that changes its windows must not do so before it may fail.

    Parameters
    ----------
    model : callable
        The user's model.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._most = sys.maxsize

    @classmethod
    def around(cls, model: Model) -> Model:
        """Return a model that gets halves, which may be this one."""
        within = model
        while isinstance(within, StandIn) and not isinstance(within, cls):
            within = within.model
        return model if isinstance(within, cls) else cls(model)

    def __call__(self, windows: list[NDArray[Any]]) -> Any:
        """Predict."""
        count, first, parts = len(windows[0]), 0, []
        while first < count:
            stop = min(first + self._most, count)
            try:
                answer = self.model([one[first:stop] for one in windows])
                if stop - first == count:
                    return answer
                parts.append(np.array(to_numpy(answer)))  # whose memory may be used again
                first = stop
            except Exception as error:
                if stop - first == 1 or not is_out_of_memory(error):
                    raise
                self._most = (stop - first + 1) // 2
                logger.info(
                    "the model is out of memory with %d windows; it gets %d at once",
                    stop - first,
                    self._most,
                )
            if first < stop:  # only here has the error let go of what it held
                give_back_memory()
        return np.concatenate(parts)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Say whether memory was too small, according to an error or those that led to it."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ in ERRORS:
            return True
        if isinstance(error, Exception) and WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def give_back_memory() -> None:
    """Let a GPU have what PyTorch keeps for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
