"""Two hundred runs that are killed at a random moment, and resumed by other workers."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from kinds_of_work import KINDS, Probe, assert_same

import morpheus_core

pytestmark = pytest.mark.torture

TESTS = Path(__file__).parents[1]
#: Whoever is killed runs this; its model takes ten milliseconds a batch.
SCRIPT = """
import sys, time
from pathlib import Path
from kinds_of_work import KINDS, Probe

class Slow(Probe):
    def __call__(self, batch):
        time.sleep(0.01)
        return super().__call__(batch)

if __name__ == "__main__":
    kind, folder, cpus, resume = sys.argv[1:]
    folder = Path(folder)
    where = {} if kind == "rows" else {"overwrite": True}  # it may have come to its end
    KINDS[kind].run(
        Slow(folder / "notes"), folder, cpus=int(cpus) or None, resume=resume == "resume", **where
    )
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    results = {}
    for name, kind in KINDS.items():
        folder = tmp_path_factory.mktemp(name)
        kind.prepare(folder)
        results[name] = kind.run(Probe(folder / "notes"), folder)
    return results


@pytest.mark.parametrize("number", range(67))
@pytest.mark.parametrize("name", KINDS)
def test_what_is_killed_is_resumed(tmp_path, expected, name, number):
    """It is killed twice, the second time on its way to go on."""
    random = np.random.default_rng([number, *name.encode()])
    kind = KINDS[name]
    kind.prepare(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    for resume in ("begin", "resume"):
        cpus = random.choice([0, 2, 3])
        kill_at_random(tmp_path, [name, tmp_path, cpus, resume], random)
        left = processes_that_mention(tmp_path)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
    where = {} if random.random() < 0.5 else {"cpus": 2}
    where |= {} if name == "rows" else {"overwrite": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "resume=True runs the model that was stored")
        found = kind.run(Probe(tmp_path / "more"), tmp_path, resume=True, **where)
    assert_same(found, expected[name])


def kill_at_random(folder, arguments, random):
    """Start a run and kill its first process, or one of its workers, within four seconds."""
    root = str(Path(morpheus_core.__file__).parents[1])
    path = os.pathsep.join([root, str(TESTS)])
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, folder / "script.py", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path}, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
        time.sleep(random.uniform(0.5, 4))
        workers = [pid for pid in processes_that_mention(folder) if pid != process.pid]
        victim = random.choice(workers) if workers and random.random() < 0.5 else process.pid
        with contextlib.suppress(ProcessLookupError):  # it had come to its end
            os.kill(victim, signal.SIGKILL)
        process.wait(60)
    deadline = time.monotonic() + 30  # workers see that their parent has gone
    while processes_that_mention(folder) and time.monotonic() < deadline:
        time.sleep(0.1)


def processes_that_mention(folder):
    """Return the processes that have a folder among their arguments or open files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
            files = [os.readlink(link) for link in (process / "fd").iterdir()]  # noqa: PTH115
        except OSError:
            continue
        if int(process.name) != os.getpid() and (
            str(folder).encode() in arguments or any(str(folder) in file for file in files)
        ):
            found.append(int(process.name))
    return found
