"""What window, stride, update map, batch size and aggregator do to the demonstration's results.

``python benchmarks/choosing.py docs/measured`` classifies simulated skies that the network was not
trained on, and writes the tables that docs/choosing.rst shows, one file for each. Ways to classify
are taken in turn, sky by sky, so that all see the same machine. It takes a quarter of an hour and
needs PyTorch, in which the network runs a second time. ``OPENBLAS_NUM_THREADS=1`` and
``OMP_NUM_THREADS=1`` keep it on one core.
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ready import interleaved

from morpheus_core import MorpheusWarning, predict, update_maps
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork, softmax, stretched
from morpheus_core.demo.run import Assessment, assess
from morpheus_core.demo.sky import BACKGROUND, CLASS_NAMES, Sky, simulate_sky
from morpheus_core.demo.train import class_scores, tensor_parameters

SEEDS = range(101, 106)
# Seven windows of 40 pixels: every stride that is measured divides what is left beside a window.
SHAPE = (280, 280)
#: Pixels so far from the border of the image that as many windows visit them as any others.
INNER = (slice(48, -48), slice(48, -48))
STRIDES = (40, 20, 10, 8, 5, 4, 2, 1)
#: A quarter of each is its stride, so that a pixel has 16 predictions.
WINDOWS = (16, 24, 32, 40, 48)
STRIDES_OF_MAPS = (20, 10)
UPDATE_MAPS: dict[str, NDArray[Any]] = {
    "all pixels": np.ones(WINDOW_SHAPE),
    **{
        f"centre_crop, border {border}": update_maps.centre_crop(WINDOW_SHAPE, border)
        for border in (5, 10, 15)
    },
    "hann": update_maps.hann(WINDOW_SHAPE),
    "gaussian": update_maps.gaussian(WINDOW_SHAPE),
}
BATCH_SIZES = (1, 4, 16, 64, 256, 961)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sky, classified in one way; everything but the time is of its inner pixels.

    Attributes
    ----------
    seconds : float
        Time that `predict` took.
    n : float
        Median number of predictions of a pixel, or of the sum of their weights.
    by_mean, by_votes : Assessment
        The class of highest mean, and of most votes, against the true one.
    dispersion : float
        Mean over the pixels of sources of the standard deviation of the most probable class.
    agreement : float
        Share of the pixels of sources whose class is the same by mean and by votes.
    """

    seconds: float
    n: float
    by_mean: Assessment
    by_votes: Assessment
    dispersion: float
    agreement: float


def classify(
    sky: Sky,
    window: int = WINDOW_SHAPE[0],
    stride: int = 10,
    update_map: NDArray[Any] | None = None,
) -> Outcome:
    """Classify a sky with both aggregators."""
    start = time.perf_counter()
    _, (mean_var, votes, n) = predict(
        DemoNetwork(),
        sky.images,
        len(CLASS_NAMES),
        128,
        (window, window),
        stride=(stride, stride),
        update_map=update_map,
        aggregate_method=["mean_var", "rank_vote"],
        progress=False,
    )
    seconds = time.perf_counter() - start
    truth = sky.truth[INNER]
    sources = truth != BACKGROUND
    by_mean, by_votes = (scores[INNER].argmax(axis=-1) for scores in (mean_var[..., 0], votes))
    variance = np.take_along_axis(mean_var[INNER][..., 1], by_mean[..., np.newaxis], axis=-1)
    return Outcome(
        seconds,
        float(np.median(n[INNER])),
        assess(truth, by_mean),
        assess(truth, by_votes),
        float(np.sqrt(variance[sources]).mean()),
        float((by_mean == by_votes)[sources].mean()),
    )


Ways = dict[str, Callable[[Sky], Outcome]]
Outcomes = dict[str, list[Outcome]]


def measured(ways: Ways, skies: Sequence[Sky]) -> Outcomes:
    """Return the outcome of each way for each sky, taken in turn."""
    outcomes: Outcomes = {name: [] for name in ways}
    for number, sky in enumerate(skies):
        for name, way in ways.items():
            outcomes[name].append(way(sky))
        print(f"sky {number + 1} of {len(skies)}: {', '.join(ways)}", flush=True)
    return outcomes


