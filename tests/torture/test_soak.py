"""Many calls in one process: memory, open files and threads stay as they are."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from kinds_of_work import IMAGE

from morpheus_core import predict

pytestmark = pytest.mark.torture


def model(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def run(**options):
    hduls, arrays = predict(
        model, IMAGE, 2, 16, (10, 10), stride=(5, 5), aggregate_method="mean_var", progress=False,
        **options,
    )  # fmt: skip
    for hdul in hduls:
        hdul.close()
    del arrays
    gc.collect()


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def state():
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return files, threading.active_count(), resident_bytes()


@pytest.mark.parametrize("kind", ["memory", "files", "workers"])
def test_nothing_grows(tmp_path, kind):
    """Runs into memory, into files and with two workers; 4 MiB are the allocator's."""
    runs, options = {
        "memory": (10_000, {}),
        "files": (2_000, {"out_dir": tmp_path / "out", "overwrite": True}),
        "workers": (500, {"out_dir": tmp_path / "out", "overwrite": True, "cpus": 2}),
    }[kind]
    for _ in range(runs // 10):
        run(**options)
    files, threads, memory = state()
    for _ in range(runs - runs // 10):
        run(**options)
    files_after, threads_after, memory_after = state()
    print(f"{kind}: {runs} runs, {memory_after - memory:,} bytes more")
    assert files_after <= files
    assert threads_after <= threads
    assert memory_after - memory < 4 << 20
