"""What a plan says is what a run does."""

import time
from inspect import signature
from tempfile import gettempdir

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS
from conftest import require

from morpheus_core import InputError, ModelError, MorpheusWarning, WorkerError, plan, predict
from morpheus_core.planning import forecast as planning
from morpheus_core.planning import trials

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


@pytest.mark.slow
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

    with pytest.raises(WorkerError, match=r"(?s)worker of window rows .* failed: .*no weights"):
        plan(broken, IMAGE, **OPTIONS, out_dir=tmp_path, cpus=2)


def test_a_trial_ends_whatever_threads_the_model_leaves(tmp_path):
    def threading_model(batch):
        import threading
        import time

        threading.Thread(target=time.sleep, args=(600,)).start()
        return np.concatenate([batch[0]] * 3, axis=-1)

    start = time.monotonic()
    plan(threading_model, IMAGE, **OPTIONS, out_dir=tmp_path, cpus=1)
    assert time.monotonic() - start < 120


def test_duration_and_speed(monkeypatch):
    """Of one strip, whose windows take half a second each."""
    monkeypatch.setattr(planning, "try_strip", lambda *_: trials.Trial(0.5, 16, 0, 0))
    forecast = plan(Model(), IMAGE, **OPTIONS)
    assert forecast.seconds == 272 / 2
    assert forecast.windows_per_second == 2


@pytest.mark.parametrize("prefetch", [0, 2])
def test_memory_grows_by_the_sums_that_the_trial_did_not_get_to(monkeypatch, prefetch):
    """The process itself is left out of this: what it has had before depends on other tests."""
    monkeypatch.setattr(trials, "peak_memory", lambda: 0)
    monkeypatch.setattr(trials, "SECONDS", -1)  # three batches
    options = {**OPTIONS, "stride": (12, 10), "aggregate_method": "mean_var"}
    width = 7000
    sums = 12 * width * 3 * 2 * 8
    outputs = 90 * width * (3 * 2 + 1) * 4
    image = np.zeros((90, width), np.float32)
    forecast = plan(Model(), image, **options, prefetch=prefetch)
    assert forecast.memory_bytes == sums * (700 - 3 * 16) // 700 + outputs
    small = plan(Model(), IMAGE, **options, prefetch=prefetch)
    assert small.memory_bytes == IMAGE.size * (3 * 2 + 1) * 4


def test_memory_is_read_when_predictions_have_been_folded(monkeypatch):
    events = []
    monkeypatch.setattr(trials, "peak_memory", lambda: events.append("peak") or 0)
    monkeypatch.setattr(trials, "ignore", lambda _: events.append("finished"))
    plan(Model(), IMAGE, **OPTIONS)
    assert "finished" in events
    assert events.index("peak") == len(events) - 1


@pytest.mark.slow
def test_seams_take_disk(tmp_path):
    options = {**OPTIONS, "out_dir": tmp_path}
    whole, halves = (plan(Model(), IMAGE, **options, cpus=cpus) for cpus in (1, 2))
    # Both strips keep the votes for the 7 rows in which windows of both lie.
    seams = 2 * (12 - 5) * 70 * 3 * 8
    assert halves.disk_bytes - whole.disk_bytes == pytest.approx(seams, abs=200)


@pytest.mark.parametrize("cpus", [None, 2])
@pytest.mark.filterwarnings("ignore:no window holds a good pixel")
def test_an_image_without_good_pixels(tmp_path, cpus):
    mask = np.ones(IMAGE.shape)
    forecast = plan(Model(), IMAGE, **OPTIONS, mask=mask, out_dir=tmp_path, cpus=cpus)
    counts = (forecast.windows, forecast.batches, forecast.windows_per_second, forecast.seconds)
    assert counts == (0, 0, 0, 0)


@pytest.mark.slow
def test_the_trial_is_of_a_strip_with_windows(tmp_path):
    mask = np.ones(IMAGE.shape)
    mask[-3:] = 0
    forecast = plan(Model(), IMAGE, **OPTIONS, mask=mask, out_dir=tmp_path, cpus=2)
    assert forecast.windows == 16
    assert forecast.windows_per_second > 0


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
        ({"cpus": 2}, "cpus needs out_dir"),
        ({"resume": True}, "resume=True needs the out_dir"),
        ({"check_wcs": "bogus"}, "check_wcs must be one of"),
        ({"bands": "bogus"}, "bands must be one of"),
        ({"parallel_check_interval": -1}, "parallel_check_interval must be"),
        ({"out_dir": 5}, "out_dir must be a path, got 5"),
    ],
)
@pytest.mark.parametrize("function", [plan, predict])
def test_refuses_what_predict_refuses(function, options, message):
    with pytest.raises(InputError, match=message):
        function(Model(), IMAGE, **{**OPTIONS, **options})