# ------------------------------------------------------------------------------- what is compared


def wrong(assessments: Iterable[Assessment]) -> NDArray[np.int64]:
    """Count the pixels of each sky that got a wrong class."""
    return np.array([one.counts.sum() - one.counts.trace() for one in assessments])


def wrong_by_mean(outcomes: list[Outcome]) -> NDArray[np.int64]:
    """Count the pixels of each sky whose class of highest mean is wrong."""
    return wrong(one.by_mean for one in outcomes)


def error_ratio(outcomes: list[Outcome], reference: list[Outcome]) -> list[str]:
    """Return wrong pixels over those of a reference: of all skies, and the range over skies."""
    pixels, others = wrong_by_mean(outcomes), wrong_by_mean(reference)
    ratios = pixels / others
    return [f"{pixels.sum() / others.sum():.2f}", f"{ratios.min():.2f}–{ratios.max():.2f}"]


def mean_dispersion(outcomes: list[Outcome]) -> str:
    """Return the dispersion of sources, averaged over skies."""
    return f"{statistics.mean(one.dispersion for one in outcomes):.3f}"


def time_ratio(outcomes: list[Outcome], reference: list[Outcome]) -> str:
    """Return the median time over the median time of a reference."""
    medians = [statistics.median(one.seconds for one in each) for each in (outcomes, reference)]
    return f"{medians[0] / medians[1]:.3g}"


def recalls(outcomes: list[Outcome]) -> list[str]:
    """Return the recall of each class over all skies, in percent."""
    total = Assessment(sum(one.by_mean.counts for one in outcomes))
    return [f"{100 * recall:.1f}" for recall in total.recall]


# ------------------------------------------------------------------------------------- the tables


Table = list[list[str]]


def stride_tables(skies: Sequence[Sky]) -> dict[str, Table]:
    """Measure strides: errors and time, the recall of each class, and both aggregators."""
    outcomes = measured(
        {f"{stride}": partial(classify, stride=stride) for stride in STRIDES}, skies
    )
    reference = outcomes[f"{STRIDES[0]}"]
    strides = [["stride", "n", "time", "wrong pixels", "in each sky", "dispersion"]]
    classes = [["stride", *CLASS_NAMES]]
    aggregators = [["stride", "same class (%)", "wrong by votes / wrong by mean"]]
    for stride, each in outcomes.items():
        ratios = error_ratio(each, reference)
        time_taken = time_ratio(each, reference)
        strides.append([stride, f"{each[0].n:.0f}", time_taken, *ratios, mean_dispersion(each)])
        classes.append([stride, *recalls(each)])
        agreement = 100 * statistics.mean(one.agreement for one in each)
        by_votes = wrong(one.by_votes for one in each).sum() / wrong_by_mean(each).sum()
        aggregators.append([stride, f"{agreement:.2f}", f"{by_votes:.3f}"])
    return {"stride": strides, "recall": classes, "aggregator": aggregators}


def update_map_table(skies: Sequence[Sky]) -> Table:
    """Measure update maps, at strides that they leave no gap at."""
    ways = {
        f"{stride} {name}": partial(classify, stride=stride, update_map=update_map)
        for stride in STRIDES_OF_MAPS
        for name, update_map in UPDATE_MAPS.items()
        if np.count_nonzero(update_map.any(axis=0)) >= stride
    }
    outcomes = measured(ways, skies)
    reference = outcomes[f"{STRIDES_OF_MAPS[-1]} all pixels"]
    table = [["stride", "update map", "n", "wrong pixels", "in each sky", "dispersion"]]
    for way, each in outcomes.items():
        ratios = error_ratio(each, reference)
        table.append([*way.split(" ", 1), f"{each[0].n:.1f}", *ratios, mean_dispersion(each)])
    return table


