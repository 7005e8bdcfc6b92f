"""A simulated patch of sky of which every pixel's class is known.

Bands, pixel scale, depth and colours are those of a deep Hubble field, roughly; what matters is
that the four kinds of source look different from one another, as they do on the real sky.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Random = np.random.Generator

CLASS_NAMES = ("spheroid", "disk", "irregular", "point source", "background")
BACKGROUND = CLASS_NAMES.index("background")
BANDS = ("h", "j", "v", "z")

#: Standard deviation of the noise of one pixel in each band, in nJy.
NOISE_SIGMA = (1.2, 1.1, 0.7, 1.0)
#: Full width at half maximum of a star in each band, in pixels.
SEEING = (2.9, 2.5, 1.8, 2.1)
#: In arcseconds.
PIXEL_SCALE = 0.06
#: A pixel belongs to a source where the mean signal-to-noise ratio of its bands is above this.
DETECTION_THRESHOLD = 0.75

# Mean number of sources per class on a square of 512 pixels, in the order of CLASS_NAMES.
ABUNDANCE = (26, 36, 30, 26)
# Sources are drawn this far beyond the border too, so that some are cut by it.
MARGIN = 64


@dataclass(frozen=True, slots=True)
class Sky:
    """A simulated image and what is on it.

    Attributes
    ----------
    images : list of ndarray of float32, each (height, width)
        One per band, in nJy.
    bands : tuple of str
        Their names.
    truth : ndarray of uint8, shape (height, width)
        Index into `CLASS_NAMES` of the class that gives most of a pixel's flux.
    header : Header
        The world coordinates and the unit, for all bands.
    """

    images: list[NDArray[np.float32]]
    bands: tuple[str, ...]
    truth: NDArray[np.uint8]
    header: fits.Header


@dataclass(frozen=True, slots=True)
class Source:
    """What one source looks like, wherever it is.

    Attributes
    ----------
    flux : ndarray, shape (band,)
        In nJy.
    reach : int
        Pixels from the centre beyond which there is nothing.
    profile : callable
        From row and column offsets, each (height, width) and in pixels, to surface brightness of
        any scale, (band, height, width).
    """

    flux: Float64
    reach: int
    profile: Callable[[Float64, Float64], Float64]


def simulate_sky(shape: tuple[int, int], seed: int) -> Sky:
    """Simulate stars and galaxies as a space telescope would see them.

    Parameters
    ----------
    shape : tuple of int
        Height and width, in pixels.
    seed : int
        The same seed gives the same sky.

    Returns
    -------
    Sky
    """
    random = np.random.default_rng(seed)
    light = light_of_classes(random, shape)  # (class, band, height, width)
    signal = light.sum(axis=0)
    noise = random.normal(size=signal.shape) * per_band(NOISE_SIGMA)
    images = [np.ascontiguousarray(image, np.float32) for image in signal + noise]
    return Sky(images, BANDS, true_classes(light), sky_header(shape))


def light_of_classes(random: Random, shape: tuple[int, int]) -> Float64:
    """Draw the sources of every class and blur them, (class, band, height, width)."""
    height, width = (length + 2 * MARGIN for length in shape)
    light = np.zeros((len(SOURCES), len(BANDS), height, width))
    for canvas, draw, abundance in zip(light, SOURCES, ABUNDANCE, strict=True):
        for _ in range(random.poisson(abundance * height * width / 512**2)):
            add_source(canvas, draw(random), random.uniform((0, 0), (height, width)))
        if draw is not point_source:
            canvas[...] = blurred(canvas)
    return light[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def true_classes(light: Float64) -> NDArray[np.uint8]:
    """Return the brightest class of each pixel where there is light to speak of."""
    significance = light / per_band(NOISE_SIGMA)
    per_class = significance.mean(axis=1)  # (class, height, width)
    classes: NDArray[np.uint8] = per_class.argmax(axis=0).astype(np.uint8)
    classes[per_class.sum(axis=0) < DETECTION_THRESHOLD] = BACKGROUND
    return classes


def sky_header(shape: tuple[int, int]) -> fits.Header:
    """Return a header with a tangential projection, north up and east left."""
    height, width = shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [53.1625, -27.7914]
    wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
    wcs.wcs.cdelt = [-PIXEL_SCALE / 3600, PIXEL_SCALE / 3600]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    header = wcs.to_header()
    header["BUNIT"] = ("nJy", "flux density per pixel")
    header["OBJECT"] = ("simulated sky", "drawn by morpheus-core demo")
    return header


def add_source(canvas: Float64, source: Source, centre: Float64) -> None:
    """Add a source to a canvas, (band, height, width), which may cut it."""
    first = np.round(centre).astype(int) - source.reach
    offsets = np.arange(2 * source.reach + 1)
    rows, columns = (offsets + first[axis] - centre[axis] for axis in (0, 1))
    stamp = source.profile(*np.meshgrid(rows, columns, indexing="ij"))
    stamp *= per_band(source.flux / stamp.sum(axis=(1, 2)))
    starts = np.maximum(first, 0)
    stops = np.minimum(first + len(offsets), canvas.shape[1:])
    if (starts < stops).all():
        target = tuple(map(slice, starts, stops))
        canvas[:, *target] += stamp[:, *map(slice, starts - first, stops - first)]


def per_band(values: Float64 | tuple[float, ...]) -> Float64:
    """Shape one value per band so that it multiplies (band, height, width)."""
    return np.reshape(np.asarray(values, dtype=np.float64), (-1, 1, 1))


# ------------------------------------------------------------------------------ kinds of source


def spheroid(random: Random) -> Source:
    """Draw an old, red, nearly round galaxy with a de Vaucouleurs profile."""
    brightness = power_law(random, 500, 25_000)
    effective_radius = 2.6 * (brightness / 500) ** 0.3 * random.lognormal(0, 0.15)
    axis_ratio, angle = random.uniform(0.7, 1), random.uniform(0, np.pi)
    reach = 9 * effective_radius

    def profile(rows: Float64, columns: Float64) -> Float64:
        radius = np.hypot(elliptical_radius(rows, columns, axis_ratio, angle), 0.5)
        light = np.exp(-7.67 * (radius / effective_radius) ** 0.25) * taper(radius / reach)
        return np.stack([light] * len(BANDS))

    return Source(coloured(random, brightness, (1, 0.72, 0.10, 0.42)), int(reach), profile)


def disk(random: Random) -> Source:
    """Draw an inclined exponential disk with two spiral arms, bluer outwards."""
    brightness = power_law(random, 500, 20_000)
    scale = 2.4 * (brightness / 500) ** 0.28 * random.lognormal(0, 0.15)
    axis_ratio, angle = random.uniform(0.25, 0.9), random.uniform(0, np.pi)
    twist, phase = random.choice([-3.0, 3.0]), random.uniform(0, np.pi)
    reach = 7 * scale

    def profile(rows: Float64, columns: Float64) -> Float64:
        along, across = rotated(rows, columns, angle)
        radius = np.hypot(along, across / axis_ratio)
        arms = np.cos(2 * np.arctan2(across / axis_ratio, along) + twist * np.log1p(radius) + phase)
        arms *= 1 - np.exp(-radius / scale)  # the centre is smooth
        layers = [
            np.exp(-radius / (scale * stretch)) * (1 + contrast * arms)
            for stretch, contrast in ((0.9, 0.3), (0.95, 0.4), (1.15, 0.7), (1.0, 0.5))
        ]
        return np.stack(layers) * taper(np.hypot(along, across) / reach)

    return Source(coloured(random, brightness, (1, 0.85, 0.32, 0.66)), int(reach), profile)


def irregular(random: Random) -> Source:
    """Draw a handful of blue clumps of young stars in a faint, shapeless haze."""
    brightness = power_law(random, 500, 10_000)
    size = 3.2 * (brightness / 500) ** 0.25 * random.lognormal(0, 0.1)
    axis_ratio, angle = random.uniform(0.4, 0.9), random.uniform(0, np.pi)
    clumps = random.integers(4, 9)
    along = random.normal(0, size, clumps)
    across = random.normal(0, size * axis_ratio, clumps)
    radii, shares = random.uniform(1.0, 2.2, clumps), random.dirichlet(np.full(clumps, 3.0))
    tints = np.exp(random.normal(0, 0.15, (clumps, len(BANDS))))
    reach = 6 * size

    def profile(rows: Float64, columns: Float64) -> Float64:
        u, v = rotated(rows, columns, angle)
        haze = np.exp(-np.hypot(u, v / axis_ratio) / size)
        light = np.stack([0.35 * haze / (2 * np.pi * size**2 * axis_ratio)] * len(BANDS))
        for clump in zip(along, across, radii, shares, tints, strict=True):
            centre_u, centre_v, radius, share, tint = clump
            squares = ((u - centre_u) ** 2 + (v - centre_v) ** 2) / radius**2
            light += per_band(share * tint) * np.exp(-squares / 2) / (2 * np.pi * radius**2)
        return light * taper(np.hypot(u, v) / reach)

    return Source(coloured(random, brightness, (1, 1.05, 0.85, 0.98)), int(reach), profile)


def point_source(random: Random) -> Source:
    """Draw a star, cool or hot: the point spread function itself."""
    brightness = power_law(random, 300, 60_000)
    warmth = random.uniform(0, 1)
    colour = warmth * np.array((0.7, 0.95, 0.75, 0.95)) + (1 - warmth) * np.array(
        (1, 0.9, 0.1, 0.6)
    )
    return Source(coloured(random, brightness, colour), MARGIN, point_spread)


SOURCES = (spheroid, disk, irregular, point_source)


def power_law(random: Random, faintest: float, brightest: float) -> float:
    """Draw a flux, in nJy, from a power law: many faint sources and few bright ones."""
    slope = -0.8  # of the number brighter than a flux; counts in deep fields are about as steep
    lowest, highest = faintest**slope, brightest**slope
    return float(random.uniform(highest, lowest) ** (1 / slope))


def coloured(random: Random, brightness: float, colour: tuple[float, ...] | Float64) -> Float64:
    """Return the flux in each band: that in the reddest times a colour with some scatter."""
    return brightness * np.asarray(colour) * np.exp(random.normal(0, 0.08, len(BANDS)))


# ------------------------------------------------------------------------------------- geometry


def rotated(rows: Float64, columns: Float64, angle: float) -> tuple[Float64, Float64]:
    """Return offsets along and across an axis that is turned by `angle`, in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def elliptical_radius(rows: Float64, columns: Float64, axis_ratio: float, angle: float) -> Float64:
    """Return the semi-major axis of the ellipse through each pixel."""
    along, across = rotated(rows, columns, angle)
    radius: Float64 = np.hypot(along, across / axis_ratio)
    return radius


