"""Networks of PyTorch."""

from __future__ import annotations

import copy
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from morpheus_core import checks
from morpheus_core.adapters.activations import Activation, checked_activation
from morpheus_core.adapters.base import Adapter, Network, only
from morpheus_core.adapters.normalizers import Float32, Normalizer
from morpheus_core.adapters.preparation import Channels, make_preparation
from morpheus_core.adapters.signature import NetworkInput
from morpheus_core.errors import InputError, ModelError, warn
from morpheus_core.extras import require_package
from morpheus_core.pipeline.descriptions import described, model_name

SCRIPT_SUFFIXES = (".pt", ".pth", ".ts")
EXPORT_SUFFIX = ".pt2"
STATE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
Precision = Literal["bfloat16", "float16"]
#: What convolutions say of a tensor with other channels than they take.
WANTED_CHANNELS = re.compile(r"to have (\d+) channels, but got \d+ channels")


@dataclass(frozen=True, repr=False)
class ScriptModule:
    """A TorchScript module that can be pickled: as the bytes of its file."""

    name: str
    content: bytes = field(repr=False)

    __repr__ = described


@dataclass(frozen=True, repr=False, eq=False)
class TorchSource:
    """Where a network of PyTorch comes from, and how it is run.

    Attributes
    ----------
    model : Path, ScriptModule, torch.nn.Module or callable
        A file, a module in memory, or what makes a module.
    state_dict : Path, optional
        The file of the weights of a module.
    device : str
        "auto", or what `torch.device` takes.
    autocast : {"bfloat16", "float16"}, optional
        What it computes in where precision allows.
    compiled : bool
        Whether it goes through `torch.compile`.
    channels : {"first", "last"}
        The layout that tensors have.
    """

    model: Path | ScriptModule | Any
    state_dict: Path | None
    device: str
    autocast: Precision | None
    compiled: bool
    channels: Channels = field(repr=False)

    __repr__ = described

    def load(self) -> Network:
        """Bring the module to its device."""
        import torch

        device = torch.device(chosen_device(self.device))
        if isinstance(self.model, Path) and self.model.suffix.lower() == EXPORT_SUFFIX:
            module, inputs = load_exported(self.model, device)
        else:
            module, inputs = self._module().to(device).eval(), None
        if self.compiled:
            module = torch.compile(module)
        autocast = None if self.autocast is None else getattr(torch, self.autocast)
        return Network(Runner(module, device, self.channels, autocast), inputs)

    def _module(self) -> Any:
        """Return the module with its weights, on the processor."""
        if isinstance(self.model, Path):
            return load_script_file(self.model)
        if isinstance(self.model, ScriptModule):
            return load_script(io.BytesIO(self.model.content))
        # A copy, because one that has been on a GPU could not be pickled for a worker without.
        module = copy.deepcopy(self.model) if is_module(self.model) else self.model()
        if not is_module(module):
            raise ModelError(
                f"{model_name(self.model)} must make a torch.nn.Module, got "
                f"{type(module).__qualname__}"
            )
        if self.state_dict is not None:
            module.load_state_dict(read_state(self.state_dict))
        return module


class Runner:
    """Runs a module on its device.

    Parameters
    ----------
    module : torch.nn.Module
        On the device.
    device : torch.device
        Where tensors go.
    channels : {"first", "last"}
        Their layout.
    autocast : torch.dtype or None
        What the module computes in where precision allows.
    """

    def __init__(self, module: Any, device: Any, channels: Channels, autocast: Any) -> None:
        self._module, self._device = module, device
        self._channels, self._autocast = channels, autocast

    def __call__(self, tensors: list[Float32]) -> Float32:
        """Return the scores of tensors."""
        import torch

        half = torch.autocast(self._device.type, self._autocast, self._autocast is not None)
        with torch.inference_mode(), half:
            try:
                answer = self._module(*map(self._on_device, tensors))
            except RuntimeError as error:
                hint = self._swapped_channels(str(error), tensors[0].shape)
                raise ModelError(f"{error}{hint}") from error
            except TypeError as error:
                raise ModelError(
                    f"{error}; the module was called with {len(tensors)} tensor(s): "
                    f"stack_inputs=True makes one of all images, stack_inputs=False one of each"
                ) from error
            scores: Float32 = only(answer).float().cpu().numpy()
            return scores

    def _on_device(self, tensor: Float32) -> Any:
        import torch

        on_host = torch.from_numpy(tensor)
        if self._device.type == "cuda":  # which copies pinned memory while it computes
            return on_host.pin_memory().to(self._device, non_blocking=True)
        return on_host.to(self._device)

    def _swapped_channels(self, message: str, shape: tuple[int, ...]) -> str:
        """Say which keyword to change, if a convolution wants the channels in another place."""
        wanted = WANTED_CHANNELS.search(message)
        swapped = self._channels == "last" and wanted and int(wanted[1]) == shape[-1]
        return '; pass channels="first"' if swapped else ""


