"""The steps that all adapters of networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from morpheus_core.adapters.activations import ACTIVATIONS, Activation
from morpheus_core.adapters.normalizers import Float32
from morpheus_core.adapters.preparation import Preparation
from morpheus_core.adapters.signature import NetworkInput, check_tensors
from morpheus_core.errors import ModelError
from morpheus_core.pipeline.descriptions import described


@dataclass(frozen=True, slots=True)
class Network:
    """A loaded network.

    Attributes
    ----------
    run : callable
        From a list of float32 tensors to its scores, in its own layout.
    inputs : tuple of NetworkInput, optional
        The tensors it takes, if it says so.
    """

    run: Callable[[list[Float32]], Any]
    inputs: tuple[NetworkInput, ...] | None = None

    @property
    def batch_size(self) -> int | None:
        """The only batch size that it takes, if there is one."""
        return self.inputs[0].shape[0] if self.inputs else None


class Source(Protocol):
    """Where a network comes from: light, and fit to be pickled."""

    def load(self) -> Network:
        """Load the network, in the process and on the device where it is used."""


@dataclass(frozen=True, repr=False, eq=False)
class Adapter:
    """A network as a callable for `predict`; see :mod:`morpheus_core.adapters` for its steps.

    Attributes
    ----------
    source : Source
        Where the network comes from.
    preparation : Preparation
        What comes before it.
    activation : {"softmax", "sigmoid"}, optional
        What comes after it.
    """

    source: Source
    preparation: Preparation
    activation: Activation | None = None

    __repr__ = described

    @cached_property
    def network(self) -> Network:
        """The network, loaded when it is first asked for."""
        return self.source.load()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "network"}

    def __call__(self, windows: list[NDArray[Any]]) -> Float32:
        """Score windows.

        Parameters
        ----------
        windows : list of ndarray, each (batch, height, width, bands)
            One per image.

        Returns
        -------
        ndarray of float32, shape (batch, height, width, classes) or (batch, classes)

        Raises
        ------
        ModelError
            If the network does not take them, or returns something else than scores.
        """
        tensors = self.preparation(windows)
        network = self.network
        if network.inputs is not None:
            check_tensors(network.inputs, tensors, self.preparation.channels)
        size = network.batch_size or len(tensors[0])
        scores = [self._scores(network, piece) for piece in pieces(tensors, size)]
        joined = np.concatenate(scores)[: len(tensors[0])]  # without what completed the last piece
        return joined if self.activation is None else ACTIVATIONS[self.activation](joined)

    def _scores(self, network: Network, piece: list[Float32]) -> Float32:
        """Return the scores of a piece of a batch."""
        scores = self._channels_last(network.run(piece))
        if len(scores) != len(piece[0]):
            raise ModelError(
                f"the network must return as many scores as it was given windows, "
                f"{len(piece[0])}, got {scores.shape}"
            )
        return scores

    def _channels_last(self, answer: Any) -> Float32:
        """Return what a network returned as float32 with the classes last."""
        scores = np.asarray(only(answer), np.float32)
        if scores.ndim == 2:
            return scores
        if scores.ndim == 3:
            return scores[..., np.newaxis]  # one class
        if scores.ndim == 4:
            return np.moveaxis(scores, 1, -1) if self.preparation.channels == "first" else scores
        raise ModelError(
            f"the network must return scores of pixels, with four axes, or of windows, with two, "
            f"got {scores.shape}"
        )


def only(answer: Any) -> Any:
    """Return what a network returned, which may be the only one in a list."""
    if not isinstance(answer, (list, tuple, dict)):
        return answer
    if len(answer) == 1 and not isinstance(answer, dict):
        return answer[0]
    raise ModelError(
        f"the network must return one tensor, got a {type(answer).__name__} of {len(answer)}; "
        f"export it with the one that holds the scores"
    )


def pieces(tensors: list[Float32], size: int) -> Iterator[list[Float32]]:
    """Cut a batch into pieces of one size; the last window is repeated to complete the last."""
    for first in range(0, len(tensors[0]), size):
        piece = [tensor[first : first + size] for tensor in tensors]
        missing = size - len(piece[0])
        yield [
            np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            for part in piece
        ]
