"""A worker: runs one strip in a process of its own.

``python -m morpheus_core.parallel.worker OUT_DIR STRIP PARENT_PID PREFETCH``; everything else
it finds in the run's folders. It ends with its parent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from morpheus_core.errors import ModelError
from morpheus_core.parallel.counters import WindowCounter
from morpheus_core.pipeline.models import Model, StandIn, resolve, unpickle_model
from morpheus_core.results.outputs import FitsOutputs
from morpheus_core.results.products import Origin, products_of
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.strip import StoredStrip

#: Seconds between two looks at whether the parent is still there.
PARENT_INTERVAL = 0.5


def main(
    run: Callable[[Workspace, int, int], None],
    directory: str,
    index: str,
    parent: str,
    prefetch: str,
) -> None:
    """Run a piece of work."""
    workspace = Workspace(Path(directory))
    do_and_exit(
        lambda: run(workspace, int(index), int(prefetch)),
        workspace.error_path(int(index)),
        int(parent),
    )


def do_and_exit(task: Callable[[], None], error_path: Path, parent: int) -> NoReturn:
    """Do what this process is for; what goes wrong is left in a file for the parent to tell."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    code = 0
    try:
        task()
    except BaseException as error:
        traceback.print_exc()  # into the log
        error_path.write_text(traceback.format_exception_only(error)[-1])
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # whatever threads the model has left running


def end_with(parent: int) -> None:
    """End this process, and all that it started, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(PARENT_INTERVAL)
    os.killpg(0, signal.SIGKILL)


def run(workspace: Workspace, index: int, prefetch: int) -> None:
    """Run what is left of a strip."""
    plan, model = open_run(workspace)
    with WindowCounter(workspace.progress_path(index)) as count:
        run_stored_strip(workspace, plan, index, model, prefetch, count)


def open_run(workspace: Workspace) -> tuple[Plan, Model]:
    """Return the plan and the model of a run, as they were stored."""
    plan = workspace.load()
    workspace.check_folders(plan)
    model = load_model(workspace, plan)
    return plan, OnOneGpu(model) if os.environ["CUDA_VISIBLE_DEVICES"] else model


def load_model(workspace: Workspace, plan: Plan) -> Model:
    """Return the model of a run: what was pickled, or what its factory makes."""
    pickled = workspace.stored_model()
    if pickled is None:
        assert plan.factory is not None, "a run without a stored model has a factory"
        return resolve(plan.factory)
    model: Model = unpickle_model(pickled)
    return model


def run_stored_strip(
    workspace: Workspace,
    plan: Plan,
    index: int,
    model: Model,
    prefetch: int,
    on_windows: Callable[[int], object],
) -> None:
    """Run what is left of a strip, from its stored inputs into the files of the run."""
    with (
        open_strip(workspace, plan, index) as strip,
        FitsOutputs(products_of(strip.job, Origin()), workspace.directory, plan.run) as outputs,
    ):
        strip.run(model, outputs, on_windows, prefetch)


@contextmanager
def open_strip(workspace: Workspace, plan: Plan, index: int) -> Iterator[StoredStrip]:
    """Open a strip with its inputs, as they were stored."""
    job = plan.job(workspace.update_map())
    with workspace.open_inputs() as stack:
        yield StoredStrip(workspace, index, job, plan.strips[index], stack)


def count_torch() -> int:
    """Count the GPUs that PyTorch sees."""
    return int(sys.modules["torch"].cuda.device_count())


def count_tensorflow() -> int:
    """Count the GPUs that TensorFlow sees."""
    return len(sys.modules["tensorflow"].config.list_physical_devices("GPU"))


def count_jax() -> int:
    """Count the GPUs that JAX sees."""
    return sum(device.platform == "gpu" for device in sys.modules["jax"].devices())


def count_cupy() -> int:
    """Count the GPUs that CuPy sees."""
    return int(sys.modules["cupy"].cuda.runtime.getDeviceCount())


def count_onnxruntime() -> int:
    """Tell whether ONNX Runtime is built for GPUs; it counts none."""
    providers = sys.modules["onnxruntime"].get_available_providers()
    return int(bool({"CUDAExecutionProvider", "ROCMExecutionProvider"} & set(providers)))


GPU_COUNTERS: dict[str, Callable[[], int]] = {
    "torch": count_torch,
    "tensorflow": count_tensorflow,
    "jax": count_jax,
    "cupy": count_cupy,
    "onnxruntime": count_onnxruntime,
}


class OnOneGpu(StandIn):
    """A model that refuses to run where its framework does not see exactly one GPU.

    Without that, a device that is not there means a run on the processor, without a word.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._seen: dict[str, int] = {}

    def __call__(self, batch: list[NDArray[Any]]) -> Any:
        """Predict, once that is known."""
        self._check()
        answer = self.model(batch)
        self._check()  # a framework may be imported by the first call
        return answer

    def _check(self) -> None:
        news = {name for name in GPU_COUNTERS if name in sys.modules} - set(self._seen)
        if not news:
            return
        self._seen.update((name, count_gpus(name)) for name in news)
        # Another framework that is merely imported may be a build for processors.
        if max(self._seen.values()) != 1:
            seen = " and ".join(f"{name} sees {count}" for name, count in self._seen.items())
            raise ModelError(
                f"{seen} GPUs with CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}, "
                f"expected 1; check that the device exists and the framework is built for GPUs"
            )


def count_gpus(name: str) -> int:
    """Count the GPUs that a framework sees."""
    try:
        return GPU_COUNTERS[name]()
    except Exception:  # CuPy raises where there is none
        return 0


if __name__ == "__main__":
    main(run, *sys.argv[1:])
