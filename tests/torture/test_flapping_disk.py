"""Runs into a folder of a disk that is slow, and fails for a moment again and again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import require, require_program
from kinds_of_work import KINDS, Probe, assert_same

import morpheus_core

pytestmark = [
    pytest.mark.torture,
    pytest.mark.filterwarnings("ignore:resume=True runs the model that was stored"),
]

TESTS = Path(__file__).parents[1]
PATIENCE = 60
#: A run of a process of its own: a page of a mapped file that cannot be read ends a process.
SCRIPT = """
import sys
from pathlib import Path
from kinds_of_work import KINDS, Probe
from morpheus_core import MorpheusError

if __name__ == "__main__":
    kind, disk, notes, cpus, resume = sys.argv[1:]
    where = {"cpus": 2} if cpus == "2" else {}
    where |= {} if kind == "rows" else {"overwrite": True}  # it may have come to its end
    try:
        KINDS[kind].run(Probe(notes), Path(disk), resume=resume == "resume", **where)
    except (MorpheusError, OSError) as error:
        sys.exit(f"refused: {error}")
"""


@pytest.fixture
def disk(tmp_path, number):
    """A place where a disk may flap."""
    require("mfusepy")
    unmount = require_program("fusermount3")
    folder, place = tmp_path / "behind", tmp_path / "disk"
    folder.mkdir()
    place.mkdir()
    command = [
        sys.executable,
        Path(__file__).parent / "flapping_disk.py",
        folder,
        place,
        str(number),
    ]
    with subprocess.Popen(command) as process:
        end = time.monotonic() + PATIENCE
        while not place.is_mount() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        assert place.is_mount()
        yield place
        (tmp_path / "behind.flapping").unlink(missing_ok=True)
        subprocess.run([unmount, "-u", place], check=True)


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_lost(tmp_path, disk, name, number):
    kind = KINDS[name]
    sound = tmp_path / "sound"
    sound.mkdir()
    for place in (sound, disk):
        kind.prepare(place)
    expected = kind.run(Probe(sound / "notes"), sound)
    flapping = tmp_path / "behind.flapping"
    flapping.touch()
    ends = [run(tmp_path, disk, name, 2 * (number % 2), how) for how in ("begin", *["resume"] * 5)]
    flapping.unlink()
    print(f"{name}: {ends}")
    where = {} if name == "rows" else {"overwrite": True}
    found = kind.run(Probe(tmp_path / "notes"), disk, resume=True, **where)
    assert_same(found, expected)
    left = [each.name for each in disk.rglob("*") if each.name.endswith(".tmp")]
    assert not left


def run(folder, disk, name, cpus, how):
    """Return 0, 1 after an error of ours or of the disk, or the signal that ended a run."""
    (folder / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(morpheus_core.__file__).parents[1]), str(TESTS)])
    done = subprocess.run(
        [sys.executable, folder / "script.py", name, disk, folder / "notes", str(cpus), how],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    if done.returncode > 0:
        assert "refused: " in done.stderr, done.stderr[-3000:]
    return done.returncode
