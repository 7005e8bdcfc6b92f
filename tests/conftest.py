import importlib
import math
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from morpheus_core.pipeline.kernels import plain

# Machines that run tests are shared: how long an example takes says nothing.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")


@pytest.fixture
def data():
    """The folder of real images and networks; see Contributing in the documentation."""
    folder = os.environ.get("MORPHEUS_CORE_TEST_DATA")
    if folder is None:
        pytest.skip("MORPHEUS_CORE_TEST_DATA does not name a folder of real images")
    assert Path(folder).is_dir(), f"MORPHEUS_CORE_TEST_DATA names no folder: {folder}"
    return Path(folder)


@pytest.fixture(params=["compiled", "plain"])
def both_kernels(request, monkeypatch):
    """Run a test with numba and without."""
    if request.param == "plain":
        monkeypatch.setattr("morpheus_core.pipeline.kernels.fastest", lambda: plain)
    else:
        require("numba")
    return request.param


@contextmanager
def ways_of_folding(collects):
    """Collect predictions row by row wherever that is possible, or nowhere."""
    with (
        mock.patch("morpheus_core.pipeline.strip.COLLECTED_VALUES", 0 if collects else math.inf),
        mock.patch("morpheus_core.pipeline.ring.COLLECTED_BATCH", 0),
        mock.patch("morpheus_core.pipeline.aggregators.RankVote.collected_row", 1),
        mock.patch.object(plain, "COLLECTING_PAYS", collects),
    ):
        yield


def require(module):
    """Import an optional package, or skip; where every test must run, its absence is a failure."""
    if os.environ.get("MORPHEUS_CORE_REQUIRE_ALL"):
        return importlib.import_module(module)
    return pytest.importorskip(module)


def require_program(name):
    """Return the path of a program, or skip as `require` does."""
    # Packages bring programs as well, beside the interpreter.
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        assert not os.environ.get("MORPHEUS_CORE_REQUIRE_ALL"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no command to mount a file system")
    if mounted.returncode != 0:
        assert not os.environ.get("MORPHEUS_CORE_REQUIRE_ALL"), mounted.stderr
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk):
    """Leave no room but for the rest of blocks that are in use."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return
