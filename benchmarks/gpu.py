"""Windows per second of a small U-Net, in `predict` and in MONAI's sliding windows, on one device.

``python benchmarks/gpu.py [DEVICE] [--seconds 6]``; DEVICE is what PyTorch calls it, "cuda" if none
is given. It needs PyTorch and MONAI (``make bench`` installs both), and less than five minutes.
`predict` gives mean and variance, MONAI a mean. An image is as large as the device can do in the
time that is meant for one measurement; measurements alternate, and the best of each counts. MONAI
runs twice: with the image and its sums on the device, and with both in memory, where `predict` has
them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from morpheus_core import predict

CLASSES = 5
BATCH_SIZE = 64
REPEATS = 3
#: Window and stride in pixels.
CASES = ((256, 128), (40, 1))


class SmallUnet(torch.nn.Module):
    """Two levels, of 16 and 32 channels; (batch, 1, height, width) → (batch, classes, ...)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.coarse = torch.nn.Conv2d(16, 32, 3, padding=1)
        self.head = torch.nn.Conv2d(48, CLASSES, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return probabilities of classes."""
        fine = torch.relu(self.fine(pixels))
        coarse = torch.relu(self.coarse(torch.nn.functional.max_pool2d(fine, 2)))
        wide = torch.nn.functional.interpolate(coarse, scale_factor=2)
        return torch.softmax(self.head(torch.cat([fine, wide], dim=1)), dim=1)


def count_windows(side: int, window: int, stride: int) -> int:
    """Return how many windows a square image has."""
    return ((side - window) // stride + 1) ** 2


def with_predict(network: SmallUnet, device: str, image: np.ndarray, window: int, stride: int):
    """Return means of `predict`, (height, width, classes)."""

    def model(batch: list[np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(batch[0]).to(device, non_blocking=True).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return network(pixels).permute(0, 2, 3, 1).contiguous()

    _, (means, _) = predict(
        model,
        image,
        CLASSES,
        BATCH_SIZE,
        (window, window),
        stride=(stride, stride),
        aggregate_method="mean_var",
        progress=False,
    )
    return means[..., 0]


def with_monai(
    network: SmallUnet, device: str, image: np.ndarray, window: int, stride: int, kept: str
):
    """Return means of MONAI, whose image and sums are kept on a device."""
    with torch.inference_mode():
        means = sliding_window_inference(
            torch.from_numpy(image)[None, None].to(kept),
            (window, window),
            BATCH_SIZE,
            network,
            overlap=1 - stride / window,
            sw_device=device,
            device=kept,
        )
    return means[0].permute(1, 2, 0).cpu().numpy()


def timed(measure: Callable[[], np.ndarray]) -> float:
    """Return the seconds that a measurement takes."""
    start = time.perf_counter()
    measure()
    return time.perf_counter() - start


def largest_side(measure: Callable[[np.ndarray], object], window: int, stride: int, seconds: float):
    """Return the side of an image that takes about some seconds, and at most 8,192 pixels."""
    side = window + 15 * stride
    pixels = np.zeros((side, side), np.float32)
    measure(pixels)  # which warms up
    each = timed(partial(measure, pixels)) / count_windows(side, window, stride)
    across = int((seconds / each) ** 0.5)
    return min(8192, window + max(15, across - 1) * stride)


def main() -> None:
    """Print windows per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("device", nargs="?", default="cuda")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement")
    arguments = parser.parse_args()
    device = arguments.device
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    print(f"{name}, PyTorch {torch.__version__}")
    torch.manual_seed(0)
    network = SmallUnet().to(device).eval()
    for window, stride in CASES:
        run = partial(with_predict, network, device, window=window, stride=stride)
        side = largest_side(run, window, stride, arguments.seconds)
        image = np.random.default_rng(0).random((side, side), dtype=np.float32)
        measures = {"predict, mean and variance": partial(run, image)}
        for kept in dict.fromkeys((device, "cpu")):
            measures[f"MONAI, mean, sums on {kept}"] = partial(
                with_monai, network, device, image, window, stride, kept
            )
        answers = [measure() for measure in measures.values()]
        difference = max(float(abs(answers[0] - answer).max()) for answer in answers)
        rounds = [[timed(measure) for measure in measures.values()] for _ in range(REPEATS)]
        windows = count_windows(side, window, stride)
        print(f"{window}/{stride}, {windows} windows; means differ by {difference:.1e} at most")
        for label, times in zip(measures, zip(*rounds, strict=True), strict=True):
            print(f"  {label:34} {windows / min(times):10.0f} windows/s", flush=True)


if __name__ == "__main__":
    main()
