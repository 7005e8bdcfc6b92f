"""Files of images that are made of a finished run: they grow, and then get their name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.fits.blocks import (
    ImageUnit,
    UnitWriter,
    allocate,
    place_units,
    write_all,
    writing,
)
from morpheus_core.results.outputs import refuse_to_replace
from morpheus_core.results.products import FILE_NAMES
from morpheus_core.results.verification import refuse_differences
from morpheus_core.storage.locks import lock, unlock

#: Endings of compressed files.
COMPRESSED = (".gz", ".bz2", ".xz", ".fz", ".Z")


class GrowingFile:
    """A file of images whose rows are written in any order.

    Parameters
    ----------
    path, descriptor
        The file, which is open for writing.
    writers : sequence of UnitWriter
        One per HDU.
    """

    def __init__(self, path: Path, descriptor: int, writers: Sequence[UnitWriter]) -> None:
        self._path, self._descriptor = path, descriptor
        self._writers, self._sums = writers, [0] * len(writers)

    def write(self, place: int, first: int, pixels: NDArray[Any]) -> None:
        """Write rows of an HDU from row `first` on."""
        self._sums[place] += self._writers[place].write(first, pixels)

    def seal(self) -> None:
        """Enter checksums, wait until all is on disk, and read it back.

        Raises
        ------
        OutputError
            If it reads back otherwise than it was written.
        """
        for writer, data_sum in zip(self._writers, self._sums, strict=True):
            writer.seal(data_sum)
        with writing(self._path):
            os.fsync(self._descriptor)
        refuse_differences(self._path, [writer.start for writer in self._writers])


def refuse_export(
    out_dir: Path | None, path: Path, sources: Sequence[Path], overwrite: bool
) -> None:
    """Raise if an export of the run in `out_dir`, which may be still to come, cannot be written.

    A run in memory has no folder.

    Raises
    ------
    OutputError
        If its name promises something else, its folder is missing, or a file is in the way, above
        all one of `sources`.
    """
    if path.suffix in COMPRESSED:
        raise OutputError(f"an export is not compressed; its name must not end in {path.suffix}")
    folder = path.parent.resolve()
    outputs = [] if out_dir is None else [out_dir.resolve(), *out_dir.resolve().parents]
    stem = path.name.removesuffix(".part").removesuffix(".fits")
    if folder in outputs[:1] and stem in FILE_NAMES:
        raise OutputError(f"{path} is the name of an output of predict; choose another one")
    if not folder.is_dir() and folder not in outputs:
        raise OutputError(f"{path} cannot be made: there is no folder {path.parent}")
    refuse_to_replace([path], sources, overwrite)


@contextmanager
def new_file(path: Path, overwrite: bool) -> Iterator[int]:
    """Make a file, in place of what a killed process left if asked, and remove it on failure."""
    if overwrite:
        remove_unlocked(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError as error:
        way_out = "wait for its end" if overwrite else "pass overwrite=True to remove what it left"
        raise OutputError(
            f"{path} is in the way: it is being written, or was when its process was killed; "
            f"{way_out}, or remove it"
        ) from error
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}") from error
    try:
        with suppress(OSError):  # not every file system has locks
            lock(descriptor)
        yield descriptor
    except BaseException:
        path.unlink()
        raise
    finally:
        unlock(descriptor)
        os.close(descriptor)


def remove_unlocked(path: Path) -> None:
    """Remove a file, unless a process that writes it holds its lock, or that cannot be told."""
    with suppress(OSError), path.open("rb+") as file:
        lock(file.fileno())
        path.unlink()
        unlock(file.fileno())


def make_room(path: Path, descriptor: int, units: Sequence[ImageUnit]) -> list[UnitWriter]:
    """Make a file as large as it will be, with the headers of images behind what it holds."""
    headers, end = place_units(units, end=os.fstat(descriptor).st_size)
    with writing(path):
        allocate(descriptor, end)
        for header, start in headers:
            write_all(descriptor, header, start)
    return [
        UnitWriter(path, descriptor, unit, start, start + len(header))
        for unit, (header, start) in zip(units, headers, strict=True)
    ]
