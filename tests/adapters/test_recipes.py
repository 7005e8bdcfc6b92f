"""Packages that docs/models.rst has a recipe for; `make test-programs` installs them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import adapters, predict

pytestmark = pytest.mark.programs
PAGE = (Path(__file__).parents[2] / "docs" / "models.rst").read_text()
RANDOM = np.random.default_rng(1)
IMAGES = [RANDOM.normal(size=(20, 20)).astype(np.float32) for _ in range(2)]


def classify(model, images=IMAGES, **options):
    hduls, (mean_var, _) = predict(
        model, images, 2, 4, (10, 10), stride=(5, 5), aggregate_method="mean_var", progress=False,
        **options,
    )  # fmt: skip
    result = np.array(mean_var)
    for hdul in hduls:
        hdul.close()
    return result


@pytest.mark.parametrize(
    ("package", "name", "quiet"),
    [
        ("xgboost", "XGBClassifier", {"verbosity": 0}),
        ("lightgbm", "LGBMClassifier", {"verbosity": 0}),
        ("catboost", "CatBoostClassifier", {"verbose": 0, "allow_writing_files": False}),
    ],
)
def test_boosted_trees(tmp_path, package, name, quiet):
    table = RANDOM.normal(size=(500, 2))
    trees = getattr(require(package), name)(n_estimators=5, max_depth=2, **quiet)
    trees.fit(table, table[:, 0] > 0)
    images = [IMAGES[0].copy(), IMAGES[1]]
    images[0][3, 4] = np.nan
    result = classify(trees, images)
    assert np.argwhere(np.isnan(result).any(axis=(2, 3))).tolist() == [[3, 4]]
    assert ((result[..., 1, 0] > 0.5) == (images[0] > 0)).mean() > 0.9
    assert_array_equal(classify(trees, images, out_dir=tmp_path, cpus=2), result)
    kept = adapters.sklearn_model(trees, fill_nan="keep")
    assert np.isfinite(kept([one[np.newaxis, ..., np.newaxis] for one in images])).all()


def test_skops(tmp_path):
    require("skops")
    from sklearn.linear_model import LogisticRegression
    from skops import io

    table = RANDOM.normal(size=(100, 2))
    estimator = LogisticRegression().fit(table, table[:, 0] > 0)
    io.dump(estimator, tmp_path / "model.skops")
    unknown = io.get_untrusted_types(file=tmp_path / "model.skops")
    loaded = io.load(tmp_path / "model.skops", trusted=unknown)
    assert_array_equal(classify(loaded, out_dir=tmp_path, cpus=2), classify(estimator))


def shown(name):
    """Return a class as the page shows it, as if it were the user's."""
    space = {"np": np, "keras_model": adapters.keras_model, "__name__": "__main__"}
    for one in ("class Runtime", name):
        recipe = re.search(rf"   {one}\b.*?(?=\n\S)", PAGE, re.DOTALL)
        exec(dedent(recipe[0]), space)
    return space[name.split()[1]]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the exporter about PyTorch's own code
def test_openvino(tmp_path):
    require("openvino")
    torch = require("torch")
    network = torch.nn.Conv2d(2, 2, 3, padding=1).eval()
    path = tmp_path / "network.onnx"
    torch.onnx.export(
        network, (torch.zeros(2, 2, 10, 10),), path, dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    model, expected = shown("class OpenVino")(str(path)), classify(adapters.torch_model(network))
    assert_allclose(classify(model), expected, atol=1e-5)
    assert_allclose(classify(model, out_dir=tmp_path, cpus=2), expected, atol=1e-5)


def test_jax(tmp_path):
    jax = require("jax")
    from jax import export

    def scores(pixels):
        return jax.nn.softmax(pixels * 2)

    shape = export.symbolic_shape("batch, height, width, 2")
    exported = export.export(jax.jit(scores))(jax.ShapeDtypeStruct(shape, np.float32))
    (tmp_path / "network.jax").write_bytes(exported.serialize())

    def expected(batch):
        powers = np.exp(2 * np.concatenate(batch, axis=-1))
        return powers / powers.sum(axis=-1, keepdims=True)

    model = shown("class JaxExport")(str(tmp_path / "network.jax"))
    assert_allclose(classify(model), classify(expected), atol=1e-6)
    assert_allclose(classify(model, out_dir=tmp_path, cpus=2), classify(expected), atol=1e-6)


#: TensorFlow makes a network, a SavedModel of it and one for LiteRT, and says what it answers.
TENSORFLOW = """
import sys
import keras, numpy as np, tensorflow as tf
convolution = keras.layers.Conv2D(2, 1, activation="softmax")
network = keras.Sequential([keras.Input((None, None, 2)), convolution])
folder = sys.argv[1]
network.export(folder + "/saved_model", verbose=False)
converter = tf.lite.TFLiteConverter.from_saved_model(folder + "/saved_model")
open(folder + "/network.tflite", "wb").write(converter.convert())
image = np.load(folder + "/image.npy")
np.save(folder + "/scores.npy", network.predict_on_batch(image))
"""
#: Another process reads the SavedModel, since this one has another backend.
SAVED = """
import os, sys
sys.path.insert(0, os.getcwd())
import numpy as np
from morpheus_core import predict
image = np.load("image.npy")[0]
for options in ({}, {"out_dir": "out", "cpus": 2}):
    hduls, (mean_var, n) = predict(
        "mymodels:saved", image, 2, 4, (10, 10), stride=(5, 5), aggregate_method="mean_var",
        progress=False, **options)
    np.save("mean%d.npy" % len(options), mean_var[..., 0])
"""


@pytest.fixture(scope="module")
def of_tensorflow(tmp_path_factory):
    require("tensorflow")
    folder = tmp_path_factory.mktemp("tensorflow")
    np.save(folder / "image.npy", np.stack(IMAGES, axis=-1)[np.newaxis])
    with_backend(folder, TENSORFLOW, str(folder))
    return folder


def with_backend(folder, script, *arguments):
    env = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", script, *arguments], env=env, cwd=folder, check=True)


@pytest.mark.parametrize("cpus", [None, 2])
def test_litert(of_tensorflow, tmp_path, cpus):
    require("ai_edge_litert")
    model = shown("class LiteRt")(str(of_tensorflow / "network.tflite"))
    mean = classify(model, out_dir=tmp_path, cpus=cpus)[..., 0]
    assert_allclose(mean, np.load(of_tensorflow / "scores.npy")[0], atol=1e-5)


def test_a_saved_model(of_tensorflow):
    recipe = re.search(r"   def saved\(\):.*?(?=\n\S)", PAGE, re.DOTALL)
    text = "from morpheus_core.adapters import keras_model\n" + dedent(recipe[0])
    (of_tensorflow / "mymodels.py").write_text(text)
    with_backend(of_tensorflow, SAVED)
    for name in ("mean0.npy", "mean2.npy"):
        mean = np.load(of_tensorflow / name)
        assert_allclose(mean, np.load(of_tensorflow / "scores.npy")[0], atol=1e-5)
