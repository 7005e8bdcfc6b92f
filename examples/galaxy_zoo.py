"""
Vote fractions of Galaxy Zoo for a list of positions
====================================================

Volunteers of Galaxy Zoo say of a galaxy whether it is elliptical, a spiral that winds clockwise or
anticlockwise, seen edge-on, a merger, or too faint to tell; a catalogue lists the fractions of
their votes (Lintott et al. 2011, MNRAS 410, 166). A network that has learned from some of them
votes on all others. :func:`~morpheus_core.predict_catalog` shows it the window around each position
of a list, and adds its answers as columns. Needs the extras ``torch`` and ``plot``.
"""

# %%
# Galaxies and volunteers
# -----------------------
# We simulate galaxies that are not easy to tell apart: arms may be faint, disks may be inclined,
# and whole galaxies may drown in noise. Forty volunteers look at each, and disagree the more, the
# less there is to see.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from torch import nn
from torch.nn import functional

from morpheus_core import predict_catalog
from morpheus_core.adapters import torch_model

KINDS = ("P_EL", "P_CW", "P_ACW", "P_EDGE", "P_DK", "P_MG")
NAMES = ("elliptical", "clockwise", "anticlockwise", "edge-on", "don't know", "merger")
VOLUNTEERS = 40
WINDOW = 40


def galaxy(random):
    """Return a galaxy, (row, column), and the probability of each vote, in the order of `KINDS`."""
    y, x = np.indices((WINDOW, WINDOW)) - (WINDOW - 1) / 2 + random.uniform(-0.5, 0.5, (2, 1, 1))
    brightness = 10 ** random.uniform(0.2, 1.6)
    shape, votes = random.choice([elliptical, spiral, merger], p=[0.35, 0.55, 0.1])(random, x, y)
    unseen = 1 / (1 + (brightness / 2.5) ** 3)
    votes = (1 - unseen) * np.array([*votes[:4], 0, votes[4]])
    votes[KINDS.index("P_DK")] = unseen
    return brightness * shape, 0.97 * votes + 0.03 / len(KINDS)


def turned(random, x, y, flatness):
    """Return offsets along and across an ellipse of any orientation, in units of its scale."""
    angle, scale = random.uniform(0, 2 * np.pi), random.uniform(2.5, 4)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return along / scale, across / scale / flatness


def elliptical(random, x, y):
    """Return a smooth galaxy, and the votes on it: elliptical, spirals, edge-on, merger."""
    radius = np.hypot(*turned(random, x, y, random.uniform(0.6, 1)))
    return np.exp(-1.5 * radius), [1, 0, 0, 0, 0]


def spiral(random, x, y):
    """Return a disk with two arms; inclined, it looks edge-on, and with faint arms elliptical."""
    winding, contrast = random.choice([-1, 1]), random.uniform(0.1, 1)
    flatness = random.uniform(0.15, 1)
    along, across = turned(random, x, y, flatness)
    radius = np.hypot(along, across) + 0.1
    arms = np.cos(2 * (np.arctan2(across, along) - winding * 2.2 * np.log(radius)))
    light = np.exp(-0.7 * radius) * (1 + contrast * arms * (1 - np.exp(-2 * radius)))
    edge_on = 1 / (1 + np.exp((flatness - 0.35) / 0.05))
    smooth = 1 / (1 + np.exp((contrast - 0.35) / 0.08))
    arms_seen = (1 - edge_on) * (1 - smooth)
    handedness = [arms_seen, 0] if winding > 0 else [0, arms_seen]
    return light, [(1 - edge_on) * smooth, *handedness, edge_on, 0]


def merger(random, x, y):
    """Return two galaxies side by side; the closer they are, the more they look like one."""
    apart, angle = random.uniform(2, 8), random.uniform(0, np.pi)
    light = np.zeros_like(x)
    for side in (-apart, apart):
        radius = np.hypot(x - side * np.cos(angle), y - side * np.sin(angle))
        light += np.exp(-radius / random.uniform(1.3, 2.2))
    two = 1 / (1 + np.exp(-(apart - 3.5) / 0.5))
    return light, [1 - two, 0, 0, 0, two]


# %%
# A field and its catalogue
# -------------------------
# Fifteen hundred galaxies lie on one image, with noise of 1 in each pixel. The list of their
# positions is a CSV file with sexagesimal text, as surveys have them. One more position is on
# another piece of sky.

