"""A model of several machines that share files as clients of NFS do.

The folder on disk is the server. Each machine keeps pages of 4 KiB of the files that it has read or
written; of a page that it has read it writes back the whole, and it does so when it likes, at the
latest at `fsync` and `close`. Whether a machine notices at `open` that a file was changed
elsewhere, when it writes back, and whether it shows a folder as it was is drawn by a test.
"""

import io
import os
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

PAGE = 4096
#: How often a folder is shown as it was, at the most.
LONGEST = 3
NAMES = ("open", "close", "write", "pwrite", "pread", "fsync", "scandir")
REAL = {name: getattr(os, name) for name in NAMES}


class Machine:
    """What one machine remembers."""

    def __init__(self):
        self.pages = defaultdict(dict)  # by file: page → bytes as this machine sees them
        self.dirty = defaultdict(dict)  # by file: page → [first, stop) that the server lacks
        self.seen = {}  # by file: its version and length when it was opened last
        self.listings = {}


class Machines:
    """Machines, one of which is that of each thread.

    Parameters
    ----------
    folder : Path
        What they share.
    name : str
        The machine of threads that are not said to be on another one.
    chance : callable
        Answers yes or no each time that something may happen or not.
    """

    def __init__(self, folder, name, chance):
        self.folder, self.name, self.chance = str(folder), name, chance
        self.place = threading.local()
        self.all = defaultdict(Machine)
        self.versions = defaultdict(int)
        self.files, self.server = {}, {}

    def be(self, name):
        """Let this thread be on a machine from here on."""
        self.place.name = name

    @property
    def here(self):
        return self.all[getattr(self.place, "name", self.name)]

    @contextmanager
    def running(self):
        """Let all that is done with files in the folder be done so."""
        with (
            patch.multiple(
                os,
                open=self.open,
                close=self.close,
                write=self.write,
                pwrite=self.pwrite,
                pread=self.pread,
                preadv=self.preadv,
                copy_file_range=self.copy_file_range,
                fsync=self.fsync,
                scandir=self.scandir,
                posix_fadvise=self.posix_fadvise,
            ),
            patch.object(Path, "open", self.open_path()),
        ):
            yield
        for descriptor in self.server.values():
            os.close(descriptor)

    def open(self, path, flags, mode=0o777, **options):
        descriptor = REAL["open"](path, flags, mode, **options)
        if os.fspath(path).startswith(self.folder):
            # A change of its own lets a machine look at the folder again, mostly.
            if flags & os.O_CREAT and self.chance():
                self.here.listings.pop(os.path.dirname(path), None)  # noqa: PTH120
            self.files[descriptor] = ino = os.fstat(descriptor).st_ino
            if ino not in self.server:  # held, or another file would get the same number
                self.server[ino] = REAL["open"](path, os.O_RDWR)
            now = self.versions[ino], os.fstat(descriptor).st_size
            before = self.here.seen.get(ino, now)
            # Times may be too coarse to tell, lengths are not.
            if before[1] != now[1] or (before[0] != now[0] and self.chance()):
                self.forget(ino)
            self.here.seen[ino] = now
        return descriptor

    def close(self, descriptor):
        if descriptor in self.files:
            self.fsync(descriptor)
            del self.files[descriptor]
        REAL["close"](descriptor)

    def forget(self, ino):
        """Drop the pages that the server has as well."""
        pages, dirty = self.here.pages[ino], self.here.dirty[ino]
        for page in set(pages) - set(dirty):
            del pages[page]

    def posix_fadvise(self, descriptor, *_):
        if descriptor in self.files:
            self.forget(self.files[descriptor])

    def page(self, descriptor, page):
        """Return a page as this machine sees it, which reads on a little as well."""
        pages = self.here.pages[self.files[descriptor]]
        for number in (page, page + 1):
            if number not in pages:
                content = REAL["pread"](self.server[self.files[descriptor]], PAGE, number * PAGE)
                pages[number] = bytearray(content.ljust(PAGE, b"\0"))
        return pages[page]

    def pread(self, descriptor, size, offset):
        if descriptor not in self.files:
            return REAL["pread"](descriptor, size, offset)
        size = max(0, min(size, self.size(descriptor) - offset))
        first, stop = offset // PAGE, -(-(offset + size) // PAGE)
        content = b"".join(bytes(self.page(descriptor, page)) for page in range(first, stop))
        return content[offset - first * PAGE :][:size]

    def preadv(self, descriptor, buffers, offset):
        (buffer,) = buffers
        content = self.pread(descriptor, len(buffer), offset)
        buffer[: len(content)] = content
        return len(content)

    def copy_file_range(self, source, descriptor, size, start, place):
        """Copy by way of this machine, a page at a time."""
        return self.pwrite(descriptor, self.pread(source, min(size, PAGE), start), place)

    def size(self, descriptor):
        """Return how long a file is for this machine."""
        dirty = self.here.dirty[self.files[descriptor]]
        ends = [page * PAGE + stop for page, (_, stop) in dirty.items()]
        return max([os.fstat(descriptor).st_size, *ends])

    def pwrite(self, descriptor, data, offset):
        if descriptor not in self.files:
            return REAL["pwrite"](descriptor, data, offset)
        data = bytes(data)
        ino = self.files[descriptor]
        pages, dirty = self.here.pages[ino], self.here.dirty[ino]
        page, start = divmod(offset, PAGE)
        part = data[: PAGE - start]  # a short write, at the end of a page
        stop = start + len(part)
        if page in pages:
            # It was read, or written before: all of it is thought to be known.
            size = self.size(descriptor)
            pages[page][start:stop] = part
            whole = min(PAGE, max(size - page * PAGE, stop))
            dirty[page] = (0, whole)
        else:
            pages[page] = bytearray(PAGE)
            pages[page][start:stop] = part
            self.write_back(descriptor, page, (start, stop))
            del pages[page]
        if self.chance() and page in dirty:
            self.write_back(descriptor, page, dirty.pop(page))
        return len(part)

    def write_back(self, descriptor, page, extent):
        ino, (start, stop) = self.files[descriptor], extent
        content = self.here.pages[ino][page][start:stop]
        REAL["pwrite"](self.server[ino], bytes(content), page * PAGE + start)
        self.versions[ino] += 1

    def write(self, descriptor, data):
        """Append, which no machine delays: only one does so to a file."""
        if descriptor in self.files:
            self.versions[self.files[descriptor]] += 1
        return REAL["write"](descriptor, data)

    def fsync(self, descriptor):
        ino = self.files.get(descriptor)
        dirty = {} if ino is None else self.here.dirty[ino]
        while dirty:
            page, extent = dirty.popitem()
            self.write_back(descriptor, page, extent)

    def scandir(self, path="."):
        folder = os.fspath(path)
        if not folder.startswith(self.folder):
            return REAL["scandir"](path)
        listing, age = self.here.listings.get(folder, (None, LONGEST))
        if age == LONGEST:
            listing, age = list(REAL["scandir"](path)), 0
        self.here.listings[folder] = listing, age + 1
        return listing

    def open_path(self):
        """Return what `Path.open` does, by which files are read."""
        real = Path.open

        def open_path(path, mode="r", *arguments, **options):
            if not os.fspath(path).startswith(self.folder) or mode != "rb":
                return real(path, mode, *arguments, **options)
            descriptor = self.open(path, os.O_RDONLY)
            try:
                return io.BytesIO(self.pread(descriptor, self.size(descriptor), 0))
            finally:
                self.close(descriptor)

        return open_path
