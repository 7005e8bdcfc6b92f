"""Names of a run are looked for in listings: whether one exists, a machine may know wrongly."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from morpheus_core import (
    ModelError,
    WorkerError,
    map_exposures,
    predict,
    predict_catalog,
    run_strip,
    stitch,
)
from morpheus_core.storage.names import is_there

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)


class Model:
    """Fails at a call as long as there is a flag."""

    def __init__(self, flag):
        self.calls, self.flag = 0, flag

    def __call__(self, batch):
        self.calls += 1
        if self.calls == 6 and self.flag.exists():
            raise RuntimeError("stopped here")
        return batch[0].mean(axis=(1, 2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which nobody may ask for what is not there: a machine would remember that."""
    folder = tmp_path / "run"

    def refused(real):
        def ask(path):
            answer = real(path)
            assert answer or folder not in path.parents, f"{path} was asked for"
            return answer

        return ask

    for name in ("exists", "is_file"):
        monkeypatch.setattr(Path, name, refused(getattr(Path, name)))
    return folder


def of_an_image(folder, model, **options):
    hduls, _ = predict(
        model,
        IMAGE,
        1,
        9,
        (10, 8),
        stride=(2, 3),
        aggregate_method="mean_var",
        strips=3,
        out_dir=folder,
        progress=False,
        **options,
    )
    for hdul in hduls:
        hdul.close()


def of_a_catalogue(folder, model, **options):
    catalog = Table({"x": np.linspace(5, 24, 99), "y": np.linspace(6, 50, 99)})
    predict_catalog(
        model, IMAGE, catalog, 1, 9, (10, 8), work_dir=folder, progress=False, **options
    )


def of_exposures(folder, model, **options):
    night = folder.with_name("night.fits")
    if not night.is_file():
        fits.HDUList([fits.PrimaryHDU(), *[fits.ImageHDU(IMAGE)] * 2]).writeto(night)
    map_exposures(model, [night], 1, 9, (10, 8), (5, 8), work_dir=folder, progress=False, **options)


@pytest.mark.parametrize("run", [of_an_image, of_a_catalogue, of_exposures])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_runs_that_are_resumed(folder, run, elsewhere):
    flag = folder.with_name("flag")
    flag.touch()
    with ThreadPoolExecutor(1) as executor:
        options = {"executor": executor} if elsewhere else {}
        with suppress(ModelError, WorkerError):  # exposures come back with what has failed
            run(folder, Model(flag), **options)
        flag.unlink()
        run(folder, Model(flag), resume=True, **options)


def test_strips_that_are_jobs(folder):
    of_an_image(folder, Model(folder.with_name("flag")), begin_only=True)
    for index in range(3):
        run_strip(folder, index, progress=False)
    hduls, _ = stitch(folder)
    for hdul in hduls:
        hdul.close()


def test_outputs_that_are_there(folder):
    of_an_image(folder, Model(folder.with_name("flag")))
    of_an_image(folder, Model(folder.with_name("flag")), overwrite=True)


def test_names_are_those_of_the_listing(tmp_path):
    assert not is_there(tmp_path / "a" / "b")
    (tmp_path / "a").mkdir()
    assert not is_there(tmp_path / "a" / "b")
    (tmp_path / "a" / "b").touch()
    assert is_there(tmp_path / "a" / "b")