def torch_model(
    model: Any,
    *,
    state_dict: str | os.PathLike[str] | None = None,
    device: str = "auto",
    channels: Channels = "first",
    stack_inputs: bool = True,
    fill_nan: float | Literal["median"] | None = None,
    normalize: Normalizer | None = None,
    activation: Activation | None = None,
    autocast: Precision | None = None,
    compile: bool = False,  # noqa: A002 - PyTorch's word for it
) -> Adapter:
    """Wrap a network of PyTorch as a callable for `predict`.

    It runs without gradients, and modules in evaluation mode. A ``.pt2`` file, and TorchScript that
    was traced, keep the mode in which they were exported: call ``module.eval()`` before that. See
    :mod:`morpheus_core.adapters` for the order of the steps.

    Parameters
    ----------
    model : path, torch.nn.Module or callable
        A file of `torch.export.save` (``.pt2``) or of TorchScript (``.pt``, ``.pth``, ``.ts``); a
        module, which is copied, so that yours is not changed and further training not seen; or a
        class or function without arguments that makes a module. Files of these kinds are programs:
        load those that you trust.
    state_dict : path, optional
        The weights of a module, as `torch.save` writes them. Nothing but tensors is loaded.
    device : str, default "auto"
        As for `torch.device`. "auto" is the GPU if this process sees one, else the processor:
        each worker of ``predict(..., gpus=...)`` sees its own, one of ``cpus=`` sees none.
    channels : {"first", "last"}
        Whether the network takes and returns (batch, channels, height, width), as most do, or
        (batch, height, width, channels).
    stack_inputs : bool, default True
        Stack the bands of all images into one tensor. False gives the network one tensor per image.
    fill_nan : float or "median", optional
        What takes the place of NaN, in the units of the image: a number, or the median of the band
        in the window (0 where all is NaN).
    normalize : callable, optional
        `min_max`, `z_score`, `standardize`, or a function of yours from float32 (batch, height,
        width, bands) to the same shape.
    activation : {"softmax", "sigmoid"}, optional
        Makes probabilities of what the network returns.
    autocast : {"bfloat16", "float16"}, optional
        Compute in half precision where PyTorch holds that to be safe.
    compile : bool, default False
        Compile the network with `torch.compile`, which takes a while in each process.

    Returns
    -------
    Adapter
        From a list of (batch, height, width, bands) arrays to float32 (batch, height, width,
        classes) or (batch, classes).

    Raises
    ------
    InputError
        If an argument is wrong, or a file is not there. What is wrong about the network itself is a
        `ModelError` at the first call.
    MissingPackageError
        If PyTorch is not installed.

    Warns
    -----
    MorpheusWarning
        If a ``.pt2`` file was exported in training mode, at the first call.
    """
    require_package("torch", "torch", "torch_model")
    preparation = make_preparation(channels, stack_inputs, fill_nan, normalize)
    source = TorchSource(
        checked_model(model, state_dict),
        None
        if state_dict is None
        else checks.existing_file("state_dict", state_dict, STATE_SUFFIXES),
        str(device),
        None if autocast is None else checks.one_of("autocast", autocast, get_args(Precision)),
        checks.flag("compile", compile),
        preparation.channels,
    )
    return Adapter(source, preparation, checked_activation(activation))


