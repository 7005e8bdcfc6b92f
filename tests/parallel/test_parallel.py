"""Workers give what one process gives, whatever the model, and fail as one."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st
from test_predict_properties import cases
from test_runs import IMAGE, OPTIONS, data_bytes

import morpheus_core as package
from morpheus_core import (
    InputError,
    ModelError,
    MorpheusWarning,
    OutputError,
    WorkerError,
    update_maps,
)
from morpheus_core.parallel import gpus
from morpheus_core.parallel.devices import THREAD_VARIABLES
from morpheus_core.workspace.folders import Workspace

N_WINDOWS = 26 * 9
#: Seconds after which what should happen in another process has not.
PATIENCE = 60.0


def two_classes(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def predict(model=two_classes, inputs=IMAGE, **options):
    hduls, arrays = package.predict(model, inputs, **{**OPTIONS, **options})
    arrays = [np.array(array, np.float32) for array in arrays]
    for hdul in hduls:
        hdul.close()
    return arrays


def assert_same(parallel, serial, weighted=False):
    """n and votes equal exactly, the mean to one float32 ulp, the variance to its rounding."""
    (moments, votes, n), (moments_1, votes_1, n_1) = parallel, serial
    ulp = 1 if weighted else 0
    np.testing.assert_array_max_ulp(n, n_1, ulp)
    np.testing.assert_array_max_ulp(votes, votes_1, ulp)
    np.testing.assert_array_max_ulp(moments[..., 0], moments_1[..., 0], 1)
    square = np.float64(moments_1[..., 0]) ** 2 + moments_1[..., 1]
    slack = 1e-6 * moments_1[..., 1] + 4 * n_1[..., None] * 2.0**-53 * square
    error = np.abs(np.float64(moments[..., 1]) - moments_1[..., 1])
    assert np.array_equal(np.isnan(moments), np.isnan(moments_1))
    assert np.all((error <= slack) | np.isnan(error))


class Here:
    """Runs what a worker runs, but in this process: from stored plan, inputs and model."""

    def __init__(self, work, slots):
        self.work, self.slots = work, slots

    def run(self, indices, watch, interval):
        for index in indices:
            with mock.patch.dict(os.environ, self.slots[0]):
                self.work.do(index, self.work.load(gpus.on_one_gpu), watch.on_steps)


class Counting:
    """Counts the windows that any copy of it is shown."""

    def __init__(self, model, path):
        self.model, self.path = model, path

    def __call__(self, batch):
        with Path(self.path).open("a") as file:
            file.write(f"{len(batch[0])}\n")
        return self.model(batch)

    def count(self):
        if not Path(self.path).exists():
            return 0
        return sum(int(line) for line in Path(self.path).read_text().splitlines())


@pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")
@pytest.mark.parametrize("examples", [25, pytest.param(75, marks=pytest.mark.slow)])
def test_any_number_of_workers_gives_what_one_process_gives(tmp_path_factory, examples):
    @settings(max_examples=examples)
    @given(case=cases(), workers=st.sampled_from([1, 2, 3, 5]), from_files=st.booleans())
    def check(case, workers, from_files):
        workers_give_what_one_process_gives(
            tmp_path_factory.mktemp("run"), case, workers, from_files
        )

    check()


def workers_give_what_one_process_gives(directory, case, workers, from_files):
    images, model, batch_size, options = case
    model = Counting(model, directory / "counts")
    options = {**options, "batch_size": batch_size}
    serial = predict(model, images, **options)
    evaluated = model.count()
    if from_files:
        paths = [directory / f"{index}.fits" for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            fits.writeto(path, image)
        images = paths
    with mock.patch("morpheus_core.parallel.choice.Processes", Here):
        parallel = predict(model, images, out_dir=directory / "out", cpus=workers, **options)
    weighted = options["update_map"] is not None and options["update_map"].dtype != bool
    assert_same(parallel, serial, weighted)
    assert model.count() == 2 * evaluated
    assert len(list((directory / "out").iterdir())) == 3


def upsampled(batch):
    return two_classes([np.repeat(np.repeat(batch[0], 2, axis=1), 2, axis=2)])


def with_holes(batch):
    predictions = two_classes(batch)
    predictions[predictions > 0.99] = np.nan
    return predictions


@pytest.mark.parametrize(
    "from_files", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["files", "arrays"]
)
@pytest.mark.parametrize(
    ("model", "options"),
    [
        (upsampled, {"cpus": 2, "dilation": 2, "padding": "reflect"}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (two_classes, {"cpus": 2}),
                (two_classes, {"cpus": 1}),
                (two_classes, {"cpus": 3, "stride": (4, 3), "edges": "drop"}),
                (with_holes, {"cpus": 2, "nan_policy": "omit"}),
                (two_classes, {"cpus": 2, "update_map": update_maps.centre_crop((10, 8), 2)}),
            ]
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")
def test_real_workers(tmp_path, model, options, from_files):
    image = IMAGE
    if from_files:
        image = tmp_path / "image.fits"
        fits.writeto(image, np.uint16(IMAGE * 60_000))
        options = {**options, "n_classes": 2}
        model = Scaled(model)
    serial = predict(model, image, **{k: v for k, v in options.items() if k != "cpus"})
    parallel = predict(model, image, out_dir=tmp_path / "out", **options)
    assert_same(parallel, serial)
    names = ["n.fits", "output_mean_var.fits", "output_rank_vote.fits"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


class Scaled:
    """Takes camera counts."""

    def __init__(self, model):
        self.model = model

    def __call__(self, batch):
        assert batch[0].dtype == np.uint16
        return self.model([batch[0] / np.float32(60_000)])


@pytest.mark.slow
def test_workers_write_files_with_long_headers(tmp_path):
    """The sky position of this one takes more than one block of the outputs' headers."""
    header = fits.Header(
        {
            "CTYPE1": "RA---TPV",
            "CTYPE2": "DEC--TPV",
            "CRVAL1": 53.1,
            "CRVAL2": -27.8,
            "CRPIX1": 15.0,
            "CRPIX2": 30.0,
            "CD1_1": -1e-5,
            "CD1_2": 1e-6,
            "CD2_1": 1e-6,
            "CD2_2": 1e-5,
            "RADESYS": "FK5",
            "EQUINOX": 2000.0,
            **{f"PV{axis}_{k}": 1e-4 for axis in (1, 2) for k in range(11)},
        }
    )
    path = tmp_path / "image.fits"
    fits.writeto(path, IMAGE, header)
    with pytest.warns(MorpheusWarning, match="cannot be kept"):
        parallel = predict(inputs=path, out_dir=tmp_path / "out", cpus=2)
    assert_same(parallel, predict())
    written = fits.getheader(tmp_path / "out" / "n.fits")
    assert len(written.tostring()) > 2880


