"""
A pixel classifier of scikit-learn in twelve lines
==================================================

Not every task needs a neural network. Where colour and the nearest neighbours tell what a pixel is,
a random forest learns it from a few hundred pixels that somebody has labelled, in a second. Here it
sorts an image of a nebula into gas that stars ionise, shock fronts, stars and sky, from one image
in each of three filters. Needs the extras ``sklearn`` and ``plot``.
"""

# %%
# The images
# ----------
# We simulate two pieces of sky, in the filters H-alpha, [O III] and a continuum in between: a small
# one to label and a large one to classify. Shocks shine in [O III] more than other gas does, and
# stars in all three filters. The noise of each pixel is 1.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter, uniform_filter
from sklearn.ensemble import RandomForestClassifier

from morpheus_core import predict, update_maps
from morpheus_core.adapters import sklearn_model

FILTERS = ("halpha", "oiii", "continuum")
CLASSES = ("ionised gas", "shock front", "star", "sky")
SKY = CLASSES.index("sky")
#: Okabe & Ito 2008, which stay apart for colour-blind eyes.
COLOURS = ("#D55E00", "#56B4E9", "#F0E442", "#15171C")


def simulate(side, seed):
    """Return an image, (row, column, filter), and the class of each pixel, (row, column)."""
    random = np.random.default_rng(seed)
    clouds, wisps, folds, veil = (smooth_noise(random, side, sigma) for sigma in (40, 8, 30, 60))
    gas = 8 * np.clip(clouds + 0.2 * wisps, 0, 2)
    shocks = 16 * np.exp(-0.5 * (folds / 0.04) ** 2) * np.clip(veil + 0.3, 0, 1)
    stars = np.zeros((side, side))
    places = random.integers(side, size=(side**2 // 500, 2))
    np.add.at(stars, tuple(places.T), 60 * random.pareto(1.2, len(places)) + 60)
    light = np.stack([gas, gaussian_filter(shocks, 1.2), gaussian_filter(stars, 1.4)], axis=-1)
    spectra = [[1.0, 0.2, 0.0], [0.5, 1.0, 0.0], [0.9, 0.8, 1.0]]  # (class, filter)
    image = light @ np.array(spectra)
    truth = np.where(light.max(axis=-1) > 1.5, light.argmax(axis=-1), SKY)
    return (image + random.normal(size=image.shape)).astype(np.float32), truth


def smooth_noise(random, side, sigma):
    """Return a random field of unit variance whose structures are as large as sigma, in pixels."""
    field = gaussian_filter(random.normal(size=(side, side)), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


small, small_truth = simulate(300, seed=1)
image, truth = simulate(1000, seed=2)

folder = Path(tempfile.mkdtemp())
paths = [folder / f"{name}.fits" for name in FILTERS]
for path, band in zip(paths, np.moveaxis(image, -1, 0), strict=True):
    fits.writeto(path, band)

# %%
# The labels
# ----------
# Somebody has labelled a hundred pixels of each class in the small image. The simulation knows the
# classes, so here it does that work.

random = np.random.default_rng(3)
labels = np.full(small_truth.shape, -1)
for number in range(len(CLASSES)):
    rows, columns = random.permutation(np.argwhere(small_truth == number))[:100].T
    labels[rows, columns] = number


def picture(image):
    """Return colours for the eye: H-alpha in red, [O III] in green and blue."""
    return np.clip(np.arcsinh(image[..., [0, 1, 1]] / 3) / 3, 0, 1)


figure, axes = plt.subplots(figsize=(6, 5.4), layout="constrained")
axes.imshow(picture(small), origin="lower")
for number, (name, colour) in enumerate(zip(CLASSES, COLOURS, strict=True)):
    rows, columns = np.nonzero(labels == number)
    axes.scatter(columns, rows, 14, colour, edgecolors="white", linewidths=0.5, label=name)
axes.set(title="Labelled pixels", xlabel="column", ylabel="row")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, markerscale=2, frameon=False)
plt.show()

# %%
# Train and classify
# ------------------
# These are the twelve lines. The features of a pixel are its three brightnesses and the means over
# two neighbourhoods. Features at the border of a window lack some neighbours, so windows overlap,
# and the outer eight pixels of each are not counted; ``padding`` continues the image so that its
# own border is reached all the same.


def with_neighbours(pixels):  # (batch, row, column, filter)
    means = [uniform_filter(pixels, (0, side, side, 0)) for side in (5, 15)]
    return np.concatenate([pixels, *means], axis=-1)


features = with_neighbours(small[np.newaxis])[0]
forest = RandomForestClassifier(30, max_depth=12, random_state=0)
forest.fit(features[labels >= 0], labels[labels >= 0])
model = sklearn_model(forest, features=with_neighbours)
hduls, (output, n) = predict(
    model, paths, n_classes=4, batch_size=16, window_shape=(80, 80), stride=(64, 64),
    update_map=update_maps.centre_crop((80, 80), border=8), padding="reflect",
    aggregate_method="mean_var", class_names=CLASSES, out_dir=folder / "results", progress=False,
)  # fmt: skip

# %%
# The result
# ----------
# ``output`` is (row, column, class, statistic); statistic 0 is the mean probability. Of a million
# pixels, none of which the forest has seen, here is how many of each class were found
# (completeness), and how many of those that were given the class are of it (purity). A third of the
# "star" pixels lie around stars: the features are blurred, and as many stars as sky were labelled,
# though stars are rare.

# sphinx_gallery_thumbnail_number = 2
probability = output[..., 0]
predicted = probability.argmax(axis=-1)
print("class              completeness    purity")
for number, name in enumerate(CLASSES):
    completeness = np.mean(predicted[truth == number] == number)
    purity = np.mean(truth[predicted == number] == number)
    print(f"{name:15}{completeness:16.1%}{purity:10.1%}")
accuracy = np.mean(predicted == truth)
print(f"accuracy       {accuracy:16.1%}")

figure, panels = plt.subplots(1, 3, figsize=(12, 5), sharey=True, layout="constrained")
panels[0].imshow(picture(image), origin="lower")
panels[0].set_title("The image")
for axes, classes, title in ((panels[1], predicted, "The forest"), (panels[2], truth, "The truth")):
    axes.imshow(classes, ListedColormap(COLOURS), vmin=0, vmax=3, origin="lower")
    axes.set_title(title)
for axes in panels:
    axes.set_xlabel("column")
panels[0].set_ylabel("row")
keys = [Patch(fc=colour, label=name) for name, colour in zip(CLASSES, COLOURS, strict=True)]
figure.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False)
plt.show()

for hdul in hduls:
    hdul.close()
assert accuracy > 0.9

# %%
# For your own data
# -----------------
# - Put the paths of your images into ``paths``, one per filter, all on the same pixels.
# - Make ``labels``: for some pixels of a piece of image the number of their class, for all others
#   -1. A mask painted in an image editor does, or region files. Label what is hard, too.
# - Change ``CLASSES`` and ``n_classes``. The classes are those of ``forest.classes_``, in that
#   order.
# - Change ``with_neighbours``, if anything else tells your classes apart. The border that is not
#   counted must be half as wide as its widest filter: 8 pixels for 15.
# - Any estimator with ``predict_proba`` takes the place of the forest, a pipeline too.
# - NaN goes to the forest unless you add ``sklearn_model(..., fill_nan="median")``. In ``predict``,
#   ``skip_blank=True`` leaves out windows of nothing but NaN, and pixels of a ``mask=`` get no
#   result.
