"""Cut-outs that people have already: a file for each row, or all in one array."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.images.hdus import split_extension
from morpheus_core.images.image import ArrayImage, Image
from morpheus_core.images.picture_files import PICTURE_ENDS, is_picture
from morpheus_core.images.remote_images import is_address
from morpheus_core.images.resampling import area_means

if TYPE_CHECKING:
    from astropy.table import Table

Resize = Literal["area", "crop"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
#: How names of files end that a folder is looked through for, those that are packed as well.
IMAGE_ENDS = (
    *PICTURE_ENDS,
    *(f"{end}{packed}" for end in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".bz2")),
    ".fits.fz",
)
#: Share by which the two axes may be scaled differently, if that is more than a pixel.
ASPECT_TOLERANCE = 0.01
#: Names that become numbers, as they would in a CSV file.
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


class OtherSizeError(InputError):
    """A cut-out has not the size of the window."""


@dataclass(frozen=True, slots=True)
class CutoutFiles:
    """Files of which each is a row.

    Attributes
    ----------
    paths : tuple of str
        Absolute, in the order of the rows.
    named : str
        What stands for them all.
    """

    paths: tuple[str, ...]
    named: str

    def table(self, ids: Sequence[Any] | None) -> Table:
        """Return a catalogue of a row for each file, called by these or by the files' names."""
        return table_of(ids, len(self.paths)) or named_by_files(self.paths)


def table_of(ids: Sequence[Any] | None, count: int) -> Table | None:
    """Return a catalogue of so many rows, if a user has said what they are called."""
    from astropy.table import Table

    if ids is None:
        return None
    if isinstance(ids, str) or len(ids) != count:
        raise InputError(f"ids must be one for each of {count} cut-outs, got {ids!r}")
    return Table({"OBJID": numbers_if_all([str(one) for one in ids])})


def named_by_files(paths: Sequence[str]) -> Table:
    """Return a catalogue of files, of which each is called as it is below the folder of all.

    Raises
    ------
    InputError
        If two are called the same.
    """
    from astropy.table import Table

    folder = Path(os.path.commonpath([Path(path).parent for path in paths]))
    names = [without_end(Path(path).relative_to(folder).as_posix()) for path in paths]
    seen: dict[str, str] = {}
    for name, path in zip(names, paths, strict=True):
        if name in seen:
            raise InputError(
                f"files of cut-outs must be called differently, got {seen[name]} and {path}; say "
                f"what rows are called with ids="
            )
        seen[name] = path
    return Table({"OBJID": numbers_if_all(names)})


def without_end(name: str) -> str:
    """Return the name of a file without the end that says its format."""
    ends = [end for end in IMAGE_ENDS if name.lower().endswith(end)]
    return name[: -max(map(len, ends))] if ends else os.path.splitext(name)[0]  # noqa: PTH122


def numbers_if_all(names: Sequence[str]) -> list[int] | list[str]:
    """Return names as whole numbers, if all of them are."""
    return [int(name) for name in names] if all(map(NUMBER.fullmatch, names)) else list(names)


def list_cutouts(inputs: Sequence[Any]) -> CutoutFiles:
    """Find the files that folders, patterns and paths stand for.

    Parameters
    ----------
    inputs : sequence
        Of folders, of which all images are taken, patterns of `glob`, and files.

    Raises
    ------
    InputError
        If one is something else, or stands for no file.
    """
    paths = [path for source in inputs for path in files_of_one(source)]
    first = os.fspath(inputs[0])
    others = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
    return CutoutFiles(tuple(os.path.abspath(path) for path in paths), f"{first}{others}")  # noqa: PTH100


def files_of_one(source: Any) -> list[str]:
    """Return the files that an input stands for: those of a folder, of a pattern, or itself."""
    if not isinstance(source, (str, os.PathLike)) or is_address(os.fspath(source)):
        raise InputError(
            f"without a catalogue each file is a row: model_inputs must be folders, patterns or "
            f"files, or an array of (cut-outs, height, width, bands), got "
            f"{source if isinstance(source, str) else type(source).__name__}"
        )
    path = checks.path("model_inputs", source)
    if path.is_dir():
        found = sorted(str(one) for one in path.iterdir() if is_image_name(one))
    elif split_extension(str(path))[0].exists():
        return [str(path)]
    elif "{" in str(path):
        raise InputError(f"a template needs a catalogue, whose columns it names, got {path}")
    else:
        matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute ones
        found = sorted(str(one) for one in matches if is_image_name(one))
    if not found:
        raise InputError(
            f"there must be images, of {', '.join(PICTURE_ENDS)} or FITS, got none in {path}"
        )
    return found


def is_image_name(path: Path) -> bool:
    """Say whether a file is an image, by its name; hidden files are none."""
    return path.name.lower().endswith(IMAGE_ENDS) and not path.name.startswith(".")


def are_pictures(templates: Sequence[str]) -> bool:
    """Say whether all of some templates name pictures, which have no world coordinates."""
    return bool(templates) and all(is_picture(split_extension(one)[0]) for one in templates)


def fitted(image: Image, window_shape: tuple[int, int], resize: Resize | None) -> Image:
    """Return a cut-out of the size of the window, or one of which the middle is taken.

    Raises
    ------
    OtherSizeError
        If it has another size, and nobody has said what then, or another shape.
    """
    size = image.shape[:2]
    if size == window_shape or resize == "crop":
        return image
    refuse_other_size(size, window_shape, resize, image.name)
    pixels = np.asarray(image.read(0, size[0]), image.dtype)
    return ArrayImage(area_means(pixels, window_shape), image.name, path=image.path)


def refuse_other_size(
    size: tuple[int, int], window_shape: tuple[int, int], resize: Resize | None, name: str
) -> None:
    """Raise if cut-outs of a size do not become windows.

    Raises
    ------
    OtherSizeError
        Always without `resize`; with "area" if the axes would be scaled differently.
    """
    if size == window_shape:
        return
    if resize is None:
        raise OtherSizeError(
            f"cut-outs must have the size of the window, {window_shape}, got {size} for {name}; "
            f'resize="area" averages their pixels, resize="crop" takes their middle'
        )
    width = size[0] * window_shape[1] / window_shape[0]
    if resize == "area" and abs(size[1] - width) > max(1, ASPECT_TOLERANCE * width):
        raise OtherSizeError(
            f'resize="area" needs cut-outs of the shape of the window, {window_shape}, got {size} '
            f'for {name}; resize="crop" takes their middle'
        )
