"""
Masks of contaminants for exposures of many images
==================================================

Cosmic rays, trails of satellites and hot columns spoil pixels of every exposure. MaxiMask
(Paillassa et al. 2020, A&A 634, A48) has a network that finds them, and gives each kind of
contaminant a mask. Here we train a small one in some seconds, and
:func:`~morpheus_core.map_exposures` runs it over an exposure as cameras write it: a file with one
image per CCD, and a table. The file of masks has the same HDUs. Needs the extras ``torch``,
``plot`` and ``candidates`` (SciPy).
"""

# %%
# The exposure
# ------------
# We simulate what one CCD collects, in electrons: stars and galaxies, blurred by the seeing, on a
# level of sky that differs between CCDs; then the contaminants, which are sharp, or longer than
# anything in the sky. A pixel belongs to a contaminant that brightens it by more than its noise.

import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from morpheus_core import map_exposures, predict, preparing, update_maps
from morpheus_core.adapters import torch_model

CLASSES = ("CR", "TRAIL", "HOT")
#: Okabe & Ito 2008, which stay apart for colour-blind eyes.
COLOURS = ("#D55E00", "#56B4E9", "#009E73")
#: Of a CCD, in pixels.
SIDE = 512
WINDOW = 128


def simulate(side, seed, rays, trails, columns):
    """Return an image, (row, column), and the true masks, (class, row, column)."""
    random = np.random.default_rng(seed)
    sky = random.uniform(80, 400)
    contaminants = np.stack(
        [
            cosmic_rays(random, side, rays),
            satellites(random, side, trails),
            hot(random, side, columns),
        ]
    )
    electrons = random.poisson(sky + celestial(random, side) + contaminants.sum(axis=0))
    pixels = electrons + random.normal(0, 5, (side, side))  # read-out noise
    return np.clip(pixels.round(), 0, 65535).astype(np.uint16), contaminants > np.sqrt(sky + 25)


