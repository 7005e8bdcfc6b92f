"""The outputs of a finished run on disk, read a few rows at a time."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.aggregators import AGGREGATION_METHODS
from morpheus_core.errors import InputError
from morpheus_core.products import OUTPUT_NAMES
from morpheus_core.resources import Resource

#: What an image made of outputs does not inherit: its data, name and checksums are its own.
OWN_CARDS = re.compile(
    r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|EXTNAME|BUNIT|DATE|CHECKSUM|DATASUM|CLASS\d+"
)
#: Mean and variance have an axis more than votes.
DIMENSIONS = {4: AGGREGATION_METHODS.MEAN_VAR, 3: AGGREGATION_METHODS.RANK_VOTE}
#: Bytes of output that are read at once.
BLOCK_BYTES = 8 << 20


class FinishedRun(Resource):
    """The complete outputs of a run, read a few rows at a time.

    Parameters
    ----------
    directory : Path
        The run's `out_dir`.

    Raises
    ------
    InputError
        If they are not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        *names, n = OUTPUT_NAMES
        paths = [path for name in names if (path := directory / f"{name}.fits").exists()]
        self.paths = [*paths, directory / f"{n}.fits"]
        if not paths or not self.paths[-1].exists():
            raise InputError(
                f"{directory} must hold the outputs of predict(..., out_dir=...), output.fits and "
                f"n.fits, got none that are complete"
            )
        with ExitStack() as opened:
            hdus = [opened.enter_context(open_output(path))[0] for path in self.paths]
            *outputs, self.n = hdus
            for path, hdu in zip(paths, outputs, strict=True):
                if hdu.shape[:2] != self.n.shape or len(hdu.shape) not in DIMENSIONS:
                    raise InputError(f"{path} must be an output of predict, got shape {hdu.shape}")
                runs = [image.header.get("RUNID") for image in (hdu, self.n)]
                if runs[0] != runs[1] and all(runs):
                    raise InputError(
                        f"{path} and {self.paths[-1]} must be of one run, got RUNID={runs[0]} and "
                        f"{runs[1]}; if a run was interrupted there, complete it with resume=True"
                    )
            self._outputs = {DIMENSIONS[len(hdu.shape)]: hdu for hdu in outputs}
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    @property
    def methods(self) -> list[AGGREGATION_METHODS]:
        """What was made of the predictions."""
        return list(self._outputs)

    def method(self, asked: str | None) -> AGGREGATION_METHODS:
        """Return the method that is asked for, or the only one."""
        choices = [str(method) for method in self.methods]
        if asked is None and len(choices) > 1:
            raise InputError(f"aggregate_method must say which of {' and '.join(choices)} is meant")
        chosen = choices[0] if asked is None else asked
        return AGGREGATION_METHODS(checks.one_of("aggregate_method", chosen, choices))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.n.shape
        return height, width

    @property
    def class_names(self) -> list[str]:
        """What the classes are called."""
        hdu = next(iter(self._outputs.values()))
        return [hdu.header.get(f"CLASS{k}", f"class_{k}") for k in range(hdu.shape[2])]

    @property
    def cards(self) -> fits.Header:
        """What is to be said of every image alike."""
        cards = [card for card in self.n.header.cards if not OWN_CARDS.fullmatch(card.keyword)]
        return fits.Header(cards)

    def dtype(self, method: AGGREGATION_METHODS) -> np.dtype[Any]:
        """Return the type of a result, in native byte order."""
        kind: np.dtype[Any] = self._outputs[method].section[0:1].dtype
        return kind.newbyteorder("=")

    def blocks(self) -> Iterator[Block]:
        """Yield all rows, a few at a time."""
        row_bytes = max(8 * prod(hdu.shape[1:]) for hdu in self._outputs.values())
        step = max(1, BLOCK_BYTES // row_bytes)
        for first in range(0, self.shape[0], step):
            stop = min(first + step, self.shape[0])
            try:
                results = {method: hdu.section[first:stop] for method, hdu in self._outputs.items()}
                n = self.n.section[first:stop]
            except (OSError, ValueError) as error:
                raise InputError(
                    f"an output in {self.paths[0].parent} is damaged at row {first}: {error}"
                ) from error
            yield Block(first, results, n)


def open_output(path: Path) -> fits.HDUList:
    """Open an output, without a memory map: its pages would count as memory of this process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is damaged shows when it is read
            return fits.open(path, memmap=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read as FITS: {error}") from error


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
        """Say where the mean or the share of votes of a class is at least a threshold."""
        reached: NDArray[np.bool_] = self._shares(method)[..., index] >= threshold
        return reached & (self.n > 0)

    def _shares(self, method: AGGREGATION_METHODS) -> NDArray[Any]:
        result = self.results[method]
        return result[..., 0] if method is AGGREGATION_METHODS.MEAN_VAR else result
