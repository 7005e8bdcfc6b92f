"""Making a package of a network."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, OutputError
from morpheus_core.images.stack import ModelInputs, open_inputs
from morpheus_core.packages.package import CARD_NAME, PackagedModel, load_package, sha256_of
from morpheus_core.packages.schema import SCHEMA, Card
from morpheus_core.packages.trial import packed_test
from morpheus_core.pipeline.models import as_float, to_numpy

TEST_NAME = "test.npz"
#: Windows of the test: enough that a wrong order of axes shows, and few enough to be quick.
TEST_WINDOWS = 4


def new_package(
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    description: Mapping[str, Any],
    images: ModelInputs | None = None,
    *,
    trust_code: bool = False,
) -> PackagedModel:
    """Make a model package: copy the weights, write ``model.toml``, and store a test.

    Parameters
    ----------
    path : path
        The folder to make, or a file that ends in .zip.
    weights : path
        The file of the network: what `load_model` takes, or weights for ``network.factory``.
    description : dict
        What ``model.toml`` is to say, as tables within tables. The keys ``schema``,
        ``network.weights``, ``network.sha256`` and ``test`` are filled in.
    images : array, path, HDU, NDData, or list of these, optional
        As for `predict`: the windows of the test are cut from their middle rows. By default they
        are noise around zero, one image per band.
    trust_code : bool, default False
        As for `load_package`.

    Returns
    -------
    PackagedModel
        The package, opened.

    Raises
    ------
    InputError
        If the description or a file cannot be used.
    ModelError
        If the network does not take the windows.
    OutputError
        If `path` exists, or cannot be written.
    """
    target, source = checks.path("path", path), checks.path("weights", weights)
    if target.exists():
        raise OutputError(f"{target} exists; remove it or pass another path of the package")
    if not source.is_file():
        raise InputError(f"weights must be an existing file, got {str(weights)!r}")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".morpheus_core-") as made:
            folder = Path(made) / "package"
            folder.mkdir()
            fill_folder(folder, source, description, images, trust_code)
            if target.suffix.lower() == ".zip":
                zip_folder(folder, Path(made) / "package.zip").rename(target)
            else:
                folder.rename(target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"the package {target} cannot be written: {error}") from error
    return load_package(target, trust_code=trust_code)


def fill_folder(
    folder: Path,
    weights: Path,
    description: Mapping[str, Any],
    images: ModelInputs | None,
    trust_code: bool,
) -> None:
    """Write the files of a package."""
    copied = folder / weights.name
    shutil.copyfile(weights, copied)
    with copied.open("rb") as file:
        network = {
            **description.get("network", {}),
            "weights": weights.name,
            "sha256": sha256_of(file),
        }
    card = {"schema": SCHEMA, **description, "network": network}
    card.pop("test", None)
    write_card(folder, card)
    package = load_package(folder, trust_code=trust_code)
    shape = package.card.windows.shape
    windows = noise(package.card) if images is None else cut(images, shape)
    answer = as_float(to_numpy(package([window.copy() for window in windows])))
    (folder / TEST_NAME).write_bytes(packed_test(windows, answer))
    write_card(folder, {**card, "test": {**description.get("test", {}), "file": TEST_NAME}})


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``model.toml``."""
    (folder / CARD_NAME).write_text("\n".join(as_toml(card)) + "\n", encoding="utf-8")


def as_toml(table: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Yield the lines of a table: its values, then the tables in it."""
    within = {}
    for key, value in table.items():
        if isinstance(value, Mapping) or is_array_of_tables(value):
            within[f"{name}.{key}" if name else key] = value
        else:
            yield f"{key} = {value_as_toml(value)}"
    for key, value in within.items():
        tables = (
            [(f"[{key}]", value)]
            if isinstance(value, Mapping)
            else [(f"[[{key}]]", one) for one in value]
        )
        for heading, one in tables:
            yield from ("", heading, *as_toml(one, key))


def is_array_of_tables(value: Any) -> bool:
    """Say whether a value is a list of tables."""
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return is_list and all(isinstance(one, Mapping) for one in value)


def value_as_toml(value: Any) -> str:
    """Return a text, a number, a truth or a list as TOML, whose texts are those of JSON."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_as_toml, value))}]"
    if isinstance(value, (str, bool, int, float)):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise InputError(
        f"the description of a package must be texts, numbers, lists and tables, got {value!r}"
    )


def noise(card: Card) -> list[NDArray[Any]]:
    """Return windows of noise, one image per band."""
    shape = (TEST_WINDOWS, *card.windows.shape, 1)
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype(np.float32) for _ in card.bands]


def cut(images: ModelInputs, window_shape: tuple[int, int]) -> list[NDArray[Any]]:
    """Return windows side by side from the middle rows of images."""
    height, width = window_shape
    with open_inputs(images) as stack:
        rows, columns = stack.shape
        if rows < height or columns < width:
            raise InputError(
                f"images must be at least as large as a window, {window_shape}, got {stack.shape}"
            )
        top = (rows - height) // 2
        lefts = np.linspace(0, columns - width, TEST_WINDOWS).astype(int)
        bands = [np.asarray(image.read(top, top + height)) for image in stack.images]
        native = [band.astype(band.dtype.newbyteorder("=")) for band in bands]
    return [
        np.ascontiguousarray(np.stack([band[:, left : left + width] for left in lefts]))
        for band in native
    ]


def zip_folder(folder: Path, target: Path) -> Path:
    """Write the files of a folder into a zip file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return target
