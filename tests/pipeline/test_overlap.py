"""What runs beside the model gives the same bytes, and leaves nothing behind."""

import gc
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import ModelError, predict
from morpheus_core.images.image import ArrayImage, Layout
from morpheus_core.parallel import devices
from morpheus_core.pipeline import models
from morpheus_core.pipeline.batches import Batch
from morpheus_core.pipeline.overlap import PREFETCH, Ahead, Behind

IMAGE = np.random.default_rng(4).random((40, 30), dtype=np.float32)
OPTIONS = {
    "n_classes": 2,
    "batch_size": 26,
    "window_shape": (5, 5),
    "aggregate_method": "mean_var",
    "progress": False,
}
#: Seconds after which what should happen beside the model has not.
PATIENCE = 20.0


def model(batch):
    (windows,) = batch
    return np.concatenate([windows, 1 - windows], axis=-1)


def classify(model=model, image=IMAGE, **options):
    return predict(model, image, **{**OPTIONS, **options})[1]


def threads_left():
    """Return our threads; one whose start was interrupted is listed, but was never alive.

    It may have begun all the same, and ends then as soon as it has the processor.
    """
    ours = [thread for thread in threading.enumerate() if "morpheus" in thread.name]
    for thread in ours:
        if thread.is_alive():
            thread.join(PATIENCE)
    return [thread for thread in ours if thread.is_alive()]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not threads_left()


