"""The scripts of the documentation's places run as their pages say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits
from conftest import require, require_program
from numpy.testing import assert_allclose

from morpheus_core import predict
from morpheus_core.demo.network import WINDOW_SHAPE, DemoNetwork
from morpheus_core.demo.run import write_inputs
from morpheus_core.demo.sky import BANDS, CLASS_NAMES, simulate_sky

PLACES = Path(__file__).parents[1] / "docs" / "places"


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A small field, and what one process makes of it."""
    folder = tmp_path_factory.mktemp("field")
    write_inputs(simulate_sky((120, 120), seed=3), folder)
    paths = [folder / f"{band}.fits" for band in BANDS]
    return paths, classify(paths)


def classify(paths, **options):
    """Return what one process makes of a field."""
    hduls, (output, _) = predict(
        DemoNetwork(),
        paths,
        len(CLASS_NAMES),
        16,
        WINDOW_SHAPE,
        stride=(20, 20),
        aggregate_method="mean_var",
        progress=False,
        **options,
    )
    output = output.copy()
    for hdul in hduls:
        hdul.close()
    return output


def run(command, folder):
    """Run a script, which writes into the folder in which it runs."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return fits.getdata(folder / "results" / "output.fits")


@pytest.mark.slow
def test_laptop(field, tmp_path):
    paths, expected = field
    output = run([sys.executable, PLACES / "laptop.py", *paths], tmp_path)
    assert_allclose(output, expected, atol=1e-6)


@pytest.mark.slow
def test_slurm(field, tmp_path):
    require("dask_jobqueue")
    paths, expected = field
    output = run([sys.executable, PLACES / "slurm.py", "--local", *paths], tmp_path)
    assert_allclose(output, expected, atol=1e-6)


@pytest.mark.slow
def test_job_array(field, tmp_path, monkeypatch):
    paths, expected = field
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STRIPS", "2")
    output = run(["bash", PLACES / "job_array.sh", "--local", *paths], tmp_path)
    assert_allclose(output, expected, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "n.fits",
        "output.fits",
        "run.json",
    ]


@pytest.mark.slow
def test_mpi(field, tmp_path):
    require("mpi4py")
    paths, _ = field
    launcher = [require_program("mpiexec"), "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    output = run([*launcher, PLACES / "mpi.py", *paths], tmp_path)
    # As many strips as there are workers, or sums of rows might be rounded otherwise.
    expected = classify(paths, out_dir=tmp_path / "serial", strips=2)
    assert output.tobytes() == expected.tobytes()


@pytest.mark.slow  # PyTorch is imported in three processes
def test_workstation(field, tmp_path):
    require("torch")
    require("distributed")
    paths, _ = field
    output = run([sys.executable, PLACES / "workstation.py", "--local", *paths], tmp_path)
    assert_allclose(output[..., 0].sum(axis=-1), 1, atol=1e-5)
