"""Networks as they lie on people's disks, and as they are passed to `predict`."""

import io
import logging
import os
import pickle
import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import (
    InputError,
    ModelError,
    MorpheusWarning,
    adapters,
    map_exposures,
    predict,
    predict_catalog,
)
from morpheus_core.adapters.inert_pickles import Inert, InertUnpickler, weights_of
from morpheus_core.adapters.kinds import WAYS_OUT, kind_of, what_it_is
from morpheus_core.pipeline.descriptions import model_digest

IMAGE = np.random.default_rng(3).normal(size=(20, 24)).astype(np.float32)
WINDOWS = [np.random.default_rng(4).normal(size=(4, 10, 10, 1)).astype(np.float32)]


@pytest.fixture(autouse=True, scope="module")
def torch():
    require("safetensors")
    return require("torch")


def make():
    import torch

    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 2, 1)
    )


@pytest.fixture(scope="module")
def trained(torch):
    torch.manual_seed(5)
    return make().eval()


@pytest.fixture(scope="module")
def expected(trained):
    return adapters.torch_model(trained)(WINDOWS)


def classify(model, **options):
    hduls, (mean_var, _) = predict(
        model, IMAGE, 2, 4, (10, 10), stride=(5, 7), aggregate_method="mean_var", progress=False,
        **options,
    )  # fmt: skip
    result = np.array(mean_var)
    for hdul in hduls:
        hdul.close()
    return result


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def halves(state):
    return {name: value / 2 for name, value in state.items()}


LAYOUTS = {
    "state_dict": lambda s: s,
    "DataParallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "Lightning": lambda s: {
        "state_dict": {**prefixed(s, "model."), "loss.weight": s["0.bias"]},
        "pytorch-lightning_version": "2.5.0", "epoch": 3, "optimizer_states": [{"state": {}}],
    },
    "compiled in Lightning": lambda s: {"state_dict": prefixed(s, "net._orig_mod.")},
    "nanoGPT": lambda s: {"model": prefixed(s, "_orig_mod."), "model_args": {}, "iter_num": 3},
    "fastai": lambda s: {"model": s, "opt": {"state": [], "hypers": [{"lr": 0.1}]}},
    "detectron2": lambda s: {"model": s, "optimizer": {"state": {}}, "iteration": 1},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": 0.1},
    "nested": lambda s: {"checkpoint": {"net": prefixed(s, "module.")}},
    "without counts": lambda s: {k: v for k, v in s.items() if not k.endswith("tracked")},
}  # fmt: skip


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_checkpoints(torch, trained, expected, tmp_path, layout):
    torch.save(LAYOUTS[layout](trained.state_dict()), tmp_path / "file.ckpt")
    model = adapters.torch_model(make, state_dict=tmp_path / "file.ckpt")
    assert_array_equal(model(WINDOWS), expected)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_safetensors(trained, expected, tmp_path, prefix):
    from safetensors.torch import save_file

    save_file(prefixed(trained.state_dict(), prefix), tmp_path / "file.safetensors")
    model = adapters.torch_model(make, state_dict=tmp_path / "file.safetensors")
    assert_array_equal(model(WINDOWS), expected)


@pytest.mark.parametrize(
    ("layout", "key", "names"),
    [
        (lambda s: {"model": halves(s), "ema": s}, "ema", "model, ema"),
        (
            lambda s: {**prefixed(halves(s), "student."), **prefixed(s, "teacher.")},
            "teacher",
            ":student, :teacher",
        ),
    ],
)
def test_several_weights_are_named_and_not_guessed(
    torch, trained, expected, tmp_path, layout, key, names
):
    path = tmp_path / "file.pt"
    torch.save(layout(trained.state_dict()), path)
    with pytest.raises(ModelError, match=f"several weights that fit Sequential: {names}; name"):
        adapters.torch_model(make, state_dict=path)(WINDOWS)
    model = adapters.torch_model(make, state_dict=path, state_key=key)
    assert_array_equal(model(WINDOWS), expected)
    with pytest.raises(ModelError, match=r"state_key must be one of .*, got 'other'"):
        adapters.torch_model(make, state_dict=path, state_key="other")(WINDOWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k[0] != "2"}, r"2 of 9 .*missing, 2.weight, 2"),
        (lambda s: {**s, "2.bias": s["0.bias"]}, r"other shapes, 2.bias \(3,\), not \(2,\)"),
        (lambda s: {"epoch": 3}, "holds no tensors by name"),
        (lambda s: [1, 2], "holds no tensors by name"),
    ],
)
def test_weights_that_do_not_fit(torch, trained, tmp_path, content, message):
    torch.save(content(trained.state_dict()), tmp_path / "file.pt")
    with pytest.raises(ModelError, match=message):
        adapters.torch_model(make, state_dict=tmp_path / "file.pt")(WINDOWS)


