"""Unpacking what may be made to fill the disk: how much is written is bounded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO

#: Bytes that are copied at once.
BLOCK = 1 << 20
#: How much of a file system stays free, in bytes and as a fraction of it: the lesser of both.
RESERVE = 256 << 20, 0.05
#: How many times as large a file may become. gzip packs nothing better than 1 to 1032, not even an
#: empty image.
RATIO = 1100
#: Up to so many bytes it may be more: empty images, packed by bzip2 or xz.
HARMLESS = 1 << 30


def copy_bounded(source: IO[bytes], target: IO[bytes], packed: int, folder: Path) -> None:
    """Copy what is read of a packed file to a file.

    Parameters
    ----------
    source, target : file
        From where, and to where.
    packed : int
        Bytes of the packed file.
    folder : Path
        Where the target lies.

    Raises
    ------
    OSError
        Before the file system is full, and if the file grows to what no image or network does.
    """
    written = 0
    most = max(HARMLESS, RATIO * packed)
    while block := source.read(BLOCK):
        refuse_to_fill(folder, len(block))
        written += len(block)
        if written > most:
            raise OSError(f"{mebibytes(packed)} must not unpack to more than {mebibytes(most)}")
        target.write(block)


def refuse_to_fill(folder: Path, size: int) -> None:
    """Raise unless so many bytes leave room for others in a file system.

    Raises
    ------
    OSError
        If they do not.
    """
    usage = shutil.disk_usage(folder)
    reserve = min(RESERVE[0], int(RESERVE[1] * usage.total))
    if usage.free - size < reserve:
        raise OSError(
            f"{mebibytes(reserve)} of {folder} must stay free, got {mebibytes(usage.free)} before "
            f"{mebibytes(size)} more are written"
        )


def mebibytes(size: int) -> str:
    """Return a number of bytes in MiB."""
    return f"{size / 2**20:.1f} MiB"
