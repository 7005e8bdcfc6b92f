"""Weights as programs that train lay them down, and the module they belong to."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from morpheus_core.adapters.inert_pickles import Inert, load_inert, weights_of
from morpheus_core.adapters.kinds import kind_of, what_it_is
from morpheus_core.errors import ModelError
from morpheus_core.extras import require_package

#: What wrappers put before the names of what they wrap: `DataParallel`, `torch.compile`.
WRAPPERS = ("module.", "_orig_mod.")
#: A count that no answer depends on, and that old files lack.
COUNT = "num_batches_tracked"
#: What is no tensor, but lies among tensors.
EXTRA = "_extra_state"
#: How many names are told of those that are missing.
NAMED = 3

State = Mapping[str, Any]


def read_checkpoint(path: Path) -> Any:
    """Read what a file of weights holds, and nothing that could run code.

    Raises
    ------
    ModelError
        If it is of another kind.
    """
    if path.suffix.lower() == ".safetensors":
        require_package("safetensors", "safetensors", f"{path.name}")
        from safetensors.torch import load_file

        load: Any = load_file
    else:
        load = load_torch
    try:
        return load(path)
    except Exception as error:  # of many types, for a file of another kind
        raise ModelError(
            f"{path} holds no weights that can be loaded: {error}{what_it_is(path)}"
        ) from error


def load_torch(path: Path) -> Any:
    """Load a file of `torch.save`, in which objects of unknown classes stay inert."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if kind_of(path) != "torch.save":  # of a program of TorchScript code would be loaded
            raise
        return load_inert(path)


def load_weights(module: Any, path: Path, key: str | None) -> None:
    """Load the weights in a file into a module.

    Parameters
    ----------
    module : torch.nn.Module
        All of its weights must be there.
    path : Path
        A state_dict, or a checkpoint with one or several in it.
    key : str, optional
        Which one: the name under which it lies, "ema" or "model.encoder", or the first part of
        the names of the weights.

    Raises
    ------
    ModelError
        If they do not fit, or it cannot be told which are meant.
    """
    found = dict(states(read_checkpoint(path)))
    wanted = module.state_dict()
    choices = {
        name: fitted
        for name, state in found.items()
        for name, fitted in fits(name, state, wanted)
        if key is None or key in (name, name.rpartition(":")[2], name.partition(":")[0])
    }
    if len(choices) > 1:
        raise ModelError(
            f"{path} holds several weights that fit {type(module).__name__}: "
            f"{', '.join(choices)}; name those that are meant: state_key={next(iter(choices))!r}"
        )
    if not choices:
        raise ModelError(
            f"{path} does not fit {type(module).__name__}: {difference(found, wanted, key)}"
        )
    (fitted,) = choices.values()
    # Only counts may be left out, which are zero in a module that was just made.
    module.load_state_dict(fitted, strict=False)


def states(content: Any, name: str = "") -> Iterator[tuple[str, State]]:
    """Yield mappings of names to tensors, and the keys under which they lie in a checkpoint."""
    if isinstance(content, Inert):  # a whole module, perhaps
        content = dict(weights_of(content))
    if not isinstance(content, Mapping) or not content:
        return
    if all(is_weight(key, value) for key, value in content.items()):
        yield name, content
        return
    for key, value in content.items():
        yield from states(value, f"{name}.{key}".lstrip("."))


def is_weight(key: Any, value: Any) -> bool:
    """Say whether an entry belongs to a state_dict."""
    return isinstance(key, str) and (hasattr(value, "dtype") or key.endswith(EXTRA))


def fits(name: str, state: State, wanted: State) -> Iterator[tuple[str, State]]:
    """Yield, by name, the parts of a state_dict that hold all weights of a module.

    A part is what has a prefix in common, "model." or "teacher.": its name follows a colon.
    """
    plain = {without_wrappers(key): value for key, value in state.items()}
    wanted = {without_wrappers(key): (key, value) for key, value in wanted.items()}
    needed = [key for key in wanted if not key.endswith((COUNT, EXTRA))] or list(wanted)
    if not needed:
        return
    first = needed[0]
    starts = [key.removesuffix(first) for key in plain if ("." + key).endswith("." + first)]
    for start in sorted(starts, key=len):
        matching = all(
            getattr(plain.get(start + key), "shape", None) == wanted[key][1].shape for key in needed
        )
        if matching:
            label = f"{name}:{start.rstrip('.')}" if start else name or "the weights"
            yield (
                label,
                {
                    own: plain[start + key]
                    for key, (own, _) in wanted.items()
                    if start + key in plain
                },
            )
            if not start:
                return


def without_wrappers(key: str) -> str:
    """Return the name of a weight without what wrappers have put into it."""
    for wrapper in WRAPPERS:
        key = key.removeprefix(wrapper)
    return key.replace("._orig_mod.", ".")


def difference(found: Mapping[str, State], wanted: State, key: str | None) -> str:
    """Say what is missing of the weights of a module, and what would mend it."""
    if key is not None and found:
        return f"state_key must be one of {', '.join(map(repr, found))}, got {key!r}"
    if not found:
        return "it holds no tensors by name; pass the file that state_dict() was saved to"
    state = max(found.values(), key=len)
    plain = {without_wrappers(name): value for name, value in state.items()}
    missing = [name for name in wanted if without_wrappers(name) not in plain]
    other = [
        f"{name} {tuple(plain[without_wrappers(name)].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name not in missing and getattr(plain[without_wrappers(name)], "shape", 0) != value.shape
    ]
    told = f"{len(missing)} of {len(wanted)} weights are missing, {some(missing)}"
    if other:
        told = f"weights have other shapes, {some(other)}"
    return (
        f"{told}; the file has {some(list(state))}. Make the module as it was made for training, "
        f"with the same arguments"
    )


def some(names: list[str]) -> str:
    """Return the first few of some names."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
