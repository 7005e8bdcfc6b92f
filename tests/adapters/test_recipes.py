"""Packages that docs/models.rst has a recipe for; `make test-programs` installs them."""

import re
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
    ("package", "name"), [("xgboost", "XGBClassifier"), ("lightgbm", "LGBMClassifier")]
)
def test_boosted_trees(tmp_path, package, name):
    table = RANDOM.normal(size=(500, 2))
    trees = getattr(require(package), name)(n_estimators=5, max_depth=2, verbosity=0)
    trees.fit(table, table[:, 0] > 0)
    images = [IMAGES[0].copy(), IMAGES[1]]
    images[0][3, 4] = np.nan
    result = classify(trees, images)
    assert np.argwhere(np.isnan(result).any(axis=(2, 3))).tolist() == [[3, 4]]
    assert ((result[..., 1, 0] > 0.5) == (images[0] > 0)).mean() > 0.9
    assert_array_equal(classify(trees, images, out_dir=tmp_path, cpus=2), result)
    kept = adapters.sklearn_model(trees, fill_nan="keep")
    assert np.isfinite(kept([one[np.newaxis, ..., np.newaxis] for one in images])).all()


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
    space = {"np": np}
    recipe = re.search(r"   class OpenVino:.*?(?=\n\S)", PAGE, re.DOTALL)
    exec(dedent(recipe[0]), space)  # the class as the page shows it
    model = space["OpenVino"](str(path))
    assert_allclose(classify(model), classify(adapters.torch_model(network)), atol=1e-5)