def checked_model(model: Any, state_dict: Any) -> Any:
    """Return what a model is loaded from, fit to be pickled."""
    if isinstance(model, (str, os.PathLike)):
        if state_dict is not None:
            raise InputError(
                f"state_dict needs a module, or what makes one, to go into, got model={model!r}"
            )
        return checks.existing_file("model", model, (EXPORT_SUFFIX, *SCRIPT_SUFFIXES))
    if not callable(model):
        raise InputError(
            f"model must be a path, a torch.nn.Module, or what makes one, got "
            f"{type(model).__qualname__}"
        )
    if is_script(model):
        return ScriptModule(model.original_name, saved_script(model))
    return copied(model) if is_module(model) else model


def copied(module: Any) -> Any:
    """Return a copy of a module, on the processor."""
    try:
        return copy.deepcopy(module).cpu()
    except RuntimeError as error:
        raise InputError(
            f"model must be a module that can be copied, got {type(module).__qualname__}: {error}; "
            f"pass a function that makes it, and its weights as state_dict="
        ) from error


def is_module(model: Any) -> bool:
    """Whether this is a module, and not what makes one; told without importing PyTorch."""
    return hasattr(model, "load_state_dict") and not inspect.isclass(model)


def is_script(model: Any) -> bool:
    """Whether this is a module of TorchScript; there is none before PyTorch is imported."""
    return "torch" in sys.modules and isinstance(model, sys.modules["torch"].jit.ScriptModule)


def saved_script(module: Any) -> bytes:
    """Return a TorchScript module as the bytes of its file."""
    import torch

    buffer = io.BytesIO()
    with deprecation_of_torchscript_unsaid():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def load_script_file(path: Path) -> Any:
    """Load a TorchScript module from a file that may hold something else."""
    try:
        return load_script(str(path))
    except RuntimeError as error:
        raise ModelError(
            f"{path} holds no TorchScript; weights alone go into torch_model(module, "
            f"state_dict=...), in a shell by a function for --model module:function: {error}"
        ) from error


def load_script(file: str | io.BytesIO) -> Any:
    """Load a TorchScript module."""
    import torch

    load: Any = torch.jit.load
    with deprecation_of_torchscript_unsaid():
        return load(file, map_location="cpu")


@contextmanager
def deprecation_of_torchscript_unsaid() -> Iterator[None]:
    """Keep quiet about TorchScript's age: those who have only such a file cannot change it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\..*` is deprecated", DeprecationWarning)
        yield


def load_exported(path: Path, device: Any) -> tuple[Any, tuple[NetworkInput, ...]]:
    """Load a program of `torch.export` and say which tensors it takes."""
    import torch
    from torch.export.passes import move_to_device_pass

    try:
        program = torch.export.load(path)
    except Exception as error:  # of many types, for a file of another kind
        raise ModelError(f"{path} holds no program of torch.export.save: {error}") from error
    if any(map(is_training, program.graph.nodes)):
        warn(
            f"{path} was exported in training mode, and stays in it: its scores change with the "
            f"batch, or by chance; export it after module.eval()"
        )
    program = move_to_device_pass(program, device)
    return program.module(), inputs_of(program)


def is_training(node: Any) -> bool:
    """Whether a step of an exported program, such as dropout, does what it does in training."""
    schema = getattr(node.target, "_schema", None)
    names = [] if schema is None else [argument.name for argument in schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return any(given.get(name) is True for name in ("train", "training"))


def inputs_of(program: Any) -> tuple[NetworkInput, ...]:
    """Return the tensors that an exported program takes, in its order."""
    shapes = {
        node.name: node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder"
    }
    return tuple(
        NetworkInput(name, tuple(n if isinstance(n, int) else None for n in shapes[name]))
        for name in program.graph_signature.user_inputs
    )


def read_state(path: Path) -> Any:
    """Read weights, and nothing that could run code."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, for a file of another kind
        raise ModelError(f"{path} holds no state_dict that is safe to load: {error}") from error


def chosen_device(device: str) -> str:
    """Return the device that "auto" stands for."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
