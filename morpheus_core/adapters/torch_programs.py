"""Programs of PyTorch, which need no class of the user's: torch.export and TorchScript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from morpheus_core.adapters.kinds import kind_of, what_it_is
from morpheus_core.adapters.signature import NetworkInput
from morpheus_core.errors import ModelError
from morpheus_core.pipeline.descriptions import described

#: The fewest and the most windows that a program takes; None for any number.
BatchSizes = tuple[int, int | None]


@dataclass(frozen=True, repr=False)
class StoredProgram:
    """A program in memory that can be pickled: as the bytes of its file."""

    name: str
    content: bytes = field(repr=False)

    __repr__ = described


@dataclass(frozen=True, slots=True)
class Program:
    """A program that has been loaded.

    Attributes
    ----------
    module : torch.nn.Module
        What runs.
    inputs : tuple of NetworkInput, optional
        The tensors it takes, if it says so.
    batch_sizes : tuple
        How many windows it takes at once.
    """

    module: Any
    inputs: tuple[NetworkInput, ...] | None = None
    batch_sizes: BatchSizes = (1, None)


def stored_script(module: Any) -> StoredProgram:
    """Return a TorchScript module as the bytes of its file."""
    import torch

    buffer = io.BytesIO()
    with deprecation_of_torchscript_unsaid():
        torch.jit.save(module, buffer)
    return StoredProgram(module.original_name, buffer.getvalue())


def stored_export(program: Any) -> StoredProgram:
    """Return a program of torch.export as the bytes of its file."""
    import torch

    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return StoredProgram("ExportedProgram", buffer.getvalue())


def load_program(stored: Path | StoredProgram, device: Any) -> Program:
    """Load a program, whatever its suffix says, to a device.

    Raises
    ------
    ModelError
        If it is none.
    """
    kind = kind_of(stored if isinstance(stored, Path) else io.BytesIO(stored.content))
    name = str(stored) if isinstance(stored, Path) else stored.name
    try:
        if kind == "export":
            with opened(stored) as file:
                return load_exported(file, device)
        if kind == "TorchScript":
            with opened(stored) as file:
                return Program(load_script(file).to(device).eval())
    except Exception as error:  # of many types, for a file that is damaged
        raise ModelError(f"{name} cannot be loaded: {error}") from error
    way_out = what_it_is(stored) if isinstance(stored, Path) else ""
    raise ModelError(f"{name} holds no program of torch.export or TorchScript{way_out}")


def opened(stored: Path | StoredProgram) -> BinaryIO:
    """Open a program; PyTorch wants certain suffixes of paths, and none of files."""
    return stored.open("rb") if isinstance(stored, Path) else io.BytesIO(stored.content)


def load_script(file: BinaryIO) -> Any:
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


def load_exported(file: BinaryIO, device: Any) -> Program:
    """Load a program of `torch.export`."""
    import torch
    from torch.export.passes import move_to_device_pass

    program = move_to_device_pass(torch.export.load(file), device)
    values = {n.name: n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"}
    tensors = [(name, values[name].shape) for name in program.graph_signature.user_inputs]
    inputs = tuple(
        NetworkInput(name, tuple(n if isinstance(n, int) else None for n in shape))
        for name, shape in tensors
    )
    return Program(program.module(), inputs, batch_sizes(program, tensors[0][1][0]))


def batch_sizes(program: Any, length: Any) -> BatchSizes:
    """Return how many windows a program takes, whose first axis has this length."""
    if isinstance(length, int):
        return length, length
    limits = program.range_constraints.get(length.node.expr)
    if limits is None:
        return 1, None
    most = int(limits.upper) if limits.upper.is_finite and limits.upper < 2**31 else None
    return max(1, int(limits.lower)), most
