"""What a run says while nothing moves, and how workers' logs tell of them."""

import sys
import types

import pytest
from conftest import require

from morpheus_core import progress
from morpheus_core.parallel import reports
from morpheus_core.pipeline.models import resolve


@pytest.fixture
def said():
    lines = []
    with progress.told(lines.append):
        yield lines


def test_a_bar_shows_steps_until_something_is_finished(capsys):
    with progress.progress_bar(10, 0, shown=True) as advance:
        progress.say("loading the network")
        first = capsys.readouterr().err
        advance(0)
        advance(5)
    after = capsys.readouterr().err
    assert "loading the network: " in first
    assert "loading" not in after.rpartition("\r")[2]


def test_nobody_is_told_afterwards(said):
    with progress.progress_bar(1, 0, shown=False):
        assert len(progress.LISTENERS) == 2
    progress.say("loading")
    assert said == ["loading"]
    assert len(progress.LISTENERS) == 1


def test_models_that_are_made_are_told_of(said, monkeypatch):
    module = types.ModuleType("progress_network")
    module.make = lambda: print
    monkeypatch.setitem(sys.modules, "progress_network", module)
    resolve("progress_network:make")
    assert said == ["making the model of progress_network:make"]


def test_compiling_is_told_once(said):
    require("numba")
    from morpheus_core.pipeline.kernels.compiled import gather
    from morpheus_core.pipeline.kernels.compiling import Compilations

    def event(function):
        dispatcher = types.SimpleNamespace(py_func=function)
        return types.SimpleNamespace(data={"dispatcher": dispatcher})

    listener = Compilations()
    listener.on_start(event(test_compiling_is_told_once))
    assert said == []
    for _ in range(2):
        listener.on_start(event(gather.py_func))
        listener.on_end(None)
    assert said == ["compiling inner loops, once per installation"]


def test_numba_tells_of_compilations_in_this_way(monkeypatch):
    numba = require("numba")
    from morpheus_core.pipeline.kernels.compiling import Compilations

    seen = []
    monkeypatch.setattr(
        Compilations,
        "on_start",
        lambda _, event: seen.append(event.data["dispatcher"].py_func.__name__),
    )
    double = numba.njit(lambda number: 2 * number)
    assert double(3) == double(4) - 2
    assert seen == ["<lambda>"]


def test_a_worker_tells_how_far_it_is_every_half_minute(capsys):
    now, counted = [0.0], []
    piece = reports.PieceReport("window rows 0 to 9", counted.append, lambda: now[0])
    for _ in range(7):
        now[0] += 10
        piece(100)
    piece.end()
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "window rows 0 to 9: begun",
        "window rows 0 to 9: 300 done in 30 s, 10.0 per second",
        "window rows 0 to 9: 600 done in 60 s, 10.0 per second",
        "window rows 0 to 9: finished, 700 done in 70 s, 10.0 per second",
    ]
    assert counted == [100] * 7


@pytest.mark.parametrize(
    ("devices", "threads", "expected"),
    [("", "4", "on the processor, 4 thread(s)"), ("2", "1", "on GPU 2, 1 thread(s)")],
)
def test_a_worker_tells_what_it_runs_and_where(capsys, monkeypatch, devices, threads, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    reports.report_model("package.module:make")
    assert f"package.module:make {expected}" in capsys.readouterr().out
