"""What adapters do around a network; no framework is needed."""

import pickle
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import InputError, MissingPackageError, ModelError, adapters, predict
from morpheus_core.adapters.activations import ACTIVATIONS
from morpheus_core.adapters.base import Adapter, Network, Source
from morpheus_core.adapters.preparation import Preparation, make_preparation
from morpheus_core.adapters.signature import NetworkInput
from morpheus_core.pipeline.descriptions import model_name
from morpheus_core.pipeline.models import pickle_model

RANDOM = np.random.default_rng(1)
FINITE = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def pixels(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Given(Source):
    """A source of what is given to it as a network, which counts how often it is loaded."""

    run: object
    inputs: tuple | None = None
    loads: list | None = None

    def load(self):
        if self.loads is not None:
            self.loads.append(1)
        return (
            Network(self.run) if self.inputs is None else Network.of_inputs(self.run, self.inputs)
        )

    def digested(self):
        return []


def adapter(run, shape=None, channels="last", activation=None, **options):
    inputs = None if shape is None else (NetworkInput("image", shape),)
    return Adapter(Given(run, inputs), make_preparation(channels, **options), activation)


class TestPreparation:
    def test_images_become_the_bands_of_one_tensor(self):
        windows = [np.ones((2, 3, 4, 1), np.uint16), np.zeros((2, 3, 4, 2))]
        (tensor,) = make_preparation("first")(windows)
        assert (tensor.shape, tensor.dtype) == ((2, 3, 3, 4), np.float32)
        assert tensor.flags.c_contiguous
        assert tensor[:, :, 0, 0].tolist() == [[1, 0, 0]] * 2

    def test_or_a_tensor_each(self):
        windows = [pixels(2, 3, 4, 1), pixels(2, 3, 4, 2)]
        tensors = make_preparation("last", stack_inputs=False)(windows)
        for tensor, window in zip(tensors, windows, strict=True):
            assert_array_equal(tensor, window)

    @pytest.mark.parametrize("stack_inputs", [True, False])
    def test_the_windows_are_left_alone(self, stack_inputs):
        window = np.full((1, 2, 2, 1), np.nan, np.float32)
        make_preparation("last", stack_inputs, 0, np.negative)([window])
        assert np.isnan(window).all()

    def test_nan_becomes_a_number_before_pixels_are_normalised(self):
        window = np.array([np.nan, 30], np.float32).reshape(1, 1, 2, 1)
        (tensor,) = make_preparation("last", True, 10, adapters.min_max(0, 40))([window])
        assert tensor.ravel().tolist() == [0.25, 0.75]

    def test_nan_becomes_the_number_of_its_band(self):
        window = np.full((1, 1, 2, 2), np.nan, np.float32)
        window[0, 0, 1, 1] = 7
        (tensor,) = make_preparation("last", fill_nan=[1, 2])([window])
        assert tensor.ravel().tolist() == [1, 2, 1, 7]
        with pytest.raises(ModelError, match="fill_nan must have one value, or one per band, 2"):
            make_preparation("last", fill_nan=[1, 2, 3])([window])

    def test_nan_becomes_the_median_of_its_band_in_its_window(self):
        window = pixels(2, 3, 3, 2)
        window[0, 0, 0, 0] = np.nan
        window[1, :, :, 1] = np.nan
        (tensor,) = make_preparation("last", fill_nan="median")([window])
        assert tensor[0, 0, 0, 0] == np.median(window[0, ..., 0].ravel()[1:])
        assert (tensor[1, ..., 1] == 0).all()
        good = np.isfinite(window)
        assert_array_equal(tensor[good], window[good])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"channels": "middle"}, "channels must be one of 'first', 'last', got 'middle'"),
            ({"stack_inputs": 1}, "stack_inputs must be True or False, got 1"),
            ({"fill_nan": "mean"}, "fill_nan must be a number or \"median\", got 'mean'"),
            ({"fill_nan": np.nan}, "fill_nan must be finite, got nan"),
            ({"normalize": 3}, "normalize must be callable, got 3"),
        ],
    )
    def test_arguments(self, options, message):
        with pytest.raises(InputError, match=message):
            make_preparation(**{"channels": "last", **options})

    def test_a_normaliser_that_changes_the_shape(self):
        preparation = make_preparation("last", normalize=lambda x: x[..., 0])
        with pytest.raises(ModelError, match=r"keep the shape, \(1, 2, 2, 1\), got \(1, 2, 2\)"):
            preparation([pixels(1, 2, 2, 1)])


