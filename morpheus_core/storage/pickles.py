"""Objects as bytes that other processes load, and whom to take such bytes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from morpheus_core.errors import OutputError


def dump(value: Any) -> bytes:
    """Return an object as bytes that another process can load.

    The same object has the same bytes in every process: resumed runs compare them.

    Raises
    ------
    Exception
        Of whatever class, if it cannot be pickled, or not be loaded again.
    """
    import dill

    # Without `recurse` a function loads fine and then misses its globals when it is called.
    with globals_by_name(), scripts_by_value():
        pickled: bytes = dill.dumps(value, recurse=True)
    dill.loads(pickled)
    return pickled


@contextmanager
def globals_by_name() -> Iterator[None]:
    """Let dill write the globals of functions in the order of their names.

    It keeps the names in a set, whose order is another one in each process.
    """
    from dill import detect

    original = detect.globalvars

    def by_name(*arguments: Any, **options: Any) -> dict[str, Any]:
        return dict(sorted(original(*arguments, **options).items()))

    detect.globalvars = by_name
    try:
        yield
    finally:
        detect.globalvars = original


@contextmanager
def scripts_by_value() -> Iterator[None]:
    """Let dill store what a script defines also where the script is not called ``__main__``.

    It is ``__mp_main__`` in processes that multiprocessing has spawned: dill would store only that
    name, under which other processes find nothing.
    """
    from dill import _dill

    original = _dill._locate_function

    def locate(found: Any, *arguments: Any) -> bool:
        is_of_script = getattr(found, "__module__", None) == "__mp_main__"
        return not is_of_script and bool(original(found, *arguments))

    _dill._locate_function = locate
    try:
        yield
    finally:
        _dill._locate_function = original


def load(pickled: bytes) -> Any:
    """Load what :func:`dump` returned."""
    import dill

    return dill.loads(pickled)


def read(path: Path) -> bytes:
    """Read a pickle that nobody else can have written.

    Raises
    ------
    OutputError
        If others could have: loading a pickle runs whatever code is in it.
    """
    for part in (path, path.parent):
        status = part.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise OutputError(
                f"{part} could have been written by others than you, and loading the pickle in it "
                f"would run their code; start a new run in another out_dir"
            )
    return path.read_bytes()
