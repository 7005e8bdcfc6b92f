"""What a network says about the tensors it takes, and whether it gets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from morpheus_core.adapters.normalizers import Float32
from morpheus_core.adapters.preparation import Channels
from morpheus_core.errors import ModelError

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """One tensor that a network takes.

    Attributes
    ----------
    name : str
        What the network calls it.
    shape : tuple of int or None
        Its length along each axis, batch first; None where any will do.
    """

    name: str
    shape: Shape

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the network takes a tensor of this shape, in batches of any size."""
        return len(shape) == len(self.shape) and all(
            expected in (None, length)
            for expected, length in zip(self.shape[1:], shape[1:], strict=True)
        )

    def __str__(self) -> str:
        lengths = ("any" if length is None else str(length) for length in self.shape)
        return f"{self.name!r} ({', '.join(lengths)})"


def check_tensors(
    inputs: Sequence[NetworkInput], tensors: Sequence[Float32], channels: Channels
) -> None:
    """Raise unless a network takes these tensors.

    Parameters
    ----------
    inputs : sequence of NetworkInput
        What it takes.
    tensors : sequence of ndarray
        What it is to be given.
    channels : {"first", "last"}
        Their layout.

    Raises
    ------
    ModelError
        If their number or the shape of one is wrong; it says which keyword mends that, if one does.
    """
    if len(inputs) != len(tensors):
        stack = "True" if len(inputs) == 1 else "False"
        raise ModelError(
            f"the network takes {len(inputs)} tensor(s), {', '.join(map(str, inputs))}, got "
            f"{len(tensors)}; stack_inputs=True makes one tensor of all images, "
            f"stack_inputs=False one of each: pass stack_inputs={stack} and as many images"
        )
    for network_input, tensor in zip(inputs, tensors, strict=True):
        if not network_input.fits(tensor.shape):
            raise ModelError(
                f"the network's input {network_input} does not take a tensor of {tensor.shape}; "
                f"{way_out(network_input, tensor.shape, channels)}"
            )


def way_out(network_input: NetworkInput, shape: tuple[int, ...], channels: Channels) -> str:
    """Say what would make a tensor of some shape fit."""
    if len(network_input.shape) != 4:
        return "only networks for images, with four axes, can be wrapped"
    if network_input.fits(other_layout(shape, channels)):
        return f'its channels are {other(channels)}: pass channels="{other(channels)}"'
    band_axis = 1 if channels == "first" else 3
    bands = network_input.shape[band_axis]
    if bands not in (None, shape[band_axis]):
        return (
            f"it takes {bands} band(s), channels {channels}, and the images have {shape[band_axis]}"
        )
    height, width = (network_input.shape[axis] for axis in (1, 2, 3) if axis != band_axis)
    return f"pass window_shape=({height or 'any'}, {width or 'any'})"


def other(channels: Channels) -> Channels:
    """Return the other layout."""
    return "last" if channels == "first" else "first"


def other_layout(shape: tuple[int, ...], channels: Channels) -> tuple[int, ...]:
    """Return the shape that a tensor with these channels has in the other layout."""
    if channels == "first":
        batch, bands, height, width = shape
        return batch, height, width, bands
    batch, height, width, bands = shape
    return batch, bands, height, width