@pytest.mark.slow
def test_resuming_with_another_factory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "factories.py").write_text(
        "from pathlib import Path\n"
        "def make():\n"
        "    from test_parallel import fail_in_row_20\n"
        "    return fail_in_row_20\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkerError):
        predict("factories:make", IMAGE_WITH_MARK, out_dir=tmp_path / "out", cpus=2)
    for other in ("factories:other", two_classes):
        with pytest.raises(InputError, match="model was factories:make, is"):
            predict(other, IMAGE_WITH_MARK, out_dir=tmp_path / "out", resume=True)


@pytest.mark.slow
def test_workers_find_extensions(tmp_path):
    path = tmp_path / "two.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(1 - IMAGE, name="WHT"),
        fits.ImageHDU(IMAGE, name="SCI"),
    ]
    fits.HDUList(hdus).writeto(path)
    parallel = predict(inputs=f"{path}[SCI]", out_dir=tmp_path / "out", cpus=2)
    assert_same(parallel, predict())


@pytest.mark.slow
def test_every_window_is_evaluated_once(tmp_path):
    model = Counting(two_classes, tmp_path / "counts")
    predict(model, out_dir=tmp_path / "out", cpus=3)
    assert model.count() == N_WINDOWS


@pytest.mark.slow
def test_batches_are_the_same_whoever_runs_them(tmp_path):
    """A model whose answer depends on its batch, like a network left in training mode."""
    serial = predict(of_the_batch)
    assert_same(predict(of_the_batch, out_dir=tmp_path, cpus=3), serial)