def celestial(random, side):
    """Return the light of stars and galaxies."""
    light = np.zeros((2, side, side))
    for canvas, count in zip(light, (side**2 // 1500, side**2 // 3000), strict=True):
        spots = tuple(random.integers(side, size=(2, count)))
        np.add.at(canvas, spots, 500 * random.pareto(0.9, count).clip(0, 300) + 500)
    return gaussian_filter(light[0], 1.4) + gaussian_filter(light[1], 3)


def cosmic_rays(random, side, count):
    """Return straight tracks of one pixel's width."""
    light = np.zeros((side, side))
    for _ in range(count):
        steps = np.arange(0, 1 + random.lognormal(1.5, 0.8), 0.5)
        angle = random.uniform(0, 2 * np.pi)
        track = random.uniform(0, side, (2, 1)) + np.outer([np.sin(angle), np.cos(angle)], steps)
        np.add.at(light, tuple(track.astype(int) % side), random.lognormal(6, 0.8))
    return light


def satellites(random, side, count):
    """Return trails from border to border, as blurred as stars."""
    rows, columns = np.indices((side, side))
    light = np.zeros((side, side))
    for _ in range(count):
        (row, column), angle = random.uniform(0.1 * side, 0.9 * side, 2), random.uniform(0, np.pi)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        profile = np.exp(-0.5 * (across / random.uniform(1.4, 3)) ** 2)
        light += random.uniform(60, 400) * profile
    return light


def hot(random, side, count):
    """Return columns that are bright from some row to the upper border."""
    light = np.zeros((side, side))
    for _ in range(count):
        light[random.integers(side) :, random.integers(side)] += random.uniform(60, 1000)
    return light


folder = Path(tempfile.mkdtemp())
exposure = folder / "night1.fits"
chips = [simulate(SIDE, seed, rays=80, trails=1, columns=3) for seed in range(100, 104)]
guide_stars = Table(
    {"X": [181.2, 440.8, 333.3], "Y": [77.5, 402.1, 490.6], "MAG": [11.2, 12.7, 12.9]}
)
hdus = [fits.PrimaryHDU(header=fits.Header({"OBJECT": "simulated field", "EXPTIME": 90.0}))]
hdus += [fits.ImageHDU(pixels, name="SCI", ver=k) for k, (pixels, _) in enumerate(chips, start=1)]
hdus += [fits.BinTableHDU(guide_stars, name="GUIDE")]
fits.HDUList(hdus).writeto(exposure)

# %%
# Train
# -----
# The training images hold more contaminants than an exposure does. A pixel may belong to several,
# so each class has a probability of its own: a sigmoid, and no softmax. Every image is scaled as a
# whole, by its median and scatter, whatever the sky: here those of the training, and later each CCD
# before windows are cut of it, by :class:`~morpheus_core.preparing.GlobalMedian`. MaxiMask does so
# with background and noise on a mesh, as :class:`~morpheus_core.preparing.MeshBackground` does. The
# network itself gets them compressed.


def above_sky(image):
    """Return pixels above the median, in units of the scatter; (row, column)."""
    median = np.median(image)
    return (image - median) / (1.4826 * np.median(np.abs(image - median)))


def compressed(pixels):
    """Return pixels whose bright ones are nearer to the others."""
    return np.arcsinh(pixels)


class UNet(nn.Module):
    """Scores, (batch, class, row, column), of pixels, (batch, 1, row, column)."""

    def __init__(self, widths=(16, 24, 32, 32)):
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(step(before, after) for before, after in [(1, widths[0]), *pairs])
        self.mix = nn.ModuleList(nn.Conv2d(after, before, 1) for before, after in pairs)
        self.up = nn.ModuleList(step(before, before) for before, _ in pairs)
        self.scores = nn.Conv2d(widths[0], len(CLASSES), 1)

    def forward(self, x):
        levels = [self.down[0](x)]
        for down in self.down[1:]:
            levels.append(down(functional.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for mix, up in zip(reversed(self.mix), reversed(self.up), strict=True):
            x = up(levels.pop() + functional.interpolate(mix(x), scale_factor=2))
        return self.scores(x)


def step(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())


def train(images, masks, steps, batch_size=16):
    """Return a network that has learned from windows, (window, row, column), mirrored by chance."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    pixels = compressed(np.stack([above_sky(image) for image in images])[:, np.newaxis])
    pixels = torch.from_numpy(pixels.astype(np.float32))
    masks = torch.from_numpy(masks.astype(np.float32))
    network = UNet().to(memory_format=torch.channels_last)  # a third faster on processors
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(steps):
        chosen = torch.from_numpy(random.choice(len(pixels), batch_size))
        axes = [axis for axis in (2, 3) if random.random() < 0.5]
        scores = network(pixels[chosen].flip(axes))
        loss = functional.binary_cross_entropy_with_logits(scores, masks[chosen].flip(axes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


windows = [simulate(64, seed, rays=15, trails=seed % 2, columns=seed % 6) for seed in range(1200)]
network = train(*map(np.stack, zip(*windows, strict=True)), steps=240)
model = torch_model(network, normalize=compressed, activation="sigmoid")

# %%
# Thresholds
# ----------
# Which probability is enough? We let :func:`~morpheus_core.predict` tell the probabilities in one
# more CCD, and take for each class the threshold with the best balance of completeness (of the
# pixels that are hit, those that are found) and purity (of the pixels found, those that are hit):
# their harmonic mean, F1. The outer 32 pixels of a window, where the network sees little of the
# surroundings, count at the edge of the image alone, where there is nothing better, as in MaxiMask.
# As there, a mask holds what is above its threshold, and not what equals it.

settings = {
    "n_classes": len(CLASSES),
    "batch_size": 32,
    "window_shape": (WINDOW, WINDOW),
    "stride": (64, 64),
    "update_map": update_maps.centre_crop((WINDOW, WINDOW), border=32, keep_border=True),
    "class_names": CLASSES,
    "prepare": preparing.GlobalMedian(),
    "progress": False,
}
known, known_masks = simulate(SIDE, seed=200, rays=80, trails=2, columns=6)
_, (output, _) = predict(model, known, aggregate_method="mean_var", **settings)
tried = np.linspace(0.05, 0.95, 19)


def rates(found, hit):
    """Return completeness and purity of a mask."""
    return np.sum(found & hit) / np.sum(hit), np.sum(found & hit) / max(np.sum(found), 1)


def balance(found, hit):
    """Return F1."""
    return 2 * np.sum(found & hit) / (np.sum(found) + np.sum(hit))


thresholds = []
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for number, (name, colour) in enumerate(zip(CLASSES, COLOURS, strict=True)):
    scores = [balance(output[..., number, 0] > least, known_masks[number]) for least in tried]
    thresholds.append(round(float(tried[np.argmax(scores)]), 2))
    axes.plot(tried, scores, color=colour, marker="o", ms=4, label=name)
axes.set(xlabel="threshold", ylabel="F1", title="Which probability is enough?")
axes.legend()
plt.show()

# %%
# Map the exposure
# ----------------
# One call makes the masks of all CCDs. A file that fails would be named in its outcome, and would
# stop no other; give it the folder of a whole night.

(outcome,) = map_exposures(
    model,
    exposure,
    thresholds=thresholds,
    threshold_rule=">",
    out_dir=folder / "masks",
    **settings,
)
if outcome.error is not None:
    raise outcome.error
fits.info(exposure)
fits.info(outcome.output)

# %%
# Each image has become a cube of masks, one plane per class. All else is as it was: the primary
# HDU, the table, names and versions.

with fits.open(exposure) as before, fits.open(outcome.output) as after:
    for name in ("PRIMARY", "GUIDE"):
        print(f"{name} is the same: {fits.HDUDiff(before[name], after[name]).identical}")
    masks = [after["SCI", number].data.astype(bool) for number in range(1, 5)]
    header = after["SCI", 1].header
    print(*(repr(header[f"{key}*"]) for key in ("CLASS", "THRESH", "PREPARE")), sep="\n")

# %%
# The result
# ----------
# One of the four CCDs, and how good the masks of all four are:

# sphinx_gallery_thumbnail_number = 2
pixels, truth = chips[1]


def coloured(masks):
    """Return red, green and blue of masks, (class, row, column)."""
    picture = np.full((*masks.shape[1:], 3), to_rgb("#15171C"))
    for mask, colour in zip(masks, COLOURS, strict=True):
        picture[mask] = to_rgb(colour)
    return picture


figure, panels = plt.subplots(1, 3, figsize=(12, 4.9), sharey=True, layout="constrained")
panels[0].imshow(compressed(above_sky(pixels)), "gray", vmin=-1, vmax=5, origin="lower")
panels[1].imshow(coloured(masks[1]), origin="lower")
panels[2].imshow(coloured(truth), origin="lower")
for axes, title in zip(panels, ("SCI,2", "The masks", "The truth"), strict=True):
    axes.set(title=title, xlabel="column")
panels[0].set_ylabel("row")
keys = [Patch(fc=colour, label=name) for name, colour in zip(CLASSES, COLOURS, strict=True)]
figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False)
plt.show()

print("class  threshold  completeness  purity")
found, hit = np.stack(masks, axis=1), np.stack([truth for _, truth in chips], axis=1)
for number, name in enumerate(CLASSES):
    completeness, purity = rates(found[number], hit[number])
    print(f"{name:6}{thresholds[number]:10.2f}{completeness:14.1%}{purity:8.1%}")
assert balance(found, hit) > 0.8

# %%
# For your own data
# -----------------
# - Put your network in place of ``UNet``, what was done to whole images in training in place of
#   ``above_sky``, as ``prepare=``, and what to windows in place of ``compressed``. A function of a
#   whole image will do. MaxiMask's own network is in :doc:`/published_networks`.
# - Give :func:`~morpheus_core.map_exposures` a file, a list of files or a folder. Every image of
#   two dimensions goes to the network, also a map of flags (DQ) or weights. For one HDU say
#   ``"night1.fits[SCI,2]"``.
# - Set ``n_classes`` and ``class_names`` to those of the network, and ``thresholds`` to your own,
#   found on exposures whose contaminants you know. ``thresholds=None`` writes the probabilities.
# - If contaminants were more frequent in training than they are in your exposures, pass both shares
#   as ``trained_priors`` and ``priors``.
# - ``single_mask=True`` writes one image of bit flags. ``cpus=8`` or ``gpus=[0]`` share the work
#   out.
