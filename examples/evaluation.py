"""
How good is a network?
======================

A map of probabilities looks convincing long before it is right. :func:`~morpheus_core.evaluate`
compares it with the truth: which classes are taken for which, whether a probability of 80 % comes
true in 80 % of pixels, how that changes with brightness, and which objects are found at all. Here
it looks at the network of ``morpheus-core demo`` and a sky whose truth is known. Needs the extras
``plot`` and ``candidates`` (SciPy), and takes some seconds.
"""

# %%
# A sky and its classes
# ---------------------
# The demo simulates a sky in four bands, and knows for each pixel which kind of source gives most
# of its light.

import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

from morpheus_core import evaluate, find_candidates, predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.sky import CLASS_NAMES, simulate_sky

workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)

sky = simulate_sky((400, 400), seed=11)
fits.writeto(folder / "truth.fits", sky.truth, sky.header)
hduls, (output, n) = predict(
    DemoNetwork(),
    [fits.ImageHDU(image, sky.header) for image in sky.images],
    n_classes=len(CLASS_NAMES),
    batch_size=128,
    window_shape=WINDOW_SHAPE,
    stride=(8, 8),
    aggregate_method="mean_var",
    class_names=CLASS_NAMES,
    out_dir=folder / "results",
    progress=False,
)

# %%
# Which class is taken for which
# ------------------------------
# Truth and result are read a few rows at a time, so both may be larger than memory.

evaluation = evaluate(folder / "results", folder / "truth.fits")
shown = evaluation.table["class", "pixels", "precision", "recall", "iou", "roc_area", "brier"]
shown.round(3)
shown.pprint()

# %%
# The ROC curves are high: few pixels of other classes have higher scores. The confusion matrix says
# where the others go: what is missed is mostly called background, at the faint rims of sources. The
# middle panel is the *reliability*: of the pixels that get a score for a class, the share that is
# of it. Points below the line are claims that are too bold.

evaluation.plot()

# %%

for name in CLASS_NAMES:
    bins = evaluation.reliability(name)
    assert bins["pixels"].sum() == sky.truth.size
assert evaluation.overall["accuracy"][0] > 0.9

# %%
# By brightness
# -------------
# One number for all pixels is mostly that of the background. ``strata`` takes an image of any
# value, and the edges of intervals: here the brightness of the first band, in nJy.

edges = [-5, 3, 10, 30, 100, 1000]
by_brightness = evaluate(folder / "results", folder / "truth.fits", strata=(sky.images[0], edges))
shown = by_brightness.overall["stratum", "pixels", "accuracy", "brier", "calibration_error"]
shown.round(3)
shown.pprint()

# %%
# Objects
# -------
# Which sources are found, and which of those that are found are there? Sources are regions that are
# not background, in the truth as in the result; both get the brightness of their middle, in
# magnitudes. Pairs are matched within five pixels.

background = CLASS_NAMES.index("background")


def sources(not_background, threshold):
    """Return a table of regions, with their magnitudes."""
    table = find_candidates(
        [not_background[..., np.newaxis], np.ones(sky.truth.shape)], "class_0", threshold, 9
    )
    middles = sky.images[0][tuple(np.rint(table[axis]).astype(int) for axis in "yx")]
    table["magnitude"] = 31.4 - 2.5 * np.log10(np.maximum(middles, 0.1))
    return table["x", "y", "magnitude"]


truth = sources((sky.truth != background).astype(float), 0.5)
found = sources(np.array(1 - output[..., background, 0], float), 0.5)
objects = evaluate(found, truth, match_radius=5, strata=("magnitude", [25, 28, 29, 29.5, 30, 31]))
shown = objects.table["stratum", "n_true", "completeness", "n_detected", "purity"]
shown.round(3)
shown.pprint()
objects.plot()

# %%
# For data of yours
# -----------------
# ``evaluate("results", "truth.fits")`` takes labels, planes of 0 and 1 where a pixel may be of
# several classes, or a catalogue. The truth must be on the pixel grid of the result: the package
# ``reproject`` brings it there. ``mask=`` leaves out what nobody labelled, and in a shell it is
# ``morpheus-core evaluate results truth.fits --out metrics.ecsv --picture metrics.png``.

for hdul in hduls:
    hdul.close()
workplace.cleanup()
