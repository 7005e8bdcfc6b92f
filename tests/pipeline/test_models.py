import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import require

import morpheus_core as package
from morpheus_core import ModelError, predict
from morpheus_core.pipeline.batches import Batch
from morpheus_core.pipeline.models import CheckedModel

BATCH = Batch([np.ones((4, 6, 5, 1), np.float32)], np.full(4, 7), np.arange(4))


def answer(value, n_classes=3):
    return CheckedModel(lambda _: value, n_classes, (6, 5))(BATCH)()


def test_predictions_of_pixels():
    value = np.random.default_rng(0).random((4, 6, 5, 3)).astype(np.float32)
    assert answer(value) is value


def test_predictions_of_whole_windows_hold_for_each_pixel():
    value = np.random.default_rng(0).random((4, 3))
    predictions = answer(value)
    assert predictions.shape == (4, 6, 5, 3)
    assert (predictions == value[:, None, None, :]).all()


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 1), (4, 1)])
def test_a_single_class_needs_no_axis(shape):
    assert answer(np.ones(shape), n_classes=1).shape == (4, 6, 5, 1)


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [
        (">f4", np.float32),
        ("f2", np.float32),
        ("?", np.float32),
        ("u1", np.float32),
        (">i2", np.float32),
        ("i4", np.float64),
        (">f8", np.float64),
    ],
)
def test_numbers_become_native_floats_that_hold_them(dtype, becomes):
    value = np.ones((4, 6, 5, 3), dtype)
    assert answer(value).dtype == becomes
    assert (answer(value) == 1).all()


def test_memory_order_is_mended():
    value = np.random.default_rng(0).random((4, 3, 6, 5))
    predictions = answer(np.moveaxis(value, 1, -1))
    assert predictions.flags.c_contiguous
    assert (predictions[..., 2] == value[:, 2]).all()


def test_masked_scores_are_nan():
    value = np.ma.masked_array(np.ones((4, 3), np.float32), mask=np.eye(4, 3))
    assert np.isnan(answer(value)[0, 0, 0, 0])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.ones((4, 6, 5, 2)),
            r"returned \(4, 6, 5, 2\) for n_classes=3; expected \(4, 6, 5, 3\).*; pass n_classes=2",
        ),
        (np.ones((4, 5, 6, 3)), r"returned \(4, 5, 6, 3\)"),
        (np.ones((3, 6, 5, 3)), r"returned \(3, 6, 5, 3\)"),
        (np.ones((4, 3, 6, 5)), r"or \(4, 3\) for whole windows"),
        (np.ones((4, 6, 5)), r"returned \(4, 6, 5\)"),
        (np.float32(1), r"returned \(\)"),
        (np.ones((4, 6, 5, 3), complex), "dtype complex128"),
        (np.full((4, 3), "star"), "dtype <U4"),
        (None, "returned None; expected an array"),
        (np.full((4, 3), None), "dtype object"),
    ],
)
def test_broken_promises(value, message):
    with pytest.raises(ModelError, match=message):
        answer(value)


def test_an_exception_of_the_model_names_the_rows_and_is_kept():
    def broken(_):
        raise KeyError("weights")

    with pytest.raises(
        ModelError, match=r"KeyError: 'weights'; .* \[\(4, 6, 5, 1\) float32\], window rows 7"
    ) as caught:
        CheckedModel(broken, 3, (6, 5))(BATCH)
    assert isinstance(caught.value.__cause__, KeyError)


def test_interrupts_pass_through():
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CheckedModel(interrupted, 3, (6, 5))(BATCH)


def test_a_wrong_model_fails_at_its_first_batch():
    calls = []

    def one_class(batch):
        calls.append(len(batch[0]))
        return np.zeros((*batch[0].shape[:3], 1))

    with pytest.raises(ModelError, match="expected"):
        predict(one_class, np.ones((40, 40)), 3, 8, (5, 5), progress=False)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int64", "bool"])
def test_torch_tensors(kind):
    torch = require("torch")
    value = torch.ones((4, 6, 5, 3), requires_grad=kind.startswith("float"))
    predictions = answer(value.to(getattr(torch, kind)))
    assert isinstance(predictions, np.ndarray)
    assert (predictions == 1).all()


def test_torch_takes_the_batches():
    """`torch.from_numpy` refuses big-endian arrays, which is what FITS holds."""
    torch = require("torch")

    def model(batch):
        return torch.from_numpy(batch[0]).repeat(1, 1, 1, 2)

    _, (mean_var, _) = predict(
        model, np.ones((6, 6), ">f4"), 2, 4, (3, 3), aggregate_method="mean_var", progress=False
    )
    assert (mean_var[..., 0] == 1).all()


class OnDevice:
    """What CuPy offers: an array that only `get` brings to the host."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012

    def get(self):
        return np.ones((4, 3))


def test_cupy_arrays():
    assert (answer(OnDevice()) == 1).all()


class Converts:
    """What TensorFlow and JAX offer: conversion by numpy's protocol."""

    def __array__(self, dtype=None, copy=None):
        return np.ones((4, 3), np.float32)


def test_arrays_of_other_frameworks():
    assert (answer(Converts()) == 1).all()


def test_nothing_that_takes_long_is_imported():
    """Checked in a fresh interpreter, since other tests import torch."""
    import subprocess

    code = (
        "import sys, numpy as np; from morpheus_core import predict;"
        "predict(lambda b: np.ones((len(b[0]), 2)), np.ones((4, 4)), 2, 2, (2, 2), progress=False);"
        "assert not {'torch', 'tensorflow', 'jax', 'cupy', 'matplotlib'} & set(sys.modules);"
        "assert not {'astropy.nddata', 'astropy.wcs', 'astropy.table'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MEMORY = np.ones((8, 6, 5, 3), np.float32)
VIEW = MEMORY[:4]


@pytest.mark.parametrize(
    ("make", "is_copied"),
    [
        (lambda: np.ones((4, 6, 5, 3), np.float32), False),
        (lambda: np.ones((8, 6, 5, 3), np.float32)[:4], False),
        (lambda: MEMORY[:4], True),
        (lambda: VIEW, True),
        (lambda: np.frombuffer(bytes(4 * 6 * 5 * 3 * 4), np.float32).reshape(4, 6, 5, 3), True),
    ],
)
def test_only_memory_that_the_model_may_use_again_is_copied(make, is_copied):
    model = CheckedModel(lambda _: make(), 3, (6, 5), asked_ahead=True)
    first, second, third = model(BATCH)(), model(BATCH)(), model(BATCH)()
    assert not np.shares_memory(first, second)
    # Python 3.14 counts no references of variables that only lend theirs, so all is copied there.
    is_copied |= sys.version_info >= (3, 14)
    assert np.shares_memory(first, third) == is_copied  # two buffers, used in turn
    assert not np.shares_memory(first, MEMORY)


def test_a_model_has_the_same_bytes_in_every_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "import numpy as np\n"
        "from morpheus_core.pipeline.models import pickle_model\n"
        "class Model:\n"
        "    def __call__(self, batch):\n"
        "        return np.full(len(batch), time.time() + os.getpid() + sys.maxsize)\n"
        "sys.stdout.write(pickle_model(Model()).hex())\n"
    )
    package_path = {"PYTHONPATH": str(Path(package.__file__).parent.parent)}
    pickles = {
        subprocess.run(
            [sys.executable, script],
            env={**os.environ, **package_path, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in "1234"
    }
    assert len(pickles) == 1
