"""Pictures in files of JPEG, PNG and TIFF, which become arrays of (height, width, bands).

Row 0 is the top row of the picture as viewers show it: what EXIF says of its orientation is heeded.
Values are those that are stored, of 0 to 255 in most files. Bands are red, green and blue, or one
of grey; palettes are replaced by their colours, and alpha is left out.

Pillow reads JPEG, PNG, and TIFF of at most 8 bits; of more it keeps 8 where there are several
bands, and knows no float16, float64 or int16, so tifffile reads those TIFF.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.images.image import ArrayImage, Bands

#: How names of pictures end, in lower case.
TIFF_ENDS = (".tif", ".tiff")
PICTURE_ENDS = (".jpg", ".jpeg", ".png", *TIFF_ENDS)
#: Bytes that a picture, which is decoded as a whole, may take: of three bands of 8 bits this is
#: where Pillow suspects a small file that was made to fill the memory.
MOST_BYTES = 1 << 28
#: What Pillow calls the pixels of a picture, and what becomes of them.
MODES = {
    "1": "L", "L": "L", "LA": "L", "La": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB",
    "RGBX": "RGB", "RGBa": "RGB", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16",
}  # fmt: skip
#: Axes and flips that undo each value of the tag Orientation (TIFF 6.0, section 8; EXIF 2.3):
#: whether rows and columns are exchanged, then whether rows, and columns, are turned round.
ORIENTATIONS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True),
    4: (False, True, False), 5: (True, False, False), 6: (True, False, True),
    7: (True, True, True), 8: (True, True, False),
}  # fmt: skip


def is_picture(path: Path) -> bool:
    """Say whether the name of a file promises a picture."""
    return path.suffix.lower() in PICTURE_ENDS


class PictureImage(ArrayImage):
    """A picture, which is in memory as a whole.

    Parameters
    ----------
    path : Path
        The file.
    page : str or None
        Which of several pages of a TIFF, from 0.
    """

    def __init__(self, path: Path, page: str | None) -> None:
        name = str(path) if page is None else f"{path}[{page}]"
        super().__init__(read_picture(path, page), name, path=path)
        self._page = page

    def identity(self) -> dict[str, Any]:
        """Return which picture it is, and size and time of the last change of its file."""
        path = self.path
        assert path is not None, "it was read from there"
        status = path.stat()
        return {
            "path": str(path.resolve()),
            "page": self._page,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }


def open_picture(path: Path, page: str | None, bands: Bands) -> PictureImage:
    """Open a picture.

    Parameters
    ----------
    path, page
        The file, and which of its pages, as brackets name it.
    bands : {"last", "first"}
        Only to refuse what pictures do not have.

    Raises
    ------
    MissingPackageError
        If the package that reads it is not installed.
    InputError
        If there is no such picture, it cannot be read, or takes more than 256 MiB.
    """
    require_package("PIL", "pictures", f"{path}")
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    if bands != "last":
        raise InputError(f'bands of pictures are "last", got bands="{bands}" for {path}')
    if page is not None and not page.isdecimal():
        raise InputError(
            f"brackets of a picture must hold the number of a page, got {path}[{page}]"
        )
    try:
        return PictureImage(path, page)
    except InputError:
        raise
    except Exception as error:  # what is damaged raises many classes
        raise InputError(f"{path} cannot be read as a picture: {error}") from error


def read_picture(path: Path, page: str | None) -> NDArray[Any]:
    """Return the pixels of a file, (height, width) or (height, width, bands)."""
    if path.suffix.lower() not in TIFF_ENDS or has_other_beginning(path):
        return read_with_pillow(path, page)
    require_package("tifffile", "pictures", f"{path}")
    import tifffile

    with tifffile.TiffFile(path) as file:
        chosen: Any = file.pages[chosen_page(len(file.pages), page, path)]
        if chosen.bitspersample > 8:
            return read_with_tifffile(chosen, path)
    return read_with_pillow(path, page)


def has_other_beginning(path: Path) -> bool:
    """Say whether a file is no TIFF, whatever its name promises."""
    with path.open("rb") as file:
        return file.read(2) not in (b"II", b"MM")


def chosen_page(pages: int, page: str | None, path: Path) -> int:
    """Return the number of a page.

    Raises
    ------
    InputError
        If there are several, and none is named, or there is no such page.
    """
    if page is None and pages > 1:
        raise InputError(
            f"a picture must be one, got {pages} pages of {path}; say which in brackets, as in "
            f"{path.name}[0]"
        )
    number = int(page or 0)
    if number >= pages:
        raise InputError(f"[{page}] names no page of {path}, which has {pages}, from 0")
    return number


def read_with_pillow(path: Path, page: str | None) -> NDArray[Any]:
    """Return the pixels of a picture that Pillow reads without loss."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=("JPEG", "PNG", "TIFF")) as image:
            is_photograph = image.format in ("JPEG", "MPO")  # phones add views of the same
            pages = 1 if is_photograph else getattr(image, "n_frames", 1)
            image.seek(chosen_page(pages, page, path))
            refuse_large(image.size, len(image.getbands()), path)
            if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA"):
                refuse_deep_png(path)
            if image.mode not in MODES:
                raise InputError(
                    f"pictures must be grey or red, green and blue, got {image.mode} for {path}; "
                    f"convert it (ImageMagick's -colorspace sRGB does)"
                )
            # A TIFF is turned by Pillow itself when it is loaded.
            upright = ImageOps.exif_transpose(image)
            return np.array(upright.convert(MODES[image.mode]))