@pytest.mark.parametrize("prefetch", [1, 2, 5, 1000])
def test_results_do_not_depend_on_it(prefetch, both_kernels):
    for array, expected in zip(classify(prefetch=prefetch), classify(prefetch=0), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_the_model_is_called_in_the_callers_thread():
    def named(batch):
        assert threading.current_thread() is threading.main_thread()
        return model(batch)

    classify(named, prefetch=2)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_model_may_return_the_same_memory_each_time(prefetch):
    memory = np.empty((26, 5, 5, 2), np.float32)

    def thrifty(batch):
        memory[...] = -1  # whoever still reads the last answer sees this
        memory[: len(batch[0])] = model(batch)
        return memory[: len(batch[0])]

    np.testing.assert_array_equal(classify(thrifty, prefetch=prefetch)[0], classify(prefetch=0)[0])


def test_batches_are_read_while_the_model_works(monkeypatch):
    """The model waits, at its first call, for rows that only its later batches need."""
    read = threading.Event()
    rows_of_first_batch = 5

    original_read = ArrayImage.read

    def observed_read(self, start, stop):
        if stop > rows_of_first_batch:
            read.set()
        return original_read(self, start, stop)

    monkeypatch.setattr(ArrayImage, "read", observed_read)
    monkeypatch.setattr("morpheus_core.pipeline.slabs.SlabReader._READ_BYTES", 1)

    def waiting(batch):
        assert read.wait(PATIENCE)
        return model(batch)

    classify(waiting, prefetch=2)


def test_predictions_are_folded_while_the_model_works(tmp_path):
    """The model waits, before its last answer, for rows that the answer before it finishes."""
    calls = []

    def waiting(batch):
        calls.append(len(batch[0]))
        if len(calls) == 36:
            for _ in range(int(PATIENCE / 0.01)):
                if counts(tmp_path)[34].all():
                    break
                threading.Event().wait(0.01)
            assert counts(tmp_path)[34].all()
        return model(batch)

    hduls, _ = predict(waiting, IMAGE, **OPTIONS, out_dir=tmp_path, prefetch=1)
    for hdul in hduls:
        hdul.close()
    assert len(calls) == 36


def counts(directory):
    return np.fromfile(directory / "n.fits.part", ">f4", 40 * 30, offset=2880).reshape(40, 30)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_the_model_raises_is_raised(error):
    def broken(_):
        raise error("no")

    with pytest.raises(ModelError if error is RuntimeError else error, match="no"):
        classify(broken, prefetch=2)


def test_what_reading_raises_is_raised(monkeypatch):
    def broken_read(_self, start, stop):
        raise OSError("the disk is gone")

    monkeypatch.setattr(ArrayImage, "read", broken_read)
    with pytest.raises(OSError, match="the disk is gone"):
        classify(prefetch=2)


def test_what_folding_raises_is_raised_and_nothing_is_folded_after_it(monkeypatch):
    folded = []

    def broken_add(_self, predictions, tops, lefts):
        folded.append(int(tops[0]))
        raise MemoryError("no room")

    monkeypatch.setattr("morpheus_core.pipeline.ring.RowRing.add", broken_add)
    with pytest.raises(MemoryError, match="no room"):
        classify(prefetch=2)
    assert folded == [0]


def test_a_task_begins_when_the_one_before_it_has_succeeded():
    done = []
    with Behind(threaded=True) as behind:
        for k in range(100):
            behind.do(done.append, k)
        behind.wait()
    assert done == list(range(100))


def test_items_that_nobody_wants_are_not_made():
    made = []
    with Ahead((made.append(k) for k in range(1000)), 3) as items:
        next(iter(items))
    assert len(made) <= 1 + 3


def test_a_failure_that_came_first_is_raised(monkeypatch):
    """Folding fails while the model works on the next batch, which fails as well."""
    failed = threading.Event()

    def broken_add(_self, predictions, tops, lefts):
        failed.set()
        raise OSError("the disk is full")

    def broken_later(batch):
        if calls:
            assert failed.wait(PATIENCE)
            raise RuntimeError("no memory")
        calls.append(1)
        return model(batch)

    calls = []
    monkeypatch.setattr("morpheus_core.pipeline.ring.RowRing.add", broken_add)
    with pytest.raises(OSError, match="the disk is full") as caught:
        classify(broken_later, prefetch=2)
    assert isinstance(caught.value.__cause__, ModelError)


def test_what_was_handed_over_is_done_before_the_end():
    done = []

    def slow():
        time.sleep(0.2)
        done.append("folded")

    def interrupted():
        with Behind(threaded=True) as behind:
            behind.do(slow)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["folded"]


@pytest.fixture
def alarm():
    """Return what raises KeyboardInterrupt after some seconds, as Ctrl-C does."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_second_interrupt_waits_as_well(alarm):
    """A thread that went on would write to files that are closed, or to other ones by then."""
    done = []

    def slow():
        time.sleep(0.4)
        done.append("folded")

    def interrupted():
        with Behind(threaded=True) as behind:
            behind.do(slow)
            alarm(0.1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["folded"]


def duration_of_a_run():
    start = time.perf_counter()
    classify(prefetch=2)
    return time.perf_counter() - start


# What was just being opened is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_nothing_behind(tmp_path, alarm):
    interrupted, run, random = 0, 0, np.random.default_rng(0)
    duration, deadline = min(duration_of_a_run() for _ in range(5)), time.monotonic() + 3 * PATIENCE
    while run < 40 or interrupted <= 5:
        assert time.monotonic() < deadline
        run += 1
        try:
            alarm(random.uniform(0.05, 0.95) * duration)
            hduls, _ = predict(model, IMAGE, **OPTIONS, out_dir=tmp_path / str(run), prefetch=2)
            alarm(0)
        except BaseException:  # other libraries make other errors of it
            interrupted += 1
        else:
            for hdul in hduls:
                hdul.close()
        assert not threads_left()
    gc.collect()  # here, where what it closes is no warning


def test_without_numba_both_threads_find_the_plain_kernels():
    """In a fresh interpreter, whose first look for numba is by whoever comes first."""
    code = """
import sys
sys.modules["numba"] = None
import numpy as np
from morpheus_core import predict
model = lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1)
for _ in range(5):
    predict(model, np.ones((30, 30)), 2, 8, (4, 4), prefetch=2, progress=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_thread_at_a_time_reads_a_file(tmp_path, monkeypatch):
    """A mask is read by the thread that cuts windows and by the one that folds."""
    flags = (IMAGE > 0.9).astype(np.uint16)
    path = tmp_path / "mask.fits"
    fits.PrimaryHDU(flags).writeto(path)
    reading, threads = [], set()
    arrange = Layout.arrange
    rows = Layout.rows

    def slow_rows(self, start, stop):
        if threading.current_thread() is threading.main_thread():  # which opens the file
            return rows(self, start, stop)
        assert not reading  # nobody else
        reading.append(1)
        threads.add(threading.current_thread().name)
        time.sleep(0.002)
        return rows(self, start, stop)

    def after(self, stored):
        if reading:
            reading.pop()
        return arrange(self, stored)

    monkeypatch.setattr(Layout, "rows", slow_rows)
    monkeypatch.setattr(Layout, "arrange", after)
    monkeypatch.setattr("morpheus_core.pipeline.slabs.SlabReader._READ_BYTES", 1)
    results = classify(mask=path, prefetch=3)
    assert len(threads) == 2
    monkeypatch.undo()
    for array, expected in zip(results, classify(mask=flags, prefetch=0), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("cores", "workers", "gpus", "expected"),
    [
        (1, 0, False, 0),
        (2, 0, False, PREFETCH),
        (2, 2, False, 0),
        (8, 4, False, PREFETCH),
        (1, 4, True, PREFETCH),
    ],
)
def test_by_default_there_are_threads_where_there_is_a_core_for_them(
    monkeypatch, cores, workers, gpus, expected
):
    monkeypatch.setattr(devices, "available_cores", lambda: cores)
    assert devices.prefetch_depth(None, workers, gpus) == expected


class GpuTensor:
    """What PyTorch offers of a tensor on a GPU, whose copies arrive when their event says so."""

    is_cuda, device, dtype, shape = True, 0, np.float32, (4, 3)

    def detach(self):
        return self

    def record_stream(self, stream):
        assert stream == "stream"


def test_tensors_of_a_gpu_are_waited_for_when_they_are_folded(monkeypatch):
    log = []

    class Torch:
        class cuda:  # noqa: N801
            on_device = False

            @classmethod
            @contextmanager
            def device(cls, device):
                assert device == 0
                cls.on_device = True
                yield
                cls.on_device = False

            @classmethod
            def current_stream(cls):
                assert cls.on_device
                return "stream"

            class Event:
                def record(self):
                    log.append("recorded")

                def synchronize(self):
                    log.append("arrived")

        class Pinned(np.ndarray):
            def copy_(self, source, non_blocking):
                assert non_blocking
                log.append("copying")
                self[...] = 2

        @staticmethod
        def empty(shape, dtype, pin_memory):
            assert pin_memory
            return np.empty(shape, dtype).view(Torch.Pinned)

    monkeypatch.setitem(sys.modules, "torch", Torch)
    batch = Batch([], np.zeros(4, int), np.arange(4))
    predictions = models.CheckedModel(lambda _: GpuTensor(), 3, (5, 5), asked_ahead=True)(batch)
    assert log == ["copying", "recorded"]
    assert predictions().shape == (4, 5, 5, 3)
    assert (predictions() == 2).all()
    assert log[2] == "arrived"