class Touching:
    """Makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Settings:
    """Of a program that is not installed where its checkpoints are read."""

    def __init__(self):
        self.history, self.rate = {np.float64(3): [np.arange(3)]}, {1, 2}


@pytest.mark.parametrize("old", [False, True])
def test_whole_modules_and_settings_in_checkpoints(torch, trained, expected, tmp_path, old):
    """Layouts of Ultralytics, segmentation_models_pytorch, timm, mmengine and nnU-Net."""
    network = make().eval()
    network.load_state_dict(trained.state_dict())
    network.register_buffer("passing", torch.zeros(2), persistent=False)
    state, path = trained.state_dict(), tmp_path / "touched"
    contents = [
        network,
        {"model": network, "ema": None, "train_args": {"lr0": 0.1}, "epoch": -1},
        {"state_dict": state, "args": Namespace(lr=0.1), "version": 2},
        {"meta": {"palette": np.zeros(3)}, "state_dict": state, "message_hub": {"x": Settings()}},
        {
            "network_weights": state,
            "init_args": {"device": torch.device("cpu")},
            "b": Touching(path),
        },
    ]
    for k, content in enumerate(contents):
        file = tmp_path / f"{k}.pth.tar"
        torch.save(content, file, _use_new_zipfile_serialization=not old)
        assert_array_equal(adapters.torch_model(make, state_dict=file)(WINDOWS), expected)
    assert not path.exists()


class Kinds(dict):
    pass


class Several(list):
    pass


@pytest.mark.parametrize("protocol", [2, 4])
def test_inert_objects_take_what_pickles_do_with_objects(protocol):
    values = [Kinds(a=1), Several([1]), Several([1, 2]), {Settings: Path("a")}, frozenset([3])]
    for value in [*values, Settings(), {Settings()}]:
        pickled = pickle.dumps(value, protocol)
        assert type(InertUnpickler(io.BytesIO(pickled)).load()) is not Settings
    inert = type("Any", (Inert,), {})(1, a=2)
    assert isinstance(inert(3), Inert)
    assert inert in {inert}
    inert.add(1)
    assert list(weights_of(inert)) == []


def test_a_file_of_another_kind_holds_no_weights(torch, trained, tmp_path):
    path = write(tmp_path / "page.pt", b"<!DOCTYPE html><html>")
    with pytest.raises(
        ModelError, match=r"(?s)holds no weights that can be loaded: .*; it is a text"
    ):
        adapters.torch_model(make, state_dict=path)(WINDOWS)
    torch.save(trained, tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"a file of torch.save. .*also those of a whole module"):
        adapters.torch_model(tmp_path / "whole.pt")(WINDOWS)


@pytest.mark.parametrize("name", ["net.pt2", "net.pt"])
def test_a_program_is_known_by_what_it_holds(torch, trained, expected, tmp_path, name):
    program = torch.export.export(trained, (torch.zeros(4, 1, 10, 10),))
    torch.export.save(program, tmp_path / "net.pt2")
    (tmp_path / "net.pt2").rename(tmp_path / name)
    assert_allclose(adapters.torch_model(tmp_path / name)(WINDOWS), expected, atol=1e-6)
    assert kind_of(tmp_path / name) == "export"


@pytest.mark.parametrize(("most", "sizes"), [(8, 4), (3, 3)])
def test_ranges_of_batches_are_read(torch, trained, expected, most, sizes):
    batch = torch.export.Dim("batch", max=most)
    program = torch.export.export(
        trained, (torch.zeros(2, 1, 10, 10),), dynamic_shapes=({0: batch},)
    )
    model = adapters.torch_model(program)
    assert model.network.batch_sizes == (1, most)
    assert_allclose(model(WINDOWS), expected, atol=1e-6)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("old.h5", b"\x89HDF\r\n\x1a\n", "hdf5"),
        ("page.pt", b"<!DOCTYPE html><html>", "text"),
        ("pointer.pt", b"version https://git-lfs.github.com/spec/v1\n", "text"),
        ("w.bin", (12).to_bytes(8, "little") + b'{"a":  {}}  ', "safetensors"),
        ("model.pkl", b"\x80\x04]\x94.", "pickle"),
    ],
)
def test_files_say_what_they_are(tmp_path, name, content, kind):
    path = write(tmp_path / name, content)
    assert kind_of(path) == kind
    assert what_it_is(path) == f"; it is {WAYS_OUT[kind]}"
    shown = path.with_suffix(".pt")
    path.rename(shown)
    with pytest.raises(ModelError, match=r"holds no program of .*; it is "):
        adapters.torch_model(shown)(WINDOWS)


def test_a_saved_model_is_named(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match=r"it is a SavedModel of TensorFlow: pass keras_model\("):
        adapters.load_model(tmp_path / "saved")
    assert what_it_is(tmp_path / "missing") == ""


def of_dict(x):
    return {"features": x.repeat(1, 3, 1, 1), "seg": x.repeat(1, 2, 1, 1)}


def of_tuple(x):
    return x.repeat(1, 3, 1, 1), x.repeat(1, 2, 1, 1)


@dataclass
class Parts:
    features: object
    seg: object
    hidden: object = None


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (of_dict, "seg"), (of_dict, 1), (of_dict, -1), (of_tuple, 1), (of_tuple, -1),
        (lambda x: Parts(*of_tuple(x)), "seg"),
    ],
)  # fmt: skip
def test_one_of_several_outputs(torch, answer, output):
    class Network(torch.nn.Module):
        def forward(self, x):
            return answer(x)

    scores = adapters.torch_model(Network(), output=output)(WINDOWS)
    assert_array_equal(scores, WINDOWS[0].repeat(2, axis=-1))
    with pytest.raises(ModelError, match="output must be one of"):
        adapters.torch_model(Network(), output="other")(WINDOWS)
    with pytest.raises(InputError, match="output must be the name of an output or its position"):
        adapters.torch_model(Network(), output=2.5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_modules_get_numbers_of_their_own_type(torch, trained, expected, dtype):
    model = adapters.torch_model(make().to(getattr(torch, dtype)))
    assert model(WINDOWS).dtype == np.float32


@pytest.mark.parametrize("kind", ["int64", "complex64"])
def test_what_is_no_score(torch, kind):
    class Network(torch.nn.Module):
        def forward(self, x):
            return x.to(getattr(torch, kind))

    with pytest.raises(ModelError, match=f"must return scores, .* got torch.{kind}"):
        adapters.torch_model(Network())(WINDOWS)


def test_devices_are_known_when_the_adapter_is_made(torch, monkeypatch):
    with pytest.raises(InputError, match=r"device must be \"auto\", .* got 'gpu'"):
        adapters.torch_model(make, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device='cuda:1' needs a GPU"):
        adapters.torch_model(make, device="cuda:1")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("channels", ["first", "last"])
def test_activations_are_those_of_the_framework(torch, activation, channels):
    class Twice(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, -x], 1 if channels == "first" else 3)

    given = {"channels": channels, "activation": activation}
    scores = adapters.torch_model(Twice(), **given)(WINDOWS)
    p = 1 / (1 + np.exp((-2 if activation == "softmax" else -1) * WINDOWS[0]))
    assert_allclose(scores, np.concatenate([p, 1 - p], axis=-1), atol=1e-6)
    with pytest.raises(ModelError, match="softmax needs at least two classes"):
        adapters.torch_model(torch.nn.Identity(), channels=channels, activation="softmax")(WINDOWS)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("bands", [1, 3])
def test_memory_formats_are_those_that_are_asked_for(torch, memory_format, bands):
    seen = []

    class Network(torch.nn.Conv2d):
        def forward(self, x):
            seen.append((x.stride(1), self.weight.is_contiguous()))
            return super().forward(x)

    torch.manual_seed(6)
    network = Network(bands, 2, 3, padding=1)
    windows = WINDOWS * bands
    scores = adapters.torch_model(network, memory_format=memory_format)(windows)
    contiguous = memory_format == "contiguous"
    assert seen[0][0] == (100 if contiguous else 1)
    assert bands == 1 or seen[0][1] is contiguous
    assert_allclose(scores, adapters.torch_model(network)(windows), atol=1e-5)
    with pytest.raises(InputError, match="memory_format must be one of"):
        adapters.torch_model(network, memory_format="last")


@pytest.mark.parametrize("form", ["module", "program", "module of a program", "path"])
def test_networks_are_wrapped(torch, trained, tmp_path, caplog, form):
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(trained, (torch.zeros(2, 1, 10, 10),), dynamic_shapes=batch)
    torch.export.save(program, tmp_path / "net.pt2")
    model = {
        "module": trained, "program": program, "module of a program": program.module(),
        "path": str(tmp_path / "net.pt2"),
    }[form]  # fmt: skip
    with caplog.at_level(logging.INFO, "morpheus_core"):
        result = classify(model)
    assert_allclose(result, classify(adapters.torch_model(trained)), atol=1e-6)
    assert any("the model is run as Adapter(" in one.getMessage() for one in caplog.records)


def everywhere(model, folder):
    """Return what all three functions make of a model."""
    rows = Table({"x": [8, 9], "y": [9, 10]})
    table = predict_catalog(model, IMAGE, rows, 2, 2, (10, 10), progress=False)
    fits.writeto(folder / "image.fits", IMAGE, overwrite=True)
    (outcome,) = map_exposures(
        model, folder / "image.fits", 2, 4, (10, 10), (5, 7), thresholds=None, overwrite=True,
        progress=False,
    )  # fmt: skip
    assert outcome.error is None
    values = np.stack([table["class_0"], table["class_1"]])
    return [classify(model), values, fits.getdata(outcome.output)]


def with_softmax(trained):
    import torch

    return torch.nn.Sequential(trained, torch.nn.Softmax(1)).eval()


def estimator():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit([[0], [1]], [0, 1])


def keras_network():
    import keras

    image = keras.Input((None, None, 1))
    scores = keras.layers.Conv2D(2, 1, activation="softmax", kernel_initializer="ones")(image)
    return keras.Model(image, scores)


def program_file(trained, folder):
    import torch

    given = (torch.zeros(2, 1, 10, 10),)
    program = torch.export.export(
        with_softmax(trained), given, dynamic_shapes=({0: torch.export.Dim("b")},)
    )
    torch.export.save(program, folder / "net.pt2")
    return str(folder / "net.pt2")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("form", ["module", "path", "estimator", "keras"])
def test_all_functions_take_networks_as_they_are(trained, tmp_path, monkeypatch, form):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    model, adapter = {
        "module": lambda: (with_softmax(trained), adapters.torch_model),
        "path": lambda: (program_file(trained, tmp_path), adapters.torch_model),
        "estimator": lambda: (estimator(), adapters.sklearn_model),
        "keras": lambda: (keras_network(), adapters.keras_model),
    }[form]()
    adapted = everywhere(adapter(model), tmp_path)
    for found, expected in zip(everywhere(model, tmp_path), adapted, strict=True):
        assert_array_equal(found, expected)


def test_guards_of_a_program_say_what_to_pass(torch, trained):
    program = torch.export.export(trained, (torch.zeros(3, 1, 10, 10),))
    with pytest.raises(ModelError, match="pass the ExportedProgram itself"):
        adapters.torch_model(program.module())(WINDOWS)


@pytest.mark.slow
def test_estimators_are_wrapped_and_travel(tmp_path):
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit([[0], [1]], [0, 1])
    expected = classify(adapters.sklearn_model(estimator))
    assert_array_equal(classify(estimator), expected)
    assert_array_equal(classify(estimator, out_dir=tmp_path, cpus=2), expected)


def test_names_of_features_are_compared():
    import pandas
    from sklearn.linear_model import LogisticRegression

    table = pandas.DataFrame({"h": [0.0, 1], "j": [1.0, 0]})
    estimator = LogisticRegression().fit(table, [0, 1])
    windows = [WINDOWS[0], WINDOWS[0] + 1]
    scores = adapters.sklearn_model(estimator, band_names=["h", "j"])(windows)  # without a warning
    assert scores.shape == (4, 10, 10, 2)
    with pytest.raises(InputError, match=r"in their order, h, j, got j, h"):
        adapters.sklearn_model(estimator, band_names=["j", "h"])
    nameless = LogisticRegression().fit(table.to_numpy(), [0, 1])
    with pytest.raises(InputError, match="LogisticRegression has none: leave them out"):
        adapters.sklearn_model(nameless, band_names=["h", "j"])


@pytest.fixture
def bands(tmp_path):
    for name in ("GOODS_H_drz", "goods_j", "other"):
        fits.writeto(tmp_path / f"{name}.fits", IMAGE)
    return {path.stem.lower(): str(path) for path in tmp_path.glob("*.fits")}


@pytest.fixture
def named():
    import pandas
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(pandas.DataFrame({"h": [0.0, 1], "j": [1.0, 0]}), [0, 1])


def runs(model, images, folder):
    rows = Table({"x": [8.0], "y": [9.0]})
    yield lambda: predict(model, images, 2, 4, (10, 10), stride=(5, 7), progress=False)
    yield lambda: predict_catalog(model, images, rows, 2, 4, (10, 10), progress=False)


@pytest.mark.parametrize("wrap", [lambda one: one, adapters.sklearn_model, lambda one:
                         adapters.test_time_augmentation(adapters.sklearn_model(one))])  # fmt: skip
def test_names_of_files_are_compared_with_features(bands, named, tmp_path, wrap):
    for run in runs(wrap(named), [bands["goods_j"], bands["goods_h_drz"]], tmp_path):
        with pytest.raises(InputError, match=r"trained with, h, j, got j, h by the names of"):
            run()
    for images in (
        [bands["goods_h_drz"], bands["goods_j"]],
        [bands["other"], bands["goods_h_drz"]],
    ):
        for run in runs(wrap(named), images, tmp_path):
            run()


def test_names_of_bands_say_more_than_those_of_files(bands, named, tmp_path):
    model = adapters.sklearn_model(named, band_names=["h", "j"])
    for run in runs(model, [bands["goods_j"], bands["goods_h_drz"]], tmp_path):
        run()


@pytest.mark.parametrize("wrap", [adapters.sklearn_model, lambda one:
                         adapters.test_time_augmentation(adapters.sklearn_model(one))])  # fmt: skip
def test_classes_are_not_called_by_the_names_of_others(bands, tmp_path, wrap):
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit([[0.0, 1], [1, 0]], ["star", "galaxy"])
    model, images = wrap(estimator), [bands["goods_h_drz"], bands["goods_j"]]
    arguments = {"n_classes": 2, "batch_size": 4, "window_shape": (10, 10), "progress": False}
    with pytest.raises(InputError, match=r"trained with, galaxy, star, got star, galaxy; pass"):
        predict(model, images, **arguments, class_names=["star", "galaxy"])
    for names in (None, ["galaxy", "star"], ["extended", "compact"]):
        predict(model, images, **arguments, class_names=names)


def test_the_weights_are_known_by_their_checksum(torch, trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    other = make()
    models = {
        "module": adapters.torch_model(trained),
        "the same module": adapters.torch_model(trained, activation="softmax"),
        "augmented": adapters.test_time_augmentation(adapters.torch_model(trained)),
        "other": adapters.torch_model(other),
        "file": adapters.torch_model(make, state_dict=tmp_path / "weights.pt"),
    }
    sums = {name: model_digest(model) for name, model in models.items()}
    assert sums["module"] == sums["the same module"]
    assert len(set(sums.values())) == len(sums) - 1
    assert all(one.startswith("sha256 ") for one in sums.values())

    class Closed:
        def __init__(self):
            self.steps = (step for step in [1])

        def predict_proba(self, table):
            return table

    assert model_digest(adapters.sklearn_model(Closed())) is None
    assert model_digest(np.tanh) is model_digest(adapters.torch_model(make)) is None


def test_the_checksum_is_in_the_header(trained, tmp_path):
    classify(trained, out_dir=tmp_path)
    expected = model_digest(adapters.torch_model(trained))
    rows = Table({"x": [8, 9], "y": [9, 10]})
    table = predict_catalog(trained, IMAGE, rows, 2, 2, (10, 10), progress=False)
    assert table.meta["MODELSUM"] == expected
    assert fits.getheader(tmp_path / "output.fits")["MODELSUM"] == expected


def onnx_graph(path, nodes, outputs, opset=19):
    import onnx
    from onnx import helper

    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [None] * 4)
    answers = [
        helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), [None] * 4)
        for name, kind in outputs
    ]
    made = [helper.make_node(operator, ["image"], [name], **more) for operator, name, more in nodes]
    graph = helper.make_graph(made, "graph", [image], answers)
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


@pytest.mark.parametrize("kind", ["INT64", "FLOAT8E4M3FN", "BOOL"])
def test_outputs_of_onnx_that_are_no_scores(tmp_path, kind):
    import onnx

    cast = ("Cast", "labels", {"to": getattr(onnx.TensorProto, kind)})
    path = onnx_graph(tmp_path / "x.onnx", [cast], [("labels", kind)])
    with pytest.raises(ModelError, match=r"output 'labels' must be scores, .* got tensor\("):
        adapters.onnx_model(path)(WINDOWS)


def test_one_of_several_outputs_of_onnx(tmp_path):
    nodes = [("Neg", "minus", {}), ("Identity", "same", {})]
    path = onnx_graph(tmp_path / "x.onnx", nodes, [("minus", "FLOAT"), ("same", "FLOAT")])
    with pytest.raises(ModelError, match=r"several outputs, 'minus' .*output='same'"):
        adapters.onnx_model(path)(WINDOWS)
    with pytest.raises(ModelError, match="output must be one of 'minus'"):
        adapters.onnx_model(path, output="other")(WINDOWS)
    for output, sign in (("minus", -1), (0, -1), ("same", 1), (1, 1)):
        scores = adapters.onnx_model(path, output=output, channels="last")(WINDOWS)
        assert_array_equal(scores, sign * WINDOWS[0])


def test_dynamic_quantization_is_told(tmp_path):
    from onnx import helper, save, TensorProto  # noqa: I001

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in ("a", "b")]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["a"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["b"]),
    ]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:])
    imports = [helper.make_opsetid("", 19)]
    save(helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "x.onnx")
    model = adapters.onnx_model(tmp_path / "x.onnx")
    with pytest.warns(MorpheusWarning, match="x.onnx is quantized dynamically: what it says"):
        model.network  # noqa: B018 - it is loaded by that
    windows = [WINDOWS[0].copy()]
    windows[0][-1] *= 1000
    with pytest.warns(MorpheusWarning, match="depends on the windows that it is shown with"):
        model(windows)


TRACES = """
import sys
import numpy as np
from morpheus_core import adapters
from sklearn.linear_model import LogisticRegression
windows = [np.ones((2, 4, 4, 1), np.float32)]
adapters.onnx_model(sys.argv[1], channels="last")(windows)
adapters.sklearn_model(LogisticRegression().fit([[0], [1]], [0, 1]))(windows)
import torch
adapters.torch_model(torch.nn.Conv2d(1, 2, 1))(windows)
adapters.test_time_augmentation(adapters.torch_model(torch.nn.Conv2d(1, 2, 1)))(windows)
try:
    adapters.keras_model(sys.argv[1] + ".keras").network
except Exception as error:
    print(error)
import keras
image = keras.Input((None, None, 1))
adapters.keras_model(keras.Model(image, keras.layers.Conv2D(2, 1)(image)))(windows)
"""


@pytest.mark.slow
def test_nothing_is_left_in_the_home(tmp_path):
    assert find_spec("keras")  # importing it here would choose a backend
    home = tmp_path / "home"
    home.mkdir()
    nodes = [("Identity", "same", {})]
    path = onnx_graph(tmp_path / "x.onnx", nodes, [("same", "FLOAT")])
    Path(f"{path}.keras").write_bytes(b"no archive")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "KERAS", "ORT_"))}
    env = {**kept, "HOME": str(home), "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", TRACES, str(path)], env=env, check=True)
    left = [str(one.relative_to(home)) for one in home.rglob("*") if one.is_file()]
    # The fonts that matplotlib has found, where Keras finds it.
    assert [one for one in left if not one.startswith(".cache/matplotlib/")] == []