def refuse_deep_png(path: Path) -> None:
    """Raise if a PNG of several bands has 16 bits, of which Pillow keeps 8."""
    with path.open("rb") as file:
        depth = file.read(25)[24]  # of the chunk IHDR, which comes first
    if depth > 8:
        raise InputError(
            f"PNG of several bands must have 8 bits, got {depth} for {path}; save it as TIFF, of "
            f"which all bits are read"
        )


def refuse_large(size: tuple[int, ...], value_bytes: int, path: Path) -> None:
    """Raise if so many pixels, of so many bytes each, are more than a picture may take."""
    taken = int(np.prod(size, dtype=object)) * value_bytes
    if taken > MOST_BYTES:
        raise InputError(
            f"pictures are decoded as a whole and may take {MOST_BYTES >> 20} MiB, got "
            f"{taken >> 20} MiB of {' x '.join(map(str, size))} pixels for {path}; save it as FITS "
            f"or .npy, which are read row by row"
        )


def read_with_tifffile(page: Any, path: Path) -> NDArray[Any]:
    """Return the pixels of a page of TIFF with more than 8 bits."""
    kind = getattr(page.photometric, "name", page.photometric)
    if kind not in ("MINISBLACK", "RGB"):
        raise InputError(
            f"TIFF of more than 8 bits must be grey, 0 being black, or RGB, got {kind} for {path}"
        )
    refuse_large(page.shape, page.dtype.itemsize, path)
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise InputError(f"{path} cannot be unpacked: {error}; install it") from error
        raise
    if pixels.ndim == 3 and page.axes[0] == "S":
        pixels = np.moveaxis(pixels, 0, -1)
    if kind == "RGB":
        pixels = pixels[..., :3]
    elif pixels.ndim == 3:
        pixels = pixels[..., : pixels.shape[-1] - len(page.extrasamples)]
    tag = page.tags.get("Orientation")
    return oriented(pixels, 1 if tag is None else int(tag.value))


def oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored pixels as viewers show them, by the tag Orientation."""
    exchanged, upside_down, mirrored = ORIENTATIONS.get(orientation, ORIENTATIONS[1])
    if exchanged:
        pixels = np.swapaxes(pixels, 0, 1)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
