"""
Output of another resolution
============================

Some models predict at another resolution than that of the images: a super-resolution network gives
two pixels for one, an encoder without a decoder one for several. With ``dilation=2`` or
``dilation=0.5`` :func:`~morpheus_core.predict` folds such windows into an output of twice or half
the size, and gives it world coordinates of its own, so that every source is where it was in the
sky.

The sky and the network are made on the spot, in seconds. This needs the extras ``torch`` and
``plot``.
"""

# %%
# A simulated sky
# ---------------
#
# Stars and galaxies are drawn on fine pixels of 0.1 arcsec, which is the truth. The camera has
# pixels of 0.2 arcsec, blurs, and adds noise. Positions of the stars are kept as right ascension
# and declination, as a catalogue would have them.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy.io import fits
from astropy.wcs import WCS
from torch import nn

from morpheus_core import predict, update_maps
from morpheus_core.adapters import torch_model

#: Standard deviations, in fine pixels, of the stars of the truth, and of what the camera does.
SHARP, BLUR = 1.1, 2.0
NOISE = 0.3


def add_source(truth, place, flux, widths, angle):
    """Add a Gaussian to an image, (row, column), at a place between its pixels."""
    first = np.maximum(np.round(place).astype(int) - 24, 0)
    here = tuple(slice(one, one + 49) for one in first)
    y, x = np.indices(truth[here].shape) + (first - place)[:, np.newaxis, np.newaxis]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    exponent = (along / widths[0]) ** 2 + (across / widths[1]) ** 2
    truth[here] += flux / (2 * np.pi * widths[0] * widths[1]) * np.exp(-exponent / 2)


