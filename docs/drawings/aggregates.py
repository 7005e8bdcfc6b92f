"""Drawings of what becomes of a pixel's predictions: mean, dispersion and votes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from style import BLUE, INK, QUIET, SMALL, VERMILION, drawing

from morpheus_core import predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.sky import (
    BACKGROUND,
    CLASS_NAMES,
    NOISE_SIGMA,
    light_of_classes,
    per_band,
    true_classes,
)

Float32 = NDArray[np.float32]

CASES = {
    "nine windows lean a little to A": (0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.59, 0.60, 0.61),
    "three are sure of A, six lean to B": (0.94, 0.96, 0.98, 0.36, 0.38, 0.40, 0.42, 0.44, 0.46),
    "five are sure of A, four of B": (0.93, 0.94, 0.95, 0.96, 0.97, 0.03, 0.04, 0.05, 0.06),
}


def mean_and_votes() -> Figure:
    """Draw nine predictions of one pixel in three cases, and their statistics."""
    figure, panels = drawing(3.9, len(CASES), sharex=True)
    for panel, (name, scores) in zip(panels, CASES.items(), strict=True):
        mean, variance, votes = statistics_of(scores)
        spread = np.sqrt(variance)
        panel.errorbar(mean, 0.3, xerr=spread, fmt="D", color=VERMILION, capsize=3, markersize=6)
        panel.plot(scores, np.full(len(scores), 0.7), "o", color=BLUE, alpha=0.75, markersize=6)
        panel.axvline(0.5, color=QUIET, linestyle=":", linewidth=1)
        panel.set(ylim=(0, 1), yticks=[], xlim=(0, 1))
        panel.spines["left"].set_visible(False)
        numbers = f"mean {mean:.2f}, variance {variance:.3f}, votes {votes:.2f}"
        panel.set_title(f"{name}\n{numbers}", loc="left")
    panels[-1].set_xlabel("score of class A (the rest is that of B)")
    return figure


def statistics_of(scores: tuple[float, ...]) -> tuple[float, float, float]:
    """Return mean, variance and votes of a pixel whose windows give it these scores."""
    count = len(scores)
    # Windows are one pixel high and `count` wide: the last pixel of the first is in all of them,
    # and the first pixel of each says what to answer.
    image = np.zeros((1, 2 * count - 1))
    image[0, :count] = scores

    def model(batch: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        score = batch[0][:, 0, 0]
        return np.concatenate([score, 1 - score], axis=1)

    methods = ["mean_var", "rank_vote"]
    _, (mean_var, votes, _) = predict(
        model, image, 2, count, (1, count), aggregate_method=methods, progress=False
    )
    pixel = (0, count - 1, 0)
    return *mean_var[pixel], votes[pixel]


EXPOSURES = 20
SHAPE = (160, 160)
#: Pixels that as many windows visit as any, and some more.
INNER = (slice(30, -30), slice(30, -30))
BINS = (0, 0.001, 0.01, 0.03, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Experiment:
    """The pixels of sources on a sky that is exposed many times with other noise.

    Attributes
    ----------
    dispersion : ndarray, shape (exposure, pixel)
        Standard deviation over windows of the probability of the true class.
    probability : ndarray, shape (exposure, pixel)
        Mean over windows of that probability.
    wrong : ndarray of bool, shape (exposure, pixel)
        Whether another class is the most probable.
    """

    dispersion: Float32
    probability: Float32
    wrong: NDArray[np.bool_]


def expose_and_classify() -> Experiment:
    """Classify one simulated sky with many draws of its noise."""
    light = light_of_classes(np.random.default_rng(104), SHAPE)
    signal, truth = light.sum(axis=0), true_classes(light)
    random = np.random.default_rng(1)
    results = []
    for _ in range(EXPOSURES):
        noise = random.normal(size=signal.shape) * per_band(NOISE_SIGMA)
        results.append(classified((signal + noise).astype(np.float32))[INNER])
    sources = truth[INNER] != BACKGROUND
    results = np.stack(results)[:, sources]  # (exposure, pixel, class, 2)
    classes = truth[INNER][sources]
    of_truth = results[:, np.arange(len(classes)), classes]
    wrong = results[..., 0].argmax(axis=-1) != classes
    return Experiment(np.sqrt(of_truth[..., 1]), of_truth[..., 0], wrong)


def classified(images: Float32) -> Float32:
    """Return mean and variance of each class, (height, width, class, 2)."""
    _, (mean_var, _) = predict(
        DemoNetwork(),
        list(images),
        len(CLASS_NAMES),
        128,
        WINDOW_SHAPE,
        stride=(10, 10),
        aggregate_method="mean_var",
        progress=False,
    )
    return mean_var


def dispersion() -> Figure:
    """Draw dispersion beside what noise does, and beside how often the class is wrong."""
    experiment = expose_and_classify()
    figure, (above, below) = drawing(6.0, 2, gridspec_kw={"height_ratios": (3, 2)})
    draw_scatter(above, experiment)
    draw_errors(below, experiment)
    return figure


def draw_scatter(axes: Axes, experiment: Experiment) -> None:
    """Draw dispersion in one exposure against the scatter between exposures."""
    lowest = 1e-5
    dispersion = np.maximum(experiment.dispersion[0], lowest)
    scatter = np.maximum(experiment.probability.std(axis=0), lowest)
    axes.loglog(dispersion, scatter, ".", color=BLUE, alpha=0.35, markersize=4, mew=0)
    axes.axline((lowest, lowest), (1, 1), color=INK, linewidth=1, linestyle="--")
    axes.text(2e-5, 6e-5, "equal", rotation=35, fontsize=SMALL)
    axes.set(
        xlim=(lowest, 1),
        ylim=(lowest, 1),
        xlabel="dispersion over windows, in one exposure",
        ylabel=f"scatter between {EXPOSURES} exposures",
    )
    axes.set_title("probability of the true class; a dot is a pixel", loc="left")


def draw_errors(axes: Axes, experiment: Experiment) -> None:
    """Draw the share of wrong pixels in bins of dispersion."""
    wrong = [
        experiment.wrong[(first <= experiment.dispersion) & (experiment.dispersion < last)]
        for first, last in pairwise(BINS)
    ]
    shares = [100 * each.mean() for each in wrong]
    places = np.arange(len(shares))
    axes.bar(places, shares, color=VERMILION, width=0.75)
    for place, share in zip(places, shares, strict=True):
        axes.text(place, share + 0.3, f"{share:.1f}", ha="center", fontsize=SMALL)
    names = [f"{first:g}\n– {last:g}" for first, last in pairwise(BINS)]
    axes.set_xticks(places, names)
    axes.set(xlabel="dispersion", ylabel="wrong class (%)", ylim=(0, max(shares) + 2.5))
