"""How well `plan` foresees what a run takes: memory, disk and time, as ratios of plan to run.

The network of the demonstration over a simulated field, in one process and in two workers, FITS in
and FITS out. Everything is measured in fresh processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from astropy.io import fits

from morpheus_core.demo.sky import simulate_sky

SIDE = 900
COMMON = """
import json, sys, time
from morpheus_core import plan, predict
from morpheus_core.demo.network import DemoNetwork
from morpheus_core.planning.trials import peak_memory

paths, out_dir, cpus = json.loads(sys.argv[1])
options = dict(stride=(8, 8), aggregate_method="mean_var", out_dir=out_dir, cpus=cpus,
               progress=False)
arguments = (DemoNetwork(), paths, 5, 64, (40, 40))
"""
PLAN = (
    COMMON
    + """
forecast = plan(*arguments, **options)
print(json.dumps([forecast.memory_bytes, forecast.disk_bytes, forecast.seconds]))
"""
)
RUN = (
    COMMON
    + """
start = time.perf_counter()
predict(*arguments, **options)
print(json.dumps([peak_memory(), time.perf_counter() - start]))
"""
)


def in_fresh_process(code: str, arguments: str) -> list[float]:
    """Return what a script prints."""
    command = [sys.executable, "-c", code, arguments]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed)


class Watch(threading.Thread):
    """Notes the most that files below a folder take, and the most memory of a worker in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.disk = self.memory = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.disk = max(self.disk, self._size())
            self.memory = max([self.memory, *self._peaks()])

    def _size(self) -> int:
        total = 0
        for path in self.folder.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except OSError:  # it has just been removed
                continue
        return total

    def _peaks(self) -> list[int]:
        peaks = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"parallel.worker" in (process / "cmdline").read_bytes():
                    status = (process / "status").read_text()
                    peaks.append(1024 * int(status.partition("VmHWM:")[2].split()[0]))
            except (OSError, IndexError):  # it has just ended
                continue
        return peaks


def main() -> None:
    """Print one line per way of running."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for k, image in enumerate(simulate_sky((SIDE, SIDE), seed=3).images):
            paths.append(str(Path(scratch) / f"{k}.fits"))
            fits.writeto(paths[-1], image)
        for cpus in (None, 2):
            out_dir = Path(scratch) / f"out-{cpus}"
            arguments = json.dumps([paths, str(out_dir), cpus])
            memory, disk, seconds = in_fresh_process(PLAN, arguments)
            watch = Watch(out_dir)
            watch.start()
            start = time.perf_counter()
            own_memory, spent = in_fresh_process(RUN, arguments)
            watch.done.set()
            watch.join()
            real_memory = watch.memory if cpus else own_memory
            print(
                f"{'one process' if cpus is None else 'two workers':12} "
                f"memory {memory / real_memory:.2f} of {real_memory / 2**20:.0f} MiB, "
                f"disk {disk / watch.disk:.2f} of {watch.disk / 2**20:.1f} MiB, "
                f"time {seconds / spent:.2f} of {spent:.1f} s "
                f"({time.perf_counter() - start:.1f} s with imports)",
                flush=True,
            )


if __name__ == "__main__":
    main()