class TestNormalizers:
    def test_min_max(self):
        values = np.array([[0, 0], [5, 15], [20, 20]], np.float32).reshape(1, 3, 1, 2)
        scaled = adapters.min_max([0, 10], [10, 20])(values)
        assert scaled.reshape(3, 2).tolist() == [[0, 0], [0.5, 0.5], [1, 1]]

    def test_z_score(self):
        values = pixels(2, 3, 4, 3)
        scaled = adapters.z_score([1, 2, 3], 2)(values)
        assert_allclose(scaled, (values - [1, 2, 3]) / 2, rtol=1e-5, atol=1e-7)

    @given(arrays.arrays(np.float32, (2, 3, 4, 2), elements=FINITE))
    def test_standardize(self, values):
        scaled = adapters.standardize()(values)
        for window, result in zip(values, scaled, strict=True):
            assert np.isfinite(result).all()
            if (window == window.flat[0]).all():
                assert (result == 0).all()
            elif window.std(dtype=np.float64) > 1e-3 * np.abs(window).max():
                assert_allclose(result.mean(dtype=np.float64), 0, atol=1e-3)
                assert_allclose(result.std(dtype=np.float64), 1, rtol=1e-3)

    def test_standardize_bright_skies(self):
        values = (40_000 + 0.01 * np.random.default_rng(1).normal(size=(2, 40, 40, 1))).astype("f4")
        scaled = adapters.standardize()(values)
        assert_allclose(scaled.mean(axis=(1, 2, 3), dtype="f8"), 0, atol=1e-6)
        assert_allclose(scaled.std(axis=(1, 2, 3), dtype="f8"), 1, rtol=1e-6)

    @pytest.mark.parametrize(
        "normalize", [adapters.z_score([1, 2], 3), adapters.min_max(0, 1), adapters.standardize()]
    )
    def test_batches_of_any_size(self, monkeypatch, normalize):
        values = np.random.default_rng(1).random((7, 3, 4, 2), dtype=np.float32)
        expected = [normalize(values[k : k + 1])[0] for k in range(7)]
        for cached in (1, 2 * values[0].size, values.size):
            monkeypatch.setattr("morpheus_core.adapters.normalizers.CACHED_VALUES", cached)
            assert normalize(values).tobytes() == np.array(expected).tobytes()

    def test_standardize_holds_bands_and_not_windows_together(self):
        values = pixels(2, 8, 8, 2)
        values[0] *= 100
        values[:, ..., 1] += 7
        expected = [(window - window.mean()) / window.std() for window in values]
        assert_allclose(adapters.standardize()(values), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: adapters.min_max(1, 1), r"max_pixel must be > min_pixel, .* got 1 and 1"),
            (lambda: adapters.min_max([0, 0], [1, 2, 3]), r"must have as many values"),
            (lambda: adapters.min_max(0, np.inf), r"max_pixel must be finite, got .*inf"),
            (lambda: adapters.z_score(0, [1, 0]), r"std must be > 0, got \[1, 0\]"),
            (
                lambda: adapters.z_score(0, 1e-50),
                r"scales must be finite in float32, and scales > 0",
            ),
            (lambda: adapters.z_score(0, 1e50), r"scales must be finite in float32"),
            (lambda: adapters.z_score(1e50, 1), r"offsets and scales must be finite in float32"),
            (lambda: adapters.min_max(1e8, 1e8 + 1), r"max_pixel .* in float32, got 100000001"),
            (lambda: adapters.min_max(-1e38, 3e38), r"scales must be finite"),
            (lambda: adapters.z_score([], 1), r"mean must be a number, or one per band, got \[\]"),
        ],
    )
    def test_arguments(self, make, message):
        with pytest.raises(InputError, match=message):
            make()

    def test_another_number_of_bands(self):
        with pytest.raises(ModelError, match=r"one per band, 3, got 2"):
            adapters.z_score([0, 1], 1)(pixels(1, 2, 2, 3))


