"""Clusters without workers."""

import logging
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from morpheus_core import WorkerError, map_exposures, predict, predict_catalog
from morpheus_core.parallel import absence, submissions
from morpheus_core.parallel.absence import Absence
from morpheus_core.parallel.executors import KILLED, LOST, DaskEngine, Engine


class Cluster(Engine):
    """Has workers at some times."""

    def __init__(self, *present):
        super().__init__(None)
        self.present, self.now = present, 0.0

    def monotonic(self):
        return self.now

    def has_workers(self):
        return any(first <= self.now < stop for first, stop in self.present)


def told(cluster, patience, seconds, monkeypatch, caplog):
    """Look each second, and return when it was told that there are no workers."""
    monkeypatch.setattr(absence, "time", cluster)
    vigil, times = Absence(cluster, patience), []
    with caplog.at_level(logging.WARNING, "morpheus_core"):
        for second in range(seconds):
            cluster.now, before = float(second), len(caplog.records)
            vigil.look(14)
            times += [second] * (len(caplog.records) - before)
    return times


def test_is_told_and_told_again(monkeypatch, caplog):
    assert told(Cluster(), None, 100, monkeypatch, caplog) == [10, 20, 40, 80]
    assert "the cluster has no workers; 14 pieces wait, for 10 s so far" in caplog.text


def test_begins_anew_when_there_were_workers(monkeypatch, caplog):
    assert told(Cluster((0, 5), (12, 13)), None, 30, monkeypatch, caplog) == [23]


def test_ends_with_patience(monkeypatch, caplog):
    cluster = Cluster((0, 5))
    with pytest.raises(
        WorkerError, match=r"no workers for 20 s, and 14 pieces wait; .*resume=True"
    ):
        told(cluster, 20.0, 100, monkeypatch, caplog)
    assert cluster.now == 25


class KilledWorker(Exception):  # noqa: N818
    """As Dask calls it."""


class Client:
    """What is asked of a client of Dask."""

    asynchronous = False
    status = "running"

    def nthreads(self):
        if self.status != "running":
            raise TimeoutError
        return {}


@pytest.mark.parametrize(
    ("status", "error", "ending"),
    [
        ("running", ValueError("no"), "ValueError: no"),
        ("running", KilledWorker("x"), f"KilledWorker: x; {KILLED}"),
        ("closed", ValueError("no"), f"ValueError: no; {LOST}"),
    ],
)
def test_errors_of_the_cluster_are_explained(status, error, ending):
    client = Client()
    engine = DaskEngine(client)
    client.status = status
    assert engine.explain(error) == ending
    assert engine.has_workers() == (status != "running")


class Deserted(Client):
    """A cluster without workers, which takes work all the same."""

    scheduler = SimpleNamespace(address="tcp://node7:8786")

    def submit(self, function, task, **options):
        return Future()

    def run(self, check):
        return {}


Deserted.__module__ = "distributed.client"
OPTIONS = {"n_classes": 1, "batch_size": 4, "window_shape": (5, 5), "progress": False}


def predict_image(folder, **options):
    options = {**options, "stride": (5, 5), "aggregate_method": "mean_var"}
    predict(len, folder / "image.fits", out_dir=folder, **options)


def predict_rows(folder, **options):
    table = Table({"x": [3.0, 5.0], "y": [3.0, 5.0]})
    predict_catalog(len, folder / "image.fits", table, work_dir=folder / "work", **options)


def map_files(folder, **options):
    del options["progress"]
    map_exposures(len, [folder / "image.fits"], out_dir=folder / "masks", **options)


@pytest.mark.parametrize("call", [predict_image, predict_rows, map_files])
def test_every_call_has_patience(tmp_path, monkeypatch, call):
    monkeypatch.setattr(submissions, "LOOK", 0.001)
    fits.writeto(tmp_path / "image.fits", np.zeros((20, 10), np.float32))
    with pytest.raises(WorkerError, match=r"the cluster has had no workers for .* resume=True"):
        call(tmp_path, executor=Deserted(), patience=0.01, **OPTIONS)
