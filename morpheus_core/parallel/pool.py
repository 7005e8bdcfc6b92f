"""Starting workers, watching them, and ending them: this process's side."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from morpheus_core.errors import WorkerError
from morpheus_core.parallel.counters import Progress
from morpheus_core.parallel.devices import Environment
from morpheus_core.pipeline.models import with_recipe
from morpheus_core.workspace.folders import Workspace

#: How much of a worker's log an error quotes.
LOG_TAIL = 4000


class Pool:
    """Runs pieces of a run in fresh interpreters, one each, as many at a time as there are slots.

    They are not forked: that hangs after PyTorch has started threads and cannot use CUDA again.

    Parameters
    ----------
    workspace : Workspace
        Where the run is.
    pieces : sequence of str
        What each piece is, for errors, "window rows 0 to 9".
    slots : sequence of dict
        Environment variables of each worker.
    prefetch : int
        How many batches a worker reads ahead of the model.
    is_finished : callable
        Says of the index of a piece whether all its rows are written.
    module : str
        What workers run.
    """

    def __init__(
        self,
        workspace: Workspace,
        pieces: Sequence[str],
        slots: Sequence[Environment],
        prefetch: int,
        is_finished: Callable[[int], bool],
        module: str = "morpheus_core.parallel.worker",
    ) -> None:
        self._is_finished = is_finished
        self._workspace, self._prefetch = workspace, prefetch
        self._pieces, self._module = pieces, module
        self._free = list(reversed(slots))
        self._running: dict[int, tuple[subprocess.Popen[bytes], Environment]] = {}
        self._ended: queue.Queue[int] = queue.Queue()

    def run(
        self, indices: Sequence[int], on_windows: Callable[[int], object], interval: float
    ) -> None:
        """Run pieces until all are done.

        Parameters
        ----------
        indices : sequence of int
            Which pieces.
        on_windows : callable
            Told how many windows were just finished.
        interval : float
            Seconds between two looks at the progress. A worker's end is noticed at once.

        Raises
        ------
        WorkerError
            As soon as one worker fails; all others are ended then.
        """
        waiting = list(reversed(indices))
        progress = Progress(self._workspace, indices)
        try:
            while waiting or self._running:
                while waiting and self._free:
                    self._start(waiting.pop())
                with suppress(queue.Empty):
                    self._finish(self._ended.get(timeout=min(interval, threading.TIMEOUT_MAX)))
                on_windows(progress.news())
        finally:
            self._end_all()

    def _start(self, index: int) -> None:
        slot = self._free.pop()
        workspace = self._workspace
        workspace.error_path(index).unlink(missing_ok=True)
        with workspace.log_path(index).open("ab") as log:
            process = start_python(
                self._module,
                [workspace.directory.resolve(), index, os.getpid(), self._prefetch],
                slot,
                log,
            )
        self._running[index] = process, slot
        threading.Thread(target=self._wait, args=(index, process), daemon=True).start()

    def _wait(self, index: int, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._ended.put(index)

    def _finish(self, index: int) -> None:
        process, slot = self._running.pop(index)
        self._free.append(slot)
        end_group(process)  # whatever the worker has left behind
        if process.returncode != 0 or not self._is_finished(index):
            raise WorkerError(self._describe(index, process.returncode))

    def _describe(self, index: int, code: int) -> str:
        log = self._workspace.log_path(index)
        ending = how_it_ended(code)
        if self._workspace.error_path(index).exists():
            reason = self._workspace.error_path(index).read_text(errors="replace").strip()
            ending = with_recipe(f"failed: {reason}")
        return (
            f"the worker of {self._pieces[index]} {ending}; "
            f"its log is {log}, and ends with\n{tail(log)}"
        )

    def _end_all(self) -> None:
        for process, _ in self._running.values():
            end_group(process)
        for process, _ in self._running.values():
            process.wait()
        self._running.clear()


def start_python(
    module: str, arguments: Sequence[object], slot: Environment, log: BinaryIO
) -> subprocess.Popen[bytes]:
    """Start a module in a fresh interpreter, which finds what this process finds."""
    path = os.pathsep.join(str(entry) or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(
        # The parent's path says all; with -P the working directory is not put first.
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        env={**os.environ, **slot, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C reaches this process alone, which then ends the workers and their children.
        start_new_session=True,
    )


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and all that it has started."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: what has just ended
        os.killpg(process.pid, signal.SIGKILL)


def tail(log: Path) -> str:
    """Return the end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        return file.read().decode(errors="replace").strip() or "nothing"


def how_it_ended(code: int) -> str:
    """Say what an exit code means."""
    if code == 0:
        return "ended before they were finished"
    if code > 0:
        return f"failed with exit code {code}"
    if -code == signal.SIGKILL:
        return "was killed by SIGKILL: out of memory is the usual cause"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"was killed by signal {-code}"