def of_the_batch(batch):
    score = np.float32(0.5) * batch[0] + np.float32(0.5) * (batch[0].mean() > 0.5)
    return two_classes([score])


def with_infinities(batch):
    predictions = two_classes(batch)
    predictions[:, 0, 0], predictions[:, 8, 6] = np.inf, -np.inf  # they meet: stride (2, 3)
    return predictions


@pytest.mark.slow
@pytest.mark.usefixtures("both_kernels")
def test_infinities_of_both_signs_are_nan_without_a_warning(tmp_path):
    serial = predict(with_infinities)
    assert np.isnan(serial[0]).any()
    assert_same(predict(with_infinities, out_dir=tmp_path, cpus=2), serial)


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", [0, 2])
def test_workers_read_ahead_when_asked(tmp_path, prefetch):
    def model(batch):
        import threading

        names = [thread.name for thread in threading.enumerate()]
        assert any(name.startswith("morpheus") for name in names) == (prefetch > 0), names
        return two_classes(batch)

    predict(model, out_dir=tmp_path, cpus=1, prefetch=prefetch)


@pytest.mark.slow
def test_more_workers_than_groups(tmp_path, caplog):
    with caplog.at_level("INFO", "morpheus_core"):
        parallel = predict(out_dir=tmp_path, cpus=4, inputs=IMAGE[:12])
    assert "can be cut into 2 strips, not 4" in caplog.text
    assert_same(parallel, predict(inputs=IMAGE[:12]))


@pytest.mark.slow
def test_one_bar_covers_all_workers(tmp_path, capsys):
    predict(out_dir=tmp_path, cpus=2, progress=True, parallel_check_interval=0.05)
    assert f"{N_WINDOWS}/{N_WINDOWS}" in capsys.readouterr().err


def environment_of_a_worker(batch):
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    print("environment", [os.environ.get(name) for name in names], flush=True)
    raise ValueError("that was all")


