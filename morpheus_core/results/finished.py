"""The outputs of a finished run, on disk or in memory, read a few rows at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.blocks import Block
from morpheus_core.results.products import OUTPUT_NAMES, PRODUCTS_NAME
from morpheus_core.results.stored_images import open_images, stored_at
from morpheus_core.storage.resources import Resource

#: What an image made of outputs does not inherit: its data, name and checksums are its own.
OWN_CARDS = re.compile(
    r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|EXTNAME|BUNIT|DATE|CHECKSUM|DATASUM|ROWSUM\d+|CLASS\d+"
    r"|XTENSION|PCOUNT|GCOUNT|PRODUCT|NODATA|BSCALE|BZERO|BLANK|MAXERROR|BIT\d+|THRESH\d*"
)
#: Mean and variance have an axis more than votes.
DIMENSIONS = {4: AGGREGATION_METHODS.MEAN_VAR, 3: AGGREGATION_METHODS.RANK_VOTE}
#: Bytes of output that are read at once.
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a run, on disk or in memory.

    Attributes
    ----------
    name : str
        What errors call it.
    shape : tuple of int
        (height, width), and whatever follows.
    header : Header
        Empty where it came without one.
    rows : array, Section or Rows
        Gives rows for a slice of them.
    """

    name: str
    shape: tuple[int, ...]
    header: fits.Header
    rows: Any

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``[start, stop)``."""
        try:
            rows: NDArray[Any] = self.rows[start:stop]
        except InputError:  # which says itself what is wrong
            raise
        except Exception as error:  # what unpacks tiles and chunks raises what it likes
            raise InputError(f"{self.name} is damaged at row {start}: {error}") from error
        return rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """In native byte order."""
        kind: np.dtype[Any] = self.read(0, 1).dtype
        return kind.newbyteorder("=")


class Outputs(Resource):
    """The complete outputs of a run, read a few rows at a time.

    Parameters
    ----------
    outputs : sequence of Output
        One per aggregate method, then n.

    Raises
    ------
    InputError
        If they are not of one run.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        *results, self.n = outputs
        for output in results:
            matches = output.shape[:2] == self.n.shape and len(output.shape) in DIMENSIONS
            if not matches or 0 in output.shape:
                raise InputError(
                    f"{output.name} must be an output of predict, got shape {output.shape} with n "
                    f"of shape {self.n.shape}"
                )
            runs = [part.header.get("RUNID") for part in (output, self.n)]
            if runs[0] != runs[1] and all(runs):
                raise InputError(
                    f"{output.name} and {self.n.name} must be of one run, got RUNID={runs[0]} and "
                    f"{runs[1]}; if a run was interrupted there, complete it with resume=True"
                )
        self.results = {DIMENSIONS[len(output.shape)]: output for output in results}

    #: The files, where there are any.
    paths: Sequence[Path] = ()

    def close(self) -> None:
        """Leave what the user has open alone."""

    @property
    def methods(self) -> list[AGGREGATION_METHODS]:
        """What was made of the predictions."""
        return list(self.results)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.n.shape
        return height, width

    @property
    def class_names(self) -> list[str]:
        """What the classes are called."""
        output = next(iter(self.results.values()))
        return [output.header.get(f"CLASS{k}", f"class_{k}") for k in range(output.shape[2])]

    @property
    def cards(self) -> fits.Header:
        """What is to be said of every image alike."""
        cards = [card for card in self.n.header.cards if not OWN_CARDS.fullmatch(card.keyword)]
        return fits.Header(cards)

    def method(self, asked: str | None) -> AGGREGATION_METHODS:
        """Return the method that is asked for, or the only one."""
        choices = [str(method) for method in self.methods]
        if asked is None and len(choices) > 1:
            raise InputError(f"aggregate_method must say which of {' and '.join(choices)} is meant")
        chosen = choices[0] if asked is None else asked
        return AGGREGATION_METHODS(checks.one_of("aggregate_method", chosen, choices))

    def blocks(self) -> Iterator[Block]:
        """Yield all rows, a few at a time."""
        row_bytes = max(8 * prod(output.shape[1:]) for output in self.results.values())
        step = max(1, BLOCK_BYTES // row_bytes)
        for first in range(0, self.shape[0], step):
            stop = min(first + step, self.shape[0])
            results = {method: output.read(first, stop) for method, output in self.results.items()}
            yield Block(first, results, self.n.read(first, stop))


class FinishedRun(Outputs):
    """The complete outputs of a run on disk.

    Parameters
    ----------
    directory : Path
        The run's `out_dir`.
    scattered : bool
        Whether rows will be read that are far apart.

    Raises
    ------
    InputError
        If they are not there.
    """

    def __init__(self, directory: Path, scattered: bool = False) -> None:
        self.directory = directory
        self.paths = outputs_in(directory)
        with ExitStack() as opened:
            images = [open_images(path, opened, scattered)[0] for path in self.paths]
            super().__init__(
                [
                    Output(str(path), image.shape, image.header, image.rows)
                    for path, image in zip(self.paths, images, strict=True)
                ]
            )
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()


def outputs_in(directory: Path) -> list[Path]:
    """Return the files of a finished run: those of results, n last, or the one of products.

    Raises
    ------
    InputError
        If they are not there.
    """
    products = stored_at(directory, PRODUCTS_NAME)
    if products:
        return products
    paths = [path for name in OUTPUT_NAMES for path in stored_at(directory, name)]
    if len(paths) < 2 or not stored_at(directory, OUTPUT_NAMES[-1]):
        raise InputError(
            f"{directory} must hold the outputs of a run of predict, output.fits and "
            f"n.fits, or products.fits, got {what_is_there(directory)}"
        )
    return paths


def what_is_there(directory: Path) -> str:
    """Say what a directory holds instead of complete outputs."""
    if directory.is_file():
        return "a file; pass the folder that it is in"
    if not directory.is_dir():
        return "no such folder"
    if any(directory.glob("*.part")):
        return "an unfinished run; complete it with resume=True"
    return "none that are complete"