class TestActivations:
    @pytest.mark.filterwarnings("error")
    @given(arrays.arrays(np.float32, (3, 4), elements=FINITE))
    def test_probabilities(self, scores):
        softmax, sigmoid = (ACTIVATIONS[name](scores) for name in ("softmax", "sigmoid"))
        assert softmax.dtype == sigmoid.dtype == np.float32
        assert_allclose(softmax.sum(axis=-1), 1, rtol=1e-5)
        assert ((sigmoid >= 0) & (sigmoid <= 1)).all()

    @pytest.mark.parametrize("shape", [(7, 5), (3, 40, 50, 5), (2, 9, 9, 180), (1, 20000), (0, 4)])
    def test_softmax_is_that_of_channels_first(self, shape):
        scores = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        if shape[0] > 1:
            scores[1, ..., 2] = np.nan
        first = ACTIVATIONS["softmax"](np.moveaxis(scores, -1, 1), 1)
        kept = scores.copy()
        last = ACTIVATIONS["softmax"](scores, scores.ndim - 1)
        assert_allclose(last, np.moveaxis(first, 1, -1), rtol=1e-6)
        assert_array_equal(scores, kept)
        turned = ACTIVATIONS["softmax"](scores.T.copy().T)
        assert_array_equal(turned, last)

    def test_softmax_takes_the_memory_of_its_result(self):
        scores = np.zeros((64, 64, 64, 5), np.float32)
        tracemalloc.start()
        ACTIVATIONS["softmax"](scores)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1.1 * scores.nbytes

    def test_softmax_over_one_class_would_say_nothing(self):
        with pytest.raises(ModelError, match=r"at least two classes, got 1; .*\"sigmoid\""):
            ACTIVATIONS["softmax"](np.zeros((3, 1), np.float32))

    def test_values(self):
        scores = np.array([[0, np.log(3)]], np.float32)
        assert_allclose(ACTIVATIONS["softmax"](scores), [[0.25, 0.75]], rtol=1e-6)
        assert_allclose(ACTIVATIONS["sigmoid"](scores), [[0.5, 0.75]], rtol=1e-6)
        assert_allclose(ACTIVATIONS["sigmoid"](np.float32([-50])), np.exp([-50.0]), rtol=1e-5)


class TestAdapter:
    @pytest.mark.parametrize("channels", ["first", "last"])
    def test_the_layout_of_the_network_does_not_show(self, channels):
        window = pixels(2, 3, 4, 5)
        assert_array_equal(adapter(lambda x: x[0], channels=channels)([window]), window)

    def test_the_activation_is_over_the_classes(self):
        scores = adapter(lambda x: x[0], channels="first", activation="softmax")(
            [pixels(2, 3, 4, 5)]
        )
        assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)

    @pytest.mark.parametrize(
        ("run", "shape"),
        [
            (lambda x: x[0].mean((1, 2)), (2, 5)),
            (lambda x: x[0][..., 0], (2, 3, 4, 1)),
            (lambda x: [x[0]], (2, 3, 4, 5)),
            (lambda x: {"out": [x[0]]}, (2, 3, 4, 5)),
        ],
    )
    def test_what_networks_may_return(self, run, shape):
        assert adapter(run)([pixels(2, 3, 4, 5)]).shape == shape

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            (lambda x: x * 2, r"must return one tensor, got a list of 0, 1; .* output=0$"),
            (lambda x: {"out": x[0], "aux": x[0]}, r"got a dict of 'out', 'aux'; .* output='out'$"),
            (lambda x: x[0].astype(int), r"must return scores, .* got int64"),
            (lambda x: x[0] + 1j, r"must return scores, .* got complex64"),
            (lambda x: x[0].ravel(), r"four axes, or of windows, with two, got \(120,\)"),
            (lambda x: x[0].reshape(-1, 5), r"as .* as it was given windows, 2, got \(24, 5\)"),
        ],
    )
    def test_what_they_may_not(self, run, message):
        with pytest.raises(ModelError, match=message):
            adapter(run)([pixels(2, 3, 4, 5)])

    @pytest.mark.parametrize("count", [1, 4, 5, 11])
    def test_a_fixed_batch_is_cut_and_padded(self, count):
        sizes = []

        def run(tensors):
            sizes.append(len(tensors[0]))
            return tensors[0]

        window = pixels(count, 2, 3, 1)
        assert_array_equal(adapter(run, (4, 2, 3, 1))([window]), window)
        assert set(sizes) == {4}

    def test_it_is_loaded_once_and_late(self):
        source = Given(lambda x: x[0], loads=[])
        model = Adapter(source, Preparation("last"))
        assert source.loads == []
        model([pixels(1, 2, 2, 1)])
        model([pixels(1, 2, 2, 1)])
        assert source.loads == [1]

    def test_what_is_loaded_stays_here(self):
        model = Adapter(Given(np.negative), Preparation("last"))
        before = pickle.dumps(model)
        assert model.network.run is np.negative
        assert pickle.dumps(model) == before

    @pytest.mark.parametrize(
        ("shape", "channels", "message"),
        [
            ((None, 5, None, None), "first", None),
            ((None, 3, 4, 5), "first", r"channels are last: pass channels=\"last\""),
            ((None, 5, 3, 4), "last", r"channels are first: pass channels=\"first\""),
            ((None, 6, None, None), "first", r"takes 6 band\(s\), channels first, .* have 5"),
            (
                (None, 5, 8, 4),
                "first",
                r"\(any, 5, 8, 4\) .* \(2, 5, 3, 4\); pass window_shape=\(8, 4\)",
            ),
            ((None, None, 8, 5), "last", r"pass window_shape=\(any, 8\)"),
            ((None, 60), "first", r"only networks for images, with four axes"),
        ],
    )
    def test_shapes_are_checked(self, shape, channels, message):
        model = adapter(lambda x: x[0], shape, channels)
        if message is None:
            model([pixels(2, 3, 4, 5)])
        else:
            with pytest.raises(ModelError, match=message):
                model([pixels(2, 3, 4, 5)])

    def test_through_predict(self):
        image = pixels(20, 30)
        model = adapter(lambda x: np.concatenate([x[0], -x[0]], 1), channels="first")
        _, (mean_var, _) = predict(
            model, image, 2, 7, (5, 5), aggregate_method="mean_var", progress=False
        )
        assert_allclose(mean_var[..., 0], np.stack([image, -image], axis=-1), atol=1e-6)


