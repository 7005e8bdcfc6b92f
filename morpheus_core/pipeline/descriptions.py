"""What a model is, in words that are short and the same in every process."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any


def model_name(model: Any) -> str:
    """Return what a model is called in the code that defines it."""
    if isinstance(model, str):
        return model
    if isinstance(model, functools.partial):
        return model_name(model.func)
    text: object = type(model).__repr__
    if text is described:
        return repr(model)
    named = model if hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}.{named.__qualname__}"


def described(value: Any) -> str:
    """Return the type of a dataclass and its settings, for use as its ``__repr__``.

    Settings are written out where they are numbers, texts, paths, or dataclasses that use this
    function. Of anything else only the name is told: its own text may be megabytes, or hold an
    address.
    """
    settings = ", ".join(
        f"{field.name}={setting(getattr(value, field.name))}"
        for field in fields(value)
        if field.repr
    )
    return f"{type(value).__qualname__}({settings})"


def setting(value: Any) -> str:
    """Return the text of one setting."""
    if isinstance(value, tuple):
        return f"({', '.join(map(setting, value))})"
    if isinstance(value, (str, Path)):
        return f'"{value}"'  # astropy loses text of long cards that hold the other kind of quote
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return model_name(value)


def model_digest(model: Any) -> str | None:
    """Return a checksum of the weights of a model that knows them, as adapters do.

    Such a model has a method ``digested``, which yields what they are: files, bytes, and models
    within.
    """
    digested = getattr(model, "digested", None)
    if digested is None or isinstance(model, type):
        return None
    found = hashlib.sha256()
    known = [add_digest(found, part) for part in digested()]
    return f"sha256 {found.hexdigest()[:32]}" if any(known) else None


def add_digest(found: Any, part: Any) -> bool:
    """Add a file, bytes or a model to a checksum, and say whether there was anything."""
    if isinstance(part, Path):
        with part.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    elif isinstance(part, bytes):
        found.update(part)
    else:
        within = model_digest(part)
        found.update((within or "").encode())
        return within is not None
    return True


def arrays_as_bytes(arrays: Iterable[tuple[str, Any]]) -> Iterable[bytes]:
    """Yield names and the bytes of arrays of numpy."""
    for name, array in arrays:
        yield f"{name} {array.dtype} {array.shape}".encode()
        yield array.tobytes()
