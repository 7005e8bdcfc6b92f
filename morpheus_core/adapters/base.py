"""The steps that all adapters of networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from morpheus_core.adapters.activations import ACTIVATIONS, Activation
from morpheus_core.adapters.answers import chosen
from morpheus_core.adapters.normalizers import Float32
from morpheus_core.adapters.preparation import Preparation
from morpheus_core.adapters.signature import NetworkInput, check_tensors
from morpheus_core.adapters.steadiness import Steadiness
from morpheus_core.errors import ModelError
from morpheus_core.pipeline.descriptions import described
from morpheus_core.pipeline.models import LoadingError
from morpheus_core.progress import say


@dataclass(frozen=True, slots=True)
class Network:
    """A loaded network.

    Attributes
    ----------
    run : callable
        From a list of float32 tensors to its scores, in its own layout.
    inputs : tuple of NetworkInput, optional
        The tensors it takes, if it says so.
    batch_sizes : tuple
        The fewest and the most windows that it takes at once; None for any number.
    """

    run: Callable[[list[Float32]], Any]
    inputs: tuple[NetworkInput, ...] | None = None
    batch_sizes: tuple[int, int | None] = (1, None)

    @classmethod
    def of_inputs(
        cls, run: Callable[[list[Float32]], Any], inputs: tuple[NetworkInput, ...]
    ) -> Self:
        """Return a network that says of its inputs how many windows they take, or does not."""
        length = inputs[0].shape[0]
        return cls(run, inputs, (length or 1, length))


class Source(Protocol):
    """Where a network comes from: light, and fit to be pickled."""

    def load(self) -> Network:
        """Load the network, in the process and on the device where it is used."""

    def digested(self) -> Iterable[Path | bytes]:
        """Yield what holds the weights, for a checksum."""

    def in_formats(self) -> Mapping[str, Source]:
        """Return the same network in each memory format, where a run is to choose one."""
        return {}


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
        say("loading the network")
        try:
            return self.source.load()
        except ModelError as error:
            raise LoadingError(str(error)) from error

    @cached_property
    def steadiness(self) -> Steadiness:
        """Knows whether the network has been asked twice."""
        return Steadiness()

    def digested(self) -> Iterable[Path | bytes]:
        """Yield what holds the weights, for a checksum."""
        return self.source.digested()

    def in_formats(self) -> dict[str, Adapter]:
        """Return the same network in each memory format, where a run is to choose one."""
        formats = self.source.in_formats()
        return {name: replace(self, source=source) for name, source in formats.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

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
        scores = self._all_scores(tensors)
        self.steadiness.check(self._all_scores, tensors, scores)
        return scores

    def _all_scores(self, tensors: list[Float32]) -> Float32:
        """Return the scores of a batch, which the network may take in pieces only."""
        network, count = self.network, len(tensors[0])
        cut = pieces(tensors, *network.batch_sizes)
        scores = [self._scores(network, piece) for piece in cut]
        if len(scores) == 1:
            return scores[0][:count]
        return np.concatenate(scores)[:count]  # without what completed the last piece

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
        scores = as_scores(chosen(answer))
        if scores.ndim == 3:
            scores = scores[..., np.newaxis]  # one class
            axis = 3
        elif scores.ndim in (2, 4):
            axis = 1 if self.preparation.channels == "first" else scores.ndim - 1
        else:
            raise ModelError(
                f"the network must return scores of pixels, with four axes, or of windows, with "
                f"two, got {scores.shape}"
            )
        if self.activation is not None:
            scores = ACTIVATIONS[self.activation](scores, axis)
        return np.moveaxis(scores, axis, -1)


def as_scores(answer: Any) -> Float32:
    """Return an array as float32."""
    array = np.asarray(answer)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ModelError(
            f"the network must return scores, real numbers with a fraction, got {array.dtype}: "
            f"labels and complex numbers are none"
        )
    return np.asarray(array, np.float32)


def pieces(tensors: list[Float32], least: int, most: int | None) -> Iterator[list[Float32]]:
    """Cut a batch into pieces; the last window is repeated to complete the last of them."""
    count = len(tensors[0])
    for first in range(0, count, most or count):
        piece = [tensor[first : first + (most or count)] for tensor in tensors]
        missing = max(0, least - len(piece[0]))
        yield [
            np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            for part in piece
        ]
