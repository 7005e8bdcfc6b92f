"""Whether the framework of a model sees the one GPU that its worker was given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from morpheus_core.errors import ModelError
from morpheus_core.pipeline.models import Model, StandIn


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


def on_one_gpu(model: Model) -> Model:
    """Return a model that runs on the GPU that this process was given, if it was given one."""
    return OnOneGpu(model) if os.environ["CUDA_VISIBLE_DEVICES"] else model
