"""Where planes and results of wide images lie while nothing is done to them.

They are as wide as the image, and a batch touches a few columns of them. Large ones are a map of a
file without a name: the process gives back what it has touched, and the system writes it to disk
when it needs the memory for something else. Where it has plenty, it reads none of it back.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from morpheus_core.fits.blocks import allocate

logger = logging.getLogger(__name__)

#: Sums and results of fewer bytes than this stay in memory, wherever that is.
LEAST_BYTES = 1 << 30

#: So do those of less than this part of the memory that there is: a slow disk may take longer to
#: write what has been touched than a model to say it.
MOST_OF_MEMORY = 0.25

#: Memory is given back when about this much of them may have been touched.
TOUCHED_BYTES = 64 << 20


class Shelf:
    """Arrays with values for each pixel of some rows, which may lie in files.

    Parameters
    ----------
    layouts : sequence of (tuple of int, dtype)
        Shape and type of each array.
    pixels : int
        How many each array has values for.
    shelved : bool
        Whether they are to lie in files.

    Attributes
    ----------
    arrays : list of ndarray
        Any numbers at first.
    """

    def __init__(
        self, layouts: Sequence[tuple[tuple[int, ...], DTypeLike]], pixels: int, shelved: bool
    ) -> None:
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layouts]
        self._pixel_bytes, self._touched = sum(sizes) // max(pixels, 1), 0
        self._maps: list[mmap.mmap] = []
        if shelved and pixels:
            try:
                self._maps = [map_of(size) for size in sizes]
            except OSError as error:  # too little space, most often
                logger.warning(
                    "%d bytes stay in memory: no file in %s: %s", sum(sizes), folder(), error
                )
        buffers: Sequence[mmap.mmap | None] = self._maps or [None] * len(sizes)
        self.arrays: list[NDArray[Any]] = [
            np.ndarray(shape, dtype, buffer)
            for (shape, dtype), buffer in zip(layouts, buffers, strict=True)
        ]

    def touched(self, pixels: int) -> None:
        """Give memory back, now and then, when this many pixels have been read or written."""
        if self._maps:
            self._touched += pixels * self._pixel_bytes
            if self._touched > TOUCHED_BYTES:
                self._touched = 0
                for shown in self._maps:
                    shown.madvise(mmap.MADV_DONTNEED)  # the file has what was written


def is_shelved(size: int) -> bool:
    """Say whether sums and results of this size in all are to lie in files."""
    if size < LEAST_BYTES or size < MOST_OF_MEMORY * memory_of_machine():
        return False
    return hasattr(mmap, "MADV_DONTNEED") and not is_memory(folder())


def memory_of_machine() -> float:
    """Return the bytes of memory of this machine, or what its container may have of it."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return math.inf
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # "max" is no limit
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most


def folder() -> str:
    """Return where such files are made."""
    return tempfile.gettempdir()


def map_of(size: int) -> mmap.mmap:
    """Map a file that is gone when nothing refers to the map."""
    with tempfile.TemporaryFile(prefix="morpheus_core-", dir=folder()) as file:
        allocate(file.fileno(), size)
        return mmap.mmap(file.fileno(), size)


def is_memory(path: str) -> bool:
    """Say whether files of a folder take memory, as far as the system tells."""
    device = Path(path).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return False
    mounted = [line.split() for line in mounts.splitlines()]
    kinds = {fields[fields.index("-") + 1] for fields in mounted if fields[2] == number}
    return not kinds.isdisjoint({"tmpfs", "ramfs"})
