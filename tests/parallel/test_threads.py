"""One number of threads for whoever runs a model, here or elsewhere."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

from morpheus_core import (
    InputError,
    map_exposures,
    plan,
    predict,
    predict_catalog,
    run_strip,
    stitch,
)
from morpheus_core.parallel.threads import limited_threads
from morpheus_core.workspace.folders import Workspace

IMAGE = np.ones((40, 20), np.float32)
ARGUMENTS = {"n_classes": 1, "batch_size": 8, "window_shape": (10, 10), "progress": False}


def threads(batch):
    """Say how many threads the environment allows."""
    import os

    told = float(os.environ.get("OMP_NUM_THREADS", 0))
    return np.full((len(batch[0]), 1), told)


def run(tmp_path, **options):
    hduls, (mean_var, _) = predict(
        threads, IMAGE, **ARGUMENTS, stride=(10, 10), aggregate_method="mean_var",
        out_dir=tmp_path, **options,
    )  # fmt: skip
    seen, header = np.unique(mean_var[..., 0]).tolist(), hduls[0][0].header
    for hdul in hduls:
        hdul.close()
    return seen, header.get("THREADS")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("where", [{}, pytest.param({"cpus": 2}, marks=pytest.mark.slow)])
def test_workers_and_one_process_have_as_many(tmp_path, where):
    assert run(tmp_path, **where, threads=3) == ([3.0], 3)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert run(tmp_path, **where, overwrite=True) == ([1.0], None)


@pytest.mark.slow
def test_workers_of_an_executor_have_as_many(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        assert run(tmp_path, executor=executor, threads=3) == ([3.0], 3)


def test_jobs_have_as_many(tmp_path):
    fits.writeto(tmp_path / "image.fits", IMAGE)
    predict(threads, tmp_path / "image.fits", **ARGUMENTS, stride=(10, 10), out_dir=tmp_path,
            aggregate_method="mean_var", begin_only=True, strips=1, threads=3)  # fmt: skip
    run_strip(tmp_path, 0, progress=False)
    hduls, (mean_var, _) = stitch(tmp_path)
    assert (mean_var[..., 0] == 3).all()
    for hdul in hduls:
        hdul.close()


def test_a_resumed_run_needs_as_many(tmp_path):
    seen = []

    def model(batch):
        seen.append(len(batch[0]))
        if len(seen) > 3:
            raise KeyboardInterrupt
        return np.zeros((len(batch[0]), 1))

    options = {**ARGUMENTS, "aggregate_method": "mean_var", "out_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        predict(model, IMAGE, **options, threads=2)
    assert Workspace(tmp_path).load().parameters["threads"] == 2
    with pytest.raises(InputError, match="threads was 2, is None"):
        predict(threads, IMAGE, **options, resume=True)


@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_catalogues_and_exposures_have_as_many(tmp_path, cpus):
    rows = Table({"x": [9.0, 10.0], "y": [9.0, 20.0]})
    table = predict_catalog(
        threads, IMAGE, rows, **ARGUMENTS, work_dir=tmp_path / "work", cpus=cpus, threads=3
    )
    assert table["class_0"].tolist() == [3, 3]
    assert table.meta["THREADS"] == 3
    fits.writeto(tmp_path / "image.fits", IMAGE)

    def share(batch):
        return threads(batch) / 4

    (outcome,) = map_exposures(
        share, tmp_path / "image.fits", **ARGUMENTS, cpus=cpus, threads=3, thresholds=None
    )
    assert (fits.getdata(outcome.output) == 0.75).all()
    assert fits.getheader(outcome.output)["THREADS"] == 3


def test_libraries_that_are_loaded_are_told(monkeypatch):
    require("threadpoolctl")
    from threadpoolctl import threadpool_info

    told = []
    torch = SimpleNamespace(get_num_threads=lambda: 7, set_num_threads=told.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    before = [one["num_threads"] for one in threadpool_info()]
    with limited_threads(1):
        assert {one["num_threads"] for one in threadpool_info()} <= {1}
        assert told == [1]
    assert told == [1, 7]
    assert [one["num_threads"] for one in threadpool_info()] == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    with limited_threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("call", [predict, plan])
def test_it_is_a_number(call):
    with pytest.raises(InputError, match="threads must be a whole number >= 1, got 0"):
        call(threads, IMAGE, **ARGUMENTS, threads=0)
