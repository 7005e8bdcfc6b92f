"""
The morphology of every pixel, with a network of PyTorch
========================================================

Morpheus (Hausen & Robertson 2020, ApJS 248, 20) gives each pixel of an image the probability that
it belongs to a spheroid, a disk, an irregular galaxy, a point source or the background. So it finds
sources, separates them, and classifies them in one go. Its network sees 40 x 40 pixels at a time,
and :func:`~morpheus_core.predict` does the rest. Here we do the same in small: we simulate sky,
train a U-Net for some seconds, and run it over an image of a million pixels. Needs the extras
``torch``, ``plot`` and ``candidates`` (SciPy).
"""

# %%
# A sky to learn from
# -------------------
# Each kind of source has a profile of its own, and colours that overlap with those of the others,
# so that shape must count. The true class of a pixel is that of the source which gives most of its
# light, or "background" where all of them together are faint beside the noise.

import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.io import fits
from astropy.wcs import WCS
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from morpheus_core import predict, quicklook
from morpheus_core.adapters import torch_model

BANDS = ("h", "j", "v", "z")
CLASSES = ("spheroid", "disk", "irregular", "point source", "background")
BACKGROUND = CLASSES.index("background")
#: Okabe & Ito 2008, which stay apart for colour-blind eyes.
COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#F0E442", "#15171C")
WINDOW = 64
#: Pixels from the centre of a source to where it is cut.
REACH = 28


