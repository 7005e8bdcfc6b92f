"""What users rely on: the call, its results, and what it refuses."""

import inspect
import os
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
from astropy.io import fits

import morpheus_core as package
from morpheus_core import InputError, ModelError, MorpheusWarning, OutputError, morpheus_core

IMAGE = np.random.default_rng(5).random((20, 18)).astype(np.float32)


def model(batch):
    """Two classes: a pixel's value, and what it lacks to one."""
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def predict(model=model, inputs=IMAGE, n_classes=2, batch_size=7, window_shape=(5, 4), **options):
    options = {"progress": False, "aggregate_method": "mean_var", **options}
    return package.predict(model, inputs, n_classes, batch_size, window_shape, **options)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "image.fits"
    fits.writeto(path, IMAGE)
    return path


def test_names_that_users_know():
    assert morpheus_core.predict is package.predict
    assert morpheus_core.AGGREGATION_METHODS.RANK_VOTE == "rank_vote"
    assert morpheus_core.AGGREGATION_METHODS.MEAN_VAR == "mean_var"


def test_positions_that_users_know():
    parameters = inspect.signature(package.predict).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    empty = inspect.Parameter.empty
    assert list(positional.items()) == [
        ("model", empty),
        ("model_inputs", empty),
        ("n_classes", None),
        ("batch_size", None),
        ("window_shape", None),
        ("dilation", 1),
        ("stride", (1, 1)),
        ("update_map", None),
        ("aggregate_method", "rank_vote"),
        ("out_dir", None),
        ("gpus", None),
        ("cpus", None),
        ("parallel_check_interval", 1),
    ]
    assert {p.kind for p in parameters} <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    }


def test_a_model_of_pixels_gives_the_image_back():
    hduls, (mean_var, n) = predict()
    assert hduls == []
    assert (mean_var.dtype, n.dtype) == (np.float32, np.float32)
    assert mean_var.shape == (20, 18, 2, 2)
    np.testing.assert_allclose(mean_var[..., 0, 0], IMAGE, rtol=1e-6)
    np.testing.assert_allclose(mean_var[..., 1], 0, atol=1e-15)
    assert n[0, 0] == 1
    assert n.max() == 20


def test_several_methods_in_one_pass_are_the_separate_runs():
    calls = []

    def counted(batch):
        calls.append(len(batch[0]))
        return model(batch)

    _, (votes, mean_var, n) = predict(counted, aggregate_method=["rank_vote", "mean_var"])
    assert sum(calls) == 16 * 15
    np.testing.assert_array_equal(votes, predict(aggregate_method="rank_vote")[1][0])
    np.testing.assert_array_equal(mean_var, predict()[1][0])
    np.testing.assert_array_equal(n, predict()[1][1])


