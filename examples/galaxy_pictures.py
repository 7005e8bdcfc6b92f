"""
Votes on a folder of JPEGs
==========================

Networks of Galaxy Zoo have learned from colour pictures, of which there is a file for each galaxy,
``587727178986356823.jpg``. :func:`~morpheus_core.predict_catalog` takes the folder, and no
catalogue: each file becomes a row, called as the file is. Needs the extras ``pictures``, ``torch``
and ``plot``.
"""

# %%
# A folder of pictures
# --------------------
# Red ellipticals, and blue spirals of both hands: clockwise is Z, anticlockwise S (Land et al.
# 2008, MNRAS 388, 1686), in a picture whose first row is the top. Each is a JPEG of 96 × 96 pixels.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from morpheus_core import predict_catalog
from morpheus_core.adapters import torch_model

KINDS = ("P_EL", "P_CW", "P_ACW")
NAMES = ("elliptical", "clockwise", "anticlockwise")
SIDE, WINDOW, COUNT = 96, 32, 300


def galaxy(random):
    """Return a picture, (row, column, red, green and blue), and the number of its kind."""
    kind = random.integers(3)
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2 + random.uniform(-3, 3, (2, 1, 1))
    turn, scale = random.uniform(0, 2 * np.pi), random.uniform(6, 11)
    flatness = random.uniform(0.55, 1)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    along, across = along / scale, across / scale / flatness
    radius = np.hypot(along, across) + 0.05
    bulge = np.exp(-2.2 * radius)
    winding = {1: -1, 2: 1}.get(kind, 0)
    arms = np.cos(2 * (np.arctan2(across, along) - winding * 2.4 * np.log(radius)))
    disk = np.exp(-0.8 * radius) * (1 + random.uniform(0.5, 1) * arms * (winding != 0))
    red, blue = (1.3, 0.5) if winding == 0 else (0.7, 1.1)
    light = bulge[..., None] * [1.5, 1.1, 0.7] + 0.6 * disk[..., None] * [red, 0.8, blue]
    light = light * random.uniform(0.6, 1.6) + random.normal(0, 0.05, light.shape)
    return (255 * np.clip(np.arcsinh(3 * light) / 2, 0, 1)).astype(np.uint8), kind


workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name) / "galaxies"
folder.mkdir()
random = np.random.default_rng(3)
kind_of = {}
for number in range(COUNT):
    picture, kind_of[587727178986356823 + number] = galaxy(random)
    Image.fromarray(picture).save(folder / f"{587727178986356823 + number}.jpg", quality=90)
print(*sorted(path.name for path in folder.iterdir())[:3], sep="\n")

# %%
# A network
# ---------
# It was trained with pictures of 32 × 32 pixels, each the mean of nine, in units of 255.


def train(examples, steps):
    """Return a network that tells the kinds apart."""
    torch.manual_seed(0)
    random = np.random.default_rng(4)
    pictures, kinds = map(np.stack, zip(*(galaxy(random) for _ in range(examples)), strict=True))
    small = pictures.reshape(examples, WINDOW, 3, WINDOW, 3, 3).mean(axis=(2, 4)) / 255
    pixels = torch.from_numpy(np.moveaxis(small, -1, 1).astype(np.float32))
    layers = []
    for before, after in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, len(KINDS)))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(steps):
        chosen = torch.randint(examples, (64,))
        batch = torch.rot90(pixels[chosen], step % 4, (2, 3))
        loss = functional.cross_entropy(network(batch), torch.from_numpy(kinds)[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


network = train(examples=1500, steps=150)
model = torch_model(network, normalize=lambda pixels: pixels / 255, activation="softmax")

# %%
# A row for each file
# -------------------
# The pictures are three times as large as what the network takes, so ``resize="area"`` averages
# their pixels; without it they would be refused. ``"crop"`` would take their middle.

table = predict_catalog(
    model,
    folder,
    n_classes=len(KINDS),
    batch_size=64,
    window_shape=(WINDOW, WINDOW),
    resize="area",
    class_names=KINDS,
    out=folder.parent / "votes.csv",
    progress=False,
)
table.round(dict.fromkeys(KINDS, 2))
print(*(folder.parent / "votes.csv").read_text().splitlines()[:5], sep="\n")

# %%
# For a network in a file this is one command::
#
#     morpheus-core catalog galaxies/ --model zoo.onnx --class-names P_EL P_CW P_ACW \
#         --window 32 --resize area --min-max 0 255 --out votes.csv
#
# and for one picture ``morpheus-core catalog 587727178986356823.jpg --id 17 ...``, which prints the
# answer where there is no ``--out``.
#
# What it says
# ------------
# The pictures on which the network is surest, and how often the vote is the true kind:

votes = np.stack([table[kind] for kind in KINDS], axis=-1)
truth = np.array([kind_of[name] for name in table["OBJID"]])
figure, panels = plt.subplots(3, 5, figsize=(7, 5), layout="constrained")
for strip, answer, name in zip(panels, votes.T, NAMES, strict=True):
    for axes, number in zip(strip, np.argsort(answer)[::-1], strict=False):
        axes.imshow(Image.open(folder / f"{table['OBJID'][number]}.jpg"))
        axes.set(xticks=[], yticks=[])
    strip[0].set_ylabel(name, fontsize=12)
plt.show()

same = np.mean(votes.argmax(axis=-1) == truth)
print(f"{same:.1%} of {COUNT} votes are the true kind")
assert same > 0.9
assert set(table["status"]) == {"ok"}

# %%
# For your own data
# -----------------
# - Put the path of your folder, or a pattern, ``"galaxies/*/*.png"``, in place of ``folder``. Row 0
#   is the top of a picture, bands are red, green and blue, values 0 to 255: see :ref:`pictures`.
# - To keep columns of a catalogue, pass it, and name the files of its rows:
#   ``predict_catalog(model, "galaxies/{OBJID}.jpg", "galaxies.csv", ...)``.
# - ``normalize`` must do what the training did; leave it out if it fed 0 to 255.
# - Cut-outs in one array, ``cutouts.npy``, are taken in place of a folder: see :ref:`cut-outs`.

workplace.cleanup()
