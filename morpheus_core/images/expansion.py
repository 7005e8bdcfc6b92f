"""Compressed files, unpacked once: reading rows from them directly would unpack all rows before."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from morpheus_core.errors import InputError
from morpheus_core.fits.blocks import ImageUnit, header_bytes
from morpheus_core.storage.resources import Resource
from morpheus_core.storage.unpacking import copy_bounded, refuse_to_fill

logger = logging.getLogger("morpheus_core")

#: How files begin, and what opens them.
FORMATS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
#: Cards that say what stored numbers stand for.
SCALES = ("BSCALE", "BZERO", "BLANK")
#: How files begin that are compressed otherwise: compress, zip, zstd.
UNKNOWN_FORMATS = (b"\x1f\x9d", b"PK\x03\x04", b"\x28\xb5\x2f\xfd")


def expand(path: Path, folder: Path | None = None) -> Path | None:
    """Unpack a file.

    Parameters
    ----------
    path : Path
        Any file; its first bytes say whether it is compressed by gzip, bzip2 or xz.
    folder : Path, optional
        Where to; the folder for temporary files by default.

    Returns
    -------
    Path or None
        The unpacked file, for the caller to remove; None for a file that is not compressed.

    Raises
    ------
    InputError
        If it is damaged, compressed in another way, or there is no space for it.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        beginning = file.read(max(map(len, FORMATS)))
    if beginning.startswith(UNKNOWN_FORMATS):
        raise InputError(f"{path} is compressed in a way that cannot be read here; unpack it first")
    for magic, open_compressed in FORMATS.items():
        if beginning.startswith(magic):
            return unpack(path, open_compressed, folder)
    return None


@dataclass(frozen=True, slots=True)
class Unpacking:
    """What temporary files have taken: bytes, and seconds to make them."""

    bytes: int = 0
    seconds: float = 0.0

    def __add__(self, other: Unpacking) -> Unpacking:
        return Unpacking(self.bytes + other.bytes, self.seconds + other.seconds)

    @classmethod
    def since(cls, start: float, path: Path) -> Unpacking:
        """Return that of a file that was begun at a time of :func:`time.perf_counter`."""
        return cls(path.stat().st_size, time.perf_counter() - start)


class Unpacked(Resource):
    """Unpacks files once for all that is read of them.

    Attributes
    ----------
    taken : Unpacking
        By all that was unpacked so far.
    """

    def __init__(self) -> None:
        self.taken = Unpacking()
        self._files: dict[Path, Path | None] = {}
        self._images: dict[tuple[Path, int], Path] = {}

    def __call__(self, path: Path) -> Path | None:
        """Return what :func:`expand` returned when it was asked for the file first."""
        if path not in self._files:
            start = time.perf_counter()
            self._files[path] = scratch = expand(path)
            if scratch is not None:
                self.taken += Unpacking.since(start, scratch)
        return self._files[path]

    def tiles(self, path: Path, index: int, hdu: Any, name: str) -> Path:
        """Return what :func:`unpack_tiles` returned when it was asked for the HDU first."""
        if (path, index) not in self._images:
            start = time.perf_counter()
            self._images[path, index] = scratch = unpack_tiles(hdu, name)
            self.taken += Unpacking.since(start, scratch)
        return self._images[path, index]

    def keep(self, paths: Iterable[Path]) -> None:
        """Remove what was unpacked of other files than these."""
        kept = set(paths)
        stored = {self._files.get(path) or path for path in kept}
        for key in [key for key in self._images if key[0] not in stored]:
            self._images.pop(key).unlink(missing_ok=True)
        for path in self._files.keys() - kept:
            scratch = self._files.pop(path)
            if scratch is not None:
                scratch.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all that was unpacked."""
        self.keep(())


def unpack(path: Path, open_compressed: Callable[[Path], Any], folder: Path | None) -> Path:
    """Unpack a compressed file into a temporary one."""
    with scratch_file(str(path), folder=folder) as scratch, open_compressed(path) as source:
        copy_bounded(source, scratch, path.stat().st_size, Path(scratch.name).parent)
    return Path(scratch.name)


def unpack_tiles(hdu: Any, name: str) -> Path:
    """Unpack an image that is compressed in tiles into a FITS file that holds nothing else.

    Parameters
    ----------
    hdu : CompImageHDU
        Of a file that was opened without scaling: the stored numbers are copied, and the cards that
        say what they stand for.
    name : str
        What errors call it.
    """
    unit = ImageUnit(hdu.shape, hdu.section.dtype.newbyteorder("="))
    header = unit.header()
    for key in SCALES:  # `Header.extend`, by which units take cards, leaves these out
        if key in hdu.header:
            header[key] = hdu.header[key]
    with scratch_file(name) as scratch:
        refuse_to_fill(Path(scratch.name).parent, unit.padded_bytes)  # a header may claim anything
        scratch.write(header_bytes(header))
        for start in range(0, hdu.shape[0], hdu.tile_shape[0]):
            stored = hdu.section[start : start + hdu.tile_shape[0]]
            scratch.write(np.ascontiguousarray(stored, unit.dtype.newbyteorder(">")).data)
        scratch.write(bytes(unit.padded_bytes - unit.data_bytes))
    return Path(scratch.name)


@contextmanager
def scratch_file(
    name: str, suffix: str = ".fits", folder: Path | None = None
) -> Iterator[IO[bytes]]:
    """Open a temporary file to unpack something into, which is removed if that fails."""
    with tempfile.NamedTemporaryFile(
        prefix="morpheus_core-", suffix=suffix, dir=folder, delete=False
    ) as scratch:
        target = Path(scratch.name)
        logger.info("unpacking %s to %s", name, target)
        try:
            yield scratch
        except BaseException as error:
            target.unlink()
            if not isinstance(error, Exception):
                raise
            # What is damaged raises EOFError, OSError, zlib.error or LZMAError.
            raise InputError(
                f"{name} is damaged, or there is no space to unpack it in {target.parent} (TMPDIR "
                f"may name another folder): {error}"
            ) from error
