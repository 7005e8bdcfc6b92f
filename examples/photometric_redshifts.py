"""
Photometric redshifts of a catalogue
====================================

Five bands, thousands of galaxies, images in many files:
:func:`~morpheus_core.predict_catalog` finds the frames of each galaxy by a template, cuts a window
around it in each band, asks a network, and adds to the catalogue what the network says: here 100
probabilities of redshift bins, which the table keeps beside their mean and standard deviation.

Galaxies, frames and the network are made on the spot, in less than half a minute. This needs the
extras ``torch`` and ``plot``.
"""

# %%
# Galaxies whose colours know their redshift
# ------------------------------------------
#
# The spectrum of each galaxy is smooth: blue and red parts in a mixture of its own, and a break at
# 4000 Angstrom, which wanders through the bands u, g, r, i and z as the redshift grows.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from torch import nn

from morpheus_core import columns, predict_catalog
from morpheus_core.adapters import torch_model

BANDS = "ugriz"
#: In Angstrom: effective wavelengths of the bands, and about how wide they are.
WAVELENGTHS, WIDTH = np.array([3551.0, 4686.0, 6166.0, 7480.0, 8932.0]), 450.0
#: Standard deviation of the noise of a pixel, for a galaxy of total flux 1000 in r.
NOISE = np.array([4.0, 2.0, 2.0, 2.7, 6.0])
SIDE, MARGIN, WINDOW = 512, 16, 24


def colours(redshift, blueness):
    """Return fluxes in units of that in r, (galaxy, band)."""
    steps = np.linspace(-1.5, 1.5, 13)
    weights = np.exp(-(steps**2) / 2)
    rest = (WAVELENGTHS[:, np.newaxis] + WIDTH * steps) / (1 + redshift[:, np.newaxis, np.newaxis])
    blueness = blueness[:, np.newaxis, np.newaxis]
    above_break = 1 / (1 + np.exp((4000 - rest) / 120))
    old = (0.12 + 0.88 * above_break) * (rest / 5500) ** 0.8
    young = (0.65 + 0.35 * above_break) * (rest / 5500) ** -1.8
    flux = ((1 - blueness) * old + blueness * young) @ weights
    return flux / flux[:, [2]]


def draw_galaxies(random, count, size):
    """Return a catalogue of galaxies in an image of so many pixels."""
    redshift, blueness = random.beta(2.2, 2.6, count) * 0.4, random.beta(1, 1.5, count)
    flux = 1000 * random.power(1.2, count) ** -0.8 * (0.2 / (redshift + 0.1))
    x, y = random.uniform(2 * MARGIN, size - 2 * MARGIN, (2, count))
    catalog = Table({"z_true": redshift, "x": x, "y": y})
    catalog["flux"] = flux[:, np.newaxis] * colours(redshift, blueness)
    return catalog


def draw_image(random, catalog, size):
    """Return an image of galaxies, (band, row, column)."""
    light = random.normal(size=(5, size, size)) * NOISE[:, np.newaxis, np.newaxis]
    offsets = np.arange(-MARGIN, MARGIN)
    for x, y, flux in catalog.iterrows("x", "y", "flux"):
        row, column = round(y), round(x)
        down, right = np.meshgrid(offsets + row - y, offsets + column - x, indexing="ij")
        angle, flatness, scale = random.uniform((0, 0.5, 1.2), (np.pi, 1, 2.2))
        along = right * np.cos(angle) + down * np.sin(angle)
        across = down * np.cos(angle) - right * np.sin(angle)
        profile = np.exp(-np.hypot(np.hypot(along, across / flatness), 1.0) / scale)
        rows, cols = (slice(one - MARGIN, one + MARGIN) for one in (row, column))
        light[:, rows, cols] += flux[:, np.newaxis, np.newaxis] * profile / profile.sum()
    return light.astype(np.float32)


# %%
# Frames
# ------
#
# They are named like those of the Sloan survey, ``frame-r-000094-3-0131.fits``, and like those they
# do not show quite the same sky in each band: pointings differ by some pixels. The catalogue says
# in which run, camera column and field a galaxy is, and its right ascension and declination.

workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)


def write_field(random, field):
    """Write a field in five bands, and return the catalogue of its galaxies."""
    size = SIDE + 2 * MARGIN
    catalog = draw_galaxies(random, 120, size)
    image = draw_image(random, catalog, size)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (150 + 0.06 * field, 2.2)
    wcs.wcs.crpix, wcs.wcs.cdelt = (size / 2, size / 2), (-0.396 / 3600, 0.396 / 3600)
    sky = wcs.pixel_to_world(catalog["x"], catalog["y"])
    for band, pixels in zip(BANDS, image, strict=True):
        row, column = random.integers(1, 2 * MARGIN, 2)
        shifted = wcs[row : row + SIDE, column : column + SIDE]
        path = folder / f"frame-{band}-000094-3-{field:04d}.fits"
        fits.writeto(path, pixels[row : row + SIDE, column : column + SIDE], shifted.to_header())
    catalog["run"], catalog["camcol"], catalog["field"] = 94, 3, field
    catalog["ra"], catalog["dec"] = sky.ra, sky.dec
    return catalog["run", "camcol", "field", "ra", "dec", "z_true"]


