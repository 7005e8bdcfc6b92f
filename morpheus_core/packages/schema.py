"""What ``model.toml`` may say; docs/model_packages.rst explains it."""

# ruff: noqa: RUF009 - `key` returns fields, which is what dataclasses want
from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from morpheus_core import checks
from morpheus_core.adapters.normalizers import Normalizer, min_max, standardize, z_score
from morpheus_core.errors import InputError
from morpheus_core.packages.tables import (
    anything,
    key,
    read_table,
    table_of,
    tables_of,
    text,
    texts,
)

#: Of this description; a package of another one is refused.
SCHEMA = 1
#: Share by which a pixel scale may differ where a package does not say.
SCALE_TOLERANCE = 0.05
#: Difference of scores that other machines may show where a package does not say.
ANSWER_TOLERANCE = 1e-4


def schema(name: str, value: Any) -> int:
    """Return the version of the description."""
    if value != SCHEMA or isinstance(value, bool):
        raise InputError(
            f"{name} must be {SCHEMA}, the one that this version of morpheus_core reads, got "
            f"{value!r}"
        )
    return SCHEMA


def file_name(name: str, value: Any) -> str:
    """Return the name of a file of the package, which lies nowhere else."""
    found = PurePosixPath(text(name, value))
    if len(found.parts) != 1 or found.name in ("..", "") or "\\" in value:
        raise InputError(f"{name} must be a file beside model.toml, got {value!r}")
    return found.name


def sha256(name: str, value: Any) -> str:
    """Return a digest in hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise InputError(f"{name} must be 64 hexadecimal digits, got {value!r}")
    return value


def crop(name: str, value: Any) -> int:
    """Return the pixels of a border."""
    return checks.whole_number(name, value, least=0)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Return two whole numbers."""
    return checks.positive_pair(name, value)


def shares(name: str, value: Any) -> tuple[float, ...]:
    """Return one share of the pixels per class."""
    values = value if isinstance(value, list) else [value]
    found = tuple(checks.positive_number(name, share) for share in values)
    if not found or max(found) >= 1:
        raise InputError(f"{name} must be shares between 0 and 1, got {value!r}")
    return found


@dataclass(frozen=True, slots=True)
class Normalization:
    """How pixels are scaled: one of three kinds, with the arguments of its function."""

    kind: str = key(text, optional=False)
    min_pixel: Any = key(anything)
    max_pixel: Any = key(anything)
    mean: Any = key(anything)
    std: Any = key(anything)

    def make(self) -> Normalizer:
        """Return the function."""
        kinds = {
            "min_max": (min_max, ("min_pixel", "max_pixel")),
            "z_score": (z_score, ("mean", "std")),
            "standardize": (standardize, ()),
        }
        function, names = kinds[checks.one_of("normalize.kind", self.kind, tuple(kinds))]
        given = {
            name: getattr(self, name)
            for name in ("min_pixel", "max_pixel", "mean", "std")
            if getattr(self, name) is not None
        }
        if set(given) != set(names):
            wanted = " and ".join(names) or "nothing else"
            raise InputError(
                f"normalize.kind {self.kind!r} takes {wanted}, got {', '.join(given) or 'none'}"
            )
        made: Normalizer = function(**given)  # type: ignore[operator]
        return made


@dataclass(frozen=True, slots=True)
class NetworkTable:
    """The file of the weights, and the options of its adapter."""

    weights: str = key(file_name, optional=False)
    sha256: str = key(sha256, optional=False)
    factory: str | None = key(text)
    channels: str | None = key(text)
    stack_inputs: bool | None = key(checks.flag)
    fill_nan: float | list[float] | str | None = key(anything)
    activation: str | None = key(text)
    output: str | int | None = key(anything)
    normalize: Normalization | None = key(table_of(Normalization))

    def options(self) -> dict[str, Any]:
        """Return the options of the adapter that are given."""
        names = ("channels", "stack_inputs", "fill_nan", "activation", "output")
        options = {name: getattr(self, name) for name in names}
        if self.normalize is not None:
            options["normalize"] = self.normalize.make()
        return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True, slots=True)
class WindowTable:
    """How windows are cut, and which of their pixels count."""

    shape: tuple[int, int] = key(pair, optional=False)
    batch_size: int = key(checks.whole_number, optional=False)
    stride: tuple[int, int] | None = key(pair)
    crop: int | None = key(crop)
    keep_border: bool | None = key(checks.flag)

    def __post_init__(self) -> None:
        if self.keep_border and self.crop is None:
            raise InputError(
                "windows.keep_border must stand beside windows.crop, the width of the border, got "
                "true without it"
            )


@dataclass(frozen=True, slots=True)
class Band:
    """An image that the network takes, or a plane of one."""

    name: str = key(text, optional=False)
    filters: tuple[str, ...] | None = key(texts)
    unit: str | None = key(text)
    zero_point: float | None = key(checks.finite_number)


@dataclass(frozen=True, slots=True)
class SkyTable:
    """Pixels and resolution of the images; arc seconds."""

    pixel_scale: float | None = key(checks.positive_number)
    tolerance: float | None = key(checks.positive_number)
    psf_width: float | None = key(checks.positive_number)


@dataclass(frozen=True, slots=True)
class ClassTable:
    """What the network tells apart."""

    names: tuple[str, ...] = key(texts, optional=False)
    priors: tuple[float, ...] | None = key(shares)
    calibration: str | None = key(text)


@dataclass(frozen=True, slots=True)
class TrialTable:
    """Windows and what the network says of them."""

    file: str = key(file_name, optional=False)
    tolerance: float | None = key(checks.positive_number)


@dataclass(frozen=True, slots=True)
class Card:
    """All that ``model.toml`` says."""

    schema: int = key(schema, optional=False)
    name: str = key(text, optional=False)
    network: NetworkTable = key(table_of(NetworkTable), optional=False)
    windows: WindowTable = key(table_of(WindowTable), optional=False)
    bands: tuple[Band, ...] = key(tables_of(Band), optional=False)
    classes: ClassTable = key(table_of(ClassTable), optional=False)
    sky: SkyTable | None = key(table_of(SkyTable))
    test: TrialTable | None = key(table_of(TrialTable))
    version: str | None = key(text)
    description: str | None = key(text)
    licence: str | None = key(text)
    doi: str | None = key(text)
    authors: tuple[str, ...] | None = key(texts)


def read_card(content: bytes, name: str) -> Card:
    """Read ``model.toml``.

    Raises
    ------
    InputError
        If it is no TOML, or says what the schema does not know.
    """
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name} must be TOML: {error}") from error
    if isinstance(table.get("schema"), int):
        schema(f"{name}: schema", table["schema"])  # what else is unknown follows from that
    card = read_table(Card, name, table)
    classes = card.classes
    checks.class_names(list(classes.names), len(classes.names))
    if classes.priors is not None and len(classes.priors) != len(classes.names):
        raise InputError(
            f"{name}: classes.priors must be {len(classes.names)}, one per class, got "
            f"{len(classes.priors)}"
        )
    return card
