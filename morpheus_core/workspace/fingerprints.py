"""What decides the numbers of a run, and how files were when it began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from morpheus_core.errors import InputError, OutputError
from morpheus_core.version import RUN_FORMAT, __version__

#: What every fingerprint holds: only the build that began a run goes on with it.
BUILD: dict[str, Any] = {"version": __version__, "format": RUN_FORMAT}
#: Characters of values that are shown.
LONGEST_VALUE = 40


def refuse_other_run(path: Path, fingerprint: dict[str, Any]) -> None:
    """Raise unless what was noted of a run is what is to be run."""
    try:
        stored = json.loads(path.read_text())
    except ValueError as error:
        raise OutputError(f"{path} is damaged, so that run cannot be continued") from error
    changed = [
        change_of(name, stored.get(name), value)
        for name, value in fingerprint.items()
        if stored.get(name) != value
    ]
    if changed:
        raise InputError(
            f"resume=True needs the arguments and inputs of the run in {path.parent.parent}, got "
            f"other {', '.join(changed)}; give those, or begin a new run in another work_dir"
        )


def change_of(name: str, before: Any, now: Any) -> str:
    """Name an argument that has changed, with its values if they are short, as digests are not."""
    texts = [json.dumps(value) for value in (now, before)]
    short = max(map(len, texts)) <= LONGEST_VALUE
    return f"{name} ({texts[0]} in place of {texts[1]})" if short else name


def state_of(path: Path) -> tuple[int, int]:
    """Return size and time of the last change of a file, -1 if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name that no file can have, for instance
        return -1, -1
    return status.st_size, status.st_mtime_ns
