"""Train the demonstration's network; needs PyTorch.

``python -m morpheus_core.demo.train`` simulates skies that the demonstration does not show, trains
on windows cut from them, and writes ``weights.npz`` next to this file. Seeds are fixed and one
thread is used: the same machine gives the same weights. It takes some minutes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from morpheus_core.demo.network import (
    WEIGHTS_PATH,
    WIDTHS,
    WINDOW_SHAPE,
    DemoNetwork,
    Parameters,
    stretched,
)
from morpheus_core.demo.sky import BACKGROUND, BANDS, CLASS_NAMES, Sky, simulate_sky

TensorParameters = dict[str, Tensor]

SEED = 20_000
SKIES = 40
SKY_SHAPE = (512, 512)
STEPS = 3000
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 6e-3
#: How much an error in each class costs; a little more than otherwise where pixels are few.
CLASS_WEIGHTS = (1.0, 1.0, 1.0, 1.5, 1.0)
#: Share of the windows that are centred on a pixel of a source.
SHARE_ON_SOURCES = 0.75
LARGEST_DIFFERENCE = 1e-5


def main() -> None:
    """Train, write the weights, and check that numpy and PyTorch agree on what they mean."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    skies = [simulate_sky(SKY_SHAPE, SEED + number) for number in range(SKIES)]
    parameters = trained(skies)
    write_weights(parameters, WEIGHTS_PATH)
    difference = largest_difference(WEIGHTS_PATH)
    print(f"{WEIGHTS_PATH}: trained in {time.perf_counter() - start:.0f} s")
    print(f"numpy and PyTorch differ by at most {difference:.1e}")
    if difference > LARGEST_DIFFERENCE:
        raise RuntimeError(f"numpy and PyTorch must agree to {LARGEST_DIFFERENCE}")


def trained(skies: list[Sky]) -> TensorParameters:
    """Minimize the cross-entropy on windows of the skies."""
    random = np.random.default_rng(SEED)
    parameters = initial_parameters(random)
    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, STEPS)
    weights = torch.tensor(CLASS_WEIGHTS)
    losses = []
    for step, (pixels, classes) in enumerate(training_batches(skies, random), start=1):
        loss = functional.cross_entropy(class_scores(parameters, pixels), classes, weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"step {step} of {STEPS}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return parameters


def training_batches(
    skies: list[Sky], random: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels, (batch, band, height, width), and classes, (batch, height, width)."""
    pixels = [stretched(np.stack(sky.images, axis=-1)) for sky in skies]
    truths = [sky.truth for sky in skies]
    sources = [np.argwhere(truth != BACKGROUND) for truth in truths]
    for _ in range(STEPS):
        windows, classes = [], []
        for number in random.integers(len(skies), size=BATCH_SIZE):
            rows, columns = random_window(sources[number], random)
            turns, flip = int(random.integers(4)), random.choice([-1, 1])
            windows.append(np.rot90(pixels[number][rows, columns], turns)[:, ::flip])
            classes.append(np.rot90(truths[number][rows, columns], turns)[:, ::flip])
        yield (
            torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2),
            torch.from_numpy(np.stack(classes).astype(np.int64)),
        )


def random_window(sources: NDArray[np.int64], random: np.random.Generator) -> tuple[slice, slice]:
    """Choose a window of a sky, preferably one with a source in it."""
    centre = random.integers(SKY_SHAPE)
    if random.random() < SHARE_ON_SOURCES:
        centre = random.choice(sources) + random.integers(-12, 13, size=2)
    lengths = np.array(WINDOW_SHAPE)
    first = np.clip(centre - lengths // 2, 0, SKY_SHAPE - lengths)
    rows, columns = (slice(start, start + n) for start, n in zip(first, lengths, strict=True))
    return rows, columns


def initial_parameters(random: np.random.Generator) -> TensorParameters:
    """Draw kernels whose outputs vary as much as their inputs (He et al. 2015)."""
    parameters = {}
    for layer, shape in kernel_shapes().items():
        spread = np.sqrt(2 / np.prod(shape[:-1]))
        kernel = torch.tensor(random.normal(0, spread, shape), dtype=torch.float32)
        parameters[f"{layer}.kernel"] = kernel.requires_grad_()
        parameters[f"{layer}.bias"] = torch.zeros(shape[-1], requires_grad=True)
    return parameters


def kernel_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's kernel, (3, 3, input, output) or (input, output)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for level, (inputs, width) in enumerate(zip((len(BANDS), *WIDTHS), WIDTHS, strict=False)):
        shapes[f"down{level}a"] = (3, 3, inputs, width)
        shapes[f"down{level}b"] = (3, 3, width, width)
    for level, (width, coarser) in enumerate(pairwise(WIDTHS)):
        shapes[f"mix{level}"] = (coarser, width)
        shapes[f"up{level}"] = (3, 3, width, width)
    shapes["classes"] = (WIDTHS[0], len(CLASS_NAMES))
    return shapes


def class_scores(parameters: TensorParameters, x: Tensor) -> Tensor:
    """Do what `network.class_scores` does, (batch, band, ...) → (batch, class, ...)."""
    skips = []
    for level in range(len(WIDTHS)):
        if level:
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = convolved(parameters, f"down{level}a", x)
        x = convolved(parameters, f"down{level}b", x)
    for level in reversed(range(len(WIDTHS) - 1)):
        x = skips.pop() + functional.interpolate(
            mixed(parameters, f"mix{level}", x), scale_factor=2
        )
        x = convolved(parameters, f"up{level}", x)
    return mixed(parameters, "classes", x)


def convolved(parameters: TensorParameters, layer: str, x: Tensor) -> Tensor:
    """Convolve with 3 × 3 kernels, zeros beyond the border, and clip below zero (ReLU)."""
    kernel = parameters[f"{layer}.kernel"].permute(3, 2, 0, 1)
    return functional.relu(functional.conv2d(x, kernel, parameters[f"{layer}.bias"], padding=1))


def mixed(parameters: TensorParameters, layer: str, x: Tensor) -> Tensor:
    """Mix the channels of each pixel (a 1 × 1 convolution)."""
    kernel = parameters[f"{layer}.kernel"].T[:, :, None, None]
    return functional.conv2d(x, kernel, parameters[f"{layer}.bias"])


def write_weights(parameters: TensorParameters, path: Path) -> None:
    """Write float16, which halves the file and costs the predictions nothing visible."""
    arrays: dict[str, Any] = {
        name: value.detach().numpy().astype(np.float16) for name, value in parameters.items()
    }
    np.savez_compressed(path, **arrays)


def tensor_parameters(parameters: Parameters) -> TensorParameters:
    """Return the network's parameters as tensors."""
    return {name: torch.from_numpy(value) for name, value in parameters.items()}


def largest_difference(weights_path: Path) -> float:
    """Return by how much the probabilities of numpy and PyTorch differ at most, on a new sky."""
    network = DemoNetwork(weights_path)
    height, width = WINDOW_SHAPE
    sky = simulate_sky((height, 20 * width), SEED - 1)
    batch = [np.stack(np.split(image, 20, axis=1))[..., np.newaxis] for image in sky.images]
    pixels = torch.from_numpy(stretched(np.concatenate(batch, axis=-1))).permute(0, 3, 1, 2)
    with torch.no_grad():
        scores = class_scores(tensor_parameters(network.parameters), pixels)
    probabilities = functional.softmax(scores, dim=1).permute(0, 2, 3, 1).numpy()
    return float(np.abs(probabilities - network(batch)).max())


if __name__ == "__main__":
    main()
