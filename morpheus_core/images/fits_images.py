"""Images in FITS files, read row by row."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.fits.blocks import FITS_BLOCK
from morpheus_core.images.expansion import Unpacked
from morpheus_core.images.image import Bands, Layout, checked_dtype

#: Axes that an image may have; section 4.4.1 of the FITS standard 4.0.
MOST_AXES = 999
#: Cards by which HDUs are found, and that say what they inherit; masks keep them.
NAMES = ("EXTNAME", "EXTVER", "EXTLEVEL", "INHERIT")


class FitsImage:
    """One image of a FITS file.

    Rows come through ``.section`` of a file that is opened without a memory map: a map is refused
    for scaled integers, and its pages would count as memory of this process.

    Parameters
    ----------
    path : Path
        The file, which may be compressed as a whole (gzip, bzip2, xz) or in tiles.
    extension : int, str or None
        Which HDU: ``1``, ``"1"``, ``"SCI"``, ``"SCI,2"``. None takes the only image.
    bands : {"last", "first"}
        Where its bands are, if it has three axes.
    unpacked : Unpacked, optional
        Unpacks the file for this image and for others, and removes what it has unpacked.

    Raises
    ------
    InputError
        If there is no such image or it cannot be read.
    """

    header: fits.Header | None

    def __init__(
        self,
        path: Path,
        extension: int | str | None = None,
        bands: Bands = "last",
        unpacked: Unpacked | None = None,
    ) -> None:
        self.path, self._bands = path, bands
        # A mask is read by the thread that cuts windows and by the one that finalizes rows.
        self._lock = threading.Lock()
        with ExitStack() as opened, quiet():
            try:
                self._stored = self._expanded(unpacked or opened.enter_context(Unpacked()))
                self._file = opened.enter_context(open_without_map(self._stored))
                hdu = self._chosen_image(extension)
                self._describe(hdu)
            except InputError:
                raise
            except Exception as error:  # damaged headers raise half a dozen different classes
                raise InputError(f"{path} cannot be read as FITS: {error}") from error
            self._opened = opened.pop_all()

    def _expanded(self, unpacked: Unpacked) -> Path:
        """Return the file that rows are read from."""
        if not self.path.exists():
            raise InputError(f"no such file: {self.path}")
        if self.path.is_dir():
            raise InputError(f"{self.path} is a directory; pass the FITS files in it")
        return unpacked(self.path) or self.path

    def _chosen_image(self, extension: int | str | None) -> Any:
        hdus = dict(enumerate(self._file))
        images = {i: hdu for i, hdu in hdus.items() if has_rows_and_columns(hdu)}
        candidates = ", ".join(
            map(describe_hdu, (images or hdus).keys(), (images or hdus).values())
        )
        if not images:
            raise InputError(f"{self.path} holds no image, only {candidates}")
        if extension is None and len(images) > 1:
            raise InputError(
                f"{self.path} must hold one image, got {len(images)}: {candidates}; say which in "
                f"brackets, as in {self.path.name}[{next(iter(images))}]"
            )
        self._index = next(iter(images)) if extension is None else self._find(extension)
        if self._index not in images:
            raise InputError(
                f"[{extension}] names no image of {self.path}, which holds {candidates}"
            )
        self.name = str(self.path) if extension is None else f"{self.path}[{extension}]"
        return images[self._index]

    def _find(self, extension: int | str) -> int:
        """Return the number of an HDU, or -1."""
        try:
            return int(self._file.index_of(extension_key(str(extension))))
        except KeyError:
            return -1

    def _describe(self, hdu: Any) -> None:
        """Set what every image has."""
        if any(isinstance(length, bool) for length in hdu.shape):
            raise InputError(f"{self.name} must have whole numbers of pixels, got {hdu.shape}")
        self.layout = Layout.of(hdu.shape, self._bands, self.name)
        self._check_length(hdu)
        self._section, self.header, self.primary = hdu.section, hdu.header, self._file[0].header
        self.shape = self.layout.shape
        # The header does not say what type scaled integers become; a pixel does.
        self.dtype = checked_dtype(self._section[self.layout.rows(0, 1)].dtype, self.name)

    def _check_length(self, hdu: Any) -> None:
        """Raise if the file ends before the image does; astropy only warns, and reads the rest."""
        if isinstance(hdu, fits.CompImageHDU):
            counts = [
                -(-whole // tile) for whole, tile in zip(hdu.shape, hdu.tile_shape, strict=True)
            ]
            # Every tile has a descriptor of at least eight bytes in the table.
            if 8 * prod(counts) > hdu.fileinfo()["datSpan"]:
                raise InputError(f"{self.name} claims {prod(counts)} tiles, more than there can be")
        length, end = self._stored.stat().st_size, least_end(hdu)
        if end > length:
            raise InputError(f"{self.name} is truncated: it has {length} bytes of at least {end}")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read the rows from the file."""
        try:
            with self._lock:
                stored = np.asarray(self._section[self.layout.rows(start, stop)])
                rows = self.layout.arrange(stored)
        except Exception as error:
            raise InputError(
                f"{self.name}: rows {start} to {stop - 1} cannot be read: {error}"
            ) from error
        return rows

    def identity(self) -> dict[str, Any]:
        """Return which image it is, and size and time of the last change of its file."""
        path = self.path.resolve()
        status = path.stat()
        return {
            "path": str(path),
            "hdu": self._index,
            "bands": self._bands,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }

    def store(self, path: Path) -> dict[str, Any]:
        """Return the place of the file, which is on disk already."""
        return {
            "path": str(self._stored.resolve()),
            "extension": self._index,
            "bands": self._bands,
        }

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def open_without_map(path: Path) -> fits.HDUList:
    """Open a FITS file and read all its headers."""
    refuse_endless_files(path)
    file = fits.open(path, mode="readonly", memmap=False)
    try:
        for hdu in file:  # which reads every header
            repair_names(hdu)
    except BaseException:
        file.close()
        raise
    return file


