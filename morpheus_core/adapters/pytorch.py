"""Networks of PyTorch."""

from __future__ import annotations

import copy
import inspect
import os
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from morpheus_core import checks
from morpheus_core.adapters.activations import Activation, checked_activation, refuse_one_class
from morpheus_core.adapters.answers import Output, checked_output, chosen
from morpheus_core.adapters.base import Adapter, Network
from morpheus_core.adapters.checkpoints import load_weights
from morpheus_core.adapters.normalizers import Float32, Normalizer
from morpheus_core.adapters.preparation import Channels, make_preparation
from morpheus_core.adapters.torch_programs import (
    Program,
    StoredProgram,
    load_program,
    stored_export,
    stored_script,
)
from morpheus_core.errors import InputError, ModelError
from morpheus_core.extras import require_package
from morpheus_core.pipeline.descriptions import described, model_name

SCRIPT_SUFFIXES = (".pt", ".pth", ".ts")
EXPORT_SUFFIX = ".pt2"
STATE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
Precision = Literal["bfloat16", "float16"]
#: What convolutions say of a tensor with other channels than they take.
WANTED_CHANNELS = re.compile(r"to have (\d+) channels, but got \d+ channels")


@dataclass(frozen=True, repr=False, eq=False)
class TorchSource:
    """Where a network of PyTorch comes from, and how it is run.

    Attributes
    ----------
    model : Path, StoredProgram, torch.nn.Module or callable
        A program, a module in memory, or what makes a module.
    state_dict : Path, optional
        The file of the weights of a module.
    state_key : str, optional
        Which weights in that file.
    device : str
        "auto", or what `torch.device` takes.
    autocast : {"bfloat16", "float16"}, optional
        What it computes in where precision allows.
    compiled : bool
        Whether it goes through `torch.compile`.
    channels : {"first", "last"}
        The layout that tensors have.
    output : str or int, optional
        Which part of what it returns holds the scores.
    activation : {"softmax", "sigmoid"}, optional
        What makes probabilities of them, where they are.
    """

    model: Path | StoredProgram | Any
    state_dict: Path | None
    state_key: str | None
    device: str
    autocast: Precision | None
    compiled: bool
    channels: Channels = field(repr=False)
    output: Output | None
    activation: Activation | None

    __repr__ = described

    def load(self) -> Network:
        """Bring the module to its device."""
        import torch

        device = torch.device(chosen_device(self.device))
        if isinstance(self.model, (Path, StoredProgram)):
            program = load_program(self.model, device)
        else:
            program = Program(self._module().to(device).eval())
        module = torch.compile(program.module) if self.compiled else program.module
        runner = Runner(module, self, device, dtype_of(program.module))
        return Network(runner, program.inputs, program.batch_sizes)

    def _module(self) -> Any:
        """Return the module with its weights, on the processor."""
        # A copy, because one that has been on a GPU could not be pickled for a worker without.
        model: Any = self.model
        module = twin(model) if is_module(model) else model()
        if not is_module(module):
            raise ModelError(
                f"{model_name(self.model)} must make a torch.nn.Module, got "
                f"{type(module).__qualname__}"
            )
        if self.state_dict is not None:
            load_weights(module, self.state_dict, self.state_key)
        return module


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
    source : TorchSource
        How it is run.
    device : torch.device
        Where tensors go.
    dtype : torch.dtype
        What they become there.
    """

    def __init__(self, module: Any, source: TorchSource, device: Any, dtype: Any) -> None:
        self._module, self._source, self._device, self._dtype = module, source, device, dtype

    def __call__(self, tensors: list[Float32]) -> Float32:
        """Return the scores of tensors."""
        import torch

        autocast = self._source.autocast
        kind = None if autocast is None else getattr(torch, autocast)
        half = torch.autocast(self._device.type, kind, autocast is not None)
        with torch.inference_mode(), half:
            try:
                answer = self._module(*map(self._on_device, tensors))
            except RuntimeError as error:
                hint = self._swapped_channels(str(error), tensors[0].shape)
                raise ModelError(f"{error}{hint}") from error
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
            scores: Float32 = self._activated(chosen(answer, self._source.output)).cpu().numpy()
            return scores

    def _activated(self, scores: Any) -> Any:
        """Return scores as float32, or the probabilities that they stand for."""
        if not scores.is_floating_point():
            raise ModelError(
                f"the network must return scores, real numbers with a fraction, got "
                f"{scores.dtype}: labels and complex numbers are none"
            )
        scores = scores.float()
        if self._source.activation == "sigmoid":
            return scores.sigmoid()
        if self._source.activation == "softmax":
            axis = 1 if self._source.channels == "first" or scores.ndim < 4 else 3
            refuse_one_class(1 if scores.ndim == 3 else scores.shape[axis])
            return scores.softmax(axis)
        return scores

    def _on_device(self, tensor: Float32) -> Any:
        import torch

        on_host = torch.from_numpy(tensor)
        if self._device.type == "cuda":  # which copies pinned memory while it computes
            return on_host.pin_memory().to(self._device, self._dtype, non_blocking=True)
        return on_host.to(self._device, self._dtype)

    def _swapped_channels(self, message: str, shape: tuple[int, ...]) -> str:
        """Say which keyword to change, if a convolution wants the channels in another place."""
        wanted = WANTED_CHANNELS.search(message)
        swapped = self._source.channels == "last" and wanted and int(wanted[1]) == shape[-1]
        return '; pass channels="first"' if swapped else ""


def torch_model(
    model: Any,
    *,
    state_dict: str | os.PathLike[str] | None = None,
    state_key: str | None = None,
    device: str = "auto",
    channels: Channels = "first",
    stack_inputs: bool = True,
    fill_nan: float | Literal["median"] | None = None,
    normalize: Normalizer | None = None,
    activation: Activation | None = None,
    autocast: Precision | None = None,
    compile: bool = False,  # noqa: A002 - PyTorch's word for it
    output: Output | None = None,
) -> Adapter:
    """Wrap a network of PyTorch as a callable for `predict`.

    It runs without gradients, and modules in evaluation mode. A ``.pt2`` file, and TorchScript that
    was traced, keep the mode in which they were exported: call ``module.eval()`` before that. See
    :mod:`morpheus_core.adapters` for the order of the steps.

    Parameters
    ----------
    model : path, torch.nn.Module, ExportedProgram or callable
        A file of `torch.export.save` (``.pt2``) or of TorchScript (``.pt``, ``.pth``, ``.ts``); a
        module, which is copied, so that yours is not changed and further training not seen; a
        program of `torch.export`; or a class or function without arguments that makes a module.
        Files of these kinds are programs: load those that you trust.
    state_dict : path, optional
        The weights of a module: ``.safetensors``, or what `torch.save` wrote, a `state_dict`
        or a checkpoint that holds one, as Lightning's. What `DataParallel`, `torch.compile` and
        Lightning put before the names is left out. Nothing but tensors is loaded.
    state_key : str, optional
        Which weights are meant where a checkpoint holds several that fit, as it does with averaged
        ones ("ema").
    device : str, default "auto"
        As for `torch.device`. "auto" is the GPU if this process sees one, else the processor: each
        worker of ``predict(..., gpus=...)`` sees its own, one of ``cpus=`` sees none.
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
    output : str or int, optional
        Which part of what the network returns holds the scores, where it returns a mapping, a
        tuple or a dataclass of several: its name or its position.

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
        If answers depend on the other windows of a batch, as in training mode, at the first call.
    """
    require_package("torch", "torch", "torch_model")
    preparation = make_preparation(channels, stack_inputs, fill_nan, normalize)
    weights = None
    if state_dict is not None:
        weights = checks.existing_file("state_dict", state_dict, STATE_SUFFIXES)
    if state_key is not None and (weights is None or not isinstance(state_key, str)):
        raise InputError(f"state_key names weights in the file of state_dict=, got {state_key!r}")
    source = TorchSource(
        checked_model(model, state_dict),
        weights,
        state_key,
        checked_device(device),
        None if autocast is None else checks.one_of("autocast", autocast, get_args(Precision)),
        checks.flag("compile", compile),
        preparation.channels,
        checked_output(output),
        checked_activation(activation),
    )
    return Adapter(source, preparation)


def checked_model(model: Any, state_dict: Any) -> Any:
    """Return what a model is loaded from, fit to be pickled."""
    if isinstance(model, (str, os.PathLike)):
        if state_dict is not None:
            raise InputError(
                f"state_dict needs a module, or what makes one, to go into, got model={model!r}"
            )
        return checks.existing_file("model", model, (EXPORT_SUFFIX, *SCRIPT_SUFFIXES))
    if is_export(model):
        return stored_export(model)
    if not callable(model):
        raise InputError(
            f"model must be a path, a torch.nn.Module, or what makes one, got "
            f"{type(model).__qualname__}"
        )
    if is_script(model):
        return stored_script(model)
    return copied(model) if is_module(model) else model


def twin(module: Any) -> Any:
    """Return a copy of a module; of a program, PyTorch complains about code of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec", FutureWarning)
        return copy.deepcopy(module)


def copied(module: Any) -> Any:
    """Return a copy of a module, on the processor."""
    try:
        return twin(module).cpu()
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


def is_export(model: Any) -> bool:
    """Whether this is a program of `torch.export`."""
    return "torch" in sys.modules and isinstance(model, sys.modules["torch"].export.ExportedProgram)


def checked_device(device: Any) -> str:
    """Return the name of a device that is there, or "auto".

    Raises
    ------
    InputError
        If PyTorch knows no device of that name, or this process does not see it.
    """
    name = str(device)
    if name == "auto":
        return name
    import torch

    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise InputError(
            f'device must be "auto", or what torch.device takes, as "cpu", "cuda" or "cuda:1", '
            f"got {device!r}"
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device={name!r} needs a GPU and a PyTorch that is built for it, and there is none; "
            f'"auto" takes what each process sees'
        )
    return name


def chosen_device(device: str) -> str:
    """Return the device that "auto" stands for."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