def turned(windows, quarters, mirrored):
    view = np.rot90(windows, quarters, axes=(1, 2))
    return view[:, :, ::-1] if mirrored else view


class TestAugmentation:
    @pytest.mark.parametrize("flips", [True, False])
    @pytest.mark.parametrize("rotations", [1, 2, 4])
    def test_views_differ(self, flips, rotations):
        seen = []

        def model(batch):
            seen.append(batch[0].tobytes())
            assert batch[0].flags.c_contiguous
            assert batch[0].flags.writeable
            return batch[0]

        augmented = adapters.test_time_augmentation(model, flips=flips, rotations=rotations)
        augmented([pixels(2, 4, 4, 1)])
        assert len(set(seen)) == len(seen) == rotations * (1 + flips)

    def test_no_view_is_memory_of_the_window(self):
        def model(batch):
            batch[0] -= 1
            return batch[0]

        window = np.ones((1, 3, 3, 1), np.float32)
        assert_array_equal(adapters.test_time_augmentation(model)([window]), window - 1)
        assert (window == 1).all()

    def test_half_turns_with_flips_are_both_mirror_images(self):
        window = pixels(1, 4, 4, 1)
        seen = []
        model = adapters.test_time_augmentation(lambda b: seen.append(b[0]) or b[0], rotations=2)
        model([window])
        expected = [window, window[:, ::-1, ::-1], window[:, :, ::-1], window[:, ::-1]]
        for view in expected:
            assert any(np.array_equal(view, other) for other in seen)

    @pytest.mark.parametrize("flips", [True, False])
    @pytest.mark.parametrize(("rotations", "shape"), [(1, (3, 5)), (2, (3, 5)), (4, (5, 5))])
    @pytest.mark.parametrize("axes", [2, 3, 4])
    def test_nothing_changes_for_an_equivariant_model(self, flips, rotations, shape, axes):
        def model(batch):
            scores = np.tanh(batch[0])
            whole = np.sort(scores.reshape(len(scores), -1))[:, :3]
            return {2: whole, 3: scores[..., 0], 4: scores}[axes]

        windows = [pixels(2, *shape, 3)]
        augmented = adapters.test_time_augmentation(model, flips=flips, rotations=rotations)
        assert_array_equal(augmented(windows), model(windows))

    @pytest.mark.parametrize("dilation", [1, 2])
    def test_the_coordinates_average_to_the_centre(self, dilation):
        """Whatever a model says of a place in its window is turned back to another place."""
        side = 4 * dilation

        def coordinates(batch):
            rows, columns = np.mgrid[:side, :side]
            return np.broadcast_to(np.stack([rows, columns], -1), (len(batch[0]), side, side, 2))

        scores = adapters.test_time_augmentation(coordinates)([pixels(2, 4, 4, 1)])
        assert_allclose(scores, (side - 1) / 2)

    def test_mirrored_coordinates(self):
        def columns(batch):
            return np.broadcast_to(np.arange(5.0)[:, None], (1, 3, 5, 1))

        augmented = adapters.test_time_augmentation(columns, rotations=1)
        assert_allclose(augmented([pixels(1, 3, 5, 1)]), 2)
        augmented = adapters.test_time_augmentation(columns, rotations=1, flips=False)
        assert_array_equal(augmented([pixels(1, 3, 5, 1)])[0, 0, :, 0], np.arange(5))

    def test_all_images_are_turned_alike(self):
        windows = [pixels(1, 4, 4, 1), pixels(1, 4, 4, 1)]
        model = adapters.test_time_augmentation(lambda batch: batch[0] - batch[1])
        assert_array_equal(model(windows), windows[0] - windows[1])

    def test_arguments(self):
        with pytest.raises(InputError, match=r"rotations must be one of 1, 2, 4, got 3"):
            adapters.test_time_augmentation(np.negative, rotations=3)
        with pytest.raises(InputError, match=r"rotations must be a whole number >= 1, got 2\.0"):
            adapters.test_time_augmentation(np.negative, rotations=2.0)
        with pytest.raises(InputError, match=r"flips must be True or False, got 2"):
            adapters.test_time_augmentation(np.negative, flips=2)
        with pytest.raises(InputError, match=r"model must be callable, got 'model'"):
            adapters.test_time_augmentation("model")
        with pytest.raises(ModelError, match=r"square windows, got 4 x 5; use rotations=2"):
            adapters.test_time_augmentation(np.negative)([pixels(1, 4, 5, 1)])


