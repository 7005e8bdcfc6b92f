"""Networks of PyTorch."""

from __future__ import annotations

import copy
import inspect
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from morpheus_core import checks
from morpheus_core.adapters.activations import Activation, checked_activation
from morpheus_core.adapters.answers import Output, checked_output
from morpheus_core.adapters.base import Adapter, Network, Source
from morpheus_core.adapters.checkpoints import load_weights
from morpheus_core.adapters.normalizers import Normalizer
from morpheus_core.adapters.preparation import Channels, make_preparation
from morpheus_core.adapters.torch_programs import (
    Program,
    StoredProgram,
    load_program,
    stored_export,
    stored_script,
)
from morpheus_core.adapters.torch_runner import (
    MEMORY_FORMATS,
    MemoryFormat,
    Precision,
    Runner,
    dtype_of,
)
from morpheus_core.errors import InputError, ModelError
from morpheus_core.extras import require_package
from morpheus_core.pipeline.descriptions import arrays_as_bytes, described, model_name

SCRIPT_SUFFIXES = (".pt", ".pth", ".ts")
EXPORT_SUFFIX = ".pt2"
#: What may be asked for.
ASKED_FORMATS: tuple[MemoryFormat | Literal["auto"], ...] = (*MEMORY_FORMATS, "auto")
STATE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors")


@dataclass(frozen=True, repr=False, eq=False)
class TorchSource(Source):
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
    memory_format : {"contiguous", "channels_last", "auto"}, optional
        How tensors of images lie in memory; "auto" until a run chooses.
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
    memory_format: MemoryFormat | Literal["auto"] | None

    __repr__ = described

    def in_formats(self) -> dict[str, TorchSource]:
        """Return the same network in each format of which a run is to choose one."""
        if self.memory_format != "auto":
            return {}
        return {name: replace(self, memory_format=name) for name in MEMORY_FORMATS}

    def digested(self) -> Iterable[Path | bytes]:
        """Yield the files, or the weights of a module in memory."""
        if self.state_dict is not None:
            return [self.state_dict]
        if isinstance(self.model, Path):
            return [self.model]
        if isinstance(self.model, StoredProgram):
            return [self.model.content]
        if not is_module(self.model):
            return []
        weights = ((k, v) for k, v in self.model.state_dict().items() if hasattr(v, "numpy"))
        return arrays_as_bytes((name, bits_of(weight)) for name, weight in weights)

    def load(self) -> Network:
        """Bring the module to its device."""
        import torch

        device = torch.device(chosen_device(self.device))
        if isinstance(self.model, (Path, StoredProgram)):
            program = load_program(self.model, device)
        else:
            program = Program(self._module().to(device, **format_of(self.memory_format)).eval())
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


def bits_of(tensor: Any) -> Any:
    """Return the memory of a tensor as bytes, since numpy does not know all types."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def format_of(memory_format: MemoryFormat | Literal["auto"] | None) -> dict[str, Any]:
    """Return the argument of `to` that sets how weights of convolutions lie in memory."""
    import torch

    return {"memory_format": torch.channels_last} if memory_format == "channels_last" else {}


def torch_model(
    model: Any,
    *,
    state_dict: str | os.PathLike[str] | None = None,
    state_key: str | None = None,
    device: str = "auto",
    channels: Channels = "first",
    stack_inputs: bool = True,
    fill_nan: float | Sequence[float] | Literal["median"] | None = None,
    normalize: Normalizer | None = None,
    activation: Activation | None = None,
    autocast: Precision | None = None,
    compile: bool = False,  # noqa: A002 - PyTorch's word for it
    output: Output | None = None,
    memory_format: MemoryFormat | Literal["auto"] | None = None,
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
        The weights of a module: ``.safetensors``, or what `torch.save` wrote, a `state_dict`, a
        checkpoint that holds one, as Lightning's, or a whole module. What `DataParallel`,
        `torch.compile` and Lightning put before the names is left out. Nothing but tensors comes to
        life.
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
    fill_nan : float, sequence of float or "median", optional
        What takes the place of NaN, in the units of the image: a number for all bands, one for
        each, or the median of the band in the window (0 where all is NaN).
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
    memory_format : {"contiguous", "channels_last", "auto"}, optional
        How images and weights of convolutions lie in memory, which decides how fast they are, and
        the last bits. By default PyTorch decides by the strides of the array: those of one band
        count as channels_last, those of several as contiguous. "auto" lets a run try both when it
        begins, and take "channels_last" if it is faster and its answers differ by at most 1e-5 of
        their range. Where no run chooses, in a model that a factory makes or that a function of
        yours calls, it is as by default.

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
        None
        if memory_format is None
        else checks.one_of("memory_format", memory_format, ASKED_FORMATS),
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