@pytest.mark.slow
def test_workers_have_the_environment_of_their_parent(tmp_path, monkeypatch):
    """Keras, for one, finds its backend there."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")

    def model(batch):
        assert os.environ["KERAS_BACKEND"] == "torch"
        return two_classes(batch)

    predict(model, out_dir=tmp_path, cpus=1)


def test_modules_of_the_working_directory_do_not_come_first(tmp_path, monkeypatch):
    (tmp_path / "dill.py").write_text("raise ImportError('not the real one')")
    monkeypatch.chdir(tmp_path)
    predict(out_dir=tmp_path / "out", cpus=1)


@pytest.mark.parametrize(
    ("options", "seen"), [({"cpus": 2}, ""), ({"gpus": ["GPU-8f2a"]}, "GPU-8f2a")]
)
def test_workers_get_their_device_and_their_share_of_the_cores(
    tmp_path, monkeypatch, options, seen
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("morpheus_core.parallel.devices.available_cores", lambda: 6)
    monkeypatch.setattr("morpheus_core.parallel.devices.installed_gpus", lambda: None)
    for name in THREAD_VARIABLES:  # Dask sets some for its workers
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WorkerError, match="that was all"):
        predict(environment_of_a_worker, out_dir=tmp_path, **options)
    share = "3" if "cpus" in options else "6"
    logs = "".join(log.read_text() for log in tmp_path.glob("*/log"))
    assert f"environment ['{seen}', '{share}', '{share}', '{share}']" in logs


def torch_model(batch):
    import torch

    return torch.from_numpy(two_classes(batch))


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ({"torch": 1}, None),
        ({"torch": 1, "tensorflow": 0}, None),
        ({"torch": 0}, "torch sees 0 GPUs"),
        ({"torch": 2}, "torch sees 2 GPUs"),
        ({"torch": 0, "jax": 0}, "(torch|jax) sees 0 and (torch|jax) sees 0 GPUs"),
        ({}, None),
    ],
)
def test_what_frameworks_see(monkeypatch, seen, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    for name in gpus.GPU_COUNTERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, count in seen.items():
        monkeypatch.setitem(sys.modules, name, mock.Mock())
        monkeypatch.setitem(gpus.GPU_COUNTERS, name, lambda count=count: count)
    model = gpus.OnOneGpu(two_classes)
    if message is None:
        model([IMAGE[np.newaxis, ..., np.newaxis]])
    else:
        with pytest.raises(ModelError, match=message):
            model([IMAGE[np.newaxis, ..., np.newaxis]])


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_no_silent_run_on_the_processor(tmp_path, monkeypatch):
    require("torch")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("morpheus_core.parallel.devices.installed_gpus", lambda: None)
    with pytest.raises(WorkerError, match="torch sees 0 GPUs with CUDA_VISIBLE_DEVICES=GPU-8f2a"):
        predict(torch_model, out_dir=tmp_path, gpus=["GPU-8f2a"])


class TestFailures:
    def test_an_exception_comes_with_its_traceback_and_the_log(self, tmp_path):
        def failing(batch):
            warnings.warn("an odd batch", stacklevel=1)
            print("about to fail", flush=True)
            raise KeyError("weights of layer 7")

        with pytest.raises(WorkerError) as caught:
            predict(failing, out_dir=tmp_path, cpus=2)
        message = str(caught.value)
        assert "the worker of window rows" in message
        assert "KeyError: 'weights of layer 7'" in message
        assert "in failing" in message
        log = Path(message.split("its log is ")[1].split(", and ends")[0])
        told = log.read_text()
        assert "about to fail" in told
        assert "an odd batch" in told
        assert "failing on the processor, " in told
        assert re.search(r"^\d\d:\d\d:\d\d window rows \d+ to \d+: begun$", told, re.MULTILINE)
        assert "runpy" not in told

    @pytest.mark.slow
    def test_a_model_that_fails_at_once_leaves_only_logs_and_nothing_in_the_way(self, tmp_path):
        with pytest.raises(WorkerError):
            predict(lambda batch: 1 / 0, out_dir=tmp_path, cpus=2)
        left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
        assert left <= {"0", "0/log", "1", "1/log"}
        predict(out_dir=tmp_path, cpus=2)
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.slow
    def test_a_worker_that_ends_without_a_word(self, tmp_path):
        def leaving(batch):
            print("last words", flush=True)
            os._exit(3)

        with pytest.raises(WorkerError, match=r"failed with exit code 3(.|\n)*last words"):
            predict(leaving, out_dir=tmp_path, cpus=2)

    @pytest.mark.slow
    def test_a_worker_that_ends_well_but_early(self, tmp_path):
        def leaving(batch):
            os._exit(0)

        with pytest.raises(WorkerError, match="ended before it was finished"):
            predict(leaving, out_dir=tmp_path, cpus=2)

    @pytest.mark.slow
    def test_one_failure_ends_the_others_within_seconds(self, tmp_path):
        def one_fails(batch):
            if batch[0][0, 0, 0, 0] == 0:
                raise ValueError("first row")
            time.sleep(600)

        image = np.ones((60, 30), np.float32)
        image[0] = 0
        start = time.monotonic()
        with pytest.raises(WorkerError, match="first row"):
            predict(one_fails, image, out_dir=tmp_path, cpus=2, parallel_check_interval=300)
        assert time.monotonic() - start < PATIENCE
        assert workers_of(tmp_path) == []

    @pytest.mark.slow
    def test_what_a_worker_has_started_ends_with_it(self, tmp_path):
        def starting(batch):
            import subprocess

            subprocess.Popen(["sleep", seconds])
            os._exit(3)

        seconds = f"600.{os.getpid()}"  # by which it is found
        with pytest.raises(WorkerError):
            predict(starting, out_dir=tmp_path, cpus=1)
        wait_for(lambda: not processes_with(f"sleep\x00{seconds}"))

    @pytest.mark.slow
    def test_a_thread_that_goes_on_delays_nothing(self, tmp_path):
        def threading_model(batch):
            import threading

            threading.Thread(target=time.sleep, args=(600,)).start()
            raise ValueError("main thread")

        start = time.monotonic()
        with pytest.raises(WorkerError, match="ValueError: main thread"):
            predict(threading_model, out_dir=tmp_path, cpus=2)
        assert time.monotonic() - start < PATIENCE

    @pytest.mark.slow
    def test_a_missing_name_comes_with_the_recipe(self, tmp_path):
        def model(batch):
            return nowhere_defined(batch)  # noqa: F821

        with pytest.raises(WorkerError, match=r"nowhere_defined(.|\n)*class Wrapped"):
            predict(model, out_dir=tmp_path, cpus=2)

    @pytest.mark.slow
    def test_a_great_deal_of_output_blocks_nothing(self, tmp_path):
        def noisy(batch):
            print("x" * 200_000, flush=True)
            return two_classes(batch)

        assert_same(predict(noisy, out_dir=tmp_path, cpus=2), predict(two_classes))

    def test_a_model_that_cannot_be_sent(self, tmp_path):
        model = Unsendable()
        with pytest.raises(ModelError, match=r"cannot be sent to other processes: (.|\n)*class W"):
            predict(model, out_dir=tmp_path / "out", cpus=2)
        assert not (tmp_path / "out").exists()

    def test_a_compiled_model_that_cannot_be_sent(self, tmp_path):
        torch = require("torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its age
            network = torch.jit.script(torch.nn.Identity())
        with pytest.raises(ModelError, match=r"cannot be sent to other processes"):
            predict(lambda batch: network(batch[0]), out_dir=tmp_path / "out", cpus=2)

    def test_folders_and_models_are_private(self, tmp_path):
        with pytest.raises(WorkerError):
            predict(fail_in_row_20, IMAGE_WITH_MARK, out_dir=tmp_path, cpus=2)
        assert {oct(tmp_path.joinpath(name).stat().st_mode & 0o777) for name in "01"} == {"0o700"}
        (tmp_path / "0" / "model.pkl").chmod(0o666)
        with pytest.raises(OutputError, match="could have been written by others"):
            predict(two_classes, IMAGE_WITH_MARK, out_dir=tmp_path, resume=True)


class Unsendable:
    def __call__(self, batch):
        return two_classes(batch)

    def __reduce__(self):
        raise TypeError("handle of a device")


IMAGE_WITH_MARK = IMAGE.copy()
IMAGE_WITH_MARK[20, 0] = -1


def fail_in_row_20(batch):
    if batch[0][0, 0, 0, 0] == -1:
        raise ValueError("marked")
    return two_classes(batch)


def workers_of(directory):
    """List the processes that run strips in a directory."""
    return processes_with(f"parallel.worker\x00{directory}")


def processes_with(words):
    """List the processes whose command line holds some words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if words in command:
            found.append(int(path.parent.name))
    return found


