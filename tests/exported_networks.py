"""A small U-Net, trained on a simulated sky and exported in every format that can be wrapped.

``python tests/exported_networks.py FOLDER`` writes the files; Keras runs on PyTorch.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from morpheus_core.demo.sky import BANDS, CLASS_NAMES, NOISE_SIGMA, simulate_sky

WINDOW_SHAPE = (16, 16)
#: The only batch size of the exports that have one.
FIXED_BATCH = 4
STEPS = 120
#: Standard deviations that the network divides its bands by.
SCALE = tuple(10 * sigma for sigma in NOISE_SIGMA)


class UNet(nn.Module):
    """Scores of each class, (batch, band, height, width) → (batch, class, height, width)."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(len(BANDS), 12, 3, padding="same")
        self.coarse = nn.Conv2d(12, 16, 3, padding="same")
        self.back = nn.Conv2d(16 + 12, 12, 3, padding="same")
        self.classes = nn.Conv2d(12, len(CLASS_NAMES), 1)

    def forward(self, image):
        fine = functional.relu(self.fine(image))
        coarse = functional.relu(self.coarse(functional.max_pool2d(fine, 2)))
        up = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return self.classes(functional.relu(self.back(torch.cat([up, fine], dim=1))))


def keras_unet(batch_size=None):
    """Return the same network in Keras, channels last."""
    import keras
    from keras import layers

    image = keras.Input((None, None, len(BANDS)), batch_size=batch_size, name="image")
    fine = layers.Conv2D(12, 3, padding="same", activation="relu", name="fine")(image)
    coarse = layers.MaxPooling2D(2)(fine)
    coarse = layers.Conv2D(16, 3, padding="same", activation="relu", name="coarse")(coarse)
    both = layers.Concatenate()([layers.UpSampling2D(2)(coarse), fine])
    back = layers.Conv2D(12, 3, padding="same", activation="relu", name="back")(both)
    return keras.Model(image, layers.Conv2D(len(CLASS_NAMES), 1, name="classes")(back))


def trained():
    """Train a few seconds: enough for scores that are not alike everywhere."""
    torch.manual_seed(1)
    network = UNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for pixels, classes in training_batches():
        loss = functional.cross_entropy(network(pixels), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def training_batches():
    """Yield pixels, (batch, band, height, width), and classes, (batch, height, width)."""
    sky = simulate_sky((256, 256), seed=40_000)
    bands = torch.from_numpy(np.stack(sky.images) / np.float32(SCALE)[:, None, None])
    truth = torch.from_numpy(sky.truth.astype(np.int64))
    random = np.random.default_rng(1)
    height, width = 32, 32
    for _ in range(STEPS):
        corners = random.integers(256 - height, size=(16, 2))
        cuts = [(slice(row, row + height), slice(col, col + width)) for row, col in corners]
        yield (
            torch.stack([bands[:, rows, columns] for rows, columns in cuts]),
            torch.stack([truth[rows, columns] for rows, columns in cuts]),
        )


def export(network, folder):
    """Write every format, with batches of any size and of `FIXED_BATCH`."""
    torch.save(network.state_dict(), folder / "weights.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of themselves
        torch.jit.script(network).save(folder / "unet.ts")
        for name, batch_size in (("unet", None), ("unet_fixed", FIXED_BATCH)):
            export_torch(network, folder / f"{name}.pt2", batch_size)
            export_onnx(network, folder / f"{name}.onnx", batch_size)
            export_keras(network, folder / f"{name}.keras", batch_size)


def export_torch(network, path, batch_size):
    image, axes = example(batch_size)
    torch.export.save(torch.export.export(network, (image,), dynamic_shapes=(axes,)), path)


def export_onnx(network, path, batch_size):
    image, axes = example(batch_size)
    torch.onnx.export(
        network, (image,), path, dynamic_shapes=(axes,), input_names=["image"], verbose=False
    )


def export_keras(network, path, batch_size):
    """Carry the weights over layer by layer."""
    model = keras_unet(batch_size)
    for name, layer in network.named_children():
        kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        model.get_layer(name).set_weights([kernel, layer.bias.detach().numpy()])
    model.save(path)


def example(batch_size):
    """Return an input of the network, and which of its axes may have any length."""
    axes = {0: torch.export.Dim("batch")} if batch_size is None else None
    return torch.zeros(batch_size or 2, len(BANDS), *WINDOW_SHAPE), axes


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "torch"
    export(trained(), Path(sys.argv[1]))