random = np.random.default_rng(2)
catalog = vstack([write_field(random, field) for field in range(131, 147)])
print(f"{len(catalog)} galaxies in {len(list(folder.glob('*.fits')))} files")
catalog[:4].pprint()

# %%
# A network of 100 bins
# ---------------------
#
# Redshift has 100 bins from 0 to 0.4, and the network gives a probability for each. Its first layer
# weighs the pixels of each band in four ways that it learns, much as apertures do; the others make
# probabilities of the colours and the brightness of these twenty fluxes. It is trained with windows
# of simulated galaxies that are in none of the frames.

EDGES = np.linspace(0, 0.4, 100, endpoint=False)
CENTRES = EDGES + 0.002


class RedshiftNetwork(nn.Module):
    """Score the bins of redshift, from windows (batch, band, row, column)."""

    def __init__(self):
        super().__init__()
        self.apertures = nn.Conv2d(5, 20, WINDOW, groups=5)
        middle = torch.linspace(-1, 1, WINDOW) ** 2
        for number, width in enumerate((0.1, 0.2, 0.3, 0.5)):
            shape = torch.exp(-(middle[:, None] + middle) / (2 * width**2))
            self.apertures.weight.data[number::4] = 0.3 * shape / shape.square().sum().sqrt()
        self.layers = nn.Sequential(
            *(nn.BatchNorm1d(20), nn.Linear(20, 128), nn.ReLU()),
            *(nn.Linear(128, 128), nn.ReLU()),
            nn.Linear(128, len(CENTRES)),
        )

    def forward(self, windows):
        """Return scores, (batch, bin)."""
        brightness = torch.asinh(self.apertures(windows)).reshape(-1, 5, 4)
        in_r = brightness[:, 2:3]
        colours = brightness[:, [0, 1, 3, 4]] - in_r
        return self.layers(torch.cat([colours, in_r], axis=1).flatten(1))


def training_windows(random, images):
    """Return windows of simulated galaxies, (galaxy, band, row, column), and their redshifts."""
    windows, redshifts = [], []
    for _ in range(images):
        galaxies = draw_galaxies(random, 120, SIDE)
        image = draw_image(random, galaxies, SIDE)
        views = np.lib.stride_tricks.sliding_window_view(image, (WINDOW, WINDOW), axis=(1, 2))
        first = [np.ceil(galaxies[axis] - WINDOW / 2).astype(int) for axis in ("y", "x")]
        windows.append(np.moveaxis(views[:, *first], 1, 0))
        redshifts.append(galaxies["z_true"])
    return np.concatenate(windows), np.concatenate(redshifts)


