"""The demonstration: simulate a sky, classify every pixel of it, and say how well that went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, Sky, simulate_sky
from morpheus_core.errors import OutputError
from morpheus_core.morpheus_core import AGGREGATION_METHODS, predict
from morpheus_core.parallel.devices import available_cores
from morpheus_core.pictures.quicklook import save_quicklook
from morpheus_core.results.outputs import refuse_to_replace
from morpheus_core.windows.grid import WindowGrid

#: None of the skies that the network was trained on has this seed.
SEED = 3
BATCH_SIZE = 128
#: More would take longer to start than they save.
MOST_PROCESSES = 4
INPUT_NAMES = (*(f"{band}.fits" for band in BANDS), "truth.fits")
OUTPUT_NAMES = ("output.fits", "n.fits", "demo.png")


@dataclass(frozen=True, slots=True)
class Assessment:
    """How well predicted classes match the true ones.

    Attributes
    ----------
    counts : ndarray of int64, shape (true class, predicted class)
        Pixels.
    """

    counts: NDArray[np.int64]

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of the pixels that are of a class, the share that was found."""
        return self._share_of(self.counts.sum(axis=1))

    @property
    def purity(self) -> NDArray[np.float64]:
        """Of the pixels that were given a class, the share that is right."""
        return self._share_of(self.counts.sum(axis=0))

    @property
    def accuracy(self) -> float:
        """Share of all pixels that got their true class."""
        return float(self.counts.trace() / self.counts.sum())

    def _share_of(self, totals: NDArray[np.int64]) -> NDArray[np.float64]:
        shares = np.full(len(totals), np.nan)  # of nothing
        np.divide(self.counts.diagonal(), totals, out=shares, where=totals > 0)
        return shares


def run_demo(
    directory: Path,
    overwrite: bool = False,
    *,
    shape: tuple[int, int] = (512, 512),
    stride: tuple[int, int] = (5, 5),
    progress: bool = True,
) -> Assessment:
    """Run the whole package on a simulated sky, and print what happens.

    Parameters
    ----------
    directory : Path
        Where the images of the sky and the results go; made if it does not exist.
    overwrite : bool
        Replace files that are there already.
    shape : tuple of int
        Height and width of the sky, in pixels.
    stride : tuple of int
        Rows and columns between neighbouring windows.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Assessment
        The predicted classes against the true ones.

    Raises
    ------
    OutputError
        If a file exists already, before anything was done, or cannot be written.
    """
    refuse_to_replace([directory / name for name in INPUT_NAMES + OUTPUT_NAMES], [], overwrite)
    sky = simulate_sky(shape, SEED)
    with output_errors(directory):
        write_inputs(sky, directory)
    print(f"Simulated {shape[0]} x {shape[1]} pixels of sky in the bands {', '.join(BANDS)}.")
    start = time.perf_counter()
    predicted = classify(directory, overwrite, stride, progress)
    print_speed(len(WindowGrid(shape, WINDOW_SHAPE, stride)), time.perf_counter() - start)
    assessment = assess(sky.truth, predicted)
    print_assessment(assessment)
    print(f"\nFiles in {directory}:")
    print(f"  {', '.join(INPUT_NAMES[:-1])}: what the network saw")
    print("  truth.fits: the true class of each pixel")
    print("  output.fits: mean and variance of each class's probability")
    print("  n.fits: how many windows saw each pixel")
    draw(directory, overwrite)
    return assessment


@contextmanager
def output_errors(directory: Path) -> Iterator[None]:
    """Say where writing failed."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write to {directory}: {error}") from error


def write_inputs(sky: Sky, directory: Path) -> None:
    """Write one FITS file per band, and the true classes."""
    directory.mkdir(parents=True, exist_ok=True)
    for band, image in zip(sky.bands, sky.images, strict=True):
        header = sky.header.copy()
        header["FILTER"] = (band, "band")
        fits.writeto(directory / f"{band}.fits", image, header, overwrite=True)
    header = sky.header.copy()
    del header["BUNIT"]
    for number, name in enumerate(CLASS_NAMES):
        header[f"CLASS{number}"] = name
    fits.writeto(directory / "truth.fits", sky.truth, header, overwrite=True)


def classify(
    directory: Path, overwrite: bool, stride: tuple[int, int], progress: bool
) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel, (height, width)."""
    hduls, (output, _) = predict(
        DemoNetwork(),
        [directory / f"{band}.fits" for band in BANDS],
        len(CLASS_NAMES),
        BATCH_SIZE,
        WINDOW_SHAPE,
        stride=stride,
        aggregate_method=AGGREGATION_METHODS.MEAN_VAR,
        class_names=CLASS_NAMES,
        out_dir=directory,
        # Several threads of one process wait for each other on a busy machine.
        cpus=min(available_cores(), MOST_PROCESSES),
        overwrite=overwrite,
        progress=progress,
    )
    predicted: NDArray[np.uint8] = output[..., 0].argmax(axis=-1).astype(np.uint8)
    for hdul in hduls:
        hdul.close()
    return predicted


def assess(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> Assessment:
    """Count how often each true class, (height, width), was predicted as which."""
    counts = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return Assessment(counts)


def print_speed(windows: int, seconds: float) -> None:
    """Print how much was done, and how fast."""
    height, width = WINDOW_SHAPE
    print(
        f"Classified it in {windows:,} overlapping windows of {height} x {width} pixels, "
        f"{seconds:.1f} s: {windows / seconds:,.0f} windows per second."
    )


def print_assessment(assessment: Assessment) -> None:
    """Print a table of the classes."""
    print("\nAgainst the true classes, in percent of pixels:")
    print(f"  {'class':14}{'recall':>8}{'purity':>8}{'pixels':>10}")
    pixels = assessment.counts.sum(axis=1)
    rows = zip(CLASS_NAMES, assessment.recall, assessment.purity, pixels, strict=True)
    for name, recall, purity, count in rows:
        print(f"  {name:14}{100 * recall:8.1f}{100 * purity:8.1f}{count:10,}")
    print(f"  {'all':14}{100 * assessment.accuracy:8.1f}{'':8}{pixels.sum():10,}")
    print("  recall: of the pixels of a class, those that were found")
    print("  purity: of the pixels that were given a class, those that are of it")


def draw(directory: Path, overwrite: bool) -> None:
    """Draw the result, or say what drawing needs."""
    if find_spec("matplotlib") is None:
        print('For a picture as well: pip install ".[plot]" in the clone of morpheus_core')
        return
    image = directory / f"{BANDS[0]}.fits"
    save_quicklook(directory / "demo.png", directory, image, overwrite=overwrite)
    print("  demo.png: image, classes, dispersion and number of windows side by side")