def simulate(side, seed):
    """Return the truth, (2 side, 2 side), the image, (side, side), and places of stars and all."""
    random = np.random.default_rng(seed)
    truth = np.zeros((2 * side, 2 * side))
    stars = random.uniform(0, 2 * side - 1, (side**2 // 250, 2))
    for place in stars:
        add_source(truth, place, 60 / random.uniform(0.05, 1), (SHARP, SHARP), 0)
    galaxies = random.uniform(0, 2 * side - 1, (side**2 // 500, 2))
    for place in galaxies:
        long = random.uniform(2, 6)
        widths = long, max(SHARP, long * random.uniform(0.3, 0.9))
        add_source(truth, place, 100 / random.uniform(0.05, 1), widths, random.uniform(0, np.pi))
    frequencies = np.fft.fftfreq(2 * side)[:, np.newaxis], np.fft.rfftfreq(2 * side)
    blur = np.exp(-2 * (np.pi * BLUR * np.hypot(*frequencies)) ** 2)
    blurred = np.fft.irfft2(np.fft.rfft2(truth) * blur, truth.shape)
    image = blurred.reshape(side, 2, side, 2).sum(axis=(1, 3))
    return truth, image + random.normal(0, NOISE, image.shape), stars, np.vstack([stars, galaxies])


def square_wcs(side, scale):
    """Return world coordinates of a square image of so many arcsec per pixel."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (53.16, -27.79)
    wcs.wcs.crpix, wcs.wcs.cdelt = [(side + 1) / 2] * 2, (-scale / 3600, scale / 3600)
    return wcs


SIDE = 256
workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)
truth, image, stars, sources = simulate(SIDE, seed=1)
fits.writeto(folder / "image.fits", image.astype(np.float32), square_wcs(SIDE, 0.2).to_header())
positions = square_wcs(2 * SIDE, 0.1).pixel_to_world(stars[:, 1], stars[:, 0])

# %%
# A network that sharpens
# -----------------------
#
# It sees windows of any size and returns them twice as large: four numbers per pixel, which
# ``PixelShuffle`` lays side by side. Brightness is compressed on the way in and expanded on the way
# out, as stars are a hundred times brighter than the noise. (:doc:`lens_finder` trains a network
# that returns probabilities; here the "class" is a brightness, in the units of the image.)


class Sharpener(nn.Module):
    """Double the resolution of images, (batch, 1, height, width)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 24, 5, padding=2), nn.ReLU()),
            *(nn.Conv2d(24, 24, 5, padding=2), nn.ReLU()),
            *(nn.Conv2d(24, 24, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(24, 4, 3, padding=1), nn.PixelShuffle(2)),
        )

    def compressed(self, images):
        """Return images of which fluctuations are about one."""
        return self.layers(torch.asinh(images))

    def forward(self, images):
        """Return images of twice the size, in units of the images."""
        return torch.sinh(self.compressed(images))


def train(steps):
    """Return a sharpener that has seen simulated skies."""
    torch.manual_seed(0)
    skies = [simulate(256, seed) for seed in range(2, 8)]
    images = torch.tensor(np.stack([image for _, image, *_ in skies])).float()[:, None]
    truths = torch.tensor(np.stack([truth for truth, *_ in skies])).float()[:, None]
    network = Sharpener()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
    for _ in range(steps):
        sky, row, column = torch.randint(6, ()), *torch.randint(256 - 96, (2,))
        part = images[sky, None, :, row : row + 96, column : column + 96]
        fine = truths[sky, None, :, 2 * row :, 2 * column :][..., :192, :192]
        loss = nn.functional.mse_loss(network.compressed(part), torch.asinh(fine))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


sharpener = torch_model(train(steps=400))

# %%
# Twice the pixels
# ----------------
#
# Windows of 64 x 64 come back as 128 x 128. All is said in input pixels but the update map, which
# belongs to the prediction: it leaves out the outer 16 output pixels of each window, where the
# network cannot see what lies beside.


def run(model, out_dir, **options):
    """Return the mean of the output, and the celestial coordinates that its header has."""
    hduls, (mean_var, _) = predict(
        model,
        folder / "image.fits",
        n_classes=1,
        batch_size=16,
        window_shape=(64, 64),
        stride=(16, 16),
        padding="reflect",
        aggregate_method="mean_var",
        class_names=["brightness"],
        out_dir=out_dir,
        progress=False,
        **options,
    )
    wcs = WCS(hduls[0][0].header).celestial
    for hdul in hduls:
        hdul.close()
    return mean_var[..., 0, 0], wcs


sharp, sharp_wcs = run(
    sharpener,
    folder / "sharp",
    dilation=2,
    update_map=update_maps.centre_crop((128, 128), border=16),
)

# %%
# Half the pixels
# ---------------
#
# The model may be any function. This one adds up squares of 2 x 2 pixels.


def rebin(batch):
    """Return windows of half the height and width."""
    (pixels,) = batch  # (batch, 64, 64, 1)
    size, height, width, _ = pixels.shape
    return pixels.reshape(size, height // 2, 2, width // 2, 2, 1).sum(axis=(2, 4))


coarse, coarse_wcs = run(rebin, folder / "coarse", dilation=0.5)

print("image", image.shape, "sharpened", sharp.shape, "rebinned", coarse.shape)
for name, wcs in {"sharpened": sharp_wcs, "rebinned": coarse_wcs}.items():
    print(f"{name}: {3600 * wcs.proj_plane_pixel_scales()[1].value:.3f} arcsec per pixel")

# %%
# The same stars on all three
# ---------------------------
#
# Circles are drawn at the right ascension and declination of each star, by the header of each file.

given_wcs = square_wcs(SIDE, 0.2)
panels = {
    "image": (image, given_wcs, 1),
    "sharpened, dilation=2": (sharp, sharp_wcs, 4),
    "rebinned, dilation=0.5": (coarse, coarse_wcs, 1 / 4),
}
corners = given_wcs.pixel_to_world([96, 160], [96, 160])
figure = plt.figure(figsize=(11, 3.9))
figure.subplots_adjust(left=0.1, right=0.98, bottom=0.15, top=0.92, wspace=0.05)
for place, (title, (pixels, wcs, per_area)) in enumerate(panels.items(), start=1):
    panel = figure.add_subplot(1, 3, place, projection=wcs)
    shown = np.arcsinh(pixels * per_area)
    panel.imshow(shown, origin="lower", cmap="gray", vmin=-0.5, vmax=4.5)
    panel.plot(*wcs.world_to_pixel(positions), "o", ms=9, mfc="none", mec="#E69F00")
    x, y = wcs.world_to_pixel(corners)
    panel.set(title=title, xlim=x, ylim=y)
    panel.coords[0].set_axislabel("right ascension")
    panel.coords[0].set_ticks(number=3)
    panel.coords[1].set_axislabel("declination" if place == 1 else "")
    panel.coords[1].set_ticklabel_visible(place == 1)
plt.show()

# %%
# In numbers: where is the light of each star, by its centroid within 0.7 arcsec, and where should
# it be? Stars with another source nearby are left out.

distances = np.linalg.norm(stars[:, np.newaxis] - sources, axis=-1)
alone = (np.sort(distances, axis=1)[:, 1] > 20) & (abs(stars - SIDE) < SIDE - 30).all(axis=1)


def offsets(pixels, wcs):
    """Return how far each star is from its position, (star, 2), columns and rows in arcsec."""
    scale = 3600 * wcs.proj_plane_pixel_scales()[1].value
    rows, columns = np.indices(pixels.shape)
    found = []
    for x, y in np.transpose(wcs.world_to_pixel(positions[alone])):
        light = pixels * (np.hypot(columns - x, rows - y) * scale < 0.7)
        found.append([np.sum(light * (columns - x)), np.sum(light * (rows - y))] / light.sum())
    return scale * np.array(found)


for title, (pixels, wcs, _) in panels.items():
    x, y = np.median(offsets(pixels, wcs), axis=0)
    print(f"{title}: {alone.sum()} stars, median offset {x:+.3f}, {y:+.3f} arcsec")
    assert max(abs(x), abs(y)) < 0.02

# %%
# How sharp?
# ----------
#
# Beside the truth and the interpolation that a viewer would do. The error is the root of the mean
# squared difference to the truth, of the arcsinh of brightness. A network fills in what is likely;
# where it learned from other skies than yours, that is not what is there.

interpolated = nn.functional.interpolate(
    torch.tensor(image)[None, None], scale_factor=2, mode="bicubic"
)[0, 0].numpy()
figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", sharey=True)
errors = {}
for panel, (title, pixels) in zip(
    axes,
    {"truth": truth, "interpolated": interpolated / 4, "sharpened": sharp}.items(),
    strict=True,
):
    errors[title] = np.sqrt(np.mean((np.arcsinh(pixels) - np.arcsinh(truth)) ** 2))
    panel.imshow(
        np.arcsinh(4 * pixels),
        origin="lower",
        cmap="gray",
        vmin=-0.5,
        vmax=4.5,
    )
    panel.set(title=f"{title}, error {errors[title]:.3f}", xlim=(192, 320), ylim=(192, 320))
    panel.set_xlabel("column (output pixels)")
axes[0].set(title="truth", ylabel="row (output pixels)")
plt.show()

assert errors["sharpened"] < 0.7 * errors["interpolated"]

# %%
# For your own data
# -----------------
#
# - ``dilation``: output pixels per input pixel along each axis, 2 for windows that come back twice
#   as large. Any ratio will do, also ``Fraction(1, 3)``, if window, stride and image times the
#   dilation are whole numbers.
# - ``folder / "image.fits"``: your image, or a list of images, one per band. Where its sky position
#   is distorted (SIP, TPV), the outputs get the linear part, and a warning says so.
# - ``sharpener``: your network (:doc:`/models`), with as many ``n_classes`` as it has output
#   channels.
# - ``border``: how many output pixels at the border of a window your network cannot be trusted
#   with, half its receptive field times the dilation.
# - Fluxes: whether a pixel of the output holds the flux of that pixel, as here, or a surface
#   brightness, is up to the model. Means over windows change neither.

workplace.cleanup()
