"""A model package, opened: its description, and its network once that is wanted."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.adapters import forms
from morpheus_core.adapters.files import PICKLES, load_model
from morpheus_core.adapters.pytorch import torch_model
from morpheus_core.errors import InputError
from morpheus_core.packages.schema import Card, read_card
from morpheus_core.pipeline.descriptions import described
from morpheus_core.pipeline.models import Model, StandIn
from morpheus_core.storage.paths import at_home
from morpheus_core.storage.unpacking import copy_bounded

CARD_NAME = "model.toml"
#: Bytes that a description, and a test with its answer, may have, so that they fit into memory.
MOST_OF_CARD, MOST_OF_TEST = 1 << 20, 1 << 30
#: Weights that go into a module of PyTorch, which a factory makes.
STATES = (".safetensors", ".ckpt", ".pt", ".pth")


class Files:
    """The files of a package, which is a folder, or a zip file with or without a folder in it.

    Parameters
    ----------
    path : Path
        The package.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefix = ""
        if path.is_dir():
            found = 1 if (path / CARD_NAME).is_file() else 0
        else:
            with zipfile.ZipFile(path) as archive:
                cards = [name for name in archive.namelist() if name.split("/")[-1] == CARD_NAME]
            found = len(cards)
            self._prefix = cards[0].removesuffix(CARD_NAME) if found == 1 else ""
        if found != 1:
            raise InputError(f"a model package must hold one {CARD_NAME}, got {found} in {path}")

    @contextmanager
    def open(self, name: str) -> Any:
        """Open a file to be read.

        Raises
        ------
        InputError
            If it is not there.
        """
        if self.path.is_dir():
            if not (self.path / name).is_file():
                raise self._missing(name)
            with (self.path / name).open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive:
            if self._prefix + name not in archive.namelist():
                raise self._missing(name)
            with archive.open(self._prefix + name) as file:
                yield file

    def read(self, name: str, most: int) -> bytes:
        """Return what a file holds.

        Raises
        ------
        InputError
            If it is not there, or has more bytes than it may have.
        """
        with self.open(name) as file:
            content: bytes = file.read(most + 1)
        if len(content) > most:
            raise InputError(f"{name} in {self.path} must have at most {most} bytes, got more")
        return content

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        with self.open(name) as file:
            return sha256_of(file)

    def _missing(self, name: str) -> InputError:
        return InputError(
            f"a model package must hold what its {CARD_NAME} names, got no {name} in {self.path}"
        )


def sha256_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left of an open file, of whatever kind."""
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


@dataclass(frozen=True, repr=False, eq=False)
class PackagedModel(StandIn):
    """The network of a package as a callable for `predict`, which also knows its description.

    Parameters
    ----------
    path : Path
        The package.
    name : str
        What it calls itself.
    card : Card
        All that it says.
    content : bytes
        Its ``model.toml``.
    trusted : bool
        Whether code that it names may run.
    """

    path: Path
    name: str
    card: Card = field(repr=False)
    content: bytes = field(repr=False)
    trusted: bool = field(repr=False)

    __repr__ = described

    @cached_property
    def model(self) -> Model:
        """The network in its adapter; the weights are those that the description means."""
        files, network = Files(self.path), self.card.network
        digest = files.digest(network.weights)
        if digest != network.sha256:
            raise InputError(
                f"{network.weights} in {self.path} must have the sha256 that {CARD_NAME} says, "
                f"{network.sha256}, got {digest}: it is not the file that was packed"
            )
        return network_of(self.card, self._on_disk(files), self.trusted)

    def _on_disk(self, files: Files) -> Path:
        """Return where the weights are, in a file of their own."""
        if self.path.is_dir():
            return self.path / self.card.network.weights
        folder = tempfile.mkdtemp(prefix="morpheus_core-")
        weakref.finalize(self, remove, folder, os.getpid())
        unpacked = Path(folder) / self.card.network.weights
        try:
            with files.open(unpacked.name) as packed, unpacked.open("wb") as file:
                copy_bounded(packed, file, self.path.stat().st_size, Path(folder))
        except OSError as error:
            raise InputError(
                f"the weights of {self.path} cannot be unpacked in {folder} (TMPDIR may name "
                f"another folder): {error}"
            ) from error
        return unpacked

    def digested(self) -> Iterable[bytes]:
        """Yield what the package is, by which the weights are known as well."""
        return [self.content]

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __call__(self, windows: list[NDArray[Any]]) -> Any:
        """Score windows, one (batch, height, width, bands) array per image."""
        return self.model(windows)


def remove(folder: str, process: int) -> None:
    """Remove a folder, in the process that made it and not in those that were forked from it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def is_package(model: Any) -> bool:
    """Say whether something is the path of a model package, by its suffix or what it holds."""
    if not isinstance(model, (str, os.PathLike)):
        return False
    path = Path(at_home(model))
    return path.suffix.lower() == ".zip" or (path / CARD_NAME).is_file()


