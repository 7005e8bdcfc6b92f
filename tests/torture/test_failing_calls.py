"""The first, second, … write, fsync, rename and lock of a small run of each kind fails."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kinds_of_work import KINDS

import morpheus_core

pytestmark = pytest.mark.torture

HERE = Path(__file__).parent
CALLS = ["write", "pwrite", "fsync", "ftruncate", "fallocate", "rename", "flock"]
#: A run with one failing call ends with an error of ours, and goes on to the bytes of a whole run.
SCRIPT = """
import ctypes, os, shutil, sys, warnings
from pathlib import Path
import numpy as np
from kinds_of_work import KINDS, Probe, assert_same
from morpheus_core import MorpheusError

library, folder, name, call, number = sys.argv[1:]
shim, kind, folder = ctypes.CDLL(library), KINDS[name], Path(folder)

def arm(place, at):
    shim.arm(call.encode(), str(place).encode(), ctypes.c_long(at), int(number))

def open_files():
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{fd}")]
    return sorted(link for link in links if str(folder) in link)

def prepared(name):
    place = folder / name
    place.mkdir()
    kind.prepare(place)
    return place

place = prepared("whole")
expected = kind.run(Probe(place / "model"), place)
failures = 0
for at in range(1, 1000):
    place = prepared(f"k{at}")
    model = Probe(place / "model")
    arm(place / "out", at)
    found = None
    try:
        found = kind.run(model, place)
    except MorpheusError:
        failures += 1
    calls = shim.counted()
    arm("nothing", 0)
    if found is None:
        assert not open_files(), open_files()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "resume=True runs the model that was stored")
            found = kind.run(model, place, resume=True)
    assert_same(found, expected)
    shutil.rmtree(place)
    if calls < at:
        break
print(f"{name}: {at - 1} calls of {call}, {failures} of them ended the run")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "failing_calls.so"
    command = ["gcc", "-shared", "-fPIC", "-o", path, HERE / "failing_calls.c", "-ldl"]
    subprocess.run(command, check=True)
    return path


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_lost(tmp_path, library, name, call, number):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(morpheus_core.__file__).parents[1])
    path = os.pathsep.join([root, str(HERE.parent)])
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", library, tmp_path, name, call, str(number)],
        env={**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(library)},
        capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout.strip())
