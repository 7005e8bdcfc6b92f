"""A small convolutional network, evaluated with numpy alone.

A U-Net in miniature: each level halves the resolution and sees twice as far, and what it saw is
added back to the finer level on the way up. Its weights come from :mod:`morpheus_core.demo.train`.

Inside the network arrays are (row, window, column, channel). With rows first, the three rows that a
3 × 3 kernel needs are three contiguous slices of one array, so a convolution is three matrix
products and no copy of the nine neighbours of each pixel.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.demo.sky import NOISE_SIGMA

Float32 = NDArray[np.float32]
Parameters = dict[str, Float32]

#: Channels at full, half, quarter and eighth resolution.
WIDTHS = (16, 24, 32, 32)
#: Height and width of the windows that the network was trained on, in pixels.
WINDOW_SHAPE = (40, 40)
WEIGHTS_PATH = Path(__file__).with_name("weights.npz")

# Few enough windows that the arrays of a layer stay in the processor's cache.
CHUNK = 8


class DemoNetwork:
    """Classify the pixels of windows of the demonstration's sky.

    Every window is stretched on its own, with the known noise of each band, so the answer for a
    window does not depend on the rest of the image.

    Parameters
    ----------
    weights_path : Path, optional
        An ``.npz`` file of parameters; read at the first call.
    """

    def __init__(self, weights_path: Path = WEIGHTS_PATH) -> None:
        self.weights_path = weights_path

    @cached_property
    def parameters(self) -> Parameters:
        """Kernels (3, 3, input, output) or (input, output), and biases (output,), by layer."""
        with np.load(self.weights_path) as archive:
            return {name: archive[name].astype(np.float32) for name in archive.files}

    def __call__(self, batch: list[NDArray[Any]]) -> Float32:
        """Return the probability of each class in each pixel.

        Parameters
        ----------
        batch : list of ndarray, each (batch, height, width, 1)
            One array per band, in the order of `morpheus_core.demo.sky.BANDS` and in its units.
            Height and width are multiples of 8.

        Returns
        -------
        ndarray of float32, shape (batch, height, width, 5)
            Probabilities in the order of `morpheus_core.demo.sky.CLASS_NAMES`.
        """
        pixels = stretched(np.concatenate(batch, axis=-1))  # (batch, height, width, band)
        rows_first = pixels.transpose(1, 0, 2, 3)
        chunks = range(0, len(pixels), CHUNK)
        scores = [class_scores(self.parameters, rows_first[:, i : i + CHUNK]) for i in chunks]
        return softmax(np.concatenate(scores, axis=1).transpose(1, 0, 2, 3))


def stretched(pixels: NDArray[Any]) -> Float32:
    """Compress the range of pixels, (..., band): linear within the noise, logarithmic above."""
    result: Float32 = np.arcsinh(pixels / np.array(NOISE_SIGMA), dtype=np.float32)
    return result


def class_scores(parameters: Parameters, x: Float32) -> Float32:
    """Run the layers, (row, window, column, band) → (row, window, column, class)."""
    skips = []
    for level in range(len(WIDTHS)):
        if level:
            skips.append(x)
            x = pooled(x)
        x = convolved(parameters, f"down{level}a", x)
        x = convolved(parameters, f"down{level}b", x)
    for level in reversed(range(len(WIDTHS) - 1)):
        x = skips.pop() + upsampled(mixed(parameters, f"mix{level}", x))
        x = convolved(parameters, f"up{level}", x)
    return mixed(parameters, "classes", x)


def convolved(parameters: Parameters, layer: str, x: Float32) -> Float32:
    """Convolve with 3 × 3 kernels, zeros beyond the border, and clip below zero (ReLU)."""
    kernels, bias = parameters[f"{layer}.kernel"], parameters[f"{layer}.bias"]
    rows, windows, columns, channels = x.shape
    # Each pixel beside its left and right neighbours, with a row of zeros above and below.
    triples = np.zeros((rows + 2, windows, columns, 3, channels), np.float32)
    triples[1:-1, :, 1:, 0] = x[:, :, :-1]
    triples[1:-1, :, :, 1] = x
    triples[1:-1, :, :-1, 2] = x[:, :, 1:]
    lines = triples.reshape(rows + 2, windows * columns, 3 * channels)
    out = np.broadcast_to(bias, (rows * windows * columns, len(bias))).copy()
    for shift, kernel in enumerate(kernels):
        shifted = lines[shift : shift + rows].reshape(-1, 3 * channels)
        out += shifted @ kernel.reshape(3 * channels, -1)
    np.maximum(out, 0, out=out)
    return out.reshape(rows, windows, columns, -1)


def mixed(parameters: Parameters, layer: str, x: Float32) -> Float32:
    """Mix the channels of each pixel (a 1 × 1 convolution)."""
    return x @ parameters[f"{layer}.kernel"] + parameters[f"{layer}.bias"]


def pooled(x: Float32) -> Float32:
    """Halve the resolution: the largest of each 2 × 2 pixels."""
    rows = np.maximum(x[0::2], x[1::2])
    return np.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


def upsampled(x: Float32) -> Float32:
    """Double the resolution by repeating pixels."""
    return x.repeat(2, axis=0).repeat(2, axis=2)


def softmax(scores: Float32) -> Float32:
    """Turn scores into probabilities along the last axis."""
    # Without the largest score subtracted the exponential could overflow.
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.ascontiguousarray(odds / odds.sum(axis=-1, keepdims=True))
