"""Strips on executors give what one process gives, whatever happens to a worker."""

import contextlib
import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import require
from test_runs import IMAGE, NAMES, OPTIONS, Model, data_bytes, predict

import morpheus_core as package
from morpheus_core import InputError, MorpheusWarning, OutputError, WorkerError
from morpheus_core.cli import main
from morpheus_core.parallel import tasks
from morpheus_core.parallel.counters import Progress, WindowCounter
from morpheus_core.parallel.executors import DaskEngine, engine_of
from morpheus_core.parallel.strip_counts import strips_for
from morpheus_core.parallel.tasks import (
    LOADED,
    ONE_PIECE,
    Task,
    begin_anew,
    heeding,
    run_task,
)
from morpheus_core.windows.grid import WindowGrid
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.work import StripWork

MODEL = Model()
#: Seconds after which what should happen in another thread or process has not.
PATIENCE = 60.0
CLOSED = "0" * 32


class Recording:
    """Notes which process was shown which windows, of the first image.

    The process that notes the window of number `last` is killed, once.
    """

    def __init__(self, model, path, last, delay=0.0):
        self.model, self.path, self.last, self.delay = model, path, last, delay

    def __call__(self, batch):
        lines = [f"{os.getpid()} {identify(window)}\n" for window in batch[0]]
        with Path(self.path).open("a") as file:
            file.write("".join(lines))
        if len(self.notes()) >= self.last:
            with contextlib.suppress(FileExistsError):
                self.victim_path.touch(exist_ok=False)
                self.victim_path.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.delay)
        return self.model(batch)

    @property
    def victim_path(self):
        return self.path.with_suffix(".victim")

    def notes(self):
        """Return process and window, in the order of the notes."""
        if not Path(self.path).exists():
            return []
        return [tuple(line.split()) for line in Path(self.path).read_text().splitlines()]


class Failing:
    """Does something else where a pixel is marked."""

    def __init__(self, action, delay=0.0):
        self.action, self.delay = action, delay

    def __call__(self, batch):
        time.sleep(self.delay)
        if (batch[0] > 2).any():
            self.action()
        return MODEL(batch)


class Until:
    """Stops after 50 windows as long as there is a flag."""

    def __init__(self, flag):
        self.flag, self.windows = flag, 0

    def __call__(self, batch):
        self.windows += len(batch[0])
        if self.windows > 50 and self.flag.exists():
            raise RuntimeError("stopped by a flag")
        return MODEL(batch)


def identify(window):
    return hashlib.md5(np.ascontiguousarray(window).tobytes()).hexdigest()


def windows_of(image, grid):
    """Return each window's identity, with its row."""
    height, width = grid.window_shape
    return [
        (identify(image[top : top + height, left : left + width, np.newaxis]), row)
        for row, top in enumerate(grid.tops)
        for left in grid.lefts
    ]


def marked(row):
    image = IMAGE.copy()
    image[row] = 3
    return image


def stop():
    raise RuntimeError("a model of no use")