def window_table(skies: Sequence[Sky]) -> Table:
    """Measure windows of other sizes than the network was trained on."""
    ways = {f"{window}": partial(classify, window=window, stride=window // 4) for window in WINDOWS}
    outcomes = measured(ways, skies)
    reference = outcomes[f"{WINDOW_SHAPE[0]}"]
    table = [["window", "stride", "time", "wrong pixels", "in each sky", "dispersion"]]
    for window, each in outcomes.items():
        time_taken, ratios = time_ratio(each, reference), error_ratio(each, reference)
        stride = f"{int(window) // 4}"
        table.append([window, stride, time_taken, *ratios, mean_dispersion(each)])
    return table


def border_table(skies: Sequence[Sky]) -> Table:
    """Measure single predictions by their distance from the border of their window."""
    height, width = WINDOW_SHAPE
    wrong_at, sources_at = np.zeros(WINDOW_SHAPE), np.zeros(WINDOW_SHAPE)
    for sky in skies:
        truth = cut_windows(sky.truth)
        batch = [cut_windows(image)[..., np.newaxis] for image in sky.images]
        sources = truth != BACKGROUND
        wrong_at += ((DemoNetwork()(batch).argmax(axis=-1) != truth) & sources).sum(axis=0)
        sources_at += sources.sum(axis=0)
    rows, columns = np.indices(WINDOW_SHAPE)
    distance = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    table = [["distance from the border", "wrong (%)"]]
    for pixels in range(min(WINDOW_SHAPE) // 2):
        ring = distance == pixels
        table.append([f"{pixels}", f"{100 * wrong_at[ring].sum() / sources_at[ring].sum():.2f}"])
    return table


def cut_windows(image: NDArray[Any]) -> NDArray[Any]:
    """Return windows of an image, five pixels apart, (window, height, width)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, WINDOW_SHAPE)[::5, ::5]
    return windows.reshape(-1, *WINDOW_SHAPE)


def batch_table(sky: Sky) -> Table:
    """Measure the time that batches of several sizes take, in numpy and in PyTorch."""
    models = {"numpy": DemoNetwork(), "PyTorch": TorchDemoNetwork()}
    seconds = {
        name: interleaved(
            {f"{size}": partial(seconds_of, model, sky, size) for size in BATCH_SIZES}, repeats=3
        )
        for name, model in models.items()
    }
    table = [["batch size", *(f"time with {name}" for name in models)]]
    for size in map(str, BATCH_SIZES):
        ratios = [f"{each[size] / min(each.values()):.2f}" for each in seconds.values()]
        table.append([size, *ratios])
    return table


class TorchDemoNetwork:
    """The demonstration's network in PyTorch, on one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.parameters = tensor_parameters(DemoNetwork().parameters)

    def __call__(self, batch: list[NDArray[Any]]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(stretched(np.concatenate(batch, axis=-1)))
        with torch.inference_mode():
            scores = class_scores(self.parameters, pixels.permute(0, 3, 1, 2).contiguous())
        return softmax(scores.permute(0, 2, 3, 1).numpy())


def seconds_of(model: Callable[..., NDArray[Any]], sky: Sky, batch_size: int) -> float:
    """Return how long a sky takes with a batch size."""
    start = time.perf_counter()
    predict(
        model,
        sky.images,
        len(CLASS_NAMES),
        batch_size,
        WINDOW_SHAPE,
        stride=(8, 8),
        aggregate_method="mean_var",
        progress=False,
        prefetch=0,
    )
    return time.perf_counter() - start


def main(folder: Path) -> None:
    """Measure everything and write one table per file."""
    # Cropped windows leave the border of the image without predictions; it is not measured.
    warnings.simplefilter("ignore", MorpheusWarning)
    skies = [simulate_sky(SHAPE, seed) for seed in SEEDS]
    classify(skies[0])  # compile
    tables = {
        "batch": batch_table(skies[0]),
        "border": border_table(skies),
        "update_map": update_map_table(skies),
        "window": window_table(skies),
        **stride_tables(skies),
    }
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