def taper(radius: Float64) -> Float64:
    """Fall smoothly from one at the centre to zero at radius one, so that no edge shows."""
    height: Float64 = np.clip(1 - radius**2, 0, None) ** 2
    return height


# ---------------------------------------------------------------------- point spread function


def point_spread(rows: Float64, columns: Float64) -> Float64:
    """Return the point spread function of each band, (band, height, width), of any scale.

    A Moffat profile and the four diffraction spikes of a telescope whose secondary mirror hangs on
    a cross.
    """
    along, across = rotated(rows, columns, np.pi / 4)
    spikes = spike(along, across) + spike(across, along)
    cores = [moffat(np.hypot(rows, columns), width) for width in SEEING]
    return np.stack([core + 0.025 * spikes / spikes.sum() for core in cores])


def moffat(radius: Float64, width: float) -> Float64:
    """Return a Moffat profile of exponent 3 and some full width at half maximum; its sum is 1."""
    scale = width / (2 * np.sqrt(2 ** (1 / 3) - 1))
    profile: Float64 = 2 / (np.pi * scale**2) * (1 + (radius / scale) ** 2) ** -3
    return profile


def spike(along: Float64, across: Float64) -> Float64:
    """Return a narrow streak that fades with the distance from the centre."""
    streak: Float64 = np.exp(-np.abs(along) / 10 - (across / 0.7) ** 2 / 2)
    return streak


def blurred(canvas: Float64) -> Float64:
    """Convolve a canvas, (band, height, width), with the point spread function of each band."""
    height, width = canvas.shape[1:]
    # Frequencies count offsets from pixel (0, 0), so the kernel's centre goes into that corner.
    rows, columns = (np.fft.fftfreq(length, 1 / length) for length in (height, width))
    kernel = point_spread(*np.meshgrid(rows, columns, indexing="ij"))
    kernel /= per_band(kernel.sum(axis=(1, 2)))
    product = np.fft.rfft2(canvas) * np.fft.rfft2(kernel)
    result: Float64 = np.fft.irfft2(product, s=(height, width))
    return result
