"""The file ``run.json`` beside what a command has made: how it came about, to be made again."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from astropy.io import fits

from morpheus_core.commands.requests import as_json, read_request
from morpheus_core.errors import warn
from morpheus_core.images.hdus import split_extension
from morpheus_core.packages.package import is_package, load_package
from morpheus_core.pipeline.descriptions import model_digest
from morpheus_core.storage.whole_files import write_text
from morpheus_core.version import __version__

#: What it is called.
RECORD = "run.json"
#: Options that decide where and how a run works, not what comes out of it.
HOW = ("--out-dir", "--out", "--work-dir", "--overwrite", "--resume", "--no-progress", "--planes")
#: Packages whose versions are noted where they are at work, by what is imported of them.
PACKAGES = {
    name: name
    for name in ("numpy", "astropy", "numba", "torch", "onnxruntime", "keras", "tensorflow", "jax")
} | {"sklearn": "scikit-learn"}


def write_record(
    arguments: argparse.Namespace,
    path: Path,
    inputs: Iterable[str | Path],
    outputs: Iterable[str | Path],
) -> None:
    """Write what was asked for, with checksums of what was read and made.

    Parameters
    ----------
    arguments : Namespace
        What was asked for.
    path : Path
        Where to.
    inputs, outputs : iterable of str or Path
        Files. Inputs may have an HDU in brackets, or be what has no checksum: addresses.
    """
    record = {
        "command": arguments.command,
        "arguments": as_json(arguments),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": digest_of_model(arguments),
        "inputs": {str(name): digest_of_file(name) for name in inputs},
        "outputs": {beside(Path(name), path): digest_of_data(Path(name)) for name in outputs},
    }
    if arguments.config is not None:
        compare_outputs(record, arguments.config)
    write_text(path, json.dumps(record, indent=2) + "\n")


def compare_inputs(
    arguments: argparse.Namespace, inputs: Iterable[str | Path] | None = None
) -> None:
    """Warn where files that a request names, or some of them, are others than they were."""
    if arguments.config is None:
        return
    request = read_request(arguments.config)
    known = request["inputs"]
    names = known if inputs is None else [str(name) for name in inputs if str(name) in known]
    changed = [name for name in names if known[name] not in (None, digest_of_file(name))]
    if as_json(arguments)["--model"] == request["arguments"].get("--model"):
        changed += [arguments.model] * (request.get("model") != digest_of_model(arguments))
    for name in changed:
        warn(f"{name} is not what it was when {arguments.config} was written")


def compare_outputs(record: dict[str, Any], name: str) -> None:
    """Say whether outputs are what they were in the run that is asked for again."""
    earlier = read_request(name)
    options = [typed for typed in differing(record, earlier, "arguments") if typed not in HOW]
    packages = differing(record, earlier, "versions")
    changed = []
    for output, digest in record["outputs"].items():
        before = earlier["outputs"].get(output)
        if before == digest:
            print(f"{output}: the data that {name} tells of")
        elif before is not None:
            changed.append(output)
    if changed:
        warn(
            f"{', '.join(changed)}: other data than {name} tells of; options that differ: "
            f"{', '.join(options) or 'none'}; versions that differ: "
            f"{', '.join(packages) or 'none'}"
        )


def differing(record: dict[str, Any], earlier: dict[str, Any], part: str) -> list[str]:
    """Return the names of what is not the same in a part of two records."""
    now, before = record[part], earlier.get(part, {})
    return [name for name in now if now[name] != before.get(name)]


def beside(path: Path, record: Path) -> str:
    """Return the name of a file, seen from the folder of a record if it is there or below."""
    path, folder = path.resolve(), record.parent.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def versions() -> dict[str, str]:
    """Return the versions of what was at work."""
    found = {"morpheus_core": __version__, "python": platform.python_version()}
    for module, package in PACKAGES.items():
        with suppress(PackageNotFoundError):  # a module of the user's may be called so
            if module in sys.modules:
                found[package] = version(package)
    return found


def digest_of_model(arguments: argparse.Namespace) -> str | None:
    """Return the checksum of a file, or that of a model package."""
    if is_package(arguments.model):
        return model_digest(load_package(arguments.model, trust_code=arguments.trust_pickle))
    return digest_of_file(arguments.model)


def digest_of_file(name: str | Path) -> str | None:
    """Return a checksum of a file, if there is one."""
    path, _ = split_extension(str(name))
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def digest_of_data(path: Path) -> str | None:
    """Return a checksum of what a file holds, whatever FITS headers say of the time."""
    if path.suffix != ".fits":
        return digest_of_file(path)
    found = hashlib.sha256()
    with path.open("rb") as file, fits.open(path) as hdus:
        for hdu in hdus:
            known = hdu.header.get("DATASUM")
            if known is None:  # of an HDU that was copied
                place = hdu.fileinfo()
                file.seek(place["datLoc"])
                known = hashlib.sha256(file.read(place["datSpan"])).hexdigest()
            found.update(f"{known}\n".encode())
    return f"sha256 of data {found.hexdigest()}"
