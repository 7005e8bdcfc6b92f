"""What a worker writes into its log: with which model and where it works, and how fast."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from morpheus_core.parallel.devices import THREAD_VARIABLES
from morpheus_core.pipeline.descriptions import model_name

#: Seconds between two lines about the same piece.
INTERVAL = 30.0


def report(text: str) -> None:
    """Write a line, with the time; at once, for those who watch the log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def report_model(model: Any) -> None:
    """Write which model runs, and on what."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    threads = os.environ.get(THREAD_VARIABLES[0], "no limit of")
    device = "on the processor" if gpu == "" else f"on GPU {gpu or 'of its choice'}"
    report(
        f"process {os.getpid()} on {socket.gethostname()}: {model_name(model)} {device}, "
        f"{threads} thread(s)"
    )


class PieceReport:
    """Counts windows, or rows, and writes now and then how many there were.

    Parameters
    ----------
    name : str
        The piece.
    count : callable
        Told how many were just finished, as well.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        name: str,
        count: Callable[[int], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._count, self._clock = name, count, clock
        self._done = 0
        self._begun = self._told = clock()
        report(f"{name}: begun")

    def __call__(self, steps: int) -> None:
        """Count."""
        self._count(steps)
        self._done += steps
        if self._clock() - self._told >= INTERVAL:
            self._told = self._clock()
            report(f"{self._name}: {self._so_far()}")

    def end(self) -> None:
        """Write that the piece is finished."""
        report(f"{self._name}: finished, {self._so_far()}")

    def _so_far(self) -> str:
        seconds = self._clock() - self._begun
        speed = self._done / seconds if seconds else 0.0
        return f"{self._done:,} done in {seconds:,.0f} s, {speed:,.1f} per second"
