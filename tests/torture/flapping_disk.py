"""A disk that is slow, and fails now and then: a file system that hands all on to a folder.

    python flapping_disk.py FOLDER PLACE SEED

shows FOLDER at PLACE until that is unmounted. While a file ``FOLDER.flapping`` is there, a call
waits up to three milliseconds, and all that is asked within a twentieth of a second fails, every
one and a half.
"""

import errno
import os
import random
import sys
import time
from pathlib import Path

import mfusepy

PERIOD, DOWN = 1.5, 0.05  # seconds
FIELDS = ["mode", "nlink", "size", "uid", "gid", "blocks"]
TIMES = ["atime", "mtime", "ctime"]


def sometimes(call):
    """Make a call slow while the disk flaps, and let it fail for a while again and again."""

    def tried(self, *arguments):
        if self.flag.exists():
            time.sleep(self.random.uniform(0, 0.003))
            if (time.monotonic() - self.start) % PERIOD < DOWN:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(self, *arguments)

    return tried


class Disk(mfusepy.Operations):
    """A folder of another disk."""

    use_ns = True

    def __init__(self, folder, seed):
        self.folder = folder
        self.flag = folder.with_suffix(".flapping")
        self.random = random.Random(seed)
        self.start = time.monotonic() - self.random.uniform(0, PERIOD)

    def _at(self, path):
        return self.folder / path.lstrip("/")

    def getattr(self, path, fh=None):
        found = os.fstat(fh) if fh is not None else self._at(path).lstat()
        names = [
            "mode",
            "nlink",
            "size",
            "uid",
            "gid",
            "blocks",
            "atime_ns",
            "mtime_ns",
            "ctime_ns",
        ]
        return {f"st_{name.removesuffix('_ns')}": getattr(found, f"st_{name}") for name in names}

    def statfs(self, path):
        found = os.statvfs(self._at(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}

    def readdir(self, path, fh):
        return [".", "..", *sorted(each.name for each in self._at(path).iterdir())]

    @sometimes
    def open(self, path, flags):
        return os.open(self._at(path), flags)

    @sometimes
    def create(self, path, mode, fi=None):
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    @sometimes
    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    @sometimes
    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    @sometimes
    def fsync(self, path, datasync, fh):
        os.fsync(fh)

    @sometimes
    def truncate(self, path, length, fh=None):
        os.truncate(self._at(path) if fh is None else fh, length)

    @sometimes
    def rename(self, old, new):
        self._at(old).rename(self._at(new))

    @sometimes
    def unlink(self, path):
        self._at(path).unlink()

    @sometimes
    def mkdir(self, path, mode):
        self._at(path).mkdir(mode)

    @sometimes
    def rmdir(self, path):
        self._at(path).rmdir()

    def link(self, target, source):
        os.link(self._at(source), self._at(target))

    def symlink(self, target, source):
        self._at(target).symlink_to(source)

    def readlink(self, path):
        return str(self._at(path).readlink())

    def chmod(self, path, mode):
        self._at(path).chmod(mode)

    def chown(self, path, uid, gid):
        os.chown(self._at(path), uid, gid)

    def utimens(self, path, times=None):
        os.utime(self._at(path), ns=times)

    def release(self, path, fh):
        os.close(fh)


if __name__ == "__main__":
    folder, place, seed = sys.argv[1:]
    mfusepy.FUSE(Disk(Path(folder), seed), place, foreground=True, fsname="flapping")
