"""What a plan says is what a run does."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, ModelError, WorkerError, plan, predict, trials

IMAGE = np.random.default_rng(2).random((90, 70), dtype=np.float32)
OPTIONS = {
    "n_classes": 3,
    "batch_size": 16,
    "window_shape": (12, 10),
    "stride": (5, 4),
    "progress": False,
}


class Model:
    """Counts what it is given."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        self.batches.append(len(batch[0]))
        return np.concatenate([batch[0]] * 3, axis=-1)


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch):
    monkeypatch.setattr(trials, "SECONDS", 0.01)


def run(model, inputs=IMAGE, **options):
    hduls, arrays = predict(model, inputs, **{**OPTIONS, **options})
    for hdul in hduls:
        hdul.close()
    return arrays


@pytest.mark.filterwarnings("ignore:.*reached by no window")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"edges": "drop", "batch_size": 3},
        {"padding": "reflect", "stride": (1, 7), "batch_size": 100},
        {"aggregate_method": ["mean_var", "rank_vote"], "output_dtype": "float64"},
        {"mask": np.arange(90)[:, np.newaxis] * np.ones(70) < 40},
    ],
)
def test_windows_batches_and_outputs(options):
    model = Model()
    forecast = plan(model, IMAGE, **{**OPTIONS, **options})
    model.batches.clear()
    arrays = run(model, **options)
    assert forecast.windows == sum(model.batches)
    assert forecast.batches == len(model.batches)
    assert list(forecast.outputs.values()) == [array.shape for array in arrays]
    assert forecast.output_bytes == sum(array.nbytes for array in arrays)


@pytest.mark.filterwarnings("ignore:.*reached by no window")
def test_coverage():
    forecast = plan(Model(), IMAGE, **{**OPTIONS, "stride": (20, 20)})
    _, n = run(Model(), stride=(20, 20))
    assert forecast.unreached_pixels == (n == 0).sum() > 0
    assert forecast.output_pixels == n.size


def test_sizes_on_disk(tmp_path):
    forecast = plan(Model(), IMAGE, **OPTIONS, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    largest = 0

    def watching(batch):
        nonlocal largest
        files = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
        largest = max(largest, sum(path.stat().st_size for path in files))
        return Model()(batch)

    run(watching, out_dir=tmp_path / "out")
    outputs = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert forecast.output_bytes == outputs
    assert 0.95 * largest < forecast.disk_bytes < 1.05 * largest


def test_workers(tmp_path):
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(IMAGE).writeto(path)
    forecast = plan(Model(), path, **OPTIONS, out_dir=tmp_path / "out", cpus=3)
    assert forecast.workers == 3
    assert forecast.strips[0][0] == 0
    assert forecast.strips[-1][1] == 17
    assert [strip[0] for strip in forecast.strips[1:]] == [s[1] for s in forecast.strips[:-1]]
    assert forecast.disk_bytes > forecast.output_bytes
    assert 3 * forecast.memory_bytes < forecast.total_memory_bytes
    assert 50 << 20 < forecast.memory_bytes < 2 << 30
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_worker_raises_is_quoted(tmp_path):
    def broken(_):
        raise RuntimeError("no weights")

    with pytest.raises(WorkerError, match=r"(?s)the trial failed with exit code 1.*no weights"):
        plan(broken, IMAGE, **OPTIONS, out_dir=tmp_path, cpus=2)


def test_duration_is_that_of_the_slower_part():
    slow = trials.Trial(0.3, 0.1, 10, 20, 30)
    from morpheus_core.planning import seconds_per_window

    assert seconds_per_window(slow, prefetch=2) == 0.3
    assert seconds_per_window(slow, prefetch=0) == pytest.approx(0.4)


def test_memory_grows_with_what_is_kept(monkeypatch):
    """The process itself is left out of this: what it has had before depends on other tests."""
    monkeypatch.setattr(trials, "peak_memory", lambda: 0)
    options = {**OPTIONS, "stride": (12, 10), "aggregate_method": "mean_var"}
    batch, width = 16 * 12 * 10 * 4, 7000
    sums = 12 * width * 3 * 2 * 8
    outputs = 90 * width * (3 * 2 + 1) * 4
    image = np.zeros((90, width), np.float32)
    assert plan(Model(), image, **options, prefetch=0).memory_bytes == sums + outputs
    ahead = plan(Model(), image, **options, prefetch=2).memory_bytes
    assert ahead == sums + outputs + 2 * batch + 2 * 3 * batch


def test_the_table():
    text = str(plan(Model(), IMAGE, **OPTIONS))
    assert "windows   272 in 17 batches\n" in text
    for word in ("strips", "coverage", "outputs", "disk", "memory", "duration"):
        assert word in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": (0, 1)}, "stride must be"),
        ({"window_shape": (100, 10)}, "window"),
        ({"prefetch": -1}, "prefetch must be a whole number >= 0, got -1"),
    ],
)
def test_refuses_what_predict_refuses(options, message):
    with pytest.raises(InputError, match=message):
        plan(Model(), IMAGE, **{**OPTIONS, **options})


def test_unknown_arguments():
    with pytest.raises(TypeError, match="strides"):
        plan(Model(), IMAGE, **OPTIONS, strides=(1, 1))


def test_a_model_that_fails():
    def broken(_):
        raise RuntimeError("no weights")

    with pytest.raises(ModelError, match="no weights"):
        plan(broken, IMAGE, **OPTIONS)