random = np.random.default_rng(7)
SIDE, CELL, COUNT = 2400, 60, 1500
image = random.normal(size=(SIDE, SIDE)).astype(np.float32)
cells = np.divmod(random.choice((SIDE // CELL) ** 2, COUNT, replace=False), SIDE // CELL)
corners = CELL * np.stack(cells, axis=-1) + random.integers(CELL - WINDOW, size=(COUNT, 2))
truth = np.zeros((COUNT, len(KINDS)))
for number, (row, column) in enumerate(corners):
    light, truth[number] = galaxy(random)
    image[row : row + WINDOW, column : column + WINDOW] += light

sky = WCS(naxis=2)
sky.wcs.ctype = "RA---TAN", "DEC--TAN"
sky.wcs.crval = 150.1, 2.2
sky.wcs.crpix = SIDE / 2, SIDE / 2
sky.wcs.cdelt = -0.396 / 3600, 0.396 / 3600
folder = Path(tempfile.mkdtemp())
fits.writeto(folder / "field.fits", image, sky.to_header())

centres = corners + (WINDOW - 1) / 2
places = SkyCoord(*sky.pixel_to_world_values(centres[:, 1], centres[:, 0]), unit="deg")
galaxies = Table({"OBJID": 587722981736120000 + np.arange(COUNT)})
galaxies["RA"] = places.ra.to_string("hour", sep=":", precision=2, pad=True)
galaxies["DEC"] = places.dec.to_string("deg", sep=":", precision=1, pad=True, alwayssign=True)
galaxies.add_row([587722981736129999, "12:00:00.00", "+02:12:00.0"])
galaxies.write(folder / "galaxies.csv")
print(*(folder / "galaxies.csv").read_text().splitlines()[:4], sep="\n")

# %%
# Train
# -----
# The network learns the votes of forty volunteers on each of some thousand other galaxies.
# Clockwise becomes anticlockwise in a mirror, so galaxies are turned and not mirrored.


class Voter(nn.Module):
    """Scores of the votes, (batch, vote), on windows, (batch, 1, row, column)."""

    def __init__(self):
        super().__init__()
        layers = []
        for before, after in ((1, 16), (16, 32), (32, 48)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.votes = nn.Sequential(nn.Linear(48 * 25, 64), nn.ReLU(), nn.Linear(64, len(KINDS)))

    def forward(self, x):
        return self.votes(self.features(torch.asinh(x)).flatten(1))


def train(examples, steps, batch_size=64):
    """Return a network that has learned the votes on so many galaxies."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    light, chances = map(np.stack, zip(*(galaxy(random) for _ in range(examples)), strict=True))
    pixels = torch.from_numpy((light + random.normal(size=light.shape)).astype(np.float32))
    fractions = random.multinomial(VOLUNTEERS, chances) / VOLUNTEERS
    fractions = torch.from_numpy(fractions.astype(np.float32))
    network = Voter().to(memory_format=torch.channels_last)  # a third faster on processors
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        chosen = torch.from_numpy(random.integers(examples, size=batch_size))
        windows = torch.rot90(pixels[chosen], int(random.integers(4)), (1, 2))[:, np.newaxis]
        loss = functional.cross_entropy(network(windows), fractions[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


network = train(examples=6000, steps=400)

# %%
# Vote
# ----
# The columns of the catalogue come first, then one column per vote. The row without a result stops
# nothing: its status says why it has none, and a warning counts such rows.

table = predict_catalog(
    torch_model(network, activation="softmax"),
    folder / "field.fits",
    folder / "galaxies.csv",
    n_classes=len(KINDS),
    batch_size=256,
    window_shape=(WINDOW, WINDOW),
    class_names=KINDS,
    out=folder / "votes.csv",
    progress=False,
)
table.round(dict.fromkeys(KINDS, 2))
table["OBJID", *KINDS, "status"][-6:]

# %%
# The galaxies on which the network is surest, for each vote:

figure, panels = plt.subplots(len(KINDS), 8, figsize=(8, 6.4), layout="constrained")
for strip, kind, name in zip(panels, KINDS, NAMES, strict=True):
    surest = np.argsort(table[kind][:COUNT])[::-1][:8]
    for axes, number in zip(strip, surest, strict=True):
        row, column = corners[number]
        window = image[row : row + WINDOW, column : column + WINDOW]
        axes.imshow(np.arcsinh(window), "gray", origin="lower", vmin=-1, vmax=3.5)
        axes.set(xticks=[], yticks=[])
    strip[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Surest votes; windows of 40 x 40 pixels")
plt.show()

# %%
# How good is it?
# ---------------
# The simulation knows the probability p of each vote, the true fraction. Even forty volunteers do
# not measure it exactly: their fractions scatter around it, by the square root of p (1 - p) / 40.
# The network, which learned from a few thousand galaxies for some seconds, is 1.5 to 3.5 times as
# far off, and gives too few votes to arms and edge-on disks.

answers = np.stack([table[kind][:COUNT] for kind in KINDS], axis=-1)
figure, panels = plt.subplots(
    2, 3, figsize=(9, 6.4), sharex=True, sharey=True, layout="constrained"
)
print("root mean square   by network  by volunteers")
for axes, name, answer, chance in zip(panels.flat, NAMES, answers.T, truth.T, strict=True):
    axes.plot([0, 1], [0, 1], color="black", lw=0.8)
    axes.scatter(chance, answer, 6, "#0072B2", alpha=0.3, linewidths=0)
    axes.set(title=name, xlabel="true fraction", ylabel="fraction by the network")
    axes.label_outer()
    error = np.sqrt(np.mean((answer - chance) ** 2))
    volunteers = np.sqrt(np.mean(chance * (1 - chance) / VOLUNTEERS))
    print(f"{name:15}{error:14.3f}{volunteers:15.3f}")
plt.show()

same = np.mean(answers.argmax(axis=-1) == truth.argmax(axis=-1))
print(f"the most frequent vote is the true one: {same:.1%} of {COUNT} galaxies")
assert same > 0.75

# %%
# For your own data
# -----------------
# - Put your network in place of ``Voter``, and the path of your image, or several of them, one per
#   band, in place of ``field.fits``. Where galaxies lie on many images, a template names those of
#   each row: ``"frame-{band}-{run:06d}-{camcol}-{field:04d}.fits"``; see :doc:`/catalogs`.
# - Put in your catalogue. Positions may be in columns of other names, ``ra=`` and ``dec=``, in
#   degrees, or in pixels, ``x=`` and ``y=``; the other columns are copied as they are.
# - Set ``n_classes`` and ``class_names`` to those of the network. Leave out ``activation`` if its
#   last layer makes fractions already, and say "sigmoid" if a galaxy gets an answer to several
#   questions.
# - ``window_shape`` must be what the network takes, and the pixels as large in the sky as in
#   training: windows are not resampled.
# - For long lists ``cpus=8`` shares the rows out, and a run that was killed goes on with
#   ``resume=True``.
