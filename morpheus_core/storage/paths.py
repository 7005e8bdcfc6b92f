"""Paths as users write them."""

from __future__ import annotations

import os


def at_home(path: str | os.PathLike[str]) -> str:
    """Return a path with the user's home in place of "~".

    What begins with the name of no user, "~nobody", stays as it is, where pathlib would raise.
    """
    return os.path.expanduser(path)  # noqa: PTH111
