"""How modules of PyTorch are run, from arrays to scores."""

from __future__ import annotations

import re
from typing import Any, Literal, Protocol, get_args

from morpheus_core.adapters.activations import Activation, refuse_one_class
from morpheus_core.adapters.answers import Output, chosen
from morpheus_core.adapters.normalizers import Float32
from morpheus_core.adapters.preparation import Channels
from morpheus_core.errors import ModelError

Precision = Literal["bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]
#: Those from which one may be chosen, the usual one first.
MEMORY_FORMATS: tuple[MemoryFormat, ...] = get_args(MemoryFormat)
#: What convolutions say of a tensor with other channels than they take.
WANTED_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")

#: What TorchScript says before the error itself, whose name begins the last of its lines.
SCRIPTED_ERROR = re.compile(
    r"\AThe following operation failed in the TorchScript interpreter\..*\n(?=[\w.]+: )", re.DOTALL
)


class Settings(Protocol):
    """What decides how a module is run; see :func:`morpheus_core.adapters.torch_model`."""

    @property
    def autocast(self) -> Precision | None:
        """What it computes in where precision allows."""

    @property
    def channels(self) -> Channels:
        """The layout that tensors have."""

    @property
    def output(self) -> Output | None:
        """Which part of what it returns holds the scores."""

    @property
    def activation(self) -> Activation | None:
        """What makes probabilities of them."""

    @property
    def memory_format(self) -> MemoryFormat | Literal["auto"] | None:
        """How tensors of images lie in memory."""


def without_source(message: str) -> str:
    """Return what TorchScript says without the code of the network, pages that it puts before."""
    return SCRIPTED_ERROR.sub("", message).strip()


def dtype_of(module: Any) -> Any:
    """Return the type of the numbers that a module computes with."""
    import torch

    tensors = [*module.parameters(), *module.buffers()]
    return next((one.dtype for one in tensors if one.is_floating_point()), torch.float32)


class Runner:
    """Runs a module on its device.

    Parameters
    ----------
    module : torch.nn.Module
        On the device.
    settings : Settings
        How it is run.
    device : torch.device
        Where tensors go.
    dtype : torch.dtype
        What they become there.
    """

    def __init__(self, module: Any, settings: Settings, device: Any, dtype: Any) -> None:
        self._module, self._settings, self._device, self._dtype = module, settings, device, dtype

    def __call__(self, tensors: list[Float32]) -> Float32:
        """Return the scores of tensors."""
        import torch

        autocast = self._settings.autocast
        kind = None if autocast is None else getattr(torch, autocast)
        half = torch.autocast(self._device.type, kind, autocast is not None)
        with torch.inference_mode(), half:
            try:
                answer = self._module(*map(self._on_device, tensors))
            except (RuntimeError, torch.jit.Error) as error:
                message = without_source(str(error))
                hint = self._way_out(message, tensors[0].shape)
                raise ModelError(f"{message}{hint}") from error
            except AssertionError as error:  # what programs of torch.export guard themselves with
                raise ModelError(
                    f"{error}; of a program of torch.export pass the ExportedProgram itself, or "
                    f"its file, which say how many windows they take"
                ) from error
            except TypeError as error:
                raise ModelError(
                    f"{error}; the module was called with {len(tensors)} tensor(s): "
                    f"stack_inputs=True makes one of all images, stack_inputs=False one of each"
                ) from error
            scores: Float32 = self._activated(chosen(answer, self._settings.output)).cpu().numpy()
            return scores

    def _activated(self, scores: Any) -> Any:
        """Return scores as float32, or the probabilities that they stand for."""
        if not scores.is_floating_point():
            raise ModelError(
                f"the network must return scores, real numbers with a fraction, got "
                f"{scores.dtype}: labels and complex numbers are none"
            )
        scores = scores.float()
        if self._settings.activation == "sigmoid":
            return scores.sigmoid()
        if self._settings.activation == "softmax":
            axis = 1 if self._settings.channels == "first" or scores.ndim < 4 else 3
            refuse_one_class(1 if scores.ndim == 3 else scores.shape[axis])
            return scores.softmax(axis)
        return scores

    def _on_device(self, tensor: Float32) -> Any:
        import torch

        on_host = torch.from_numpy(tensor)
        if self._settings.channels == "first":
            on_host = laid_out(on_host, self._settings.memory_format)
        if self._device.type == "cuda":  # which copies pinned memory while it computes
            return on_host.pin_memory().to(self._device, self._dtype, non_blocking=True)
        return on_host.to(self._device, self._dtype)

    def _way_out(self, message: str, shape: tuple[int, ...]) -> str:
        """Say what to change, if layers want other channels, or the channels in another place."""
        if "for tensor number" in message:  # two branches of a network, which are to be joined
            return "; networks that halve their images take windows of a multiple of 2, 4, 8, …"
        wanted = WANTED_CHANNELS.search(message)
        if not wanted:
            return ""
        if self._settings.channels == "last" and int(wanted[1]) == shape[-1]:
            return '; pass channels="first"'
        first = self._settings.channels == "first" and int(wanted[2]) == shape[1]
        return f"; pass the {wanted[1]} bands that it was trained with" if first else ""


def laid_out(tensor: Any, memory_format: MemoryFormat | Literal["auto"] | None) -> Any:
    """Return images, four axes, in a memory format.

    Strides say which one it is, and those of an axis of length one say nothing: PyTorch takes what
    numpy makes of one band for channels_last. So they are written down.
    """
    if memory_format in (None, "auto") or tensor.ndim != 4:
        return tensor
    _, channels, height, width = tensor.shape
    if memory_format == "contiguous":
        strides = (channels * height * width, height * width, width, 1)
        return tensor.contiguous().as_strided(tensor.shape, strides)
    strides = (height * width * channels, 1, width * channels, channels)
    rows_first = tensor.permute(0, 2, 3, 1).contiguous()
    return rows_first.as_strided(tensor.shape, strides)
