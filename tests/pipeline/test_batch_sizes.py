"""The size of batches that a run is given without being told."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from morpheus_core import ModelError, map_exposures, plan, predict, predict_catalog
from morpheus_core.pipeline import batch_sizes
from morpheus_core.workspace.folders import Workspace

IMAGE = np.random.default_rng(1).normal(size=(60, 70)).astype(np.float32)
SHARES = np.clip(IMAGE, 0, 1)


class Clock:
    """Time that passes only while a model works."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Model:
    """Takes so long for a call and for each window, and fails for batches above a size."""

    def __init__(self, clock, per_call=1.0, per_window=0.125, most=10_000, error=MemoryError):
        self.clock, self.per_call, self.per_window = clock, per_call, per_window
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, batch):
        size = len(batch[0])
        self.sizes.append(size)
        if size > self.most:
            raise self.error("no")
        self.clock.now += self.per_call + size * self.per_window
        return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(batch_sizes, "time", clock)
    monkeypatch.setattr(batch_sizes, "SECONDS", 1e6)
    return clock


def run(model, image=IMAGE, **options):
    return predict(model, image, 2, "auto", (10, 10), progress=False, **options)


def header_of(results):
    header = results[0][0][0].header
    for hdul in results[0]:
        hdul.close()
    return header


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 128),  # of 256 windows a call is a share too small to gain
        ({"per_call": 0.0}, 4),
        ({"most": 40}, 32),
        ({"per_call": 100.0}, 512),
    ],
)
def test_the_smallest_fast_size_is_taken(clock, options, expected):
    model = Model(clock, **options)
    assert header_of(run(model, fits.ImageHDU(IMAGE)))["BATCHSIZ"] == expected


def test_small_images_end_the_search(clock):
    model = Model(clock, per_call=100.0)
    assert header_of(run(model, fits.ImageHDU(IMAGE[:14, :14])))["BATCHSIZ"] == 32
    assert max(model.sizes) == 25


def test_time_ends_the_search(clock, monkeypatch):
    monkeypatch.setattr(batch_sizes, "SECONDS", 200.0)
    assert header_of(run(Model(clock, 100.0), fits.ImageHDU(IMAGE)))["BATCHSIZ"] == 4


def test_other_failures_are_told(clock):
    with pytest.raises(ModelError, match="the model failed with KeyError"):
        run(Model(clock, most=0, error=KeyError))


def test_an_image_without_good_pixels_has_no_batch(clock):
    with pytest.warns(UserWarning, match="no window holds a good pixel"):
        run(Model(clock), mask=np.ones(IMAGE.shape, bool))


def test_a_resumed_run_keeps_its_size(clock, tmp_path):
    class Interrupted(Model):
        def __call__(self, batch):
            if len(self.sizes) > 300:
                raise KeyboardInterrupt
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(clock, 0.0), out_dir=tmp_path)
    assert Workspace(tmp_path).load().parameters["batch_size"] == 4
    slow = Model(clock, 100.0)
    results = run(slow, out_dir=tmp_path, resume=True)
    assert header_of(results)["BATCHSIZ"] == 4
    assert max(slow.sizes) == 4


@pytest.mark.slow
def test_workers_use_the_size_that_was_chosen(tmp_path):
    def model(batch):
        return np.concatenate([batch[0], 1 - batch[0]], axis=-1)

    header = header_of(run(model, out_dir=tmp_path, cpus=2))
    assert header["BATCHSIZ"] in batch_sizes.SIZES
    assert plan(model, IMAGE, 2, "auto", (10, 10)).batches > 0


ROWS = Table({"x": np.arange(10.0, 50), "y": np.arange(10.0, 50)})


def catalog(model, tmp_path, **options):
    return predict_catalog(
        model, IMAGE, ROWS, 2, "auto", (10, 10), work_dir=tmp_path, progress=False, **options
    )


def exposures(model, tmp_path, **options):
    names = [str(tmp_path / "none.fits"), str(tmp_path / "a.fits"), str(tmp_path / "b.fits")]
    fits.writeto(names[1], SHARES, overwrite=True)
    fits.writeto(names[2], SHARES[:30], overwrite=True)
    outcomes = map_exposures(
        model, names, 2, "auto", (10, 10), stride=(5, 5), out_dir=tmp_path / "out",
        overwrite=True, progress=False, **options,
    )  # fmt: skip
    assert [outcome.error is None for outcome in outcomes] == [False, True, True]
    return [fits.getheader(outcome.output) for outcome in outcomes[1:]]


def test_a_catalogue_chooses(clock, tmp_path):
    model = Model(clock, most=20)
    assert catalog(model, tmp_path).meta["BATCHSIZ"] == 16
    assert model.sizes[-3:] == [16, 16, 8]


def test_exposures_choose_once(clock, tmp_path):
    slow = Model(clock, per_call=100.0, most=70)
    assert [header["BATCHSIZ"] for header in exposures(slow, tmp_path)] == [64, 64]
    assert slow.sizes.count(4) == 2


class Interrupted(Model):
    def __call__(self, batch):
        if len(self.sizes) == 2 * len(batch_sizes.SIZES) + 3:
            raise KeyboardInterrupt
        return super().__call__(batch)


def interrupted_catalog(clock, tmp_path):
    rows = Table({"x": np.tile(ROWS["x"], 64), "y": np.tile(ROWS["y"], 64)})
    arguments = (IMAGE, rows, 2, "auto", (10, 10))
    options = {"work_dir": tmp_path / "work", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        predict_catalog(Interrupted(clock, 0.0), *arguments, **options)
    slow = Model(clock, 100.0)
    table = predict_catalog(slow, *arguments, resume=True, **options)
    return table.meta["BATCHSIZ"], slow


def interrupted_exposures(clock, tmp_path):
    fits.writeto(tmp_path / "a.fits", np.tile(SHARES, (2, 2)))
    options = {"out_dir": tmp_path / "out", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        map_exposures(Interrupted(clock, 0.0), tmp_path / "a.fits", 2, "auto", (10, 10), **options)
    slow = Model(clock, 100.0)
    (outcome,) = map_exposures(
        slow, tmp_path / "a.fits", 2, "auto", (10, 10), resume=True, **options
    )
    return fits.getheader(outcome.output)["BATCHSIZ"], slow


@pytest.mark.parametrize("interrupted", [interrupted_catalog, interrupted_exposures])
def test_what_is_resumed_keeps_its_size(clock, tmp_path, interrupted):
    size, slow = interrupted(clock, tmp_path)
    assert size == max(slow.sizes) == 4


@pytest.mark.parametrize("run_all", [catalog, pytest.param(exposures, marks=pytest.mark.slow)])
def test_workers_of_all_use_one_size(tmp_path, run_all):
    def model(batch):
        if len(batch[0]) > 4:
            raise MemoryError
        return np.zeros((len(batch[0]), 2))

    run_all(model, tmp_path, cpus=2)


@pytest.mark.parametrize("cpus", [None, 2])
def test_a_plan_says_what_each_size_does(tmp_path, cpus):
    def model(batch):
        if len(batch[0]) > 20:
            raise MemoryError
        return np.zeros((len(batch[0]), 2))

    forecast = plan(
        model, IMAGE, 2, 16, (10, 10), out_dir=None if cpus is None else tmp_path, cpus=cpus
    )
    assert list(forecast.batch_sizes) == [4, 8, 16]
    assert min(forecast.batch_sizes.values()) > 0
    assert "sizes     4: " in str(forecast)
    assert "formats" not in str(forecast)
