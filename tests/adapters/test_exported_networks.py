"""One trained network, through every adapter that can run it, gives one answer."""

import shutil
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal
from shown_examples import bash, literal_block, run_page

from morpheus_core import (
    InputError,
    ModelError,
    MorpheusWarning,
    WorkerError,
    adapters,
    predict,
    predict_catalog,
)
from morpheus_core.demo.sky import NOISE_SIGMA, simulate_sky
from morpheus_core.pipeline.models import pickle_model, unpickle_model

ROOT = Path(__file__).parents[2]
SKY = simulate_sky((40, 56), seed=16)
SCALED = {"normalize": adapters.z_score(0, [10 * sigma for sigma in NOISE_SIGMA])}
OPTIONS = {**SCALED, "activation": "softmax"}

pytestmark = [
    pytest.mark.usefixtures("networks"),
    # Keras 3 on PyTorch, and numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="session")
def keras_on_torch():
    """Workers inherit the choice, as everything in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        yield


@pytest.fixture(scope="session")
def networks(keras_on_torch):
    """The module that made them."""
    for package in ("torch", "onnx", "onnxscript", "onnxruntime", "keras", "sklearn"):
        require(package)
    import exported_networks
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other on a busy machine
    yield exported_networks
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def network(networks):
    return networks.trained()


@pytest.fixture(scope="session")
def folder(networks, network, tmp_path_factory):
    path = tmp_path_factory.mktemp("networks")
    networks.export(network, path)
    return path


@pytest.fixture(scope="session")
def expected(network):
    return classify(adapters.torch_model(network, **OPTIONS))


def classify(model, n_classes=5, **options):
    """Predict rows of six windows in batches of five and one."""
    hduls, (mean_var, _) = predict(
        model, SKY.images, n_classes, 5, (16, 16), stride=(8, 8), aggregate_method="mean_var",
        progress=False, **options,
    )  # fmt: skip
    result = np.array(mean_var)
    for hdul in hduls:
        hdul.close()
    return result


def windows(count=3, height=16, width=16, bands=4):
    """Return one (batch, height, width, 1) array per band."""
    random = np.random.default_rng(1)
    return [random.normal(size=(count, height, width, 1)).astype("f4") for _ in range(bands)]


def scripted(network):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its age
        return torch.jit.script(network)


def loaded_keras(path):
    import keras

    return keras.saving.load_model(path)


#: From the folder, the network and the module that made it to a model for `predict`.
MODELS = {
    "module": lambda f, n, m: adapters.torch_model(n, **OPTIONS),
    "class and weights": lambda f, n, m: adapters.torch_model(
        m.UNet, state_dict=f / "weights.pt", **OPTIONS
    ),
    "TorchScript": lambda f, n, m: adapters.torch_model(f / "unet.ts", **OPTIONS),
    "TorchScript in memory": lambda f, n, m: adapters.torch_model(scripted(n), **OPTIONS),
    "export": lambda f, n, m: adapters.torch_model(f / "unet.pt2", **OPTIONS),
    "export of fixed batch": lambda f, n, m: adapters.torch_model(f / "unet_fixed.pt2", **OPTIONS),
    "onnx": lambda f, n, m: adapters.onnx_model(f / "unet.onnx", **OPTIONS),
    "onnx of fixed batch": lambda f, n, m: adapters.onnx_model(f / "unet_fixed.onnx", **OPTIONS),
    "keras": lambda f, n, m: adapters.keras_model(f / "unet.keras", **OPTIONS),
    "keras of fixed batch": lambda f, n, m: adapters.keras_model(f / "unet_fixed.keras", **OPTIONS),
    "keras in memory": lambda f, n, m: adapters.keras_model(
        loaded_keras(f / "unet.keras"), **OPTIONS
    ),
}


def test_the_network_has_learnt_something(expected):
    classes = expected[..., 0].argmax(axis=-1)
    assert (classes == SKY.truth).mean() > 0.95
    assert len(np.unique(classes)) >= 3


@pytest.mark.parametrize("kind", list(MODELS))
def test_one_answer(kind, folder, network, networks, expected):
    model = MODELS[kind](folder, network, networks)
    assert_allclose(classify(model), expected, atol=1e-5)


class SideBySide:
    """The classes of several models, one model after the other: workers that start once."""

    def __init__(self, models):
        self.models = models

    def __call__(self, batch):
        return np.concatenate([model(batch) for model in self.models], axis=-1)


@pytest.mark.slow
def test_one_answer_of_two_workers(folder, network, networks, expected, tmp_path):
    models = [make(folder, network, networks) for make in MODELS.values()]
    together = classify(SideBySide(models), len(models) * 5, out_dir=tmp_path, cpus=2)
    for kind, mean_var in zip(MODELS, np.split(together, len(models), axis=2), strict=True):
        assert_allclose(mean_var, expected, atol=1e-5, err_msg=kind)


@pytest.mark.parametrize("kind", list(MODELS))
def test_what_is_loaded_is_not_pickled(kind, folder, network, networks):
    model = MODELS[kind](folder, network, networks)
    before = pickle_model(model)
    scores = model(windows())
    after = pickle_model(model)
    assert abs(len(after) - len(before)) < 100
    assert_array_equal(unpickle_model(after)(windows()), scores)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("kind", list(MODELS))
def test_what_models_say_of_themselves(kind, folder, network, networks):
    model = MODELS[kind](folder, network, networks)
    model(windows())
    assert len(repr(model)) < 500
    assert " at 0x" not in repr(model)
    assert 'activation="softmax"' in repr(model)


def test_the_header_has_the_settings(folder, tmp_path):
    model = adapters.onnx_model(folder / "unet.onnx", **OPTIONS)
    classify(model, out_dir=tmp_path)
    assert fits.getheader(tmp_path / "output.fits")["MODEL"] == repr(model)


def expected_of(layer):
    """What is said of a layer in training mode."""
    if layer == "Dropout":
        return pytest.raises(ModelError, match="another answer each time: dropout is on")
    return pytest.warns(MorpheusWarning, match="depends on the windows that it is shown with")


class TestTorch:
    def test_the_module_is_left_as_it_is(self, networks):
        import torch

        module = networks.UNet().train()
        model = adapters.torch_model(module)
        before = model(windows())
        with torch.no_grad():
            module.classes.bias += 1
        assert module.training
        assert_array_equal(model(windows()), before)

    def test_dropout_and_gradients_are_off(self):
        import torch

        model = adapters.torch_model(torch.nn.Dropout(0.5).train())
        assert_array_equal(model(windows())[..., 2:3], windows()[2])

    def test_scores_of_whole_windows(self):
        import torch

        class Means(torch.nn.Module):
            def forward(self, image):
                return image.mean(dim=(2, 3))

        assert adapters.torch_model(Means())(windows()).shape == (3, 4)

    def test_one_tensor_per_image(self):
        import torch

        class Sum(torch.nn.Module):
            def forward(self, first, second):
                return first + 10 * second

        first, second = windows(bands=2)
        model = adapters.torch_model(Sum(), stack_inputs=False)
        assert_allclose(model([first, second]), first + 10 * second, rtol=1e-6)

    def test_channels_last(self):
        import torch

        class Picky(torch.nn.Module):
            def forward(self, image):
                assert image.shape[1:] == (16, 20, 4)
                return image

        scores = adapters.torch_model(Picky(), channels="last")(windows(width=20))
        assert scores.shape == (3, 16, 20, 4)

    def test_half_precision_is_near(self, network):
        exact = adapters.torch_model(network, **OPTIONS)(windows())
        near = adapters.torch_model(network, autocast="bfloat16", **OPTIONS)(windows())
        assert 0 < np.abs(near - exact).max() < 0.05

    @pytest.mark.parametrize(
        ("options", "given", "message"),
        [
            ({"channels": "last"}, {}, r"have 4 channels.* instead; pass channels=\"first\"$"),
            ({}, {"bands": 3, "width": 4}, r"got 3 channels instead; pass the 4 bands that it was"),
            ({"stack_inputs": False}, {}, r"called with 4 tensor\(s\): stack_inputs=True makes"),
        ],
    )
    def test_modules_that_do_not_take_the_windows(self, network, options, given, message):
        model = adapters.torch_model(network, **options)
        with pytest.raises(RuntimeError, match=message):
            model(windows(**given))

    def test_scripts_fail_without_a_listing_of_their_code(self, network):
        model = adapters.torch_model(scripted(network))
        with pytest.raises(ModelError, match=r"\A\w+: Given.* 3 channels instead; pass the 4"):
            model(windows(bands=3))

    def test_windows_that_cannot_be_halved(self, network):
        with pytest.raises(ModelError, match=r"tensor number 1 .*multiple of 2, 4, 8"):
            adapters.torch_model(network)(windows(height=15, width=15))

    @pytest.mark.parametrize("bands", [4, 3])
    def test_channels_are_blamed_only_where_they_are_the_reason(self, bands):
        import torch

        class Grouped(torch.nn.Conv2d):
            def forward(self, image):
                super().forward(image.movedim(-1, 1))
                raise RuntimeError("out of memory")

        model = adapters.torch_model(Grouped(4, 4, 3, groups=2), channels="last")
        message = "^out of memory$" if bands == 4 else "but got 3 channels instead$"
        with pytest.raises(ModelError, match=message):
            model(windows(bands=bands))

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize(("layer", "argument"), [("Dropout", 0.5), ("BatchNorm2d", 4)])
    def test_exports_in_training_mode(self, tmp_path, layer, argument, training):
        import torch

        module = getattr(torch.nn, layer)(argument).train(training)
        path = tmp_path / "mode.pt2"
        torch.export.save(torch.export.export(module, (torch.zeros(3, 4, 16, 16),)), path)
        with expected_of(layer) if training else nullcontext():
            adapters.torch_model(path)(windows(4))

    @pytest.mark.parametrize("layer", ["Dropout", "BatchNorm2d"])
    def test_programs_in_memory_that_deepcopy_keeps_in_training_mode(self, layer):
        import torch

        module = getattr(torch.nn, layer)(*{"Dropout": [0.5], "BatchNorm2d": [4]}[layer]).train()
        program = torch.export.export(module, (torch.zeros(3, 4, 16, 16),)).module()
        with expected_of(layer):
            adapters.torch_model(program)(windows(3))

    def test_modules_that_cannot_be_copied(self):
        import torch

        module = torch.nn.Identity()
        module.scale = 2 * torch.ones(1, requires_grad=True)  # as torch.nn.utils.weight_norm does
        with pytest.raises(InputError, match=r"can be copied, got Identity: .*state_dict="):
            adapters.torch_model(module)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("weights.pt", r"no program of .*state_dict="),
            ("not.pt2", r"no program of .*state_dict="),
        ],
    )
    def test_files_of_another_kind(self, folder, tmp_path, name, message):
        path = tmp_path / name
        path.write_bytes((folder / "weights.pt").read_bytes())
        with pytest.raises(ModelError, match=message):
            adapters.torch_model(path)(windows())

    def test_weights_cannot_run_code(self, networks, tmp_path):
        import torch

        torch.save({"weights": networks.trained}, tmp_path / "evil.pt")
        model = adapters.torch_model(networks.UNet, state_dict=tmp_path / "evil.pt")
        with pytest.raises(ModelError, match=r"it holds no tensors by name"):
            model(windows())

    def test_what_makes_no_module(self):
        with pytest.raises(ModelError, match=r"windows must make a torch.nn.Module, got list"):
            adapters.torch_model(windows)(windows())

    @pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
    def test_auto(self, monkeypatch, gpu, device):
        import torch

        from morpheus_core.adapters.pytorch import chosen_device

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        assert chosen_device("auto") == device
        assert chosen_device("mps") == "mps"

    def test_compile(self, networks, monkeypatch):
        import torch

        monkeypatch.setattr(torch, "compile", lambda module: torch.nn.Identity())
        scores = adapters.torch_model(networks.UNet, compile=True)(windows())
        assert_array_equal(scores, np.concatenate(windows(), axis=-1))

    def test_arguments(self, folder, networks):
        with pytest.raises(InputError, match=r"state_dict needs a module"):
            adapters.torch_model(folder / "unet.pt2", state_dict=folder / "weights.pt")
        with pytest.raises(InputError, match=r"autocast must be one of 'bfloat16', 'float16'"):
            adapters.torch_model(networks.UNet, autocast="float8")
        with pytest.raises(InputError, match=r"model must be a path, a torch.nn.Module.* got int"):
            adapters.torch_model(3)


@pytest.mark.parametrize(
    ("file", "options", "given", "message"),
    [
        ("unet.pt2", {}, {"bands": 3}, r"takes 4 band\(s\), channels first.*images have 3"),
        ("unet.onnx", {}, {"bands": 3}, r"takes 4 band\(s\), channels first.*images have 3"),
        ("unet.keras", {}, {"bands": 3}, r"takes 4 band\(s\), channels last.*images have 3"),
        ("unet.pt2", {}, {"height": 24}, r"\(3, 4, 24, 16\); pass window_shape=\(16, 16\)"),
        ("unet.onnx", {}, {"height": 24}, r"\(3, 4, 24, 16\); pass window_shape=\(16, 16\)"),
        ("unet.pt2", {"channels": "last"}, {}, r"are first: pass channels=\"first\""),
        ("unet.onnx", {"channels": "last"}, {}, r"are first: pass channels=\"first\""),
        ("unet.pt2", {"stack_inputs": False}, {}, r"takes 1 .*, got 4.*pass stack_inputs=True"),
        ("unet.onnx", {"stack_inputs": False}, {}, r"takes 1 .*, got 4.*pass stack_inputs=True"),
        ("unet.keras", {"stack_inputs": False}, {}, r"takes 1 .*, got 4.*pass stack_inputs=True"),
    ],
)
def test_a_network_that_does_not_take_the_windows(folder, file, options, given, message):
    model = adapters.load_model(folder / file, **options)
    with pytest.raises(ModelError, match=message):
        model(windows(**given))


class TestOnnx:
    def test_a_provider_that_is_not_there(self, folder):
        model = adapters.onnx_model(
            folder / "unet.onnx", providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
        with (
            pytest.warns(UserWarning, match="not in available provider names"),
            pytest.raises(ModelError, match=r"must run on CUDAExecutionProvider, but can run on"),
        ):
            model(windows())

    @pytest.mark.parametrize("providers", ["cuda", [], [1], None])
    def test_providers_are_names(self, folder, providers):
        with pytest.raises(InputError, match=r'providers must be a list of names, or "auto"'):
            adapters.onnx_model(folder / "unet.onnx", providers=providers)

    @pytest.mark.parametrize(("limit", "threads"), [("3", 3), ("", 0), ("2,1", 0)])
    def test_threads_are_limited(self, networks, monkeypatch, limit, threads):
        from morpheus_core.adapters.onnx import session_options

        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        assert session_options().intra_op_num_threads == threads

    @pytest.mark.parametrize(
        ("available", "visible", "gpus", "provider"),
        [
            (True, None, 1, "CUDA"),
            (True, None, None, "CUDA"),
            (True, "", 1, "CPU"),
            (True, "0", 0, "CPU"),
            (False, "0", 1, "CPU"),
        ],
    )
    def test_auto(self, networks, monkeypatch, available, visible, gpus, provider):
        import onnxruntime

        from morpheus_core.adapters import onnx

        names = ["CUDAExecutionProvider"] * available + ["CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
        monkeypatch.setattr(onnx, "installed_gpus", lambda: gpus)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert onnx.chosen_providers()[0] == f"{provider}ExecutionProvider"

    @pytest.mark.parametrize(("provider", "count"), [("CUDA", 1), ("CPU", 0)])
    def test_workers_know_a_build_for_gpus(self, monkeypatch, provider, count):
        import onnxruntime

        from morpheus_core.parallel.gpus import count_gpus

        names = [f"{provider}ExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
        assert count_gpus("onnxruntime") == count

    def test_a_file_of_another_kind(self, networks, tmp_path):
        path = tmp_path / "text.onnx"
        path.write_text("no network")
        with pytest.raises(ModelError, match=r"text\.onnx cannot be loaded"):
            adapters.onnx_model(path)(windows())

    def test_float64_networks(self, networks, tmp_path):
        import onnx

        value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.DOUBLE, [None] * 4)
        answer = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.DOUBLE, [None] * 4)
        node = onnx.helper.make_node("Identity", ["image"], ["scores"])
        graph = onnx.helper.make_graph([node], "identity", [value], [answer])
        opset = [onnx.helper.make_opsetid("", 18)]
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "d.onnx"
        )
        scores = adapters.onnx_model(tmp_path / "d.onnx")(windows())
        assert_array_equal(scores, np.concatenate(windows(), axis=-1))


class TestKeras:
    def test_layers_that_hold_code_are_refused(self, networks, tmp_path):
        import keras

        image = keras.Input((16, 16, 4))
        keras.Model(image, keras.layers.Lambda(lambda x: x)(image)).save(tmp_path / "l.keras")
        with pytest.raises(ModelError, match=r"l\.keras cannot be loaded(.|\n)*safe"):
            adapters.keras_model(tmp_path / "l.keras")(windows())

    def test_custom_objects(self, networks, tmp_path):
        import keras

        class Doubled(keras.layers.Layer):
            def call(self, pixels):
                return 2 * pixels

        image = keras.Input((16, 16, 4))
        keras.Model(image, Doubled()(image)).save(tmp_path / "d.keras")
        model = adapters.keras_model(tmp_path / "d.keras", custom_objects={"Doubled": Doubled})
        assert_array_equal(model(windows())[..., 1:2], 2 * windows()[1])

    def test_several_inputs(self, networks):
        import keras

        first, second = keras.Input((16, 16, 1)), keras.Input((16, 16, 1))
        model = keras.Model([first, second], keras.layers.Subtract()([first, second]))
        one, other = windows(bands=2)
        scores = adapters.keras_model(model, stack_inputs=False)([one, other])
        assert_array_equal(scores, one - other)

    def test_channels_first(self, networks):
        import keras

        image = keras.Input((4, 16, 16))
        model = keras.Model(image, keras.layers.Activation("relu")(image))
        scores = adapters.keras_model(model, channels="first")(windows())
        assert_array_equal(scores, np.maximum(np.concatenate(windows(), axis=-1), 0))
        with pytest.raises(ModelError, match=r"channels are first: pass channels=\"first\""):
            adapters.keras_model(model)(windows())

    def test_a_missing_backend(self, networks, folder, monkeypatch):
        model = adapters.keras_model(folder / "unet.keras")
        monkeypatch.setitem(sys.modules, "keras", None)
        with pytest.raises(ModelError, match=r"Keras cannot be imported.*KERAS_BACKEND"):
            model(windows())

    def test_arguments(self, networks, folder):
        with pytest.raises(InputError, match=r"path of a .keras file, or a keras.Model, got int"):
            adapters.keras_model(3)
        with pytest.raises(InputError, match=r"custom_objects are for a file"):
            adapters.keras_model(loaded_keras(folder / "unet.keras"), custom_objects={})

    @pytest.mark.slow
    def test_workers_know_the_backend(self, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "nonsense")
        model = adapters.keras_model(folder / "unet.keras")
        with pytest.raises(WorkerError, match="nonsense"):
            classify(model, out_dir=tmp_path, cpus=1)


@pytest.fixture(scope="module")
def forest(networks):
    from sklearn.ensemble import RandomForestClassifier

    pixels = np.stack(SKY.images, axis=-1).reshape(-1, 4)
    return RandomForestClassifier(10, random_state=1).fit(pixels, SKY.truth.ravel())


def of_two_outputs():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier().fit([[0], [1]], [[0, 1], [1, 0]])


class TestSklearn:
    @pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
    def test_pixels_are_scored_one_by_one(self, forest, tmp_path, cpus):
        scores = forest.predict_proba(np.stack(SKY.images, axis=-1).reshape(-1, 4))
        n_classes = scores.shape[1]
        mean_var = classify(adapters.sklearn_model(forest), n_classes, out_dir=tmp_path, cpus=cpus)
        assert_allclose(mean_var[..., 0].reshape(-1, n_classes), scores, atol=1e-6)

    def test_features(self, networks):
        from sklearn.linear_model import LogisticRegression

        def slopes(pixels):
            return np.concatenate([np.gradient(pixels, axis=1), np.gradient(pixels, axis=2)], -1)

        (pixels,) = windows(bands=1)
        table = slopes(pixels).reshape(-1, 2)
        estimator = LogisticRegression().fit(table, table[:, 0] > table[:, 1])
        scores = adapters.sklearn_model(estimator, features=slopes)([pixels])
        assert scores.shape == (3, 16, 16, 2)
        assert_allclose(scores.reshape(-1, 2), estimator.predict_proba(table), rtol=1e-5)

    def test_nan_is_filled(self, networks):
        from sklearn.linear_model import LogisticRegression

        estimator = LogisticRegression().fit([[0, 0], [1, 1]], [0, 1])
        one, other = windows(bands=2)
        one[0, 3, 3] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            adapters.sklearn_model(estimator, fill_nan="keep")([one, other])
        scores = adapters.sklearn_model(estimator, fill_nan="median")([one, other])
        assert np.isfinite(scores).all()

    @pytest.mark.parametrize("whole", [False, True])
    def test_pixels_of_nan_get_nan_of_trees_that_take_it(self, networks, whole):
        from sklearn.ensemble import HistGradientBoostingClassifier

        random = np.random.default_rng(1)
        table = random.normal(size=(200, 2))
        trees = HistGradientBoostingClassifier(max_iter=3).fit(table, table[:, 0] > 0)
        one, other = windows(bands=2)
        hole = np.s_[:] if whole else np.s_[0, 3, 3]
        one[hole] = np.nan
        scores = adapters.sklearn_model(trees)([one, other])
        assert np.isnan(scores[hole]).all()
        assert np.isnan(scores).any(axis=-1).sum() == np.isnan(one).sum()
        kept = adapters.sklearn_model(trees, fill_nan="keep")([one, other])
        assert np.isfinite(kept).all()

    def test_what_cannot_be_wrapped(self, forest):
        from sklearn.svm import LinearSVC

        with pytest.raises(InputError, match=r"with predict_proba, got LinearSVC"):
            adapters.sklearn_model(LinearSVC())
        with pytest.raises(InputError, match="features must be callable, got 3"):
            adapters.sklearn_model(forest, features=3)
        with pytest.raises(ModelError, match=r"takes 4 features of a pixel, got 3"):
            adapters.sklearn_model(forest)(windows(bands=3))
        with pytest.raises(ModelError, match=r"one row .* per pixel, .* got 2 of shape \(4, 2\)"):
            adapters.sklearn_model(of_two_outputs())([np.zeros((1, 2, 2, 1))])
        with pytest.raises(ModelError, match=r"with \(3, 16, 16\) first, got \(3, 4\)"):
            adapters.sklearn_model(forest, features=lambda x: x.mean((1, 2)))(windows())

    @pytest.mark.parametrize("suffix", ["pkl", "joblib"])
    @pytest.mark.parametrize("content", [b"", b"damaged", b"\x80\x04\x95"])
    def test_damaged_pickles(self, tmp_path, suffix, content):
        path = tmp_path / f"forest.{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"forest.{suffix} cannot be loaded"):
            adapters.load_model(path, trust_pickle=True)

    @pytest.mark.parametrize("suffix", ["pkl", "joblib"])
    def test_pickled_estimators(self, forest, tmp_path, suffix):
        import joblib

        path = tmp_path / f"forest.{suffix}"
        if suffix == "joblib":
            joblib.dump(forest, path)
        else:
            path.write_bytes(pickle_model(forest))
        model = adapters.load_model(path, trust_pickle=True, fill_nan=0)
        assert_array_equal(model(windows()), adapters.sklearn_model(forest)(windows()))


def test_documentation(folder, monkeypatch):
    monkeypatch.chdir(folder)  # where the files are that it loads
    run_page(ROOT / "docs" / "models.rst")


class TestLinesForOtherNetworks:
    """README and pages show them without the networks that they are about."""

    @pytest.fixture(autouse=True)
    def in_an_empty_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def test_adapters(self, folder, network, networks, tmp_path):
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        shutil.copy("unet.onnx", "network.onnx")
        names = {"network": network, "MyNetwork": networks.UNet}
        lines = literal_block(ROOT / "README.rst", "torch_model").splitlines()
        for line in lines:
            exec(line, names)
            if "model" in names:
                assert np.isfinite(classify(names.pop("model"))).all()

    @pytest.mark.slow
    def test_command_line(self):
        require("matplotlib")
        write_onnx(bands=4, classes=5, window=40)
        for band, image in zip("hjvz", simulate_sky((44, 48), seed=16).images, strict=True):
            fits.writeto(f"{band}.fits", image)
        bash(literal_block(ROOT / "README.rst", "net.onnx"))
        assert fits.getdata("results/output.fits").shape == (44, 48, 5, 2)

    def test_catalogue(self):
        import torch

        Table({"x": [20.0, 30.0], "y": [20.0, 35.0]}).write("galaxies.csv")
        for band in "gr":
            fits.writeto(f"{band}.fits", np.ones((64, 64), np.float32))
        names = {"predict_catalog": predict_catalog, "network": torch.nn.Conv2d(2, 5, 1)}
        exec(literal_block(ROOT / "docs" / "catalogs.rst", "torch_model"), names)
        votes = Table.read("votes.csv")
        assert_allclose(sum(votes[f"class_{k}"] for k in range(5)), [1, 1], atol=1e-6)

    @pytest.mark.slow
    def test_exposures(self):
        write_onnx(bands=1, classes=2, window=400)
        Path("night1").mkdir()
        image = fits.ImageHDU(np.zeros((420, 400), np.float32), name="SCI")
        flags = fits.ImageHDU(np.zeros((420, 400), np.int16), name="DQ")
        fits.HDUList([fits.PrimaryHDU(), image, flags]).writeto("night1/exposure.fits")
        bash(literal_block(ROOT / "docs" / "fits.rst", "net.onnx"))
        masks = fits.getdata("masks/exposure.masks.fits")
        assert masks.shape == (2, 420, 400)
        assert_array_equal(masks, np.broadcast_to(masks[:, :1, :1], masks.shape))
        assert masks[:, 0, 0].sum() <= 1  # probabilities of at least 0.9 and 0.5


def write_onnx(bands, classes, window):
    """Write a network of one layer that gives probabilities, net.onnx."""
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(bands, classes, 1), torch.nn.Softmax(1))
    example, axes = torch.zeros(2, bands, window, window), {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of itself
        torch.onnx.export(network, (example,), "net.onnx", dynamic_shapes=(axes,), verbose=False)
