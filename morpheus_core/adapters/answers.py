"""Which part of what a network returns holds its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from morpheus_core.errors import InputError, ModelError

#: The name or the position of a part.
Output = str | int


def checked_output(output: Any) -> Output | None:
    """Return the name or the position of an output, or None.

    Raises
    ------
    InputError
        If it is something else.
    """
    if output is None or (isinstance(output, (str, int)) and not isinstance(output, bool)):
        return output
    raise InputError(f"output must be the name of an output or its position, got {output!r}")


def chosen(answer: Any, output: Output | None = None) -> Any:
    """Return the scores in what a network returned.

    Parameters
    ----------
    answer : tensor, or a mapping, sequence or dataclass of tensors
        Hugging Face's outputs are mappings.
    output : str or int, optional
        Which part, by name or position; not needed where there is only one.

    Raises
    ------
    ModelError
        If it cannot be told which part is meant, or there is none of that name.
    """
    found = parts(answer)
    if found is None:
        if output not in (None, 0):
            raise ModelError(f"the network returns one tensor, and no {output!r}: leave out output")
        return answer
    if output is None and len(found) == 1:
        return chosen(next(iter(found.values())))
    names = list(found)
    if isinstance(output, int) and -len(names) <= output < len(names) and output not in found:
        output = names[output]
    if output in found:
        return found[output]
    kind, known = type(answer).__name__, ", ".join(map(repr, names))
    if output is None:
        raise ModelError(
            f"the network must return one tensor, got a {kind} of {known}; name the one that holds "
            f"the scores: output={names[0]!r}"
            if names
            else f"the network returned an empty {kind}"
        )
    raise ModelError(f"output must be one of {known}, which the network returns, got {output!r}")


def parts(answer: Any) -> dict[Any, Any] | None:
    """Return the parts of an answer by name, or by position; None of a tensor."""
    if isinstance(answer, Mapping):
        found: dict[Any, Any] = dict(answer)
    elif isinstance(answer, tuple) and hasattr(answer, "_fields"):
        found = dict(zip(answer._fields, answer, strict=True))
    elif isinstance(answer, (list, tuple)):
        found = dict(enumerate(answer))
    elif is_dataclass(answer):
        found = {field.name: getattr(answer, field.name) for field in fields(answer)}
    else:
        return None
    return {name: part for name, part in found.items() if part is not None}
