"""The HDUs of FITS files: how they are opened, which are images, and what they are called."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from morpheus_core.errors import InputError
from morpheus_core.fits.blocks import FITS_BLOCK
from morpheus_core.storage.paths import at_home

#: Axes that an image may have; section 4.4.1 of the FITS standard 4.0.
MOST_AXES = 999
#: How files of other kinds begin, what they are, and what to do with them.
OTHER_FORMATS = {
    b"II*\x00": ("a TIFF image", "call it .tif"),
    b"MM\x00*": ("a TIFF image", "call it .tif"),
    b"\x89PNG": ("a PNG image", "call it .png"),
    b"\xff\xd8\xff": ("a JPEG image", "call it .jpg"),
    b"XISF0100": ("a PixInsight image", "read it (xisf.XISF.read), and pass the array"),
    b"\x89HDF": ("an HDF5 file", "pass a data set of it (h5py.File)"),
    b"\x93NUMPY": ("an array of numpy", "pass what numpy.load makes of it"),
    b"#ASDF": ("an ASDF file", "call it .asdf"),
}
#: Cards by which HDUs are found, and that say what they inherit; masks keep them.
NAMES = ("EXTNAME", "EXTVER", "EXTLEVEL", "INHERIT")


def open_without_map(path: Path, *, scaled: bool = False) -> fits.HDUList:
    """Open a FITS file and read all its headers; images have their stored numbers, or scaled."""
    refuse_endless_files(path)
    file = fits.open(path, mode="readonly", memmap=False, do_not_scale_image_data=not scaled)
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


def refuse_other_formats(path: Path) -> None:
    """Raise if a file begins as no FITS file does, but as one of another format."""
    with path.open("rb") as file:
        beginning = file.read(8)
    for magic, (kind, way_out) in OTHER_FORMATS.items():
        if beginning.startswith(magic):
            raise InputError(
                f"the name of a file must say what it is, and {path} is {kind}; {way_out}"
            )


def split_extension(source: str) -> tuple[Path, str | None]:
    """Split ``file.fits[SCI,2]`` into path and extension, unless that is a file's name."""
    source = at_home(source)
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


def choose_image(hdus: fits.HDUList, extension: str | None, name: str) -> int:
    """Return the number of the image of a file that brackets name, or of its only one.

    Raises
    ------
    InputError
        If there is no such image, or several.
    """
    images = {i: hdu for i, hdu in enumerate(hdus) if has_rows_and_columns(hdu)}
    listed = images or dict(enumerate(hdus))
    candidates = ", ".join(map(describe_hdu, listed.keys(), listed.values()))
    if not images:
        raise InputError(f"{name} holds no image, only {candidates}")
    if extension is None and len(images) > 1:
        raise InputError(
            f"{name} must hold one image, got {len(images)}: {candidates}; say which in "
            f"brackets, as in {name.rpartition('/')[2]}[{next(iter(images))}]"
        )
    index = next(iter(images)) if extension is None else find_hdu(hdus, extension, name)
    if index not in images:
        raise InputError(f"[{extension}] names no image of {name}, which holds {candidates}")
    return index


def find_hdu(hdus: fits.HDUList, extension: str, name: str) -> int:
    """Return the number of an HDU, or -1.

    Raises
    ------
    InputError
        If there are several of that name and version, of which astropy would take the first.
    """
    key = extension_key(extension)
    try:
        index = int(hdus.index_of(key))
    except KeyError:
        return -1
    if isinstance(key, int):
        return index
    chosen = hdus[index]
    same = [
        number
        for number, hdu in enumerate(hdus)
        if (hdu.name, hdu.ver) == (chosen.name, chosen.ver)
    ]
    if len(same) > 1:
        candidates = ", ".join(describe_hdu(number, hdus[number]) for number in same)
        raise InputError(
            f"[{extension}] must name one HDU of {name}, got {candidates}; say which by its "
            f"number, as in [{same[0]}]"
        )
    return index


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
