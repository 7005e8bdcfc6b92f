"""Models whose memory is too small for a batch."""

import math

import numpy as np
import pytest
from conftest import require
from numpy.testing import assert_array_equal

from morpheus_core import ModelError, predict, predict_catalog
from morpheus_core.pipeline.halves import Halves

IMAGE = np.random.default_rng(2).normal(size=(24, 30)).astype(np.float32)


def torch_error():
    return require("torch").OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


ERRORS = {
    "torch on a GPU": torch_error,
    "torch": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"),
    "ONNX Runtime": lambda: RuntimeError("Failed to allocate memory for requested buffer of size"),
    "TensorFlow": lambda: type("ResourceExhaustedError", (Exception,), {})("OOM when allocating"),
    "numpy": lambda: MemoryError("Unable to allocate 7.45 GiB"),
    "wrapped": lambda: wrapped(MemoryError()),
}


def wrapped(cause):
    error = ModelError("the network failed")
    error.__cause__ = cause
    return error


class Small:
    """A model with memory for so many windows."""

    def __init__(self, most, error=MemoryError):
        self.most, self.error, self.failed, self.sizes = most, error, 0, []

    def __call__(self, batch):
        self.sizes.append(len(batch[0]))
        if len(batch[0]) > self.most:
            self.failed += 1
            raise self.error()
        return np.tanh(batch[0])


def classify(model, **options):
    hduls, (mean_var, _) = predict(
        model, IMAGE, 1, 16, (6, 6), stride=(2, 2), aggregate_method="mean_var", progress=False,
        **options,
    )  # fmt: skip
    result = np.array(mean_var)
    for hdul in hduls:
        hdul.close()
    return result


@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize("most", [1, 3, 5, 8])
def test_the_same_bytes_in_halves(kind, most):
    model = Small(most, ERRORS[kind])
    assert_array_equal(classify(model), classify(np_tanh))
    assert model.failed == math.ceil(math.log2(16 / most))  # once in the whole run


def np_tanh(batch):
    return np.tanh(batch[0])


@pytest.mark.parametrize("workers", [{}, pytest.param({"cpus": 2}, marks=pytest.mark.slow)])
def test_runs_on_disk(tmp_path, workers):
    result = classify(Small(3), out_dir=tmp_path, **workers)
    assert_array_equal(result, classify(np_tanh))


def test_rows_of_a_catalogue():
    table = {"x": np.arange(8, 20), "y": np.arange(8, 20)}
    arguments = {"n_classes": 1, "batch_size": 12, "window_shape": (6, 6), "progress": False}
    from astropy.table import Table

    tables = [
        predict_catalog(model, IMAGE, Table(table), x="x", y="y", **arguments)
        for model in (Small(5), np_tanh)
    ]
    assert all(tables[0]["class_0"] == tables[1]["class_0"])


@pytest.mark.parametrize(
    ("error", "sizes"), [(MemoryError, [13, 7, 4, 2, 1]), (lambda: ValueError("no"), [13])]
)
def test_what_halves_do_not_mend(error, sizes):
    model = Small(0, error)
    with pytest.raises(ModelError, match="the model failed with"):
        classify(model)
    assert model.sizes == sizes


def test_one_is_enough():
    model = Halves(np_tanh)
    assert Halves.around(model) is model


def test_answers_in_the_same_memory(monkeypatch):
    memory = np.empty((16, 6, 6, 1), np.float32)

    def model(batch):
        if len(batch[0]) > 4:
            raise MemoryError
        out = memory[: len(batch[0])]
        np.tanh(batch[0], out=out)
        return out

    assert_array_equal(classify(model), classify(np_tanh))