@pytest.mark.parametrize("function", [plan, predict])
def test_warns_of_what_predict_warns_of(function):
    with pytest.warns(MorpheusWarning, match="reached by no window") as caught:
        function(Model(), IMAGE, **{**OPTIONS, "stride": (20, 20)})
    assert caught[0].filename == __file__


@pytest.mark.parametrize("function", [plan, predict])
def test_compares_the_sky_of_inputs(function):
    images = []
    for centre in (10.0, 11.0):
        wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": centre, "CDELT1": 1e-4})
        images.append(NDData(IMAGE, wcs=wcs))
    with pytest.raises(InputError, match="inputs must show the same sky"):
        function(Model(), images, **OPTIONS, check_wcs="error")
    with pytest.warns(MorpheusWarning, match="inputs must show the same sky") as caught:
        function(Model(), images, **OPTIONS)
    assert caught[0].filename == __file__


def test_takes_the_arguments_of_predict():
    # As texts, since NaN, which is a default, is not equal to itself.
    planned, predicted = (signature(function).parameters for function in (plan, predict))
    assert list(map(str, planned.values())) == list(map(str, predicted.values()))


def test_a_model_that_fails():
    def broken(_):
        raise RuntimeError("no weights")

    with pytest.raises(ModelError, match="no weights"):
        plan(broken, IMAGE, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "apart"),
    [
        ({"rows_apart": True}, True),
        ({"begin_only": True}, True),
        ({"begin_only": True, "rows_apart": False}, False),
        ({"rows_apart": False}, False),
    ],
)
def test_what_verifying_takes(tmp_path, options, apart):
    """Rows that are kept apart are on disk twice, and are copied and read back."""
    forecast = plan(Model(), IMAGE, out_dir=tmp_path, **{**OPTIONS, **options})
    assert forecast.verified_bytes == apart * forecast.output_bytes
    assert (forecast.verifying_seconds > 0) == apart
    assert forecast.disk_bytes > (1 + apart) * forecast.output_bytes
    line = next(line for line in str(forecast).splitlines() if line.startswith("verifying"))
    assert ("are copied and read back" in line) == apart
    assert forecast.workers == (None if "begin_only" in options else 0)


def test_what_is_in_memory_is_not_verified():
    forecast = plan(Model(), IMAGE, **OPTIONS)
    assert (forecast.verified_bytes, forecast.verifying_seconds) == (0, 0.0)


def compressed(kind, folder, pixels=IMAGE):
    """Return the path of an image that a run unpacks, and how many bytes that gives."""
    path = folder / f"image.{kind}"
    if kind == "asdf":
        asdf = require("asdf")
        asdf.AsdfFile({"data": pixels}).write_to(path, all_array_compression="zlib")
        return path, IMAGE.nbytes + 128  # and the header of a .npy file
    padded = -(-IMAGE.nbytes // 2880) * 2880 + 2880
    if kind == "fits.gz":
        fits.writeto(path, pixels)
    else:
        tiles = fits.CompImageHDU(pixels, tile_shape=IMAGE.shape)
        fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path)
    return path, padded


@pytest.mark.parametrize("role", ["image", "mask"])
@pytest.mark.parametrize("kind", ["fits.gz", "fits.fz", "asdf"])
def test_what_unpacking_takes(tmp_path, monkeypatch, kind, role):
    monkeypatch.setattr("morpheus_core.images.fits_images.KEPT_TILES", 100)
    if role == "image":
        path, size = compressed(kind, tmp_path)
        found = plan(Model(), path, **OPTIONS)
    else:
        path, size = compressed(kind, tmp_path, np.zeros_like(IMAGE))
        found = plan(Model(), IMAGE, mask=path, **OPTIONS)
    assert found.unpacked_bytes == size
    assert 0 < found.unpacking_seconds < found.seconds
    line = next(line for line in str(found).splitlines() if line.startswith("unpacking"))
    assert gettempdir() in line
    assert "KiB" in line


def test_rows_of_tiles_are_unpacked_in_memory(tmp_path):
    path, _ = compressed("fits.fz", tmp_path)
    found = plan(Model(), path, **OPTIONS)
    assert (found.unpacked_bytes, found.unpacking_seconds) == (0, 0.0)
    assert "unpacking" not in str(found)
