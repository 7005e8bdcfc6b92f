"""Find gravitational lenses: from images and a network to a table of candidates.

``python examples/lens_finder.py [OUT_DIR]`` simulates fields in g, r and i, trains a small network
to tell windows with a lens in their middle from all others, runs it over a field that it has not
seen, and lists the regions where it is sure. It prints how many lenses are found (completeness),
how many candidates are lenses (purity), and what test-time augmentation does to both. It needs the
extras ``torch``, ``candidates`` and ``plot``, and about a minute on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from torch import nn

from morpheus_core import find_candidates, predict, quicklook, update_maps
from morpheus_core.adapters import min_max, test_time_augmentation, torch_model

Array = np.ndarray
Random = np.random.Generator

BANDS = ("g", "r", "i")
CLASSES = ("lens", "background")
WINDOW = 32
STRIDE = 4
#: The network answers for so many pixels in the middle of a window.
CENTRE = 8
#: What a pixel of 0.2 arcsec collects, and its noise, in any unit.
RED = np.array([0.15, 0.55, 1.0])
BLUE = np.array([1.0, 0.85, 0.7])
NOISE = np.array([0.9, 1.1, 1.5])
#: Standard deviation of the seeing, in pixels.
SEEING = (1.5, 1.3, 1.2)
#: The network sees this range, as 0 to 1.
SCALE = min_max(0, 100)
#: One lens in each square of so many pixels, at most.
CELL = 64
#: Offsets of the pixels of one galaxy from its middle, rows and columns.
STAMP = np.mgrid[-24:25, -24:25].astype(float)


class Field(NamedTuple):
    """A simulated piece of sky, (band, row, column), and the rows and columns of its objects."""

    pixels: Array
    lenses: Array
    galaxies: Array


def simulate(side: int, lenses: int, seed: int) -> Field:
    """Draw a field with so many lenses among other galaxies."""
    random = np.random.default_rng(seed)
    light = np.zeros((len(BANDS), side, side))
    cells = random.choice((side // CELL) ** 2, lenses, replace=False)
    corners = CELL * np.stack(np.divmod(cells, side // CELL), axis=-1)
    centres = corners + random.uniform(16, CELL - 16, corners.shape)
    for centre in centres:
        add(light, lens(random, *offsets(centre)), centre)
    galaxies = random.uniform(0, side, (side**2 // 1500, 2))
    for centre in galaxies:
        kind = random.choice([elliptical, spiral, pair], p=[0.4, 0.4, 0.2])
        add(light, kind(random, *offsets(centre)), centre)
    for band, seeing, noise in zip(light, SEEING, NOISE, strict=True):
        band[...] = gaussian_filter(band, seeing) + random.normal(0, noise, band.shape)
    return Field(light.astype(np.float32), centres, galaxies)


def offsets(centre: Array) -> Array:
    """Return rows and columns of a stamp, counted from a centre between pixels."""
    return STAMP - (centre - np.round(centre))[:, np.newaxis, np.newaxis]


def add(light: Array, stamp: Array, centre: Array) -> None:
    """Add a stamp to a field, which may cut it."""
    first = np.round(centre).astype(int) + STAMP[:, 0, 0].astype(int)
    low = np.maximum(first, 0)
    high = np.minimum(first + stamp.shape[1:], light.shape[1:])
    target = tuple(map(slice, low, high))
    light[:, *target] += stamp[:, *map(slice, low - first, high - first)]


def coloured(colour: Array, brightness: Array) -> Array:
    """Return light of one colour, (band, row, column)."""
    return colour[:, np.newaxis, np.newaxis] * brightness


def turned(random: Random, y: Array, x: Array, flattest: float) -> tuple[Array, Array]:
    """Return offsets along the axes of an ellipse of any orientation, scaled to be circular."""
    angle, ratio = random.uniform(0, np.pi), np.sqrt(random.uniform(flattest, 1))
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return along * ratio, across / ratio


def elliptical(random: Random, y: Array, x: Array) -> Array:
    """Draw a red galaxy, by the profile of Sersic with n = 3."""
    radius = np.hypot(np.hypot(*turned(random, y, x, 0.5)), 0.5) / random.uniform(2.5, 5)
    return coloured(RED, random.uniform(12, 25) * np.exp(-5.67 * (np.cbrt(radius) - 1)))


def spiral(random: Random, y: Array, x: Array) -> Array:
    """Draw a blue disk with two arms around a red bulge."""
    along, across = turned(random, y, x, 0.4)
    radius, angle = np.hypot(along, across), np.arctan2(across, along)
    wound = random.choice([-1, 1]) * 3.5 * np.log(radius + 1)
    arms = 1 + random.uniform(0.3, 0.8) * np.cos(2 * (angle - wound))
    disk = random.uniform(20, 60) * np.exp(-radius / random.uniform(2.5, 5)) * arms
    bulge = random.uniform(20, 120) * np.exp(-0.5 * (radius / 1.2) ** 2)
    return coloured(BLUE, disk) + coloured(RED, bulge)


def pair(random: Random, y: Array, x: Array) -> Array:
    """Draw a red galaxy with a blue one beside it."""
    angle, distance = random.uniform(0, 2 * np.pi), random.uniform(4, 9)
    beside = y - distance * np.sin(angle), x - distance * np.cos(angle)
    return elliptical(random, y, x) + blob(random, *turned(random, *beside, 0.3))


def blob(random: Random, y: Array, x: Array) -> Array:
    """Draw a small blue galaxy."""
    width = random.uniform(0.8, 1.6)
    return coloured(BLUE, random.uniform(50, 90) * np.exp(-0.5 * (y**2 + x**2) / width**2))


def lens(random: Random, y: Array, x: Array) -> Array:
    """Draw a red galaxy and the arcs that it makes of a blue one behind it.

    A singular isothermal sphere deflects light by its Einstein radius, wherever that passes, and
    its surroundings add shear: Narayan & Bartelmann 1996, arXiv:astro-ph/9606001.
    """
    einstein = random.uniform(5, 8)
    shear, angle = random.uniform(0, 0.1), random.uniform(0, 2 * np.pi)
    radius = np.hypot(np.hypot(y, x), 0.3)
    behind_y = y * (1 - einstein / radius) - shear * (x * np.sin(angle) - y * np.cos(angle))
    behind_x = x * (1 - einstein / radius) - shear * (x * np.cos(angle) + y * np.sin(angle))
    turn, away = random.uniform(0, 2 * np.pi), einstein * random.uniform(0.1, 0.6)
    source = behind_y - away * np.sin(turn), behind_x - away * np.cos(turn)
    return elliptical(random, y, x) + blob(random, *source)


def labelled_windows(field: Field, random: Random) -> tuple[Array, Array]:
    """Return windows of a field, (window, row, column, band), and their classes."""
    half, side = WINDOW // 2, field.pixels.shape[1]
    around = [(field.lenses, CENTRE / 2), (field.lenses, WINDOW / 2), (field.galaxies, CENTRE)]
    spots = np.concatenate(
        [spots + random.uniform(-reach, reach, (4, *spots.shape)) for spots, reach in around],
        axis=1,
    )
    spots = spots.reshape(-1, 2).round().astype(int).clip(half, side - half)
    distance = np.abs(spots[:, np.newaxis] - field.lenses).max(axis=-1).min(axis=-1)
    classes = (distance > CENTRE).astype(int)
    clear = (distance <= CENTRE / 2) | (distance > CENTRE)  # the rest is neither
    windows = np.lib.stride_tricks.sliding_window_view(field.pixels, (WINDOW, WINDOW), axis=(1, 2))
    chosen = windows[:, *(spots[clear] - half).T]  # (band, window, row, column)
    return np.moveaxis(chosen, 0, -1), classes[clear]


def make_network() -> nn.Module:
    """Return a network that scores whole windows, (window, band, row, column)."""
    layers = []
    for before, after in ((len(BANDS), 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (WINDOW // 8) ** 2, len(CLASSES)))


def train(fields: list[Field], steps: int) -> nn.Module:
    """Return a network that knows windows of these fields."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    examples = [labelled_windows(field, random) for field in fields]
    windows, classes = map(np.concatenate, zip(*examples, strict=True))
    windows = torch.from_numpy(SCALE(windows)).movedim(-1, 1)
    classes = torch.from_numpy(classes)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        batch = torch.from_numpy(random.integers(len(windows), size=64))
        loss = nn.functional.cross_entropy(network(windows[batch]), classes[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def as_model(network: nn.Module) -> Callable:
    """Return what `predict` can run."""
    return torch_model(network, normalize=SCALE, activation="softmax")


def write(field: Field, folder: Path) -> list[Path]:
    """Write the bands of a field, and return their paths."""
    sky = WCS(naxis=2)
    sky.wcs.ctype = "RA---TAN", "DEC--TAN"
    sky.wcs.crval = 150.1, 2.2
    sky.wcs.crpix = [(side + 1) / 2 for side in field.pixels.shape[:0:-1]]
    sky.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{band}.fits" for band in BANDS]
    for path, pixels in zip(paths, field.pixels, strict=True):
        fits.writeto(path, pixels, sky.to_header(), overwrite=True)
    return paths


def find(model: Callable, paths: list[Path], out_dir: Path) -> Table:
    """Run a model over images and return the candidates."""
    hduls, _ = predict(
        model,
        paths,
        n_classes=len(CLASSES),
        batch_size=256,
        window_shape=(WINDOW, WINDOW),
        stride=(STRIDE, STRIDE),
        update_map=update_maps.centre_crop((WINDOW, WINDOW), (WINDOW - CENTRE) // 2),
        padding="reflect",
        aggregate_method="mean_var",
        class_names=CLASSES,
        out_dir=out_dir,
        overwrite=True,
        progress=False,
    )
    for hdul in hduls:
        hdul.close()
    more_than_one_step = STRIDE**2 + 1
    return find_candidates(out_dir, "lens", threshold=0.5, min_area=more_than_one_step)


def rates(candidates: Table, lenses: Array) -> tuple[float, float]:
    """Return completeness and purity: of lenses that are found, and of candidates that are one."""
    places = np.stack([candidates["y"], candidates["x"]], axis=-1)
    near = np.linalg.norm(lenses[:, np.newaxis] - places, axis=-1) < CENTRE
    return near.any(axis=1).mean(), near.any(axis=0).mean()


def main(folder: Path) -> None:
    """Train, run, list and compare."""
    model = as_model(train([simulate(640, 80, seed) for seed in range(1, 9)], steps=500))
    field = simulate(640, 24, seed=100)
    paths = write(field, folder)
    views = {"one view": model, "eight views": test_time_augmentation(model)}
    for name, seen in views.items():
        results = folder / name.replace(" ", "_")
        candidates = find(seen, paths, results)
        completeness, purity = rates(candidates, field.lenses)
        print(
            f"{name}: {len(candidates)} candidates, completeness {completeness:.0%}, "
            f"purity {purity:.0%}"
        )
        candidates.write(results / "candidates.ecsv", overwrite=True)
        draw(results, paths[-1], candidates)


def draw(results: Path, image: Path, candidates: Table) -> None:
    """Draw the image and the heat map, with a circle around each candidate."""
    figure = quicklook(results, image)
    for axes in figure.axes[:2]:
        axes.plot(candidates["x"], candidates["y"], "o", ms=12, mfc="none", mec="white", mew=0.8)
    figure.savefig(results / "look.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "lenses"))
