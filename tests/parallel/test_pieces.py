"""One contract for strips, rows of catalogues and exposures, whoever does them."""

import contextlib
import errno
import functools
import logging
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from astropy.table import Table
from conftest import require
from kinds_of_work import IMAGE, KINDS, Probe, assert_same

import morpheus_core
from morpheus_core import MorpheusError, WorkerError, predict_catalog

TESTS = Path(__file__).parents[1]
#: Seconds after which what should happen in another process has not.
PATIENCE = 60.0


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    kind = KINDS[request.param]
    kind.prepare(tmp_path)
    return kind


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2) as executor:
        executor.submit(os.getpid).result()
        yield executor


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers with their nannies, each a process of its own."""
    distributed = require("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with require("distributed").Client(cluster, set_as_default=False) as client:
        yield client


WAYS = ["here", "cpus", "processes", "dask"]
#: Of each kind one way; the others are slow. On a cluster `test_executors` tests more.
QUICK = {("strips", "cpus"), ("rows", "processes"), ("exposures", "here")}


@pytest.fixture
def way(request):
    """Where pieces are done, as arguments."""
    if request.param == "cpus":
        return {"cpus": 2}
    if request.param == "processes":
        return {"executor": request.getfixturevalue("processes")}
    if request.param == "dask":
        return {"executor": request.getfixturevalue("client")}
    return {}


every_kind_every_way = pytest.mark.parametrize(
    ("kind", "way"),
    [
        pytest.param(kind, way, marks=[] if (kind, way) in QUICK else pytest.mark.slow)
        for kind in KINDS
        for way in WAYS
    ],
    indirect=True,
)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What each kind of work gives in this process."""
    results = {}
    for kind in KINDS.values():
        folder = tmp_path_factory.mktemp("expected")
        kind.prepare(folder)
        results[kind] = kind.run(Probe(folder / "notes"), folder)
    return results


@every_kind_every_way
def test_all_give_the_same_and_load_the_model_once(kind, way, tmp_path, expected, caplog):
    model = Probe(tmp_path / "notes")
    assert_same(kind.run(model, tmp_path, **way), expected[kind])
    assert sum(count for _, count in model.calls()) == kind.steps
    loads = model.loads()
    assert len(loads) == len(set(loads))
    assert {pid for pid, _ in model.calls()} == (set(loads) if way else {os.getpid()})
    assert len(loads) <= 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@every_kind_every_way
def test_a_model_that_raises(kind, way, tmp_path):
    model = Probe(tmp_path / "notes", error=ValueError("no such layer"))
    (tmp_path / "notes").touch()
    with pytest.raises(MorpheusError, match="no such layer"):
        kind.run(model, tmp_path, **way)
    resumed = kind.run(Probe(tmp_path / "more"), tmp_path) if kind.errors_are_raised else None
    assert resumed is None or len(resumed) > 1  # nothing was left in the way


