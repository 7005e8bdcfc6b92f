"""What `predict` adds to the model's own time, as multiples of one pass over the predictions.

The model returns predictions that are ready in memory. Its own time is subtracted; what is left is
given in nanoseconds per predicted value (windows × height × width × classes), beside the least that
any program could do: one `np.sum` over the same values, and one fill of the output arrays or one
write of their bytes to the same file system. Everything is done in one thread.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from ready import CASES, Case, Ready, interleaved

from morpheus_core import predict
from morpheus_core.pipeline import kernels
from morpheus_core.pipeline.kernels import plain

METHODS = {"mean_var": "mean_var", "rank_vote": "rank_vote", "both": ["mean_var", "rank_vote"]}


def overhead(case: Case, method: str | list[str], out_dir: Path | None = None) -> float:
    """Return nanoseconds per value that `predict` takes beside the model."""
    model = Ready(case)
    image = np.zeros((case.side, case.side), np.float32)
    start = time.perf_counter()
    hduls, _ = predict(
        model,
        image,
        case.classes,
        case.batch_size,
        (case.window, case.window),
        stride=(case.stride, case.stride),
        aggregate_method=method,
        out_dir=out_dir,
        overwrite=True,
        progress=False,
        prefetch=0,
    )
    spent = time.perf_counter() - start - model.seconds
    for hdul in hduls:
        hdul.close()
    return spent / case.values * 1e9


def limit(case: Case, method: str | list[str], out_dir: Path | None = None) -> float:
    """Return nanoseconds per value of one pass over the predictions and one over the outputs."""
    predictions = Ready(case).predictions
    methods = [method] if isinstance(method, str) else method
    planes = 1 + sum(case.classes * (2 if name == "mean_var" else 1) for name in methods)
    outputs = np.empty((case.side, case.side, planes), np.float32)
    start = time.perf_counter()
    for _ in range(-(-case.values // predictions.size)):
        predictions.sum()
    outputs.fill(1)
    if out_dir is not None:
        (out_dir / "limit").write_bytes(outputs.data)
    return (time.perf_counter() - start) / case.values * 1e9


def without_numba(case: Case, method: str | list[str]) -> float:
    """Return the overhead of the kernels that need numpy alone."""
    fastest = kernels.fastest
    kernels.fastest = lambda: plain
    try:
        return overhead(case, method)
    finally:
        kernels.fastest = fastest


def report(case: Case, name: str, where: str, measured: dict[str, float]) -> None:
    """Print one line of the table."""
    ours, least = measured["predict"], measured["limit"]
    plain_time = f"{measured['plain']:9.2f}" if "plain" in measured else " " * 9
    print(
        f"{case.name:>18} {name:>10} {where:>7} {ours:9.2f} {least:6.2f} {ours / least:6.1f}"
        f" {plain_time}",
        flush=True,
    )


def main() -> None:
    """Print one line per case, method and place of the outputs."""
    print(
        f"{'window/stride':>18} {'method':>10} {'outputs':>7} {'ns/value':>9} {'limit':>6} "
        f"{'ratio':>6} {'no numba':>9}"
    )
    with tempfile.TemporaryDirectory() as directory:
        out_dir = Path(directory)
        for case in [*CASES, Case(64, 16, 1024, 1), Case(64, 16, 1024, 14)]:
            for name, method in METHODS.items():
                if case.classes == 1 and name != "mean_var":
                    continue  # votes for the only class say nothing
                measures = {
                    "predict": partial(overhead, case, method),
                    "limit": partial(limit, case, method),
                }
                if case in CASES[1:3]:
                    measures["plain"] = partial(without_numba, case, method)
                report(case, name, "memory", interleaved(measures))
            on_disk = {
                "predict": partial(overhead, case, "mean_var", out_dir),
                "limit": partial(limit, case, "mean_var", out_dir),
            }
            report(case, "mean_var", "disk", interleaved(on_disk))


if __name__ == "__main__":
    main()