def adjusted(p, trained, expected):
    model = adapters.adjust_priors(lambda _: np.asarray(p), trained=trained, expected=expected)
    return model([])


class TestPriors:
    def test_bayes(self):
        """A class with pixels of N(2, 1) among others of N(0, 1), wherever it is rare."""
        x = np.linspace(-4, 6, 101)
        member, other = np.exp(-((x - 2) ** 2) / 2), np.exp(-(x**2) / 2)

        def posterior(prior):
            return (prior * member / (prior * member + (1 - prior) * other)).reshape(-1, 1)

        assert_allclose(adjusted(posterior(0.5), 0.5, 0.01), posterior(0.01), rtol=1e-12)
        assert_allclose(adjusted(posterior(0.3), 0.3, 0.6), posterior(0.6), rtol=1e-12)

    def test_probabilities_are_calibrated_where_they_apply(self):
        """Of the pixels with a probability of about p, a share p belongs to the class."""
        random = np.random.default_rng(1)
        truth = random.random(200_000) < 0.02
        x = random.normal(2.0 * truth)
        p = 1 / (1 + np.exp(2 - 2 * x))  # the posterior of a half
        probability = adjusted(p[:, None], 0.5, 0.02)[:, 0]
        for lowest, highest in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1)):
            chosen = (probability >= lowest) & (probability < highest)
            share = truth[chosen].mean()
            uncertainty = 4 * np.sqrt(share * (1 - share) / chosen.sum())
            assert abs(share - probability[chosen].mean()) < uncertainty

    @given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.001, 0.999))
    def test_equal_priors_change_nothing(self, p, prior):
        assert_allclose(adjusted([p], prior, prior), [p], rtol=1e-12)

    def test_there_and_back(self):
        p = np.random.default_rng(1).random((5, 3))
        there = adjusted(p, [0.1, 0.5, 0.9], 0.2)
        assert_allclose(adjusted(there, 0.2, [0.1, 0.5, 0.9]), p, rtol=1e-12)

    def test_certainties_and_nan_stay(self):
        assert_array_equal(adjusted([[0, 1, np.nan]], 0.5, 0.001), [[0, 1, np.nan]])

    def test_float32_stays(self):
        assert adjusted(np.full((1, 2), 0.5, np.float32), 0.5, 0.1).dtype == np.float32

    @pytest.mark.parametrize("prior", [0, 1, -0.1, 1.5, np.nan, [0.5, 0], []])
    def test_priors_are_shares(self, prior):
        with pytest.raises(InputError, match=r"trained must be > 0 and < 1"):
            adapters.adjust_priors(np.negative, trained=prior, expected=0.5)
        with pytest.raises(InputError, match=r"expected must be > 0 and < 1"):
            adapters.adjust_priors(np.negative, trained=0.5, expected=prior)

    def test_numbers_of_classes(self):
        with pytest.raises(InputError, match=r"must have as many classes"):
            adapters.adjust_priors(np.negative, trained=[0.1, 0.2], expected=[0.1, 0.2, 0.3])
        with pytest.raises(ModelError, match=r"one per class, 3, got 2"):
            adjusted(np.full((4, 3), 0.5), [0.1, 0.2], 0.5)

    def test_rounding_is_cut_off(self):
        p = np.array([[-9e-6, 1 + 9e-6]], np.float32)
        assert_array_equal(adjusted(p, 0.99999, 1e-5), [[0, 1]])
        assert_array_equal(adjusted(p, 1e-5, 0.99999), [[0, 1]])

    @pytest.mark.parametrize(
        ("p", "least", "most"), [([-3.0, 0.5], "-3", "0.5"), ([0.5, 2.0], "0.5", "2")]
    )
    def test_scores_are_no_probabilities(self, p, least, most):
        with pytest.raises(ModelError, match=rf"from {least} to {most}; .*activation=\"sigmoid\""):
            adjusted([p], 0.5, 0.1)

    def test_models_are_callable(self):
        with pytest.raises(InputError, match=r"model must be callable, got 'model'"):
            adapters.adjust_priors("model", trained=0.5, expected=0.1)


