"""What each worker may use: its share of the processor cores, and one GPU or none."""

from __future__ import annotations

import math
import operator
import os
from itertools import takewhile
from pathlib import Path
from typing import Any

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.pipeline.overlap import PREFETCH

#: Read by the libraries when they are loaded: OpenMP (also PyTorch), MKL, OpenBLAS, Accelerate,
#: numexpr, numba, TensorFlow; and by joblib, which reads none of the others.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "LOKY_MAX_CPU_COUNT",
)

#: Set by batch systems to the cores of one task: SLURM, PBS, LSF, Grid Engine.
SCHEDULER_VARIABLES = ("SLURM_CPUS_PER_TASK", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS")

#: Patterns of the devices of NVIDIA, of NVIDIA under Windows' Linux, and of AMD.
GPU_DEVICES = ("nvidia*", "dxg", "kfd")

Environment = dict[str, str]


def plan_workers(cpus: Any, gpus: Any, threads: int | None = None) -> list[Environment]:
    """Return the environment variables of each worker; no workers if nothing is asked for.

    Parameters
    ----------
    cpus : int or None
        How many workers without a GPU.
    gpus : sequence of int or str, or None
        The device of each worker, as an index into the devices that this process sees, or as a
        UUID. A device that is named twice gets two workers.
    threads : int, optional
        How many threads each has; its share of the cores by default.

    Raises
    ------
    InputError
        If both are given, or one is not what it should be, or a device is not there.
    """
    if cpus is not None and gpus is not None:
        raise InputError(f"give cpus or gpus, not both, got cpus={cpus!r} and gpus={gpus!r}")
    if cpus is not None:
        count = checks.whole_number("cpus", cpus)
        return [{"CUDA_VISIBLE_DEVICES": "", **thread_limits(count, threads)}] * count
    if gpus is not None:
        if not isinstance(gpus, (list, tuple)) or not gpus:
            raise InputError(f"gpus must be a list of device ids, as in [0, 1], got {gpus!r}")
        limits = thread_limits(len(gpus), threads)
        return [{"CUDA_VISIBLE_DEVICES": visible_device(gpu), **limits} for gpu in gpus]
    return []


def prefetch_depth(prefetch: Any, n_workers: int, elsewhere: bool) -> int:
    """Return how many batches are read ahead, which users may leave to the cores.

    Models that run `elsewhere`, on GPUs or other machines, leave a core for it.

    Raises
    ------
    InputError
        If it is no whole number.
    """
    if prefetch is None:
        return PREFETCH if elsewhere or available_cores() // max(1, n_workers) > 1 else 0
    return checks.whole_number("prefetch", prefetch, least=0)


def thread_limits(n_workers: int, threads: int | None = None) -> Environment:
    """Return the variables that give each of `n_workers` so many threads.

    By default that is its share of the cores; a smaller limit that is already set stays.
    """
    if threads is not None:
        return dict.fromkeys(THREAD_VARIABLES, str(threads))
    share = max(1, available_cores() // n_workers)
    limits = {}
    for name in THREAD_VARIABLES:
        own = os.environ.get(name, "")
        limits[name] = str(min(share, int(own)) if own.isdecimal() and int(own) else share)
    return limits


def available_cores() -> int:
    """Count the cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        counts = [len(os.sched_getaffinity(0))]
    else:
        counts = [os.cpu_count() or 1]
    for name in SCHEDULER_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value):
            counts.append(int(value))
    counts += container_cores(Path("/sys/fs/cgroup/cpu.max"))
    return min(counts)


def container_cores(path: Path) -> list[int]:
    """Return the cores that a container's time quota is worth, if it has one."""
    try:
        quota, period = path.read_text().split()
        return [math.ceil(int(quota) / int(period))]
    except (OSError, ValueError):  # no such file, or "max"
        return []


def visible_device(gpu: Any) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES that shows a worker one device.

    Raises
    ------
    InputError
        If it is no index or UUID, or there is no such device. CUDA would hide it without a word,
        and the model would run on the processor.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    own = None if visible is None else own_devices(visible)
    count = installed_gpus()
    if isinstance(gpu, str) and gpu.startswith(("GPU-", "MIG-")):
        if count == 0:
            raise InputError(f"there is no GPU {gpu}: this machine has 0")
        if own is not None and not any(d.isdecimal() or d.startswith(gpu) for d in own):
            raise InputError(f"there is no GPU {gpu} among CUDA_VISIBLE_DEVICES={visible}")
        return gpu
    try:
        index = int(gpu) if isinstance(gpu, str) else operator.index(gpu)
    except (TypeError, ValueError):
        index = -1
    if index < 0 or isinstance(gpu, bool):
        raise InputError(f'a GPU must be an index >= 0 or a UUID, "GPU-…" or "MIG-…", got {gpu!r}')
    if own is not None:  # an index counts the devices that this process itself may see
        if index >= len(own):
            raise InputError(f"there is no GPU {index} among CUDA_VISIBLE_DEVICES={visible}")
        return own[index]
    if count is not None and index >= count:
        raise InputError(f"there is no GPU {index}: this machine has {count}")
    return str(index)


def own_devices(visible: str) -> list[str]:
    """Return the devices of a list that CUDA sees: those before an entry that names none."""
    devices = (device.strip() for device in visible.split(","))
    return list(takewhile(lambda d: d.isdecimal() or d.startswith(("GPU-", "MIG-")), devices))


def installed_gpus() -> int | None:
    """Count the GPUs of this machine; None where there are some but no driver lists them."""
    try:
        return sum(1 for _ in Path("/proc/driver/nvidia/gpus").iterdir())
    except OSError:
        # Containers and other drivers have at least one of these devices.
        found = any(path for name in GPU_DEVICES for path in Path("/dev").glob(name))
        return None if found else 0
