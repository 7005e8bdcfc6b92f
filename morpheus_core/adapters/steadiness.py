"""Whether a network gives one window one answer, whatever it is shown with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from morpheus_core.adapters.normalizers import Float32
from morpheus_core.errors import ModelError, warn
from morpheus_core.pipeline.memory_formats import distance

#: The most by which two answers may differ, as a share of their range. Rounding, which depends on
#: the size of a batch, reaches some 1e-5; dropout and the like begin far above.
TOLERANCE = 1e-3


class Steadiness:
    """Asks a network again about the first batch that can tell, and compares.

    Running twice shows dropout. The first half of the batch twice over shows what mixes windows:
    batch normalization in training mode, and ranges of numbers that are found anew for each batch.
    """

    def __init__(self) -> None:
        self._known = False

    def check(
        self,
        network: Callable[[list[Float32]], Float32],
        tensors: list[Float32],
        scores: Float32,
    ) -> None:
        """Compare what a network said, once.

        Parameters
        ----------
        network : callable
            From tensors to scores, window by window along the first axis.
        tensors : list of ndarray
            What it was given.
        scores : ndarray
            What it said.

        Raises
        ------
        ModelError
            If it says something else the second time.
        """
        if self._known or not np.isfinite(scores).any() or np.nanmin(scores) == np.nanmax(scores):
            return  # a blank batch says nothing
        self._known = True
        if distance(network(tensors), scores) > TOLERANCE:
            raise ModelError(
                "the network gives another answer each time: dropout is on, as in training mode; "
                "call eval() before it is exported or wrapped; to average over dropout on purpose, "
                "pass a function of yours that calls the network"
            )
        half = len(scores) // 2
        if half == 0:
            return
        mates = np.arange(len(scores)) % half  # as many: some networks take no other number
        among_others = network([one[mates] for one in tensors])
        if distance(among_others[:half], scores[:half]) > TOLERANCE:
            warn(
                "what the network says of a window depends on the windows that it is shown with, "
                "so batch_size decides the result: is it in training mode, so that batch "
                "normalization takes each batch for itself, or quantized dynamically?"
            )
