"""Whether optional packages are there."""

from __future__ import annotations

from importlib.util import find_spec

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
