"""
Find gravitational lenses in a field
====================================

A network that knows small cut-outs, *lens in the middle* or not, becomes a finder for whole fields:
:func:`~morpheus_core.predict` slides its window over the images,
:func:`~morpheus_core.find_candidates` makes a table of the regions where it is sure, and
:func:`~morpheus_core.adapters.test_time_augmentation` asks it about each window from eight sides.

The lenses, the galaxies and the network are made on the spot; it takes half a minute. This needs
the extras ``torch``, ``candidates`` and ``plot``.
"""

# %%
# Simulated fields
# ----------------
#
# A lens is a red galaxy and the blue arcs that it makes of a galaxy behind it. Around it there are
# red ellipticals, blue spirals, and pairs of a red and a blue galaxy, which look most like lenses.
# If you have images, skip to the next section: this one draws them.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.io import fits
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from torch import nn

from morpheus_core import find_candidates, predict, update_maps
from morpheus_core.adapters import min_max, test_time_augmentation, torch_model

BANDS = ("g", "r", "i")
#: What a pixel of 0.2 arcsec collects in each band, its noise, and the seeing in pixels.
RED, BLUE = np.array([0.15, 0.55, 1.0]), np.array([1.0, 0.85, 0.7])
NOISE, SEEING = (0.9, 1.1, 1.5), (1.5, 1.3, 1.2)
#: One lens in each square of so many pixels, at most.
CELL = 64
#: Offsets of the pixels of one galaxy from its middle, rows and columns.
STAMP = np.mgrid[-24:25, -24:25].astype(float)


def coloured(colour, brightness):
    """Return light of one colour, (band, row, column)."""
    return colour[:, np.newaxis, np.newaxis] * brightness


def turned(random, y, x, flattest):
    """Return offsets along the axes of an ellipse of any orientation, scaled to be circular."""
    angle, ratio = random.uniform(0, np.pi), np.sqrt(random.uniform(flattest, 1))
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return along * ratio, across / ratio


def elliptical(random, y, x):
    """Draw a red galaxy, by the profile of Sersic with n = 3."""
    radius = np.hypot(np.hypot(*turned(random, y, x, 0.5)), 0.5) / random.uniform(2.5, 5)
    return coloured(RED, random.uniform(12, 25) * np.exp(-5.67 * (np.cbrt(radius) - 1)))


def spiral(random, y, x):
    """Draw a blue disk with two arms around a red bulge."""
    along, across = turned(random, y, x, 0.4)
    radius, angle = np.hypot(along, across), np.arctan2(across, along)
    wound = random.choice([-1, 1]) * 3.5 * np.log(radius + 1)
    arms = 1 + random.uniform(0.3, 0.8) * np.cos(2 * (angle - wound))
    disk = random.uniform(20, 60) * np.exp(-radius / random.uniform(2.5, 5)) * arms
    bulge = random.uniform(20, 120) * np.exp(-0.5 * (radius / 1.2) ** 2)
    return coloured(BLUE, disk) + coloured(RED, bulge)


def blob(random, y, x):
    """Draw a small blue galaxy."""
    width = random.uniform(0.8, 1.6)
    return coloured(BLUE, random.uniform(50, 90) * np.exp(-0.5 * (y**2 + x**2) / width**2))


def pair(random, y, x):
    """Draw a red galaxy with a blue one beside it."""
    angle, distance = random.uniform(0, 2 * np.pi), random.uniform(4, 9)
    beside = y - distance * np.sin(angle), x - distance * np.cos(angle)
    return elliptical(random, y, x) + blob(random, *turned(random, *beside, 0.3))


def lens(random, y, x):
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


def add(light, kind, random, centre):
    """Add a galaxy to a field, which may cut it."""
    first = np.round(centre).astype(int) + STAMP[:, 0, 0].astype(int)
    low = np.maximum(first, 0)
    high = np.minimum(first + STAMP.shape[1:], light.shape[1:])
    stamp = kind(random, *(STAMP - (centre - np.round(centre))[:, np.newaxis, np.newaxis]))
    light[:, *map(slice, low, high)] += stamp[:, *map(slice, low - first, high - first)]