@pytest.mark.parametrize(
    "kind",
    [
        "rows",
        pytest.param("strips", marks=pytest.mark.slow),
        pytest.param("exposures", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_a_run_that_was_removed_in_part_is_resumed(kind, tmp_path, expected):
    """Its disk goes away before the first, second, … file of it is removed."""
    whole = run_that_fails(kind, tmp_path / "whole", FailingFrom(1 << 30))
    for place in range(0, whole.calls, max(1, whole.calls // 10)):
        folder = tmp_path / str(place)
        run_that_fails(kind, folder, FailingFrom(place))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "resume=True runs the model that was stored")
            found = kind.run(Probe(folder / "notes"), folder, resume=True)
        assert_same(found, expected[kind])


def run_that_fails(kind, folder, unlink):
    """Run a model that raises, and try to remove what was begun."""
    folder.mkdir()
    kind.prepare(folder)
    model = Probe(folder / "notes", error=ValueError("no"))
    with mock.patch.object(Path, "unlink", unlink), pytest.raises((MorpheusError, OSError)):
        kind.run(model, folder)
    return unlink


class FailingFrom:
    """`Path.unlink`, which fails from one of the calls on that concern what a run has stored."""

    unlink = Path.unlink

    def __init__(self, place):
        self.place, self.calls = place, 0

    def __get__(self, path, kind):
        return functools.partial(self, path)

    def __call__(self, path, missing_ok=False):
        if path.parent.name == "0" and not path.name.startswith("look."):
            self.calls += 1
            if self.calls > self.place:
                raise OSError(errno.EIO, "a disk that is gone", str(path))
        FailingFrom.unlink(path, missing_ok)


@pytest.mark.slow
def test_many_rows_on_a_cluster(client, tmp_path):
    random = np.random.default_rng(7)
    catalog = Table({"x": random.uniform(0, 39, 20_000), "y": random.uniform(0, 89, 20_000)})

    def model(batch):
        return batch[0].mean(axis=(1, 2))

    def run(**where):
        return predict_catalog(model, IMAGE, catalog, 1, 256, (10, 10), progress=False, **where)

    table = run(out=tmp_path / "out.fits", executor=client)
    for name, values in run().items():
        np.testing.assert_array_equal(table[name], values)
    assert [path.name for path in tmp_path.iterdir()] == ["out.fits"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS[1:])
def test_a_killed_worker_costs_its_piece_alone(kind, way, tmp_path, expected, request):
    model = Probe(tmp_path / "notes", kill_after=12)
    if way == "processes":
        executor = ProcessPoolExecutor(2)
    where = {
        "cpus": lambda: {"cpus": 2},
        "processes": lambda: {"executor": executor},
        "dask": lambda: {"executor": request.getfixturevalue("client")},
    }[way]()
    if way == "dask":  # the scheduler gives the piece to another worker
        assert_same(kind.run(model, tmp_path, **where), expected[kind])
    else:
        with pytest.raises(WorkerError, match=r"killed by SIGKILL|worker process of the exec"):
            kind.run(model, tmp_path, **where)
        assert_same(kind.run(model, tmp_path, cpus=2, resume=True), expected[kind])
    assert Path(f"{model.notes}.killed").exists()
    done = sum(count for _, count in model.calls())
    assert kind.steps < done <= kind.steps + (kind.steps // 3 if way != "processes" else kind.steps)


SCRIPT = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
sys.path[:0] = [{tests!r}, {folder!r}]
from kinds_of_work import KINDS, Probe

if __name__ == "__main__":
    folder = Path({folder!r})
    model = Probe(folder / "notes", kill_after=12, victim=os.getpid())
    way = {way!r}
    if way == "processes":
        where = {{"executor": ProcessPoolExecutor(2)}}
    elif way == "dask":
        from distributed import Client
        where = {{"executor": Client({address!r})}}
    else:
        where = {{"cpus": 2}} if way == "cpus" else {{}}
    KINDS[{kind!r}].run(model, folder, **where)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_killed_parent_is_resumed_by_others(kind, way, tmp_path, expected, request):
    address = ""
    if way == "dask":
        address = request.getfixturevalue("cluster").scheduler_address
    name = next(name for name, one in KINDS.items() if one is kind)
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(tests=str(TESTS), folder=str(tmp_path), way=way, address=address, kind=name)
    )
    root = str(Path(morpheus_core.__file__).parents[1])
    path = os.pathsep.join([root, str(TESTS)])
    process = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": path}, start_new_session=True
    )
    try:
        assert process.wait(PATIENCE) == -signal.SIGKILL
        model = Probe(tmp_path / "more")
        where = {} if way == "cpus" else {"cpus": 2}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "resume=True runs the model that was stored")
            assert_same(kind.run(model, tmp_path, resume=True, **where), expected[kind])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what an executor has left


@pytest.mark.slow
@pytest.mark.parametrize("model", ["function", "Class()"])
def test_processes_that_were_spawned_may_have_workers(tmp_path, model):
    """As those of a pool are by default from Python 3.14 on; the model is the script's."""
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
            import concurrent.futures, multiprocessing
            import numpy as np
            from morpheus_core import predict

            def function(batch):
                return np.concatenate([batch[0], -batch[0]], -1)

            class Class:
                def __call__(self, batch):
                    return function(batch)

            def run(number):
                hduls, (_, n) = predict(
                    {model}, np.ones((40, 40), "f4"), 2, 16, (8, 8), stride=(4, 4),
                    out_dir=f"out{{number}}", cpus=2, progress=False,
                )
                return float(n.max())

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
                    print("greatest n:", *pool.map(run, [0]))
        """)
    )
    path = str(Path(morpheus_core.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=PATIENCE * 3,
    )  # fmt: skip
    assert "greatest n: 4.0" in run.stdout, run.stderr
