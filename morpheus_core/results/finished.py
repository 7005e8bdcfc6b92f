"""The outputs of a finished run, on disk or in memory, read a few rows at a time."""

from __future__ import annotations

import os
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
from morpheus_core.pipeline.models import ROUNDING
from morpheus_core.results.outputs import Results
from morpheus_core.results.products import OUTPUT_NAMES
from morpheus_core.results.stored_images import header_beside, open_images, rows_of, stored_at
from morpheus_core.storage.resources import Resource

#: An `out_dir`, or all or a part of what `predict` returns.
GivenResults = str | os.PathLike[str] | Results | Sequence[fits.HDUList] | Sequence[NDArray[Any]]

#: What an image made of outputs does not inherit: its data, name and checksums are its own.
OWN_CARDS = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTEND|EXTNAME|BUNIT|DATE|CHECKSUM|DATASUM"
    r"|ROWSUM\d+|CLASS\d+"
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
        self.paths = [path for name in OUTPUT_NAMES for path in stored_at(directory, name)]
        if len(self.paths) < 2 or not stored_at(directory, OUTPUT_NAMES[-1]):
            raise InputError(
                f"{directory} must hold the outputs of predict(..., out_dir=...), output.fits and "
                f"n.fits, got {what_is_there(directory)}"
            )
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


def what_is_there(directory: Path) -> str:
    """Say what a directory holds instead of complete outputs."""
    if directory.is_file():
        return "a file; pass the folder that it is in"
    if not directory.is_dir():
        return "no such folder"
    if any(directory.glob("*.part")):
        return "an unfinished run; complete it with resume=True"
    return "none that are complete"


def open_outputs(results: GivenResults, scattered: bool = False) -> Outputs:
    """Return the outputs of a run that are on disk, or in the hands of the user.

    Parameters
    ----------
    results : path, or what `predict` returns
        An `out_dir`, a list of HDULists or of arrays with n at the end, or both lists as a tuple.
    scattered : bool
        Whether rows will be read that are far apart.

    Raises
    ------
    InputError
        If they are not the outputs of one finished run.
    """
    if isinstance(results, (str, os.PathLike)):
        return FinishedRun(checks.path("results", results), scattered)
    arrays, headers = arrays_of(results)
    whole = len(arrays) == len(headers) > 1
    if not whole or not all(map(is_sliced, arrays)):
        raise InputError(
            "results must be the out_dir of a run, or what predict returns: a list of HDULists or "
            f"of arrays, n at the end, or both lists, got {type(results).__name__}"
        )
    return Outputs(
        [
            Output(f"results[{k}]", tuple(array.shape), header, rows_of(array))
            for k, (array, header) in enumerate(zip(arrays, headers, strict=True))
        ]
    )


def arrays_of(results: Any) -> tuple[list[Any], list[fits.Header]]:
    """Return the arrays of what `predict` returns, and their headers."""
    hduls, arrays = [], results if is_list(results) else []
    if len(arrays) == 2 and all(map(is_list, arrays)):
        hduls, arrays = results
    elif all(map(is_output, arrays)):
        hduls, arrays = arrays, [pixels_of(image_in(hdul)) for hdul in arrays]
    headers = [image_in(hdul).header for hdul in hduls if is_output(hdul)]
    return list(arrays), headers or [header_beside(array) for array in arrays]


def is_list(value: object) -> bool:
    """Say whether a value is a list of outputs, and not an open file."""
    return isinstance(value, (list, tuple)) and not isinstance(value, fits.HDUList)


def is_output(value: object) -> bool:
    """Say whether a value is an open file that is not empty."""
    return isinstance(value, fits.HDUList) and len(value) > 0


def is_sliced(value: object) -> bool:
    """Say whether a value gives rows: an array of numpy or Zarr, or the section of an HDU."""
    return all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))


def image_in(hdul: fits.HDUList) -> Any:
    """Return the HDU of an output that has the pixels, which are never in a primary in tiles."""
    return next((hdu for hdu in hdul if hdu.shape), hdul[0])


def pixels_of(hdu: Any) -> Any:
    """Return what gives the rows of an HDU; tiles are unpacked where they are wanted."""
    return hdu.section if isinstance(hdu, fits.CompImageHDU) else hdu.data


def no_probabilities(shares: NDArray[Any]) -> str | None:
    """Say what means are, (..., classes), if they are no probabilities."""
    lowest, highest = np.nanmin(shares, initial=0.0), np.nanmax(shares, initial=1.0)
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return None
    return (
        f"probabilities, from 0 to 1, are needed, got means from {lowest:.3g} to {highest:.3g}; "
        f'does the model lack an activation, "sigmoid" or "softmax"?'
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a finished run.

    Attributes
    ----------
    first : int
        The first row.
    results : dict of ndarray, (rows, width, classes) or (rows, width, classes, 2)
        By aggregate method.
    n : ndarray, (rows, width)
        Number of predictions.
    """

    first: int
    results: dict[AGGREGATION_METHODS, NDArray[Any]]
    n: NDArray[Any]

    def shares(self, method: AGGREGATION_METHODS) -> NDArray[Any]:
        """Return the mean or the share of votes of each class, NaN where there is none."""
        return np.where(self.n[..., np.newaxis] > 0, self._shares(method), np.nan)

    def reach(self, method: AGGREGATION_METHODS, index: int, threshold: float) -> NDArray[np.bool_]:
        """Say where the probability of a class is at least a threshold; see :meth:`probability`."""
        reached: NDArray[np.bool_] = self.probability(method, index) >= threshold
        return reached

    def probability(self, method: AGGREGATION_METHODS, index: int) -> NDArray[Any]:
        """Return the mean or the share of votes of one class, NaN where there is none.

        Raises
        ------
        InputError
            If means are no probabilities.
        """
        share = np.where(self.n > 0, self._shares(method)[..., index], np.nan)
        complaint = no_probabilities(share)
        if complaint is not None:
            raise InputError(complaint)
        return share

    def _shares(self, method: AGGREGATION_METHODS) -> NDArray[Any]:
        result = self.results[method]
        return result[..., 0] if method is AGGREGATION_METHODS.MEAN_VAR else result
