"""Files at addresses, of which the bytes that are asked for are fetched, and no others."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from morpheus_core.errors import InputError

#: Bytes up to which a file is fetched whole, once for all workers. At 50 MB per second they take as
#: long as it takes to ask for a part.
SMALL = 1 << 19
#: Bytes that are fetched where headers are looked for, which come in small pieces.
READ_AHEAD = 1 << 13
#: What tells one version of a file from another, where a server says it.
VERSION = (
    *("ETag", "etag", "LastModified", "Last-Modified", "mtime", "updated"),
    *("created", "generation", "Content-MD5", "md5Hash"),
)


class AddressFile(io.RawIOBase):
    """A file at an address, for reading; a process that it is sent to asks for itself.

    While headers are looked for, what is fetched is kept, and goes along; it is forgotten after
    :meth:`keep_no_more`.

    Parameters
    ----------
    address : str
        As fsspec takes it.
    options : mapping
        What fsspec needs to open it, keys for one.

    Raises
    ------
    InputError
        If the server does not tell its size.
    """

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self._address, self._options = address, dict(options)
        self._kept: dict[int, bytes] = {}
        self._last: tuple[int, bytes] = 0, b""
        self._keeps, self._ahead, self._position = True, READ_AHEAD, 0
        self._system: Any = None
        self._connect()
        if self.size <= SMALL:
            self._kept[0] = self._fetch(0, self.size)

    def _connect(self) -> None:
        """Find the file, its size and its version."""
        import fsspec

        self._system, self._path = fsspec.core.url_to_fs(self._address, **self._options)
        information = self._system.info(self._path)
        if information.get("size") is None:
            raise InputError(
                f"the server of an address must tell the size of the file, and that of "
                f"{self._address} does not; download it first"
            )
        self.size = int(information["size"])
        self.version = {k: str(information[k]) for k in VERSION if information.get(k)}

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is in memory."""
        return len(self._kept.get(0, b"")) == self.size

    def keep_no_more(self, *, ahead: bool) -> None:
        """Forget what will be fetched, which is as much as is asked for, or a little ahead."""
        self._keeps, self._ahead = False, READ_AHEAD if ahead else 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it has any place at any time."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = begin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as there is room for, and there are."""
        view = memoryview(buffer).cast("B")
        start = self._position
        stop = max(start, min(start + len(view), self.size))
        view[: stop - start] = self._bytes(start, stop)
        self._position = stop
        return stop - start

    def _bytes(self, start: int, stop: int) -> bytes:
        """Return bytes that are there, or fetch them."""
        if start == stop:
            return b""
        for first, there in (*self._kept.items(), self._last):
            if first <= start < first + len(there):
                found = there[start - first : stop - first]
                return found + self._bytes(start + len(found), stop)
        fetched = self._fetch(start, min(stop + self._ahead, self.size))
        if self._keeps:
            self._kept[start] = fetched
        elif self._ahead:
            self._last = start, fetched
        return fetched[: stop - start]

    def _fetch(self, start: int, stop: int) -> bytes:
        """Fetch bytes from the server."""
        if self._system is None:
            self._connect_again()
        fetched = bytes(self._system.cat_file(self._path, start=start, end=stop))
        if len(fetched) != stop - start:
            raise InputError(
                f"the server of an address must give parts of files, and that of {self._address} "
                f"gave {len(fetched)} bytes for {stop - start}; download the file first"
            )
        return fetched

    def _connect_again(self) -> None:
        """Find the file from another process, where it must be what it was."""
        known = self.size, self.version
        self._connect()
        if (self.size, self.version) != known:
            raise InputError(
                f"a file must stay as it is while a run reads it, and {self._address} has changed; "
                f"begin a new run"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_system": None, "_last": (0, b"")}