def load_package(path: str | os.PathLike[str], *, trust_code: bool = False) -> PackagedModel:
    """Open a model package.

    `predict`, `predict_catalog` and `map_exposures` also take its path.

    Parameters
    ----------
    path : path
        A folder that holds ``model.toml``, or a zip file of one.
    trust_code : bool, default False
        Run code that the package names: the function of its key ``network.factory``, a pickle.

    Returns
    -------
    PackagedModel
        A model for `predict`. Its attribute ``card`` holds what ``model.toml`` says.

    Raises
    ------
    InputError
        If it is no package, ``model.toml`` says what it may not, the weights are others than it
        says, or code would run that is not trusted.
    MissingPackageError
        If the framework of the network is not installed.
    """
    content, card = read_description(path)
    name = card.name if card.version is None else f"{card.name} {card.version}"
    trusted = checks.flag("trust_code", trust_code)
    package = PackagedModel(checks.path("path", path), name, card, content, trusted)
    _ = package.model  # so that what is wrong shows here
    return package


def read_description(path: str | os.PathLike[str]) -> tuple[bytes, Card]:
    """Return ``model.toml`` of a package, and what it says.

    Raises
    ------
    InputError
        If it is no package, or ``model.toml`` says what it may not.
    """
    found = checks.path("path", path)
    if not found.is_dir() and not (found.is_file() and zipfile.is_zipfile(found)):
        raise InputError(
            f"a model package must be a folder with {CARD_NAME}, or a zip file, got {str(path)!r}"
        )
    content = Files(found).read(CARD_NAME, MOST_OF_CARD)
    return content, read_card(content, CARD_NAME)


def network_of(card: Card, weights: Path, trusted: bool) -> Model:
    """Return the network in its adapter."""
    network, options = card.network, card.network.options()
    is_code = network.factory is not None or weights.suffix.lower() in PICKLES
    if is_code and not trusted:
        raise InputError(
            f"the package {card.name} runs code of {network.factory or network.weights}; pass "
            f"load_package(path, trust_code=True), --trust-pickle in a shell, if you know who "
            f"wrote it"
        )
    if network.factory is None:
        model = load_model(weights, trust_pickle=trusted, **options)
        assert not isinstance(model, str), "names of factories have no suffix"
        return model
    made_by = imported(network.factory)
    if weights.suffix.lower() in STATES:
        return torch_model(made_by, state_dict=weights, **options)
    if options:
        raise InputError(
            f"network.factory makes a model that is used as it is and takes no {', '.join(options)}"
        )
    made: Model = made_by(weights)
    return made


def imported(factory: str) -> Any:
    """Return the function or class that ``"package.module:name"`` means."""
    module, _, name = factory.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything
        raise InputError(
            f'network.factory must be "package.module:name", got {factory!r}: {error}'
        ) from error


def as_model(model: Any) -> Any:
    """Return a model for `predict`: a package opened, a network in its adapter.

    Raises
    ------
    InputError
        If it is a package or a network that cannot be used.
    MissingPackageError
        If its framework is not installed.
    """
    return load_package(model) if is_package(model) else forms.as_model(model)


def card_of(model: Any) -> Card | None:
    """Return the description of a packaged model, also of one within models of models."""
    while model is not None:
        if isinstance(model, PackagedModel):
            return model.card
        model = getattr(model, "__dict__", {}).get("model")
    return None
