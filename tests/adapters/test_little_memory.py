"""Each framework with memory for so many windows, by an allocator that fails above."""

import math

import numpy as np
import pytest
from conftest import require
from numpy.testing import assert_array_equal

from morpheus_core import adapters, predict

IMAGE = np.random.default_rng(2).integers(0, 50, (20, 29)).astype(np.float32)
BATCH = 16

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Allocator:
    """Counts the calls that ask for too much, once it has a limit."""

    def __init__(self, error):
        self.most, self.error, self.failed = 10_000, error, 0

    def ask(self, windows):
        if windows > self.most:
            self.failed += 1
            raise self.error


def of_torch(folder, monkeypatch):
    """Return whole numbers times whole numbers, whose sums no order of adding changes."""
    torch = require("torch")
    allocator = Allocator(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))

    class Network(torch.nn.Conv2d):
        def forward(self, x):
            allocator.ask(len(x))
            return super().forward(x)

        def __deepcopy__(self, memo):
            return self

    network = Network(1, 2, 3, padding=1)
    with torch.no_grad():
        network.weight.copy_(torch.arange(18.0).reshape(2, 1, 3, 3))
        network.bias.zero_()
    return adapters.torch_model(network), allocator


def of_onnx(folder, monkeypatch):
    onnx, runtime = require("onnx"), require("onnxruntime")
    from onnx import helper

    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in "xy"
    ]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
    imports = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), folder / "x.onnx")
    error = runtime.capi.onnxruntime_pybind11_state.RuntimeException(
        "[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 2147483648"
    )
    allocator, run = Allocator(error), runtime.InferenceSession.run

    def limited(session, outputs, given):
        allocator.ask(len(given["x"]))
        return run(session, outputs, given)

    monkeypatch.setattr(runtime.InferenceSession, "run", limited)
    return adapters.onnx_model(folder / "x.onnx"), allocator


def of_keras(folder, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = require("keras")
    allocator = Allocator(require("torch").OutOfMemoryError("CUDA out of memory."))

    class Limited(keras.layers.Layer):
        def call(self, pixels):
            return -pixels

    image = keras.Input((None, None, 1))
    network = keras.Model(image, Limited()(image))
    predicted = network.predict_on_batch

    def limited(pixels):
        allocator.ask(len(pixels))
        return predicted(pixels)

    network.predict_on_batch = limited
    return adapters.keras_model(network), allocator


def of_sklearn(folder, monkeypatch):
    require("sklearn")
    allocator = Allocator(MemoryError("Unable to allocate 7.45 GiB for an array"))

    class Estimator:
        def predict_proba(self, table):
            allocator.ask(len(table) / 36)
            return np.concatenate([table, 1 - table], axis=1)

    return adapters.sklearn_model(Estimator()), allocator


def classify(model, n_classes):
    return predict(
        model, IMAGE, n_classes, BATCH, (6, 6), stride=(2, 2), aggregate_method="mean_var",
        progress=False,
    )[1][0]  # fmt: skip


@pytest.mark.parametrize("most", [1, 3, 7])
@pytest.mark.parametrize(
    ("make", "n_classes"), [(of_torch, 2), (of_onnx, 1), (of_keras, 1), (of_sklearn, 2)]
)
def test_the_same_bytes_in_few_tries(tmp_path, monkeypatch, make, n_classes, most):
    model, allocator = make(tmp_path, monkeypatch)
    expected = classify(model, n_classes)
    assert allocator.failed == 0
    allocator.most = most
    assert_array_equal(classify(model, n_classes), expected)
    assert 1 <= allocator.failed <= math.log2(BATCH)