class TestDescriptions:
    def test_settings_are_written_out(self):
        model = adapters.test_time_augmentation(
            adapters.adjust_priors(TestDescriptions(), trained=0.5, expected=[0.25, 0.5]),
            flips=False,
        )
        assert repr(model) == (
            "AugmentedModel(model=AdjustedModel(model=test_adapters.TestDescriptions, "
            "trained=(0.5), expected=(0.25, 0.5)), flips=False, rotations=4)"
        )
        assert model_name(model) == repr(model)

    def __call__(self, windows):
        """Make this something that can be called a model."""

    def test_what_could_be_anything_is_only_named(self):
        preparation = Preparation("first", normalize=lambda x: x)
        assert "normalize=test_adapters.TestDescriptions" in repr(preparation)
        assert " at 0x" not in repr(preparation)


class TestLoadModel:
    @pytest.mark.parametrize("name", ["model.pkl", "model.dill", "model.JOBLIB"])
    def test_pickles_run_code(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(
            InputError, match=r"is a pickle, which runs .* trust_pickle=True of load_"
        ):
            adapters.load_model(tmp_path / name)

    def test_trusted_pickles(self, tmp_path):
        path = tmp_path / "model.dill"
        path.write_bytes(pickle_model(lambda batch: batch[0] + 1))
        model = adapters.load_model(path, trust_pickle=True)
        assert model([np.zeros(2)]).tolist() == [1, 1]
        with pytest.raises(InputError, match=r"is used as it is and takes no activation"):
            adapters.load_model(path, trust_pickle=True, activation="softmax")

    def test_pickles_of_something_else(self, tmp_path):
        path = tmp_path / "weights.pkl"
        path.write_bytes(pickle.dumps([1, 2]))
        with pytest.raises(InputError, match=r"predict_proba or a callable, got list"):
            adapters.load_model(path, trust_pickle=True)

    def test_factories_stay_names(self):
        assert adapters.load_model("package.module:factory") == "package.module:factory"
        with pytest.raises(InputError, match=r"takes no channels"):
            adapters.load_model("package.module:factory", channels="last")

    @pytest.mark.parametrize("path", ["model.h5", "model", "weights.npz"])
    def test_other_suffixes(self, path):
        with pytest.raises(InputError, match=r"suffixes \.onnx, .*\.joblib, a model .* got"):
            adapters.load_model(path)

    @pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.pt", "model.keras"])
    def test_files_that_are_not_there(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr("morpheus_core.extras.find_spec", lambda _: True)
        with pytest.raises(InputError, match=r"must be an existing file, got .*model\.\w+'"):
            adapters.load_model(tmp_path / name)

    def test_unknown_options(self):
        with pytest.raises(
            InputError, match=r"option of onnx_model must be one of 'providers', .* got 'size'"
        ):
            adapters.load_model("model.onnx", size=3)


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (adapters.torch_model, "torch", "torch"),
        (adapters.keras_model, "keras", "keras"),
        (adapters.onnx_model, "onnxruntime", "onnx"),
        (adapters.sklearn_model, "sklearn", "sklearn"),
    ],
)
def test_missing_frameworks(monkeypatch, make, package, extra):
    monkeypatch.setattr("morpheus_core.extras.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=rf"needs {package}, .* '\.\[{extra}\]'"):
        make("model")


def test_no_framework_is_imported():
    """Checked in a fresh interpreter, since other tests import them."""
    code = (
        "import sys, morpheus_core.adapters;"
        "assert not {'torch', 'keras', 'onnxruntime', 'sklearn', 'joblib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
