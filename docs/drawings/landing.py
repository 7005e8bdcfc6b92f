"""Draw what the landing page shows: a sky, windows, and the classes that they make of it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from morpheus_core import predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.sky import CLASS_NAMES, simulate_sky
from morpheus_core.pictures.colours import class_colours

PATH = Path(__file__).parent.parent / "images" / "landing.jpg"
SHAPE = (330, 480)
#: Columns from which the classes take over, and where the last windows are, (row, column).
SEAM = 245
WINDOWS = ((150, 175), (150, 195), (150, 215))

sky = simulate_sky(SHAPE, seed=5)
_, (mean_var, _) = predict(
    DemoNetwork(), sky.images, len(CLASS_NAMES), 128, WINDOW_SHAPE, stride=(8, 8),
    aggregate_method="mean_var", progress=False,
)  # fmt: skip
scores = mean_var[..., 0]
noise = np.std(sky.images[0][:40, :40])
grey = np.clip(0.08 + np.arcsinh(sky.images[0] / noise / 2) / 5, 0, 1)
picture = np.repeat(grey[..., np.newaxis], 3, axis=-1)
picture[:, SEAM:] = class_colours(CLASS_NAMES)[scores.argmax(axis=-1)][:, SEAM:]

figure = plt.figure(figsize=(8, 5.5), dpi=140)
axes = figure.add_axes((0, 0, 1, 1))
axes.imshow(picture, origin="lower", interpolation="lanczos")
axes.axvline(SEAM - 0.5, color="white", lw=1)
height, width = WINDOW_SHAPE
for row, column in WINDOWS:
    axes.add_patch(Rectangle((column, row), width, height, fc="#ffffff22", ec="white", lw=1.5))
axes.set_axis_off()
figure.savefig(PATH, pil_kwargs={"quality": 85})
