"""What kind of file system a folder is on, and what follows for files that are read again."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

#: File systems of one machine, as the system calls them. Any other may be seen by several, each of
#: which keeps pages and names of its own: NFS, Lustre, GPFS, CIFS, 9p, FUSE and what else there is.
LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
)
#: Where Linux lists what is mounted.
MOUNTS = Path("/proc/self/mountinfo")


def kind_of(folder: Path) -> str:
    """Return what the system calls the file system of a folder; "unknown" where it does not say."""
    place = folder.resolve()
    found, length = "unknown", -1
    with suppress(OSError):
        for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            point = Path(without_escapes(before.split()[4]))
            # Of several that are mounted at one place the last one is seen.
            if place.is_relative_to(point) and len(point.parts) >= length:
                found, length = after.split()[0], len(point.parts)
    return found


def without_escapes(path: str) -> str:
    r"""Return a path of the list of mounts, in which a blank is ``\040``."""
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path)


def is_shared(folder: Path) -> bool:
    """Say whether other machines may have the file system of a folder."""
    return kind_of(folder) not in LOCAL


def open_anew(path: Path) -> int:
    """Open a file to read what the server has, and not what this machine remembers of it.

    What it remembers of a file system of its own is so.
    """
    descriptor = os.open(path, os.O_RDONLY)
    if is_shared(path.parent):
        forget_pages(descriptor)
    return descriptor


def forget_pages(descriptor: int) -> None:
    """Let the next reading of a file ask the disk, or the server, instead of this machine's memory.

    What was written and is not yet there is not forgotten: sync it before.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is only advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
