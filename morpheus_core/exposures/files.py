"""Which exposures are meant, and what their masks are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from morpheus_core.errors import InputError
from morpheus_core.images.hdus import split_extension
from morpheus_core.results.image_files import COMPRESSED
from morpheus_core.storage.names import is_found

#: Files of a directory that are taken for exposures.
EXPOSURE_NAME = re.compile(r".+\.(fits|fit|fts)(\.fz|\.gz)?", re.IGNORECASE)
#: Files that :func:`output_name` gave their name.
MASKS_NAME = re.compile(r".+\.masks[A-Z0-9_]*\.fits(\.fz|\.gz)?")


@dataclass(frozen=True, slots=True)
class Exposure:
    """A file to process.

    Attributes
    ----------
    path : Path
        The file.
    extension : str or None
        The only HDU that is meant: ``"3"``, ``"SCI"`` or ``"SCI,2"``.
    output : Path
        Where its masks go.
    """

    path: Path
    extension: str | None
    output: Path

    def __str__(self) -> str:
        return str(self.path) if self.extension is None else f"{self.path}[{self.extension}]"

    def absolute(self) -> Exposure:
        """Return the same exposure, known from any folder."""
        return replace(self, path=self.path.absolute(), output=self.output.absolute())

    def is_same(self, other: Exposure) -> bool:
        """Say whether both are the same HDUs of the same file."""
        return self.extension == other.extension and self.path.samefile(other.path)


def output_name(path: Path, extension: str | None, ending: str = ".fits") -> str:
    """Return what the masks of a file are called, with an ending that says their kind.

    The name of an HDU is in capitals there, so that ``night.maskset.fits`` is no name of masks.

    >>> [output_name(Path("night.fits"), extension) for extension in (None, "3", "sci,2")]
    ['night.masks.fits', 'night.masks3.fits', 'night.masksSCI_2.fits']
    """
    name = path.stem if path.suffix in COMPRESSED else path.name
    stem = re.sub(r"\.(fits|fit|fts)$", "", name, flags=re.IGNORECASE)
    hdu = re.sub(r"[^A-Z0-9]+", "_", (extension or "").upper())
    return f"{stem}.masks{hdu}{ending}"


def find_exposures(
    sources: Sequence[str | os.PathLike[str]], out_dir: Path | None, ending: str = ".fits"
) -> tuple[list[Exposure], dict[str, InputError]]:
    """Return the exposures that are meant, and what cannot be one, with the reason.

    Parameters
    ----------
    sources : sequence of path
        Files, with or without an HDU in brackets, and directories.
    out_dir : Path or None
        Where masks go; those of files in a directory keep their place below it. None puts them
        beside their exposures.
    ending : str
        What their names end in.
    """
    found: dict[Path, Exposure] = {}
    refused: dict[str, InputError] = {}
    for source in [os.fspath(source) for source in sources]:
        try:
            for exposure in exposures_of(source, out_dir, ending):
                first = found.setdefault(exposure.output.resolve(), exposure)
                if not first.is_same(exposure):
                    refused[str(exposure)] = InputError(
                        f"its masks would be {exposure.output}, which are those of {first}; "
                        f"pass them in different runs, with another out_dir"
                    )
        except InputError as error:
            refused[source] = error
        except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
            refused[source] = InputError(f"it cannot be accessed: {error}")
    return list(found.values()), refused


def exposures_of(source: str, out_dir: Path | None, ending: str) -> Iterator[Exposure]:
    """Yield what one path means."""
    path, extension = split_extension(source)
    if not is_found(path):
        raise InputError("no such file")
    if path.is_dir() and extension is not None:
        raise InputError("a directory has no HDUs; pass the files in it, each with its brackets")
    if not path.is_dir():
        if MASKS_NAME.fullmatch(path.name):
            raise InputError("the name is that of masks, of which no masks are made")
        name = output_name(path, extension, ending)
        yield Exposure(path, extension, (out_dir or path.parent) / name)
        return
    files = list(files_below(path))
    if not files:
        raise InputError("the directory must hold FITS files (.fits, .fit, .fts), got none")
    for file in files:
        folder = file.parent if out_dir is None else out_dir / file.parent.relative_to(path)
        yield Exposure(file, None, folder / output_name(file, None, ending))


def files_below(directory: Path) -> Iterator[Path]:
    """Yield the FITS files of a directory and those in it, but no masks and nothing hidden.

    Links to directories are not followed: they may lead in a circle.

    Raises
    ------
    OSError
        If one of the directories cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for folder, subfolders, names in os.walk(directory, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for path in (Path(folder, name) for name in sorted(names)):
            if is_exposure_name(path.name) and path.is_file():
                yield path


def is_exposure_name(name: str) -> bool:
    """Say whether a file of a directory is taken for an exposure."""
    is_fits = EXPOSURE_NAME.fullmatch(name) is not None
    return is_fits and not name.startswith(".") and not MASKS_NAME.fullmatch(name)
