"""A table of TOML → a dataclass whose fields say what may be in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from morpheus_core.errors import InputError

Table = TypeVar("Table")
Check = Callable[[str, Any], Any]


def key(check: Check, *, optional: bool = True) -> Any:
    """Return a field of a dataclass for a key of a table.

    Parameters
    ----------
    check : callable
        From the name and the value to the value to rely on; raises `InputError`.
    optional : bool
        Whether the key may be left out, and its field is None.
    """
    if optional:
        return dataclasses.field(default=None, metadata={"check": check})
    return dataclasses.field(metadata={"check": check})


def read_table(kind: type[Table], name: str, value: Any) -> Table:
    """Make a dataclass of a table.

    Parameters
    ----------
    kind : type
        The dataclass, whose fields were made by :func:`key`.
    name : str
        What errors call the table.
    value : dict
        What TOML has.

    Raises
    ------
    InputError
        If it is no table, a key is unknown or missing, or a value is refused.
    """
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a table, got {value!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for unknown in value.keys() - fields.keys():
        raise InputError(f"{name} may have the keys {', '.join(fields)}, got {unknown}")
    for field in fields.values():
        if field.default is dataclasses.MISSING and field.name not in value:
            raise InputError(f"{name} must have the key {field.name}, which is missing")
    checked = {
        given: fields[given].metadata["check"](f"{name}.{given}", value[given]) for given in value
    }
    return kind(**checked)


def table_of(kind: type[Any]) -> Check:
    """Return the check of a table within a table."""
    return lambda name, value: read_table(kind, name, value)


def tables_of(kind: type[Any]) -> Check:
    """Return the check of an array of tables."""

    def check(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise InputError(f"{name} must be at least one table, [[{name}]], got {value!r}")
        return tuple(read_table(kind, f"{name}[{k}]", one) for k, one in enumerate(value))

    return check


def text(name: str, value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} must be a text, got {value!r}")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one or several texts."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise InputError(f"{name} must be a text, or several, got {value!r}")
    return tuple(text(name, one) for one in values)


def anything(name: str, value: Any) -> Any:
    """Return a value that others check."""
    return value
