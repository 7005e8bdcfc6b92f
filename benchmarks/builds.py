"""What `predict` adds to the model's own time, in two builds of this package side by side.

``python benchmarks/builds.py FOLDER_OF_THE_OTHER_BUILD [WORD ...]`` compares the build that is
imported here with that of another checkout; ``make bench-builds BEFORE=COMMIT`` makes one. With
words only cases are run that have one of them in their name. Each build runs in a process of its
own; calls alternate, and the least user and system time of a few counts, in nanoseconds per
predicted value: others that use the machine add to it, and nothing takes away.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 4


@dataclass(frozen=True)
class Load:
    """Windows over an image, in pixels, and arguments of `predict`; all can be JSON."""

    window: int
    stride: int
    height: int
    width: int
    classes: int = 5
    batch_size: int = 0
    method: str = "mean_var"
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """The batch size: what is given, or at most 64 windows and 160 MB of predictions."""
        return self.batch_size or max(1, min(64, 40_000_000 // (self.window**2 * self.classes)))


def loads() -> dict[str, Load]:
    """Return what is measured, by name."""
    found = {}
    for method in ("mean_var", "rank_vote"):
        for window, stride, side in (
            (40, 1, 200),
            (64, 16, 1024),
            (256, 128, 2048),
            (512, 256, 4096),
        ):
            found[f"{window}/{stride} {method}"] = Load(window, stride, side, side, method=method)
        for batch_size in (1, 16, 256):
            load = Load(64, 16, 1024, 1024, batch_size=batch_size, method=method)
            found[f"64/16 batch {batch_size} {method}"] = load
        for classes in (1, 14, 33, 100):
            load = Load(64, 16, 512, 512, classes, method=method)
            found[f"64/16 {classes} classes {method}"] = load
        for width in (8_000, 32_000):
            load = Load(256, 128, 512, width, method=method)
            found[f"256/128 width {width} {method}"] = load
        for name, arguments in {
            "hann": {"update_map": "hann"},
            "crop": {"update_map": "crop"},
            "omit": {"nan_policy": "omit"},
            "mask": {"mask": True},
            "dilation 2": {"dilation": 2},
        }.items():
            load = Load(128, 64, 1024, 1024, method=method, arguments=arguments)
            found[f"128/64 {name} {method}"] = load
    return found


def cpu_seconds() -> float:
    """Return the user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(load: Load) -> float:
    """Return nanoseconds per predicted value beside the model."""
    from morpheus_core import predict, update_maps

    arguments = dict(load.arguments)
    side = load.window * arguments.get("dilation", 1)
    random = np.random.default_rng(0)
    if arguments.get("update_map") == "hann":
        arguments["update_map"] = update_maps.hann((side, side))
    elif arguments.get("update_map") == "crop":
        arguments["update_map"] = update_maps.centre_crop((side, side), side // 8)
    if arguments.get("mask"):
        arguments["mask"] = random.random((load.height, load.width)) < 0.01
    shape = (load.batch, side, side, load.classes)
    predictions = random.random(shape, dtype=np.float32)
    values = 0

    def model(batch: list[np.ndarray]) -> np.ndarray:
        nonlocal values
        answer = predictions[: len(batch[0])]
        values += answer.size
        return answer

    image = np.zeros((load.height, load.width), np.float32)
    window = (load.window, load.window)
    start = cpu_seconds()
    predict(
        model,
        image,
        load.classes,
        load.batch,
        window,
        stride=(load.stride, load.stride),
        aggregate_method=load.method,
        progress=False,
        prefetch=0,
        **arguments,
    )
    return (cpu_seconds() - start) / values * 1e9


def serve(folder: str) -> None:
    """Measure what each line asks for."""
    import morpheus_core

    assert Path(morpheus_core.__file__).is_relative_to(folder), "the other build was imported"
    for line in sys.stdin:
        print(json.dumps(measure(Load(**json.loads(line)))), flush=True)


def start(folder: Path) -> subprocess.Popen[str]:
    """Start a process that measures the build in a folder."""
    # Warnings of pixels that no window reaches would be all that is seen.
    command = [sys.executable, "-W", "ignore", __file__, "--serve", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def ask(process: subprocess.Popen[str], load: Load) -> float:
    """Return what a process measures."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(load)) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main(other: str, *words: str) -> None:
    """Print one line per case."""
    builds = [start(Path(other)), start(Path(__file__).resolve().parent.parent)]
    print(f"{'window/stride':34} {'before':>7} {'here':>7} {'ratio':>6}")
    try:
        for name, load in loads().items():
            if words and not any(word in name for word in words):
                continue
            rounds = [[ask(build, load) for build in builds] for _ in range(1 + REPEATS)]
            before, here = (min(times) for times in zip(*rounds[1:], strict=True))
            print(f"{name:34} {before:7.2f} {here:7.2f} {before / here:6.2f}", flush=True)
    finally:
        for build in builds:
            assert build.stdin is not None
            build.stdin.close()
            build.wait()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        main(*sys.argv[1:])