def simulate(side, n_lenses, seed):
    """Return a field, (band, row, column), and the rows and columns of lenses and galaxies."""
    random = np.random.default_rng(seed)
    light = np.zeros((len(BANDS), side, side))
    cells = random.choice((side // CELL) ** 2, n_lenses, replace=False)
    corners = CELL * np.stack(np.divmod(cells, side // CELL), axis=-1)
    lenses = corners + random.uniform(16, CELL - 16, corners.shape)
    galaxies = random.uniform(0, side, (side**2 // 1500, 2))
    for centre in lenses:
        add(light, lens, random, centre)
    for centre in galaxies:
        add(light, random.choice([elliptical, spiral, pair], p=[0.4, 0.4, 0.2]), random, centre)
    for band, seeing, noise in zip(light, SEEING, NOISE, strict=True):
        band[...] = gaussian_filter(band, seeing) + random.normal(0, noise, band.shape)
    return light.astype(np.float32), lenses, galaxies


# %%
# Windows to learn from
# ---------------------
#
# The network is to say *lens* where one lies in the middle 8 x 8 pixels of its 32 x 32, and
# *background* where there is none, or only one farther out. Between 4 and 8 pixels from the middle
# neither is right, so such windows are left out of the training.

WINDOW, CENTRE = 32, 8
CLASSES = ["lens", "background"]


def labelled_windows(field, random):
    """Return windows of a field, (window, row, column, band), and their classes."""
    pixels, lenses, galaxies = field
    half, side = WINDOW // 2, pixels.shape[1]
    around = [(lenses, CENTRE / 2), (lenses, WINDOW / 2), (galaxies, CENTRE)]
    spots = np.concatenate(
        [spots + random.uniform(-reach, reach, (4, *spots.shape)) for spots, reach in around],
        axis=1,
    )
    spots = spots.reshape(-1, 2).round().astype(int).clip(half, side - half)
    distance = np.abs(spots[:, np.newaxis] - lenses).max(axis=-1).min(axis=-1)
    clear = (distance <= CENTRE / 2) | (distance > CENTRE)
    views = np.lib.stride_tricks.sliding_window_view(pixels, (WINDOW, WINDOW), axis=(1, 2))
    windows = np.moveaxis(views[:, *(spots[clear] - half).T], 0, -1)
    return windows, (distance[clear] > CENTRE).astype(int)


random = np.random.default_rng(0)
fields = [simulate(448, 40, seed) for seed in range(1, 9)]
examples = [labelled_windows(field, random) for field in fields]
windows, classes = map(np.concatenate, zip(*examples, strict=True))
print(f"{len(windows)} windows, {np.mean(classes == 0):.0%} of them with a lens")


def composite(pixels):
    """Return red, green and blue of a field or window, (band, row, column)."""
    return make_lupton_rgb(*pixels[::-1], minimum=-2, stretch=20, Q=6)


figure, axes = plt.subplots(2, 8, figsize=(10, 2.9), layout="constrained")
for row, kind in enumerate(CLASSES):
    chosen = random.choice(np.flatnonzero(classes == row), 8, replace=False)
    for panel, window in zip(axes[row], windows[chosen], strict=True):
        panel.imshow(composite(np.moveaxis(window, -1, 0)), origin="lower")
        panel.set(xticks=[], yticks=[])
    axes[row, 0].set_ylabel(kind)
figure.suptitle("Windows of 6.4 x 6.4 arcsec, and what the network is to say of them")
plt.show()

# %%
# A network, trained
# ------------------
#
# It sees pixel values from 0 to 100 as 0 to 1. The function that scales them, ``min_max``, is one
# of the adapters': handed to :func:`~morpheus_core.adapters.torch_model`, it does the same to each
# batch, so training and use cannot differ.

SCALE = min_max(0, 100)


def make_network():
    """Return a network that scores whole windows, (window, band, row, column)."""
    layers = [nn.Conv2d(len(BANDS), 16, 5, stride=2, padding=2), nn.ReLU()]
    for before, after in ((16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (WINDOW // 8) ** 2, len(CLASSES)))


def train(windows, classes, steps):
    """Return a network that knows these windows, and their mirror images."""
    torch.manual_seed(0)
    windows, classes = torch.from_numpy(windows).movedim(-1, 1), torch.from_numpy(classes)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for step in range(steps):
        chosen = torch.randint(len(windows), (64,))
        batch = windows[chosen].flip([[], [2], [3], [2, 3]][step % 4])
        loss = nn.functional.cross_entropy(network(batch), classes[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


network = train(SCALE(windows), classes, steps=600)
model = torch_model(network, normalize=SCALE, activation="softmax")

# %%
# A field that it has not seen
# ----------------------------
#
# Three FITS files, one per band, with sky positions. A window answers for the 8 x 8 pixels in its
# middle only, so the update map keeps just those; with a stride of 4, each pixel gets the mean of
# four windows, and ``padding`` lets windows look beyond the border.

workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)
pixels, lenses, _ = simulate(448, 30, seed=100)
sky = WCS(naxis=2)
sky.wcs.ctype, sky.wcs.crval = ("RA---TAN", "DEC--TAN"), (150.1, 2.2)
sky.wcs.crpix, sky.wcs.cdelt = (224.5, 224.5), (-0.2 / 3600, 0.2 / 3600)
paths = [folder / f"{band}.fits" for band in BANDS]
for path, image in zip(paths, pixels, strict=True):
    fits.writeto(path, image, sky.to_header())


def search(model, out_dir):
    """Run a model over the field, and return the mean probability of a lens in each pixel."""
    hduls, (mean_var, _) = predict(
        model,
        paths,
        n_classes=len(CLASSES),
        batch_size=256,
        window_shape=(WINDOW, WINDOW),
        stride=(4, 4),
        update_map=update_maps.centre_crop((WINDOW, WINDOW), (WINDOW - CENTRE) // 2),
        padding="reflect",
        aggregate_method="mean_var",
        class_names=CLASSES,
        out_dir=out_dir,
        progress=False,
    )
    for hdul in hduls:
        hdul.close()
    return mean_var[..., CLASSES.index("lens"), 0]


views = {"one view": model, "eight views": test_time_augmentation(model)}
heat = {name: search(seen, folder / name) for name, seen in views.items()}

# %%
# Candidates, and how many are lenses
# -----------------------------------
#
# A region must be larger than the 16 pixels of one step of the window: a lens is seen by several.
# *Completeness* is the share of lenses with a candidate within 8 pixels, *purity* the share of
# candidates with a lens that near. (Here the truth is known. In your field, you look at them.)

MORE_THAN_ONE_STEP = 4 * 4 + 1


def rates(candidates):
    """Return completeness and purity."""
    places = np.stack([candidates["y"], candidates["x"]], axis=-1)
    near = np.linalg.norm(lenses[:, np.newaxis] - places, axis=-1) < CENTRE
    return near.any(axis=1).mean(), near.any(axis=0).mean()


def candidates_of(name, threshold=0.5):
    """Return the table of candidates."""
    return find_candidates(folder / name, "lens", threshold, min_area=MORE_THAN_ONE_STEP)


for name in views:
    completeness, purity = rates(candidates_of(name))
    print(f"{name}: completeness {completeness:.0%} of {len(lenses)} lenses, purity {purity:.0%}")

candidates = candidates_of("eight views")
candidates.round({"ra": 5, "dec": 5, "peak": 3})
print(candidates["id", "ra", "dec", "peak", "area"][:5])

assert completeness >= 0.9
assert purity >= 0.7

# %%
# Circles in the image are candidates; squares in the map are the lenses that were drawn.

figure, axes = plt.subplots(
    1, 2, figsize=(10, 4.8), layout="constrained", sharey=True, subplot_kw={"projection": sky}
)
axes[0].imshow(composite(pixels), origin="lower")
axes[0].set_title("g, r and i, with candidates")
picture = axes[1].imshow(heat["eight views"], origin="lower", cmap="cividis", vmin=0, vmax=1)
axes[1].set_title("mean probability of a lens, and the true ones")
figure.colorbar(picture, ax=axes[1], shrink=0.75, label="probability")
axes[0].plot(candidates["x"], candidates["y"], "o", ms=15, mfc="none", mec="white", mew=1.2)
axes[1].plot(lenses[:, 1], lenses[:, 0], "s", ms=14, mfc="none", mec="white", mew=0.8)
for panel in axes:
    panel.coords[0].set_axislabel("right ascension")
    panel.coords[1].set_axislabel("declination")
axes[1].coords[1].set_ticklabel_visible(False)
plt.show()

# %%
# Where to set the threshold
# --------------------------
#
# A lower threshold finds more lenses and more that are none. Both runs are on disk, so a table at
# another threshold takes no network. Eight views take eight times as long. What they have in common
# is more often a lens, so purity holds to lower thresholds; but all eight are seldom sure together,
# so at high thresholds more is lost. With thirty lenses a step of 3 % is one of them: differences
# of a step or two mean nothing.

thresholds = np.linspace(0.1, 0.95, 18)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
styles = {"one view": {"color": "#E69F00", "ls": "--"}, "eight views": {"color": "#0072B2"}}
for name, style in styles.items():
    curves = np.transpose([rates(candidates_of(name, one)) for one in thresholds])
    for panel, curve in zip(axes, curves, strict=True):
        panel.plot(thresholds, 100 * curve, label=name, marker=".", **style)
for panel, quantity in zip(axes, ("completeness", "purity"), strict=True):
    panel.set(xlabel="threshold (probability)", title=quantity, ylim=(0, 105))
    panel.grid(alpha=0.3)
axes[0].set_ylabel("per cent")
axes[0].legend(loc="lower left")
plt.show()

# %%
# For your own data
# -----------------
#
# - ``paths``: your FITS files, one per band, on one pixel grid.
# - ``model``: your network, ``torch_model("finder.pt2", ...)`` of a file, or its ONNX or Keras
#   version (:doc:`/models`), with the ``normalize=`` of its training.
# - ``WINDOW`` is the size of your network's cut-outs; ``CENTRE`` is the side of the square in the
#   middle of its cut-outs in which the lenses of its training lay. Half of that is a good stride.
# - For a large field add ``cpus=8`` or ``gpus=[0, 1]`` to ``predict``, and ``resume=True`` to go on
#   after an interruption.
# - A network trained with as many lenses as other galaxies expects every second galaxy to be one;
#   real fields have one in thousands. :func:`~morpheus_core.adapters.adjust_priors` corrects
#   probabilities of networks with a sigmoid for each class; with this one, raise the threshold and
#   look at the candidates in the order of the table, highest peak first.

workplace.cleanup()
