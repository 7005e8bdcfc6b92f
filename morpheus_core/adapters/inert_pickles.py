"""Files of `torch.save`, of which nothing comes to life but tensors.

Checkpoints hold the settings and counters of training beside the weights, as objects of whatever
classes, and some the whole module. PyTorch refuses all of such a file. Here every class that is not
known to be harmless is replaced by one that keeps what it is given and does nothing.
"""

from __future__ import annotations

import collections
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

#: What may be called, by module and name: what tensors are made of.
HARMLESS = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
}
#: What holds others, as Python 2 called it as well.
CONTAINERS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}


class Inert:
    """Stands for an object of a class that is not trusted."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Take anything."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_: Any, **__: Any) -> Inert:
        """Return something that does nothing either."""
        return Inert()

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, value: Any) -> None:
        """Take an entry of a list."""

    def extend(self, values: Any) -> None:
        """Take entries of a list."""

    def add(self, value: Any) -> None:
        """Take an entry of a set."""


class InertUnpickler(pickle.Unpickler):
    """Finds no classes but those of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a file names, or what stands for it, made anew: a file may change it."""
        import torch

        if (module, name) in CONTAINERS:
            return CONTAINERS[module, name]
        if (module, name) in HARMLESS:
            found: Any = super().find_class(module, name)
            return lambda *arguments: found(*arguments)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (Inert,), {})


def load_inert(path: Path) -> Any:
    """Load a file of `torch.save`, whose objects are inert but for tensors and containers."""
    import torch

    reader: Any = ModuleType("inert_pickles")
    reader.Unpickler = InertUnpickler
    reader.load = lambda file, **options: InertUnpickler(file, **options).load()
    with warnings.catch_warnings():  # about code of modules, which is not looked for
        warnings.filterwarnings("ignore", "Couldn't retrieve source code", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)


def weights_of(module: Inert, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the weights of a module that was stored whole, under the names of its state_dict."""
    state = module.state if isinstance(module.state, dict) else {}
    passing = state.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (state.get(kind) or {}).items():
            if value is not None and name not in passing:
                yield prefix + name, value
    for name, within in (state.get("_modules") or {}).items():
        if isinstance(within, Inert):
            yield from weights_of(within, f"{prefix}{name}.")