SCRIPT = """
import sys
import numpy as np
from morpheus_core import predict
{model}
image = np.random.default_rng(5).random((60, 30)).astype(np.float32)
hduls, _ = predict(
    {name}, image, n_classes=2, batch_size=9, window_shape=(10, 8), stride=(2, 3),
    aggregate_method=["mean_var", "rank_vote"], out_dir=sys.argv[1], cpus=2, progress=False)
for hdul in hduls:
    hdul.close()
"""

MODELS = {
    "function of an unguarded script": (
        """
def helper(x):
    return np.concatenate([x, 1 - x], axis=-1)
def model(batch):
    return helper(batch[0])
""",
        "model",
    ),
    "lambda": ("", "lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1)"),
    "closure": (
        """
def make():
    one = np.float32(1)
    return lambda batch: np.concatenate([batch[0], one - batch[0]], axis=-1)
""",
        "make()",
    ),
    "class of __main__": (
        """
class Model:
    def __init__(self):
        self.one = np.float32(1)
    def __call__(self, batch):
        return np.concatenate([batch[0], self.one - batch[0]], axis=-1)
""",
        "Model()",
    ),
    "class of a module beside the script": ("import beside", "beside.Model()"),
    "factory": ("", "'beside:Model'"),
}


@pytest.fixture(scope="module")
def serial_bytes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("parallel")
    predict(out_dir=directory, cpus=2)
    return data_bytes(directory)