def train(windows, redshifts, steps):
    """Return a network that knows these galaxies, upside down and mirrored as well."""
    torch.manual_seed(0)
    windows = torch.from_numpy(windows)
    bins = torch.from_numpy(np.searchsorted(EDGES, redshifts, side="right") - 1)
    network = RedshiftNetwork()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for step in range(steps):
        chosen = torch.randint(len(windows), (256,))
        batch = windows[chosen].flip([[], [2], [3], [2, 3]][step % 4])
        loss = nn.functional.cross_entropy(network(batch), bins[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


network = train(*training_windows(random, images=80), steps=1000)
model = torch_model(network, activation="softmax")

# %%
# A redshift for each galaxy
# --------------------------
#
# The braces of the template are columns of the catalogue, and ``{band}`` makes one input of each
# band. Each file is opened once, by one of the two processes.

table = predict_catalog(
    model,
    folder / "frame-{band}-{run:06d}-{camcol}-{field:04d}.fits",
    catalog,
    n_classes=len(CENTRES),
    batch_size=256,
    window_shape=(WINDOW, WINDOW),
    bands=list(BANDS),
    columns=[
        columns.expected_value(CENTRES),
        columns.std(CENTRES),
        columns.vector(CENTRES),
    ],
    out=folder / "redshifts.fits",
    cpus=2,
    progress=False,
)
shown = table["field", "ra", "dec", "z_true", "expected_value", "std", "status"][:5]
shown.round(4)
shown.pprint()

# %%
# How good are they?
# ------------------
#
# The usual figures, of dz = (z_photo - z_true) / (1 + z_true): its mean, its scatter as 1.4826
# times the median absolute deviation, and the share of galaxies that are off by more than 0.05.
# The *continuous ranked probability score* (CRPS) judges whole distributions: it is the distance
# from the truth of a distribution without width, and the smaller the better of any other.

quality = columns.redshift_summary(table, "z_true", pit_intervals=10)
print(f"bias {quality.bias:+.4f}, scatter {quality.sigma_mad:.4f}, of {quality.n} galaxies")
print(f"outliers {quality.outlier_share:.1%}, CRPS {quality.crps:.4f}")
z_true, z_photo = np.array(table["z_true"]), np.array(table["expected_value"])

assert (table["status"] == "ok").all()
assert quality.sigma_mad < 0.03

# %%
# Does the network know how sure it is? The *pull* is z_true - z_photo in units of the standard
# deviation of the network's own distribution, and should be normal with width 1. The *probability
# integral transform* (PIT) is the probability below the true redshift: if the distributions are
# right, as many galaxies are in each tenth of it, within the counts' own scatter (grey, two
# standard deviations). This network, trained for seconds, is not there: its distributions are about
# a quarter too wide for most galaxies and too narrow for a few, so the bars in the middle are high.

pull = (z_true - z_photo) / table["std"]
width, beyond = 1.4826 * np.median(abs(pull - np.median(pull))), np.mean(abs(pull) > 3)
print(f"pull: width {width:.2f}, {beyond:.1%} beyond 3, where a normal has 0.3%")
expected = len(table) / 10
spread = 2 * np.sqrt(expected * 0.9)

figure, axes = plt.subplot_mosaic(
    [["redshift", "redshift"], ["pull", "PIT"]],
    figsize=(7, 7.5), layout="constrained", height_ratios=(1.3, 1),
)  # fmt: skip
density = axes["redshift"].hexbin(
    z_true, z_photo, gridsize=40, extent=(0, 0.4, 0, 0.4), bins="log", cmap="cividis", mincnt=1
)
axes["redshift"].plot([0, 0.4], [0, 0.4], color="#D55E00", lw=1)
axes["redshift"].set(xlabel="true redshift", ylabel="photometric redshift", aspect="equal")
figure.colorbar(density, ax=axes["redshift"], label="galaxies")
grid = np.linspace(-4, 4, 100)
axes["pull"].hist(pull, np.linspace(-4, 4, 33), density=True, color="#56B4E9", label="galaxies")
axes["pull"].plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color="black", label="normal")
axes["pull"].set(xlabel="pull", ylabel="density", title=f"width {width:.2f}", ylim=(0, 0.8))
axes["pull"].legend(loc="upper left")
axes["PIT"].stairs(quality.pit_counts, quality.pit_edges, fill=True, color="#56B4E9")
axes["PIT"].axhspan(expected - spread, expected + spread, color="black", alpha=0.25, lw=0)
axes["PIT"].axhline(expected, color="black", lw=1)
axes["PIT"].set(xlabel="PIT", ylabel="galaxies", title="flat if they are right")
plt.show()

# %%
# Whole distributions
# -------------------
#
# ``columns.vector`` keeps all 100 probabilities. Here are those of four galaxies, spread over
# redshift, with the windows that the network saw (i, r and g as red, green and blue).

order = np.argsort(z_true)[np.linspace(60, len(table) - 60, 4).astype(int)]


def cut_out(row, band):
    """Return the window of a galaxy in one band."""
    name = f"frame-{band}-{row['run']:06d}-{row['camcol']}-{row['field']:04d}.fits"
    pixels, header = fits.getdata(folder / name, header=True)
    x, y = WCS(header).world_to_pixel_values(row["ra"], row["dec"])
    first = [max(int(np.ceil(one - WINDOW / 2)), 0) for one in (y, x)]
    return pixels[first[0] : first[0] + WINDOW, first[1] : first[1] + WINDOW]


figure, axes = plt.subplots(
    2, 4, figsize=(8, 4.6), layout="constrained", height_ratios=(1.2, 1), sharey="row"
)
for (picture, panel), row in zip(axes.T, table[order], strict=True):
    red, green, blue = (cut_out(row, band) for band in "irg")
    picture.imshow(make_lupton_rgb(red, green, blue, minimum=-2, stretch=25, Q=6), origin="lower")
    picture.set(xticks=[], yticks=[])
    panel.fill_between(CENTRES, row["scores"], step="mid", color="#56B4E9", lw=0)
    panel.axvline(row["z_true"], color="#D55E00", label="true")
    panel.set(xlabel="redshift", xlim=(0, 0.4), xticks=[0, 0.2, 0.4])
axes[1, 0].set(ylabel="probability of a bin", ylim=(0, None))
axes[1, 0].legend()
plt.show()

# %%
# For your own data
# -----------------
#
# - The template: the path of your files, with the columns of your catalogue in braces, as
#   ``str.format`` takes them. Files may be compressed (``.fits.bz2``). If all galaxies are in the
#   same images, pass a list of paths instead and leave out ``bands``.
# - ``catalog``: the path of your table, with ``ra=`` and ``dec=`` if these columns are called
#   otherwise.
# - ``model``: your network, ``torch_model("network.pt2", normalize=..., activation="softmax")``, or
#   an ONNX or Keras file, see :doc:`/models`. Leave out ``activation`` if its last layer is a
#   softmax.
# - ``CENTRES``: the centres of the bins that it was trained with, and ``WINDOW`` its window.
# - Then ``cpus=8`` or ``gpus=[0, 1]``, and ``resume=True`` for long lists. Galaxies without frames
#   do not stop a run: look at the column ``status``.

workplace.cleanup()