def repair_names(hdu: Any) -> None:
    """Make cards readable that are not as the standard wants them, ``EXTNAME = SCI`` for one."""
    for key in NAMES:
        if key in hdu.header:
            hdu.header.cards[key].verify("silentfix+ignore")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out warnings of what is harmless here, or is looked at more closely."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "File may have been truncated", AstropyUserWarning)
        warnings.filterwarnings("ignore", ".* header keyword is invalid", AstropyUserWarning)
        warnings.simplefilter("ignore", VerifyWarning)
        yield


def refuse_endless_files(path: Path) -> None:
    """Raise if reading the headers would not end.

    astropy looks for each of the axes that a header claims, and goes back in the file where the
    size of the data is negative.
    """
    axes = size = 0
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Exception):  # the end of the file, or damage of which astropy knows more
            while axes <= MOST_AXES and size >= 0:
                file.seek(size, os.SEEK_CUR)
                if file.read(8) not in (b"SIMPLE  ", b"XTENSION"):
                    return
                file.seek(-8, os.SEEK_CUR)
                header = fits.Header.fromfile(file)
                axes = int(header["NAXIS"])
                size = header.data_size_padded if axes <= MOST_AXES else 0
    if axes > MOST_AXES:
        raise InputError(f"{path} is damaged: NAXIS must be at most {MOST_AXES}, got {axes}")
    if size < 0:
        raise InputError(f"{path} is damaged: an HDU must not have {size} bytes")


def split_extension(source: str) -> tuple[Path, str | None]:
    """Split ``file.fits[SCI,2]`` into path and extension, unless that is a file's name."""
    source = os.path.expanduser(source)  # noqa: PTH111 - of "~nobody" pathlib would raise
    parts = re.fullmatch(r"(.+)\[([^\[\]]+)\]", source)
    with suppress(OSError):  # what is wrong with the file is said when it is opened
        if parts is None or Path(source).exists():
            return Path(source), None
    return (Path(source), None) if parts is None else (Path(parts[1]), parts[2])


def extension_key(extension: str) -> int | str | tuple[str, int]:
    """Return what astropy calls an extension: a number, a name, or a name and a version."""
    name, _, version = extension.partition(",")
    if version.strip().isdigit():
        return name.strip(), int(version)
    return int(extension) if extension.isdigit() else extension.strip()


def is_image(hdu: Any) -> bool:
    """Say whether an HDU is of the kind that holds images, compressed or not."""
    return bool(hdu.is_image) and hasattr(hdu, "shape")


def has_rows_and_columns(hdu: Any) -> bool:
    """Say whether an HDU holds an image; frames of surveys keep spectra and vectors beside it."""
    return is_image(hdu) and len(hdu.shape) > 1


def least_end(hdu: Any) -> int:
    """Return where in its file an HDU ends at the earliest.

    Files whose last block is not filled up are common, and complete.
    """
    place = hdu.fileinfo()
    compressed = isinstance(hdu, fits.CompImageHDU)  # which has the size of what it is unpacked
    return int(place["datLoc"] + (place["datSpan"] - FITS_BLOCK + 1 if compressed else hdu.size))


def describe_hdu(index: int, hdu: Any) -> str:
    """Return number, name and shape of an HDU, and its version if it is not the first."""
    version = f",{hdu.ver}" if hdu.ver > 1 else ""
    kind = (hdu.shape or "empty") if is_image(hdu) else "table"
    return f"[{index}] {hdu.name or 'unnamed'}{version} {kind}"
