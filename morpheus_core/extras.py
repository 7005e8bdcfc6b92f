"""Whether optional packages are there, and what they must not leave behind."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from morpheus_core.errors import MissingPackageError


def require_package(package: str, extra: str, purpose: str) -> None:
    """Raise unless a package is installed, without importing it.

    Raises
    ------
    MissingPackageError
        Saying which extra of this package brings it.
    """
    if find_spec(package) is None:
        raise MissingPackageError(
            f"{purpose} needs {package}, which is not installed: "
            f"pip install '.[{extra}]' in the clone of morpheus_core"
        )


def leave_no_traces() -> None:
    """Keep optional packages from writing to the user's home when they are imported.

    ONNX Runtime, from 1.29 on, keeps the id of the device and a queue of usage events there, in a
    database that many workers and a network file system do not agree with. Keras writes its
    settings. What the user has set or has there already stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if not Path("~/.keras").expanduser().exists():
        os.environ.setdefault("KERAS_HOME", os.devnull)  # a folder that cannot be made
