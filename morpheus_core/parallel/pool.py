"""Starting workers, watching them, and ending them: this process's side."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from morpheus_core.errors import WorkerError
from morpheus_core.parallel.counters import Progress
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pieces import Watch, Work
from morpheus_core.pipeline.models import with_recipe

#: How much of a worker's log an error quotes.
LOG_TAIL = 4000
#: Seconds in which a worker that has ended is heard out.
LAST_WORDS = 1.0


@dataclass(eq=False, slots=True)
class Worker:
    """A process that does one piece after the other.

    Attributes
    ----------
    process : Popen
        The process.
    connection : Connection
        Takes the indices of pieces, and gives None for each that was done, or what went wrong.
    slot : tuple of int and dict
        Its number, and its environment variables.
    log : Path
        Where its output goes.
    index : int or None
        The piece that it does.
    failure : str or None
        What it said went wrong.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    slot: tuple[int, Environment]
    log: Path
    index: int | None = None
    failure: str | None = None


class Pool:
    """Does pieces in fresh interpreters, as many at a time as there are slots.

    They are not forked: that hangs after PyTorch has started threads and cannot use CUDA again.

    Parameters
    ----------
    work : Work
        Whose pieces.
    slots : sequence of dict
        Environment variables of each worker.
    """

    def __init__(self, work: Work, slots: Sequence[Environment]) -> None:
        self._work = work
        self._free = list(reversed(list(enumerate(slots))))
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._news: queue.SimpleQueue[tuple[Worker, bool]] = queue.SimpleQueue()

    def run(self, indices: Iterable[int], watch: Watch, interval: float) -> None:
        """Do pieces until all are done.

        Parameters
        ----------
        indices : iterable of int
            Which pieces.
        watch : Watch
            What is to happen here.
        interval : float
            Seconds between two looks at the progress. The end of a piece, or of a worker, is
            noticed at once.

        Raises
        ------
        WorkerError
            As soon as one worker fails, unless the watch takes the loss; all others are ended
            then.
        """
        waiting = list(reversed(list(indices)))
        progress = Progress(self._work.folders, waiting)
        try:
            while waiting or self._busy:
                while waiting and (self._idle or self._free):
                    self._hand_out(waiting.pop())
                with suppress(queue.Empty):
                    timeout = min(interval, threading.TIMEOUT_MAX)
                    self._hear(*self._news.get(timeout=timeout), watch)
                watch.on_steps(progress.news())
        finally:
            self._end_all()

    def _hand_out(self, index: int) -> None:
        """Let a worker that has nothing to do, or a fresh one, do a piece."""
        worker = self._idle.pop() if self._idle else self._start()
        worker.index = index
        self._busy.add(worker)
        with suppress(OSError):  # it has just ended, which is heard of at once
            worker.connection.send(index)

    def _start(self) -> Worker:
        number, slot = self._free.pop()
        log = self._work.folders.log_path(number)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        connection, theirs = Pipe()
        with log.open("ab") as file, theirs:
            process = start_python(
                "morpheus_core.parallel.worker",
                [self._work.directory, theirs.fileno(), os.getpid()],
                slot,
                file,
                [theirs.fileno()],
            )
        worker = Worker(process, connection, (number, slot), log)
        with suppress(OSError):
            connection.send(self._work)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: Worker) -> None:
        """Tell of each piece that a worker has done, and of its end."""

        def listen() -> None:
            with suppress(EOFError, OSError):
                while True:
                    worker.failure = worker.connection.recv()
                    if worker.failure is None:
                        self._news.put((worker, False))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        worker.process.wait()
        listener.join(LAST_WORDS)  # what the worker has started may keep the connection open
        self._news.put((worker, True))

    def _hear(self, worker: Worker, has_ended: bool, watch: Watch) -> None:
        """Take note of a piece that was done, or of a worker that has ended."""
        index, worker.index = worker.index, None
        self._busy.discard(worker)
        if has_ended:
            end_group(worker.process)  # whatever the worker has left behind
            worker.connection.close()
            self._idle = [one for one in self._idle if one is not worker]
            self._free.append(worker.slot)
        else:
            self._idle.append(worker)
        if index is None:
            return
        if not has_ended and self._work.is_finished(index):
            watch.on_finished(index)
        else:
            watch.on_lost(index, WorkerError(self._describe(worker, index, has_ended)))

    def _describe(self, worker: Worker, index: int, has_ended: bool) -> str:
        ending = how_it_ended(worker.process.returncode if has_ended else 0)
        if worker.failure is not None:
            ending = with_recipe(f"failed: {worker.failure}")
        return (
            f"the worker of {self._work.name(index)} {ending}; "
            f"its log is {worker.log}, and ends with\n{tail(worker.log)}"
        )

    def _end_all(self) -> None:
        workers = [*self._busy, *self._idle]
        for worker in workers:
            end_group(worker.process)
        for worker in workers:
            worker.process.wait()
        self._busy.clear()
        self._idle.clear()


def start_python(
    module: str,
    arguments: Sequence[object],
    slot: Environment,
    log: BinaryIO,
    descriptors: Sequence[int],
) -> subprocess.Popen[bytes]:
    """Start a module in a fresh interpreter, which finds what this process finds.

    It inherits the descriptors, and what it prints goes to the log.
    """
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
        pass_fds=descriptors,
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