def simulate(side, seed):
    """Return an image, (band, row, column), and the class of each pixel, (row, column)."""
    random = np.random.default_rng(seed)
    light = np.zeros((len(SOURCES), len(BANDS), side + 2 * REACH, side + 2 * REACH))
    for canvas, (profile, spectrum) in zip(light, SOURCES, strict=True):
        for row, column in random.integers(side, size=(side**2 // 6000, 2)):
            flux = 600 * random.uniform(0.02, 1) ** -0.8 * random.lognormal(spectrum, 0.2)
            stamp = profile(random, *turned_offsets(random))
            area = slice(row, row + 2 * REACH + 1), slice(column, column + 2 * REACH + 1)
            canvas[:, *area] += flux[:, np.newaxis, np.newaxis] * stamp / stamp.sum()
    light = gaussian_filter(light, (0, 0, 1.1, 1.1))[..., REACH:-REACH, REACH:-REACH]
    image = light.sum(axis=0) + random.normal(size=light.shape[1:])
    brightness = light.mean(axis=1)
    truth = np.where(brightness.sum(axis=0) > 0.7, brightness.argmax(axis=0), BACKGROUND)
    return image.astype(np.float32), truth


def turned_offsets(random):
    """Return offsets from a centre between pixels, along and across a random direction."""
    shift, angle = random.uniform(-0.5, 0.5, (2, 1, 1)), random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1] + shift
    cosine, sine = np.cos(angle), np.sin(angle)
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def spheroid(random, along, across):
    """Draw a profile of Sersic with n = 4."""
    radius = np.hypot(along, across / random.uniform(0.7, 1))
    return np.exp(-7.67 * ((radius + 0.3) / random.uniform(2, 4)) ** 0.25)


def disk(random, along, across):
    """Draw an inclined exponential disk with two arms."""
    across = across / random.uniform(0.3, 0.9)
    radius = np.hypot(along, across)
    arms = np.cos(2 * np.arctan2(across, along) + random.choice([-4, 4]) * np.log1p(radius))
    return np.exp(-radius / random.uniform(2.5, 4)) * (1 + 0.6 * arms * np.tanh(radius / 4))


def irregular(random, along, across):
    """Draw a handful of clumps in a haze."""
    light = 0.15 * np.exp(-np.hypot(along, across) / 4)
    for _ in range(random.integers(4, 8)):
        clump = np.hypot(along - random.normal(0, 4.5), across - random.normal(0, 3))
        light += random.uniform(0.3, 1) * np.exp(-0.5 * (clump / 1.3) ** 2)
    return light


def point_source(random, along, across):
    """Draw what becomes a star once it is blurred like everything else, with four spikes."""
    spikes = np.exp(-np.abs(along) / 6 - across**2) + np.exp(-np.abs(across) / 6 - along**2)
    return np.exp(-2 * np.hypot(along, across) ** 2) + 0.03 * spikes


#: For each class the shape, and the logarithm of the flux in each band.
SOURCES = (
    (spheroid, [0.3, 0.1, -0.9, -0.3]),
    (disk, [0.1, 0.0, -0.5, -0.2]),
    (irregular, [-0.1, 0.0, -0.1, -0.1]),
    (point_source, [0.0, 0.0, -0.4, -0.1]),
)

# %%
# Train
# -----
# The network is a U-Net: it halves the resolution three times, and on its way back up adds what it
# saw on its way down. It sees windows of 64 x 64 pixels and scores each pixel.


class UNet(nn.Module):
    """Scores, (batch, class, row, column), of pixels, (batch, band, row, column)."""

    def __init__(self, widths=(8, 16, 32, 48)):
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(
            step(before, after) for before, after in [(len(BANDS), widths[0]), *pairs]
        )
        self.mix = nn.ModuleList(nn.Conv2d(after, before, 1) for before, after in pairs)
        self.up = nn.ModuleList(step(before, before) for before, _ in pairs)
        self.scores = nn.Conv2d(widths[0], len(CLASSES), 1)

    def forward(self, x):
        levels = [self.down[0](torch.asinh(x))]
        for down in self.down[1:]:
            levels.append(down(functional.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for mix, up in zip(reversed(self.mix), reversed(self.up), strict=True):
            x = up(levels.pop() + functional.interpolate(mix(x), scale_factor=2))
        return self.scores(x)


def step(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())


def train(skies, steps, batch_size=24):
    """Return a network that has learned from random windows, turned and mirrored."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = UNet().to(memory_format=torch.channels_last)  # a third faster on processors
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(steps):
        images, classes = map(
            np.stack, zip(*(window(skies, random) for _ in range(batch_size)), strict=True)
        )
        scores = network(torch.from_numpy(images))
        loss = functional.cross_entropy(scores, torch.from_numpy(classes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def window(skies, random):
    """Return a window of the image and of the truth."""
    image, truth = skies[random.integers(len(skies))]
    row, column = random.integers(truth.shape[0] - WINDOW, size=2)
    turns, flip = random.integers(4), random.choice([-1, 1])
    area = slice(row, row + WINDOW), slice(column, column + WINDOW)
    turned = np.rot90(image[:, *area], turns, (1, 2)), np.rot90(truth[area], turns)
    return tuple(np.ascontiguousarray(pixels[..., ::flip]) for pixels in turned)


network = train([simulate(512, seed) for seed in range(1, 9)], steps=180)

# %%
# Classify a million pixels
# -------------------------
# The network has not seen this image. ``torch_model`` brings the bands into the order that PyTorch
# wants and makes probabilities of scores; :func:`~morpheus_core.predict` slides the window over the
# files in steps of 16 pixels, so that 16 windows see each pixel, and folds what they say in two
# ways: mean and variance of each probability, and votes for the most probable class.

image, truth = simulate(1024, seed=100)
sky = WCS(naxis=2)
sky.wcs.ctype = "RA---TAN", "DEC--TAN"
sky.wcs.crval = 53.1625, -27.7914
sky.wcs.crpix = 512.5, 512.5
sky.wcs.cdelt = -0.06 / 3600, 0.06 / 3600

folder = Path(tempfile.mkdtemp())
paths = [folder / f"{band}.fits" for band in BANDS]
for path, pixels in zip(paths, image, strict=True):
    fits.writeto(path, pixels, sky.to_header())

model = torch_model(network, activation="softmax")
hduls, (mean_var, votes, n) = predict(
    model,
    paths,
    n_classes=len(CLASSES),
    batch_size=64,
    window_shape=(WINDOW, WINDOW),
    stride=(16, 16),
    padding="reflect",
    aggregate_method=["mean_var", "rank_vote"],
    class_names=CLASSES,
    out_dir=folder / "results",
    progress=False,
)
quicklook(folder / "results", paths[0])

# %%
# A closer look
# -------------
# The colours of the image are the bands h, j and v. The dispersion is the standard deviation of the
# winner's probability over the windows: how much the answer depends on where the window lies. The
# straight lines on sources are where windows end: there the network sees half of a source, or none.

# sphinx_gallery_thumbnail_number = 2
mean, variance = mean_var[..., 0], mean_var[..., 1]
predicted = mean.argmax(axis=-1)
winner = predicted[..., np.newaxis]
dispersion = np.sqrt(np.take_along_axis(variance, winner, axis=-1)[..., 0])
area = slice(380, 580), slice(380, 580)

figure, panels = plt.subplots(2, 2, figsize=(9, 9), sharex=True, sharey=True, layout="constrained")
panels = panels.ravel()
view = {"origin": "lower", "extent": (379.5, 579.5, 379.5, 579.5)}
colours = np.arcsinh(image[:3, *area] * np.reshape([0.8, 0.9, 1.4], (3, 1, 1))) / np.arcsinh(60)
panels[0].imshow(np.clip(np.moveaxis(colours, 0, -1), 0, 1), **view)
for axes, classes in ((panels[1], truth), (panels[2], predicted)):
    axes.imshow(classes[area], ListedColormap(COLOURS), vmin=0, vmax=len(CLASSES) - 1, **view)
drawn = panels[3].imshow(dispersion[area], "magma", vmin=0, **view)
figure.colorbar(drawn, ax=panels[3], shrink=0.8, label="dispersion of the probability")
titles = ("The image", "The truth", "The most probable class", "Where windows disagree")
for axes, title in zip(panels, titles, strict=True):
    axes.set(title=title, xlabel="column", ylabel="row")
    axes.label_outer()
keys = [Patch(fc=colour, label=name) for name, colour in zip(CLASSES, COLOURS, strict=True)]
figure.legend(handles=keys, loc="outside lower center", ncols=5, frameon=False)
plt.show()

# %%
# How good is it?
# ---------------
# Of the pixels of each true class, the share that was given each class:

counts = np.zeros((len(CLASSES), len(CLASSES)))
np.add.at(counts, (truth, predicted), 1)
shares = counts / counts.sum(axis=1, keepdims=True)

figure, axes = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
drawn = axes.imshow(shares, "Blues", vmin=0, vmax=1)
for (row, column), share in np.ndenumerate(shares):
    colour = "white" if share > 0.5 else "black"
    axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour)
axes.set_xticks(range(len(CLASSES)), CLASSES, rotation=20)
axes.set_yticks(range(len(CLASSES)), CLASSES)
axes.set(xlabel="predicted", ylabel="true", title="Pixels of each class")
plt.show()

accuracy = np.mean(predicted == truth)
print(f"right, by mean: {accuracy:.1%} of all pixels")
print(f"right, by votes: {np.mean(votes.argmax(axis=-1) == truth):.1%} of all pixels")
assert accuracy > 0.9

# %%
# Is the network wrong where windows disagree, or where the winner's probability is low? Of the
# pixels of sources we take the tenth that is worst, by either. Here the dispersion does not
# tell: a network may be wrong wherever the window lies. It is no error bar.

source = truth != BACKGROUND
wrong = predicted[source] != truth[source]
print(f"wrong: {wrong.mean():.0%} of the pixels of sources")
doubts = {
    "highest dispersion": dispersion[source],
    "lowest probability": -mean.max(axis=-1)[source],
}
for name, doubt in doubts.items():
    print(f"in the tenth with the {name}: {wrong[doubt > np.quantile(doubt, 0.9)].mean():.0%}")

for hdul in hduls:
    hdul.close()

# %%
# For your own data
# -----------------
# - Put your network in place of ``UNet``: a module, or a file, ``torch_model("network.pt2", ...)``.
#   Leave ``activation`` out if its last layer is a softmax already. Networks of Keras and ONNX have
#   adapters of their own: :doc:`/models`.
# - Put the paths of your images into ``paths``, in the order of the bands in training. Pass
#   ``normalize=`` to ``torch_model`` if the network was trained on scaled pixels; this one takes
#   the arcsinh of what it gets, in units of the noise.
# - Set ``n_classes``, ``class_names`` and ``window_shape`` to those of the network.
# - Choose a stride. Morpheus has (1, 1), so that 1,600 windows see each pixel; a quarter of the
#   window takes a hundredth of that time. ``cpus=8`` or ``gpus=[0, 1]`` share it out.
# - NaN goes to the network unless you pass ``fill_nan=0`` to ``torch_model``. With
#   ``skip_blank=True`` windows without any data are not sent to it, and with ``mask=`` bad pixels
#   get no result.