def run_script(tmp_path, source, *arguments, **options):
    (tmp_path / "script.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, tmp_path / "script.py", *arguments],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "closure" else [pytest.mark.slow]) for kind in MODELS],
)
def test_models_of_scripts_travel(tmp_path, serial_bytes, kind):
    definition, name = MODELS[kind]
    (tmp_path / "beside.py").write_text("import numpy as np\n" + MODELS["class of __main__"][0])
    run = run_script(tmp_path, SCRIPT.format(model=definition, name=name), str(tmp_path / "out"))
    assert run.returncode == 0, run.stderr
    assert data_bytes(tmp_path / "out") == serial_bytes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_of_notebooks_travel(tmp_path, serial_bytes):
    nbformat, nbclient = require("nbformat"), require("nbclient")
    require("ipykernel")
    definition, name = MODELS["class of __main__"]
    source = SCRIPT.format(model=definition, name=name).replace("sys.argv[1]", "'out'")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    path = {"PYTHONPATH": str(Path(package.__file__).parent.parent)}
    with warnings.catch_warnings(), mock.patch.dict(os.environ, path):
        warnings.simplefilter("ignore")  # of the client's own event loop
        nbclient.NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    assert data_bytes(tmp_path / "out") == serial_bytes


SLOW = """
import time
def model(batch):
    time.sleep(0.05)
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)
"""


WAITING = """
import time
from pathlib import Path
flag, calls = Path({flag!r}), []
def model(batch):
    calls.append(1)
    while len(calls) > 5 and flag.exists():
        time.sleep(0.05)
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)
"""


@pytest.fixture
def waiting(tmp_path):
    """A model that stops after some windows as long as there is a flag."""
    flag = tmp_path / "flag"
    flag.touch()
    return flag, SCRIPT.format(model=WAITING.format(flag=str(flag)), name="model")


def test_a_killed_worker_ends_the_run_at_once(tmp_path, waiting):
    out = tmp_path / "out"
    script = waiting[1].replace("progress=False", "progress=False, parallel_check_interval=600")
    with start(tmp_path, script, out) as process:
        victims = wait_for(lambda: workers_of(out) if rows_written(out) else None)
        os.kill(victims[0], 9)
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "killed by SIGKILL: out of memory is the usual cause" in error
    assert "resume=True continues from there" in error
    assert workers_of(out) == []


def test_workers_end_with_their_parent(tmp_path, serial_bytes, waiting):
    out, (flag, script) = tmp_path / "out", waiting
    with start(tmp_path, script, out) as process:
        wait_for(lambda: len(workers_of(out)) == 2 and rows_written(out))
        process.kill()
        process.communicate()
    wait_for(lambda: not workers_of(out))
    assert not list(out.glob("*.fits"))
    flag.unlink()
    with pytest.warns(MorpheusWarning, match="not the same"):  # the script's own model
        predict(out_dir=out, resume=True, cpus=3)
    assert data_bytes(out) == serial_bytes


def test_ctrl_c_ends_all_workers(tmp_path, waiting):
    out = tmp_path / "out"
    # It is not to ignore Ctrl-C, as what a shell starts with "&" does.
    heeding = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    with start(tmp_path, heeding + waiting[1], out) as process:
        wait_for(lambda: len(workers_of(out)) == 2 and rows_written(out))
        process.send_signal(2)
        _, error = process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in error
    assert workers_of(out) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:resume=True runs the model that was stored")
