"""The memory format of a network that a run chooses when it begins."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

from morpheus_core import adapters, map_exposures, plan, predict, predict_catalog
from morpheus_core.pipeline import batch_sizes, memory_formats
from morpheus_core.pipeline.choices import choose
from morpheus_core.pipeline.memory_formats import formats_of, try_formats
from morpheus_core.workspace.folders import Workspace

IMAGE = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)


@dataclass
class Format:
    """A model that takes a while, and whose answers are off by so much."""

    clock: object
    seconds: float
    off: float = 0.0

    def __call__(self, windows):
        self.clock.now += self.seconds
        return np.concatenate([windows[0], 1 - windows[0] + self.off], axis=-1)


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(batch_sizes, "time", clock)
    return clock


def windows(size):
    return [np.linspace(0, 1, size * 25, dtype=np.float32).reshape(size, 5, 5, 1)]


@pytest.mark.parametrize(
    ("seconds", "off", "chosen"),
    [(0.9, 1e-6, "second"), (0.97, 0, "first"), (0.5, 1e-4, "first"), (2.0, 0, "first")],
)
def test_the_faster_is_taken_if_the_answers_agree(clock, seconds, off, chosen):
    models = {"first": Format(clock, 1.0), "second": Format(clock, seconds, off)}
    tried = try_formats(models, windows, 4)
    assert tried.chosen == chosen
    assert tried.speeds == pytest.approx({"first": 32, "second": 32 / seconds})
    assert tried.difference == pytest.approx(off, abs=1e-7)


def test_without_windows_it_is_the_usual_one(clock):
    models = {"first": Format(clock, 1.0), "second": Format(clock, 0.1)}
    assert try_formats(models, lambda size: None, 4).chosen == "first"


def test_what_was_chosen_is_kept():
    @dataclass
    class Open:
        chosen: str = "auto"

        def in_formats(self):
            return {name: Open(name) for name in ("a", "b")} if self.chosen == "auto" else {}

    choices = choose(Open(), 4, None, {"memory_format": "b"})
    assert (choices.model, choices.memory_format, choices.tried) == (Open("b"), "b", None)
    assert formats_of(Open) == formats_of(Open("a")) == formats_of(len) == {}


def network(**options):
    torch = require("torch")
    torch.manual_seed(3)
    return adapters.torch_model(
        torch.nn.Conv2d(1, 2, 3, padding=1), activation="softmax", **options
    )


@pytest.fixture
def last_is_faster(monkeypatch):
    """What is true of this machine is no matter of a test."""

    def seconds_of(model, batch):
        taken = 1.0 if "channels_last" in repr(model.model) else 2.0
        return taken, model([one.copy() for one in batch])

    monkeypatch.setattr(memory_formats, "seconds_of", seconds_of)


@pytest.mark.usefixtures("last_is_faster")
@pytest.mark.parametrize("wrap", [lambda m: m, adapters.test_time_augmentation])
@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_runs_use_and_tell_what_was_chosen(tmp_path, caplog, wrap, cpus):
    model = wrap(network(memory_format="auto"))
    with caplog.at_level(logging.INFO, "morpheus_core"):
        hduls, _ = predict(model, IMAGE, 2, 8, (10, 10), stride=(5, 5), out_dir=tmp_path, cpus=cpus)
    assert 'memory_format="channels_last"' in hduls[0][0].header["MODEL"]
    for hdul in hduls:
        hdul.close()
    (told,) = [one.getMessage() for one in caplog.records if "memory_format=" in one.getMessage()
               and "windows per second" in one.getMessage()]  # fmt: skip
    assert told.startswith("memory_format='channels_last'; windows per second: contiguous 14, ")


@pytest.mark.usefixtures("last_is_faster")
def test_a_resumed_run_does_the_same(tmp_path, monkeypatch):
    calls = []

    def interrupting(pixels):
        calls.append(len(pixels))
        if len(calls) > 12:
            raise KeyboardInterrupt
        return pixels

    options = {"stride": (5, 5), "out_dir": tmp_path, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        predict(
            network(memory_format="auto", normalize=interrupting), IMAGE, 2, 8, (10, 10), **options
        )
    assert Workspace(tmp_path).load().parameters["memory_format"] == "channels_last"
    monkeypatch.setattr("morpheus_core.pipeline.choices.try_formats", None)  # is not called again
    hduls, _ = predict(network(memory_format="auto"), IMAGE, 2, 8, (10, 10), resume=True, **options)
    assert 'memory_format="channels_last"' in hduls[0][0].header["MODEL"]
    for hdul in hduls:
        hdul.close()


@pytest.mark.usefixtures("last_is_faster")
def test_catalogues_exposures_and_plans_choose(tmp_path):
    model = network(memory_format="auto")
    rows = Table({"x": [9.0, 20.0], "y": [9.0, 20.0]})
    table = predict_catalog(model, IMAGE, rows, 2, 8, (10, 10), progress=False)
    assert 'memory_format="channels_last"' in table.meta["MODEL"]
    fits.writeto(tmp_path / "a.fits", IMAGE)
    (outcome,) = map_exposures(
        model, tmp_path / "a.fits", 2, 8, (10, 10), stride=(5, 5), progress=False
    )
    assert 'memory_format="channels_last"' in fits.getheader(outcome.output)["MODEL"]
    forecast = plan(model, IMAGE, 2, 8, (10, 10), stride=(5, 5))
    assert list(forecast.memory_formats) == ["contiguous", "channels_last"]
    assert "formats   contiguous: 14, channels_last: 28 windows per second" in str(forecast)


def test_what_no_run_chooses_is_as_by_default():
    given = [IMAGE[np.newaxis, :10, :10, np.newaxis]]
    assert np.array_equal(network(memory_format="auto")(given), network()(given))