def test_files_in_memory_out(path):
    hduls, arrays = predict(inputs=str(path))
    assert [hdul[0].shape for hdul in hduls] == [(20, 18, 2, 2), (20, 18)]
    for array, expected in zip(arrays, predict()[1], strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("from_files", [True, False])
def test_on_disk(path, tmp_path, from_files):
    hduls, arrays = predict(inputs=[path] if from_files else [IMAGE], out_dir=tmp_path / "out")
    for hdul, array, expected in zip(hduls, arrays, predict()[1], strict=True):
        np.testing.assert_array_equal(array, expected)
        hdul.close()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["n.fits", "output.fits"]


def test_several_methods_on_disk(tmp_path):
    hduls, _ = predict(aggregate_method=["mean_var", "rank_vote"], out_dir=tmp_path)
    for hdul in hduls:
        hdul.close()
    names = ["n.fits", "output_mean_var.fits", "output_rank_vote.fits"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_rows_are_written_as_soon_as_they_are_finished(tmp_path):
    """With the last window still to come, the rows above it are already in the file."""
    seen = []

    def watching(batch):
        part = tmp_path / "n.fits.part"
        with part.open("rb") as file:
            file.seek(-2880, os.SEEK_END)  # the data fill one block
            seen.append(np.frombuffer(file.read(20 * 18 * 4), ">f4").reshape(20, 18).copy())
        return model(batch)

    hduls, (_, n) = predict(watching, out_dir=tmp_path, batch_size=15, prefetch=0)
    np.testing.assert_array_equal(seen[-1][:15], n[:15])
    assert not seen[0].any()
    for hdul in hduls:
        hdul.close()


def test_heat_map_of_a_whole_window_classifier():
    def classifier(batch):
        brightness = batch[0].mean(axis=(1, 2))
        return np.concatenate([brightness, 1 - brightness], axis=1)

    _, (mean_var, _) = predict(classifier, window_shape=(20, 18))
    np.testing.assert_allclose(mean_var[..., 0, 0], IMAGE.mean(), rtol=1e-6)


def test_dilation_spreads_each_pixel():
    def upsample(batch):
        return model([np.repeat(np.repeat(batch[0], 2, axis=1), 2, axis=2)])

    _, (mean_var, n) = predict(upsample, dilation=2)
    expected = np.repeat(np.repeat(IMAGE, 2, axis=0), 2, axis=1)
    np.testing.assert_allclose(mean_var[..., 0, 0], expected, rtol=1e-6)
    assert n.shape == (40, 36)


@pytest.mark.parametrize("third", [1 / 3, Fraction(1, 3)])
def test_dilation_of_a_third(third):
    image = np.ones((12, 9))
    _, (mean_var, n) = predict(
        lambda b: np.ones((len(b[0]), 2, 1, 2)),
        image,
        window_shape=(6, 3),
        stride=(3, 3),
        dilation=third,
    )
    assert n.shape == (4, 3)
    assert (mean_var[..., 0] == 1).all()


def test_fill_value_and_n_of_pixels_without_predictions():
    with pytest.warns(MorpheusWarning, match="180 of 360 output pixels are reached by no window"):
        _, (mean_var, n) = predict(edges="drop", stride=(6, 5), fill_value=-1)
    assert (n == 0).sum() == 180
    assert (mean_var[n == 0] == -1).all()
    assert (mean_var[n > 0] >= 0).all()


def test_the_warning_points_at_the_caller():
    with pytest.warns(MorpheusWarning) as caught:
        package.predict(model, IMAGE, 2, 7, (5, 4), stride=(9, 9), progress=False)
    assert caught[0].filename == __file__


def test_votes_of_one_class_are_warned_of():
    with pytest.warns(MorpheusWarning, match="votes of a single class"):
        predict(lambda b: b[0], n_classes=1, aggregate_method="rank_vote")


def test_padding_visits_every_pixel_alike():
    _, (mean_var, n) = predict(padding="reflect")
    assert (n == 20).all()
    np.testing.assert_allclose(mean_var[..., 0, 0], IMAGE, rtol=1e-6)


def test_padding_makes_room_for_the_window():
    _, (mean_var, _) = predict(inputs=IMAGE[:3, :2], window_shape=(8, 8), padding="symmetric")
    np.testing.assert_allclose(mean_var[..., 0, 0], IMAGE[:3, :2], rtol=1e-6)


@pytest.mark.parametrize(
    ("policy", "expected_n", "mean_is_nan"), [("propagate", 2, True), ("omit", 1, False)]
)
def test_nan_policies(policy, expected_n, mean_is_nan):
    def flawed(batch):
        """The left column of each window has one class that is not a number."""
        predictions = model(batch)
        predictions[:, :, 0, 1] = np.nan
        return predictions

    image = IMAGE[:1, :3]
    _, (mean_var, n) = predict(flawed, image, window_shape=(1, 2), nan_policy=policy)
    assert n[0, 1] == expected_n
    assert np.isnan(mean_var[0, 1]).all() == mean_is_nan
    assert not np.isnan(mean_var[0, 2]).any()


def test_a_failing_model_leaves_nothing_behind(tmp_path):
    def failing(batch):
        raise ValueError("no weights")

    with pytest.raises(ModelError, match="no weights"):
        predict(failing, out_dir=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": []}, "empty list"),
        ({"n_classes": 0}, "n_classes must be a whole number >= 1, got 0"),
        ({"n_classes": 2.5}, "n_classes .* got 2.5"),
        ({"batch_size": -3}, "batch_size must be a whole number >= 1, got -3"),
        ({"window_shape": (5, 0)}, r"window_shape must be two whole numbers >= 1.*got \(5, 0\)"),
        ({"window_shape": 5}, "window_shape must be two whole numbers"),
        ({"window_shape": (21, 4)}, r"as large as the window.*\(20, 18\)"),
        ({"stride": (0, 4)}, r"stride must be two whole numbers >= 1.*got \(0, 4\)"),
        ({"stride": (1, 1, 1)}, "stride must be two"),
        ({"dilation": 0}, "dilation must be a finite number > 0, got 0"),
        ({"dilation": -1}, "dilation must be"),
        ({"dilation": float("nan")}, "dilation must be"),
        ({"dilation": "2x"}, "dilation must be"),
        ({"dilation": 0.5}, "window_shape times dilation must be whole numbers"),
        ({"update_map": np.ones((4, 5))}, r"update_map must have .*\(5, 4\), got \(4, 5\)"),
        ({"aggregate_method": "median"}, "one of 'mean_var', 'rank_vote', got 'median'"),
        ({"aggregate_method": []}, "distinct methods"),
        ({"aggregate_method": ["mean_var", "mean_var"]}, "distinct methods"),
        ({"edges": "wrap"}, "edges must be one of 'cover', 'drop', got 'wrap'"),
        ({"padding": "wrap"}, "padding must be one of 'reflect'"),
        ({"nan_policy": "raise"}, "nan_policy must be one of 'propagate', 'omit'"),
        ({"model": "model.pkl"}, r"path must be an existing file, got 'model\.pkl'"),
        ({"model": None}, "model must be callable"),
        ({"model": dict}, "model must be an instance, got the class dict"),
        ({"fill_value": "x"}, "fill_value must be a number, got 'x'"),
        ({"fill_value": None}, "fill_value must be a number, got None"),
        ({"update_map": [[1, 2], [3]]}, "update_map must be an array"),
        ({"update_map": "hann"}, r"update_maps\.hann\(window_shape\) makes, got 'hann'"),
        ({"update_map": np.full((5, 4), 1e-50)}, "also in float32, got 1e-50"),
        ({"overwrite": "no"}, "overwrite must be True or False, got 'no'"),
        ({"resume": 1}, "resume must be True or False"),
        ({"progress": None}, "progress must be True or False"),
        ({"fill_value": True}, "fill_value must be a number, got True"),
        ({"edges": np.array(["cover", "drop"])}, "edges must be one of"),
        ({"aggregate_method": 5}, "one of 'mean_var', 'rank_vote', got 5"),
        ({"aggregate_method": None}, "got None"),
        ({"out_dir": 5}, "out_dir must be a path, got 5"),
        ({"dilation": 1e-5}, "dilation must be at least 1/10000, got 1e-05"),
        ({"cpus": 2, "gpus": [0]}, "cpus or gpus, not both"),
        ({"cpus": True}, "cpus must be a whole number >= 1, got True"),
        ({"gpus": [True]}, "a GPU must be an index"),
        ({"cpus": 0}, "cpus must be a whole number >= 1, got 0"),
        ({"cpus": -1}, "cpus must be a whole number >= 1, got -1"),
        ({"cpus": 1.5}, "cpus must be a whole number >= 1, got 1.5"),
        ({"gpus": []}, r"gpus must be a list .* got \[\]"),
        ({"gpus": 0}, "gpus must be a list"),
        ({"gpus": [-1]}, "a GPU must be an index >= 0 or a UUID.* got -1"),
        ({"gpus": [0.5]}, "a GPU must be .* got 0.5"),
        ({"cpus": 2, "out_dir": None}, "cpus needs out_dir"),
        ({"gpus": [0], "out_dir": None}, "gpus needs out_dir|no GPU 0"),
        ({"resume": True, "out_dir": None}, "needs the out_dir"),
        ({"parallel_check_interval": 0}, "parallel_check_interval must be a finite number > 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(tmp_path, options, message):
    def never(_):
        raise AssertionError("the model was called")

    with pytest.raises(InputError, match=message):
        predict(**{"model": never, "out_dir": tmp_path / "out", **options})
    assert list(tmp_path.iterdir()) == []


def test_existing_outputs_are_refused_before_the_model_runs(tmp_path):
    (tmp_path / "output.fits").write_text("precious")
    calls = []
    with pytest.raises(OutputError, match="exists already"):
        predict(calls.append, out_dir=tmp_path)
    assert calls == []
    hduls, _ = predict(out_dir=tmp_path, overwrite=True)
    for hdul in hduls:
        hdul.close()


def test_an_output_that_would_replace_its_input(tmp_path):
    fits.writeto(tmp_path / "n.fits", IMAGE)
    with pytest.raises(OutputError, match="would replace the input"):
        predict(inputs=tmp_path / "n.fits", out_dir=tmp_path, overwrite=True)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "n.fits"), IMAGE)


def test_progress_counts_every_window(capsys):
    predict(progress=True)
    shown = capsys.readouterr().err
    assert "240/240" in shown
    assert "100%" in shown
    predict(progress=False)
    assert capsys.readouterr().err == ""


def test_the_log_says_what_is_done(caplog):
    with caplog.at_level("INFO", "morpheus_core"):
        predict()
    assert "240 windows, into memory" in caplog.text


def test_nothing_is_warned_of_in_an_ordinary_run(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(inputs=path, aggregate_method="rank_vote")


WITHOUT_LOCKS = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import numpy as np
import morpheus_core
arguments = lambda batch: batch[0], np.ones((9, 9)), 1, 4, (3, 3)
print(morpheus_core.plan(*arguments).windows)
_, (mean_var, n) = morpheus_core.predict(
    *arguments, aggregate_method="mean_var", progress=False)
print(mean_var[..., 0].min())
"""


def test_runs_in_memory_need_nothing_that_windows_lacks():
    done = subprocess.run([sys.executable, "-c", WITHOUT_LOCKS], capture_output=True, text=True)
    assert done.stdout.split() == ["49", "1.0"], done.stderr