def test_killed_at_any_moment_and_resumed(tmp_path, serial_bytes):
    """The parent is killed ten times at random; each run then goes on with another number."""
    random = np.random.default_rng(7)
    source = SCRIPT.format(model=SLOW.replace("0.05", "0.15"), name="model")
    for attempt in range(10):
        out = tmp_path / str(attempt)
        with start(tmp_path, source, out) as process:
            time.sleep(random.uniform(0.3, 2.8))
            process.kill()
            process.communicate()
        begun = Workspace(out).holds_a_run() and Workspace(out).is_marked("ready")
        if begun or not (out / "output_mean_var.fits").exists():
            # A run that had not begun begins anew: then with as many strips as the others.
            cpus = [None, 1, 2, 3][attempt % 4] if begun else 2
            predict(out_dir=out, resume=True, cpus=cpus)
        assert data_bytes(out) == serial_bytes


def start(tmp_path, source, out):
    (tmp_path / "script.py").write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, tmp_path / "script.py", str(out)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_written(out):
    """Say whether every strip has finished some rows."""
    journals = list(out.glob("[0-9]/journal.*"))
    return len(journals) == 2 and all("written" in journal.read_text() for journal in journals)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.mark.slow
def test_resuming_uses_the_stored_model(tmp_path, serial_bytes):
    with pytest.raises(WorkerError):
        predict(fail_in_row_20_once(tmp_path / "failed"), out_dir=tmp_path / "out", cpus=2)
    with pytest.warns(
        MorpheusWarning, match="the one that is passed now is not the same.*the path of a file"
    ):
        predict(lambda batch: 1 / 0, out_dir=tmp_path / "out", resume=True, cpus=2)
    assert data_bytes(tmp_path / "out") == serial_bytes


def fail_in_row_20_once(path):
    def model(batch):
        from pathlib import Path

        if not Path(path).exists() and batch[0][0, 0, 0, 0] == IMAGE[20, 0]:
            Path(path).touch()
            raise ValueError("only once")
        return two_classes(batch)

    return model


def interrupt(out_dir):
    """Leave a run in one process unfinished."""
    left = [100]

    def model(batch):
        left[0] -= len(batch[0])
        if left[0] < 0:
            raise ValueError("stopped here")
        return two_classes(batch)

    with pytest.raises(ModelError, match="stopped here"):
        predict(model, out_dir=out_dir)


@pytest.mark.slow
def test_a_serial_run_goes_on_with_workers(tmp_path):
    interrupt(tmp_path / "out")
    predict(two_classes, out_dir=tmp_path / "out", resume=True, cpus=2)
    predict(two_classes, out_dir=tmp_path / "whole")
    assert data_bytes(tmp_path / "out") == data_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_another_model_does_not_replace_the_one_a_serial_run_began_with(tmp_path):
    interrupt(tmp_path)
    with pytest.raises(ModelError, match="does not predict what it did"):
        predict(lambda batch: two_classes(batch) / 2, out_dir=tmp_path, resume=True, cpus=2)
    predict(two_classes, out_dir=tmp_path, resume=True, cpus=2)


@pytest.mark.slow
def test_folders_of_others_stay(tmp_path):
    with pytest.raises(WorkerError):
        predict(fail_in_row_20, IMAGE_WITH_MARK, out_dir=tmp_path / "out", cpus=2)
    shutil.rmtree(tmp_path / "out" / "1")
    (tmp_path / "out" / "1").mkdir()
    (tmp_path / "out" / "1" / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="/1 is of another run"):
        predict(fail_in_row_20, IMAGE_WITH_MARK, out_dir=tmp_path / "out", cpus=2, resume=True)
    assert (tmp_path / "out" / "1" / "thesis.tex").read_text() == "precious"


def test_inputs_are_checked_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        predict(inputs="nowhere.fits", out_dir=tmp_path / "out", cpus=2)
    assert list(tmp_path.iterdir()) == []