@contextlib.contextmanager
def dask_cluster(**options):
    distributed = require("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    """A scheduler and two workers with their nannies, each a process of its own."""
    with dask_cluster() as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process gives."""
    directory = tmp_path_factory.mktemp("whole")
    predict(MODEL, directory)
    return data_bytes(directory)


@pytest.fixture
def stored(tmp_path):
    """A run whose strips are kept from running."""

    class Idle:
        def __init__(self):
            self.tasks = []

        def submit(self, function, task):
            assert function is run_task
            self.tasks.append(task)
            if task.index == 2:
                raise KeyboardInterrupt
            return Future()

    # What was finished keeps the run from being cleaned away.
    predict_until_strip_1(tmp_path)
    idle = Idle()
    with pytest.raises(KeyboardInterrupt):
        predict(MODEL, tmp_path, executor=idle, resume=True)
    session = Workspace(tmp_path).open_session()
    return [replace(task, session=session) for task in idle.tasks]


class TestEveryExecutor:
    @pytest.fixture(
        params=[
            "threads",
            "processes",
            pytest.param("loky", marks=pytest.mark.slow),
            "dask client",
            "dask executor",
        ]
    )
    def executor(self, request):
        name = request.param
        if name == "threads":
            with ThreadPoolExecutor(3) as threads:
                yield threads
        elif name == "processes":
            yield request.getfixturevalue("processes")
        elif name == "loky":
            loky = require("loky")
            yield loky.get_reusable_executor(2)
            loky.get_reusable_executor().shutdown(wait=True)
        else:
            client = request.getfixturevalue("client")
            yield client if name == "dask client" else client.get_executor()

    @pytest.mark.parametrize(
        "options",
        [
            {},
            pytest.param({"strips": 5}, marks=pytest.mark.slow),
            pytest.param({"strips": 1}, marks=pytest.mark.slow),
        ],
    )
    def test_gives_what_one_process_gives(self, executor, options, tmp_path, whole):
        predict(MODEL, tmp_path, executor=executor, **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
        assert data_bytes(tmp_path) == whole

    def test_tells_of_a_model_that_fails(self, executor, tmp_path):
        with pytest.raises(WorkerError, match=r"window rows \d+ to \d+ .*a model of no use"):
            predict(Failing(stop), tmp_path, IMAGE + 3, executor=executor, strips=3)
        assert list(tmp_path.iterdir()) == []


class TestLostWorkers:
    def check_that_one_strip_was_repeated(self, recording, image, grid, strips):
        windows = windows_of(image, grid)
        seen = Counter(name for _, name in recording.notes())
        assert set(seen) == {name for name, _ in windows}
        repeated = seen - Counter(name for name, _ in windows)
        rows = {row for name, row in windows if name in repeated}
        touched = [k for k, strip in enumerate(strips) if rows & set(range(*strip))]
        assert len(touched) <= 1
        assert repeated.total() <= max(strip.stop - strip.start for strip in strips) * len(
            grid.lefts
        )

    @pytest.mark.slow
    def test_dask_runs_the_strip_again(self, tmp_path, whole):
        recording = Recording(MODEL, tmp_path / "seen", last=60, delay=0.05)
        with dask_cluster() as client:
            predict(recording, tmp_path / "out", executor=client, strips=6)
        assert recording.victim_path.exists()
        assert data_bytes(tmp_path / "out") == whole
        grid = WindowGrid(IMAGE.shape, OPTIONS["window_shape"], OPTIONS["stride"])
        counts = np.full(len(grid.tops), len(grid.lefts))
        strips = grid.strips(OPTIONS["batch_size"], 6, counts)
        self.check_that_one_strip_was_repeated(recording, IMAGE, grid, strips)

    def test_processes_are_resumed_on_dask(self, tmp_path, whole, client):
        recording = Recording(MODEL, tmp_path / "seen", last=150, delay=0.05)
        with (
            ProcessPoolExecutor(2) as processes,
            pytest.raises(WorkerError, match="a worker process of the executor died") as error,
        ):
            predict(recording, tmp_path / "out", executor=processes, strips=6)
        assert "resume=True continues from there" in error.value.__notes__[0]
        before = len(recording.notes())
        predict(recording, tmp_path / "out", executor=client, resume=True)
        assert data_bytes(tmp_path / "out") == whole
        grid = WindowGrid(IMAGE.shape, OPTIONS["window_shape"], OPTIONS["stride"])
        assert len(recording.notes()) < before + len(grid)

    @pytest.mark.slow
    @pytest.mark.parametrize("first", [{"cpus": 2}, {}])
    def test_other_runs_are_resumed_on_executors(self, tmp_path, whole, first, processes):
        flag = tmp_path / "flag"
        flag.touch()
        model = Until(flag)
        with pytest.raises(package.MorpheusError, match="stopped by a flag"):
            predict(model, tmp_path / "out", strips=4, **first)
        flag.unlink()
        predict(model, tmp_path / "out", resume=True, executor=processes)
        assert data_bytes(tmp_path / "out") == whole

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*reached by no window:UserWarning")
    def test_published_morpheus_over_goods(self, tmp_path, data, monkeypatch):
        require("torch")
        monkeypatch.syspath_prepend(str(data / "morpheus"))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        import morpheus_callable

        files = [data / "goodss" / f"{band}.fits" for band in "hjvz"]
        options = {
            "inputs": files,
            "n_classes": 5,
            "batch_size": 20,
            "window_shape": (40, 40),
            "stride": (12, 12),
        }
        model = morpheus_callable.Morpheus(backend="torch")
        predict(model, tmp_path / "whole", **options)
        expected = data_bytes(tmp_path / "whole")

        image = fits.getdata(files[0]).astype(np.float32)
        grid = WindowGrid(image.shape, (40, 40), (12, 12))
        counts = np.full(len(grid.tops), len(grid.lefts))
        strips = grid.strips(20, 8, counts)
        on_dask = Recording(model, tmp_path / "on_dask", last=len(grid) // 2)
        with dask_cluster() as client:
            predict(on_dask, tmp_path / "dask", executor=client, strips=8, **options)
            assert data_bytes(tmp_path / "dask") == expected
            killed = on_dask.victim_path.read_text()
            assert len({pid for pid, _ in on_dask.notes()} - {killed}) >= 1
            self.check_that_one_strip_was_repeated(on_dask, image, grid, strips)

            on_both = Recording(model, tmp_path / "on_both", last=len(grid) // 2)
            # A process that is forked after PyTorch has started threads may crash.
            with (
                ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes,
                pytest.raises(WorkerError, match="a worker process of the executor died"),
            ):
                predict(on_both, tmp_path / "both", executor=processes, strips=8, **options)
            predict(on_both, tmp_path / "both", executor=client, resume=True, **options)
        assert data_bytes(tmp_path / "both") == expected


def test_a_run_that_lacks_only_its_seams_is_resumed(tmp_path, whole, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with ThreadPoolExecutor(2) as executor:
        monkeypatch.setattr("morpheus_core.workspace.completion.stitch", fail)
        with pytest.raises(OutputError, match="No space left"):
            predict(MODEL, tmp_path, executor=executor, strips=3)
        monkeypatch.undo()
        predict(MODEL, tmp_path, executor=executor, resume=True)
    assert data_bytes(tmp_path) == whole


class Loaded:
    """What loading and running a model has come to in this process."""

    def __init__(self):
        self.started, self.ended, self.called = (threading.Event() for _ in range(3))
        self.load_until = self.call_until = None  # whose session is closed
        self.loads, self.busy, self.busiest = 0, 0, 0

    def make(self):
        """Load the model."""
        self.started.set()
        self.loads += 1
        last(self.load_until)
        self.ended.set()
        return self

    def __call__(self, batch):
        self.busy += 1
        self.called.set()
        self.busiest = max(self.busy, self.busiest)
        last(self.call_until)
        self.busy -= 1
        return MODEL(batch)


def last(directory):
    """Take a moment, or until the session of a run is closed."""
    time.sleep(0.002)
    deadline = time.monotonic() + PATIENCE
    while directory and Workspace(directory).session() != CLOSED:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def loaded(monkeypatch):
    """A model that threads load by its name."""
    model = Loaded()
    monkeypatch.setattr(sys.modules[__name__], "make_model", model.make, raising=False)
    return model


def test_threads_share_one_model_and_take_turns(tmp_path, whole, loaded):
    with ThreadPoolExecutor(3) as executor:
        predict(f"{__name__}:make_model", tmp_path, executor=executor, strips=4)
    assert data_bytes(tmp_path) == whole
    assert (loaded.loads, loaded.busiest) == (1, 1)
    assert not LOADED


def test_a_model_is_dropped_before_the_next_one_is_loaded(monkeypatch):
    monkeypatch.setattr(tasks, "LOADED", {"the last session": MODEL})

    class Work:
        def load(self, guard):
            return dict(tasks.LOADED)

    assert tasks.loaded_once(Work(), "this session") == {}
    assert list(tasks.LOADED) == ["this session"]


def test_a_model_that_exits_does_not_end_the_program(tmp_path):
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(WorkerError, match="the model failed with SystemExit: 0"),
    ):
        predict(Failing(functools.partial(sys.exit, 0)), tmp_path, IMAGE + 3, executor=executor)


class TestTheEnd:
    """Whatever brings a run down, nothing of it goes on."""

    def test_waits_for_strips_whose_futures_were_cancelled(self, tmp_path, loaded):
        class GivingUp(ThreadPoolExecutor):
            def submit(self, function, task):
                super().submit(function, task)
                assert loaded.called.wait(PATIENCE)
                future = Future()
                future.cancel()
                return future

        loaded.call_until = tmp_path
        with GivingUp(1) as executor:
            with pytest.raises(WorkerError, match="failed: CancelledError"):
                predict(f"{__name__}:make_model", tmp_path, executor=executor, strips=1)
            assert not loaded.busy

    def test_waits_for_strips_that_load_their_model(self, tmp_path, loaded):
        class HalfLost(ThreadPoolExecutor):
            def submit(self, function, task):
                if task.index == 0:
                    loaded.load_until = tmp_path
                    future = super().submit(function, task)
                    assert loaded.started.wait(PATIENCE)
                else:
                    future = Future()
                    future.set_exception(RuntimeError("lost"))
                return future

        with HalfLost(1) as executor:
            with pytest.raises(WorkerError, match="failed: RuntimeError: lost"):
                predict(f"{__name__}:make_model", tmp_path, executor=executor, strips=2)
            assert loaded.ended.is_set()
        assert list(tmp_path.iterdir()) == []

    def test_cancels_what_has_not_begun(self, tmp_path):
        futures = []

        def run(function, task):
            deadline = time.monotonic() + 30
            while task.index > 0 and not futures[-1].cancelled() and time.monotonic() < deadline:
                time.sleep(0.01)
            function(task)

        class Lasting(ThreadPoolExecutor):
            """Its thread is busy with the second strip until the last is cancelled."""

            def submit(self, function, task):
                futures.append(super().submit(run, function, task))
                return futures[-1]

        with Lasting(1) as executor, pytest.raises(WorkerError, match="a model of no use"):
            predict(Failing(stop), tmp_path, marked(0), executor=executor, strips=4)
        assert futures[-1].cancelled()

    def test_closes_the_session_that_went_before(self, stored, tmp_path, monkeypatch):
        sessions = []

        def look(batch):
            sessions.append(Workspace(tmp_path).session())
            return MODEL(batch)

        monkeypatch.setattr("morpheus_core.run.unpickle_model", lambda pickled: look)
        predict(MODEL, tmp_path, resume=True)
        assert sessions
        assert stored[0].session not in sessions


class TestStripTasks:
    def test_are_small_and_importable(self, stored):
        assert len(pickle.dumps(stored[0])) < 1000
        assert Path(stored[0].work.directory).is_absolute()

    def test_share_one_file_of_the_model(self, stored, tmp_path):
        assert list(tmp_path.rglob("model.pkl")) == [tmp_path / "0" / "model.pkl"]

    def test_may_run_twice_or_at_once(self, stored, tmp_path, whole):
        with ThreadPoolExecutor(4) as threads:
            for future in [threads.submit(run_task, task) for task in stored * 2]:
                future.result()
        predict(MODEL, tmp_path, resume=True)
        assert data_bytes(tmp_path) == whole

    def test_say_that_out_dir_is_not_seen(self, stored, tmp_path):
        blind = replace(
            stored[0], work=replace(stored[0].work, directory=str(tmp_path / "elsewhere"))
        )
        with pytest.raises(
            WorkerError, match=r"cannot see the run in .*elsewhere; out_dir must be"
        ):
            run_task(blind)

    def test_say_that_the_run_has_ended(self, stored, tmp_path):
        Workspace(tmp_path).close_session()
        with pytest.raises(WorkerError, match="piece of a run that has ended"):
            run_task(stored[0])

    def test_say_that_the_version_differs(self, stored, monkeypatch):
        monkeypatch.setattr("morpheus_core.parallel.tasks.__version__", "0.1")
        with pytest.raises(WorkerError, match=r"has version 0\.1 of morpheus_core; the run is of"):
            run_task(stored[0])

    def test_say_that_an_input_is_not_seen(self, stored, tmp_path):
        (tmp_path / "0" / "input_0.npy").unlink()
        with pytest.raises(WorkerError, match=r"cannot see the input .*input_0\.npy; inputs must"):
            run_task(stored[0])

    def test_end_with_their_session(self, tmp_path):
        (tmp_path / "0").mkdir()
        workspace = Workspace(tmp_path)
        session, counted = workspace.open_session(), []
        heeding(workspace, session, counted.append)(3)
        assert counted == [3]
        workspace.open_session()
        with pytest.raises(WorkerError, match="has ended or is resumed"):
            heeding(workspace, session, counted.append)(4)


@contextlib.contextmanager
def another_owner(task):
    """Hold a strip, as a worker does that was thought lost."""
    with Workspace(Path(task.work.directory)).journal_path(task.index).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class TestTurns:
    @pytest.fixture
    def ending(self, stored):
        """A thread that runs a strip."""
        with ThreadPoolExecutor(1) as executor:
            yield lambda: executor.submit(run_task, stored[0])

    def test_last_longer_than_patience(self, stored, ending, monkeypatch):
        monkeypatch.setattr("morpheus_core.storage.locks.LOCK_PATIENCE", 0.1)
        with another_owner(stored[0]):
            future = ending()
            time.sleep(0.4)
        assert future.result(PATIENCE) is None

    @pytest.mark.parametrize("owner", [another_owner, lambda task: ONE_PIECE])
    def test_end_with_the_session(self, stored, ending, owner):
        with owner(stored[0]):
            future = ending()
            time.sleep(0.1)
            Workspace(Path(stored[0].work.directory)).close_session()
            with pytest.raises(WorkerError, match="has ended"):
                future.result(PATIENCE)

    def test_of_the_model_end_with_the_session(self, stored, tmp_path, monkeypatch):
        def slow(batch):
            Workspace(tmp_path).close_session()
            time.sleep(0.25)
            return MODEL(batch)

        monkeypatch.setattr(StripWork, "load", lambda *arguments: slow)
        with pytest.raises(WorkerError, match="has ended or is resumed"):
            run_task(stored[0])


def predict_until_strip_1(directory):
    """Begin a run of four strips, the first of which is finished."""
    model = Model(fail_after=80)
    with pytest.raises(package.ModelError, match="stopped here"):
        predict(model, directory, strips=4, rows_apart=True)


class TestBlindWorkers:
    def test_are_told_of_before_dask_runs_anything(self, client):
        task = Task(StripWork(directory="/nowhere", prefetch=0), "0", 0)
        with pytest.raises(WorkerError, match=r"Dask worker tcp://\S+: process \d+ on .* /nowhere"):
            DaskEngine(client).check_workers(task.hindrance)

    def test_end_the_run(self, tmp_path):
        class Elsewhere(ThreadPoolExecutor):
            def submit(self, function, task):
                work = replace(task.work, directory="/elsewhere")
                return super().submit(function, replace(task, work=work))

        with Elsewhere(2) as executor, pytest.raises(WorkerError, match="cannot see the run in /e"):
            predict(MODEL, tmp_path, executor=executor)
        assert list(tmp_path.iterdir()) == []


def test_nothing_writes_after_an_error(tmp_path):
    slow = Failing(stop, delay=0.1)
    with ProcessPoolExecutor(2) as executor:
        with pytest.raises(WorkerError, match="a model of no use"):
            predict(slow, tmp_path, marked(59), executor=executor, strips=4)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        time.sleep(0.5)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_dashboard_names_rows(client, tmp_path):
    keys = []

    class Listening:
        asynchronous = False

        def __getattr__(self, name):
            return getattr(client, name)

        def submit(self, *arguments, key, **options):
            keys.append(key)
            return client.submit(*arguments, key=key, **options)

    Listening.__module__ = "distributed.client"
    predict(MODEL, tmp_path, executor=Listening(), strips=2)
    assert [key.rpartition("-")[0] for key in keys] == [
        "window-rows-0-to-12-0",
        "window-rows-13-to-25-1",
    ]


def test_windows_are_counted_in_place_and_only_while_there_is_a_run(tmp_path):
    path = tmp_path / "progress"
    with WindowCounter(path) as count:
        count(3)
    assert not path.exists()
    workspace = Workspace(tmp_path)
    workspace.folder(0).mkdir()
    news = []
    progress, path = Progress(workspace, news.append, 0), workspace.progress_path(0)
    progress.begin(0)
    inode = path.stat().st_ino
    with WindowCounter(path) as count:
        count(3)
        count(4)
    progress.look([0])
    assert news == [7]
    assert path.stat().st_ino == inode


def test_progress_counts_a_lost_strip_once(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.folder(0).mkdir()
    news = []
    progress, path = Progress(workspace, news.append, 0), workspace.progress_path(0)
    for count in ("10", "25", "5", "20", "30"):
        path.write_text(count)
        progress.look_now_and_then([0])
    progress.reaches(0, 40)
    progress.look([0])
    assert news == [10, 15, 0, 0, 5, 10, 0]


@pytest.mark.parametrize(
    ("workers", "height", "strips"),
    [
        (3, 10_000, 12),
        (3, 500, 3),
        (3, 1000, 6),
        (5, 1000, 5),
        (1, 50, 1),
        (None, 10_000, 32),
        (None, 500, 3),
    ],
)
def test_default_strips(workers, height, strips):
    class Executor:
        _max_workers = workers

        def submit(self):
            """Do nothing."""

    grid = WindowGrid((height, 100), (40, 40), (1, 1))
    assert strips_for(engine_of(Executor()).count_workers(), grid) == strips


def test_workers_with_threads_are_warned_of(tmp_path):
    with (
        dask_cluster(n_workers=1, threads_per_worker=3, processes=False) as client,
        pytest.warns(MorpheusWarning, match="with up to 3 threads do one piece at a t") as warned,
    ):
        forecast = package.plan(MODEL, IMAGE, **OPTIONS, executor=client, out_dir=tmp_path)
    assert forecast.workers == 1
    assert warned[0].filename == __file__  # the line that passed the executor


def test_pools_of_pebble_are_refused(tmp_path):
    class ProcessPool:
        def submit(self, function, timeout, /, *arguments):
            raise AssertionError

    ProcessPool.__module__ = "pebble.pool.process"
    with pytest.raises(InputError, match="got the ProcessPool of pebble, which takes the second"):
        predict(MODEL, tmp_path, executor=ProcessPool())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("executor", [7, ProcessPoolExecutor, "processes"])
def test_what_is_no_executor(executor, tmp_path):
    with pytest.raises(InputError, match="executor must have a method submit"):
        predict(MODEL, tmp_path, executor=executor)


def test_a_client_that_was_closed():
    class Closed:
        asynchronous = False

        def submit(self):
            """Do nothing."""

        def nthreads(self):
            raise AttributeError("'NoneType' object has no attribute 'ncores'")

    Closed.__module__ = "distributed.client"
    with pytest.raises(InputError, match="must be connected to its scheduler: AttributeError"):
        engine_of(Closed())


def test_executors_that_take_no_work(tmp_path):
    class Unconnected(ThreadPoolExecutor):
        def submit(self, function, task):
            raise ConnectionError("no scheduler")

    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    for executor, reason in [(closed, "RuntimeError"), (Unconnected(), "ConnectionError: no sch")]:
        with pytest.raises(WorkerError, match=f"the executor does not accept work: {reason}"):
            predict(MODEL, tmp_path, executor=executor)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [None, 7])
def test_executors_that_return_no_futures(tmp_path, answer):
    class Executor:
        def submit(self, function, task):
            return answer

    with pytest.raises(InputError, match=r"must return a future, .* got (NoneType|int)"):
        predict(MODEL, tmp_path, executor=Executor())
    assert list(tmp_path.iterdir()) == []


def test_executors_that_cannot_cancel(tmp_path):
    class Stubborn(Future):
        def cancel(self):
            raise NotImplementedError

    class Executor:
        def submit(self, function, task):
            future = Stubborn()
            future.set_exception(RuntimeError("lost"))
            return future

    with pytest.raises(WorkerError, match="failed: RuntimeError: lost"):
        predict(MODEL, tmp_path, executor=Executor())


def test_folders_keep_the_names_that_they_are_given(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    directories = []

    class Noting(ThreadPoolExecutor):
        def submit(self, function, task):
            directories.append(task.work.directory)
            places = json.loads(Path(task.work.directory, "0", "inputs.json").read_text())
            directories.append(str(Path(places["images"][0]["array"]).parent.parent))
            return super().submit(function, task)

    monkeypatch.chdir(tmp_path)
    with Noting(1) as executor:
        predict(MODEL, "link", executor=executor, strips=1)
    assert directories == [str(tmp_path / "link")] * 2


def test_executors_need_a_folder_and_no_others(tmp_path, processes):
    with pytest.raises(InputError, match="executor needs out_dir"):
        predict(MODEL, None, executor=processes)
    with pytest.raises(InputError, match="strips needs out_dir"):
        predict(MODEL, None, strips=2)
    with pytest.raises(InputError, match="give one of cpus, gpus and executor, got cpus=2"):
        predict(MODEL, tmp_path, executor=processes, cpus=2)
    with pytest.raises(InputError, match=r"strips must be .*>= 1, got 0"):
        predict(MODEL, tmp_path, executor=processes, strips=0)


def test_plan_takes_an_executor(tmp_path, processes):
    options = {**OPTIONS, "executor": processes, "strips": 6, "out_dir": tmp_path}
    forecast = package.plan(MODEL, IMAGE, **options)
    assert (len(forecast.strips), forecast.workers) == (6, 2)
    assert "6, run by 2 workers" in str(forecast)


def test_plan_knows_how_many_strips_run_at_a_time(tmp_path):
    class Unknown:
        def submit(self):
            """Do nothing."""

    for executor, where in [
        (ThreadPoolExecutor(3), "run by 1 workers"),
        (Unknown(), "run by an unknown number of workers"),
    ]:
        forecast = package.plan(MODEL, IMAGE, **OPTIONS, executor=executor, out_dir=tmp_path)
        assert where in str(forecast)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "strips"), [({"cpus": 2}, 5), ({}, 3)])
def test_strips_without_an_executor(tmp_path, whole, options, strips, caplog):
    with caplog.at_level("INFO", "morpheus_core"):
        predict(MODEL, tmp_path, strips=strips, **options)
    assert f"in {strips} strips" in caplog.text
    assert data_bytes(tmp_path) == whole


def test_pixels_that_workers_do_not_find(tmp_path, monkeypatch):
    """Zarr gives the fill value for them, without a word."""
    zarr = require("zarr")
    monkeypatch.chdir(tmp_path)
    array = zarr.create_array("image.zarr", shape=IMAGE.shape, chunks=(13, 30), dtype="f4")
    array[:] = IMAGE
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spawned = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, spawned, initializer=os.chdir, initargs=(elsewhere,)) as executor,
        pytest.raises(WorkerError, match=r"model_inputs\[0\] has other pixels in this process"),
    ):
        predict(MODEL, tmp_path / "out", array, executor=executor)


def test_processes_forked_from_a_busy_one_do_not_wait_for_it():
    with ONE_PIECE, ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        assert executor.submit(is_free).result(PATIENCE)


def test_models_are_not_freed_in_forked_processes(monkeypatch):
    """Destructors of ONNX Runtime, for one, wait for threads that are not there."""
    monkeypatch.setattr(tasks, "LOADED", {"a session": Model()})
    monkeypatch.setattr(tasks, "ONE_PIECE", ONE_PIECE)
    kept = weakref.ref(tasks.LOADED["a session"])
    begin_anew()
    assert not tasks.LOADED
    assert kept() is not None


def is_free():
    return tasks.ONE_PIECE.acquire(blocking=False)


def test_dask_arrays_on_a_dask_cluster(tmp_path, whole, client):
    array = require("dask.array").from_array(IMAGE, chunks=(16, 30))
    predict(MODEL, tmp_path, array, executor=client, strips=3)
    assert data_bytes(tmp_path) == whole


def test_on_the_command_line(tmp_path, whole, client, monkeypatch, capsys):
    fits.writeto(tmp_path / "image.fits", IMAGE)
    monkeypatch.chdir(tmp_path)
    main(
        [
            *["predict", "image.fits", "--model", "test_runs:Model", "--n-classes", "2"],
            *["--window", "10", "8", "--stride", "2", "3", "--batch-size", "9"],
            *["--aggregate", "mean_var", "--aggregate", "rank_vote", "--out-dir", "out"],
            *["--dask", client.scheduler.address, "--no-progress"],
        ]
    )
    (tmp_path / "out" / "run.json").unlink()
    assert data_bytes(tmp_path / "out") == whole


@pytest.mark.parametrize(
    "address",
    [
        "nonsense://",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("tls://localhost:1", "localhost")),
    ],
)
def test_no_scheduler_on_the_command_line(capsys, address):
    require("distributed")
    arguments = ["--model", "test_runs:Model", "--n-classes", "2", "--window", "10"]
    code = main(["plan", "a.fits", *arguments, "--out-dir", "out", "--dask", address])
    assert code == 1
    assert (
        f"the address of a scheduler, as tcp://host:8786, got {address}" in capsys.readouterr().err
    )
