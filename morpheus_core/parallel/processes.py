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
from morpheus_core.parallel.pieces import Failure, Watch, Work
from morpheus_core.pipeline.models import with_recipe
from morpheus_core.progress import say

#: How much of a worker's log an error quotes.
LOG_TAIL = 4000
#: Seconds in which a worker that has ended is heard out.
LAST_WORDS = 1.0
#: The news that a worker has ended.
ENDED = object()


@dataclass(eq=False, slots=True)
class Worker:
    """A process that does one piece after the other.

    Attributes
    ----------
    process : Popen
        The process.
    connection : Connection
        Takes the indices of pieces; gives each back when it is begun, and then None when it is
        done, or what went wrong.
    slot : tuple of int and dict
        Its number, and its environment variables.
    log, log_start : Path and int
        Where its output goes, and where that begins.
    index : int or None
        The piece that it was given.
    has_begun, is_new : bool
        Whether it has begun that piece, and whether it is its first.
    failure : Failure or None
        What it said went wrong.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    slot: tuple[int, Environment]
    log: Path
    log_start: int
    index: int | None = None
    has_begun: bool = False
    is_new: bool = True
    failure: Failure | None = None


class Processes:
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
        self._waiting: list[int] = []
        self._workers: set[Worker] = set()
        self._news: queue.SimpleQueue[tuple[Worker, object]] = queue.SimpleQueue()

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
        self._waiting = list(reversed(list(indices)))
        progress = Progress(self._work.folders, watch.on_steps, interval)
        count = min(len(self._waiting), len(self._free))
        say(f"starting {count} worker{'s' if count > 1 else ''}, which load the model")
        try:
            while self._hand_out(progress):
                with suppress(queue.Empty):
                    worker, news = self._news.get(timeout=min(interval, threading.TIMEOUT_MAX))
                    ended = self._hear(worker, news)
                    self._hand_out(progress)  # before the watch takes its time
                    if ended is not None:
                        progress.look([ended])
                        self._tell(worker, ended, watch)
                progress.look_now_and_then([w.index for w in self._workers if w.index is not None])
        finally:
            self._end_all()

    def _hand_out(self, progress: Progress) -> bool:
        """Let all who have nothing to do begin a piece, and say whether any is being done."""
        idle = [worker for worker in self._workers if worker.index is None]
        while self._waiting and (idle or self._free):
            worker = idle.pop() if idle else self._start()
            progress.begin(self._waiting[-1])
            with suppress(OSError):  # it has just ended, which is heard of at once
                worker.connection.send(self._waiting[-1])
                worker.index, worker.has_begun = self._waiting.pop(), False
        return any(worker.index is not None for worker in self._workers) or bool(self._waiting)

    def _start(self) -> Worker:
        number, slot = self._free.pop()
        log = self._work.folders.log_path(number)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        connection, theirs = Pipe()
        with log.open("ab") as file, theirs:
            log_start = file.tell()
            process = start_python(
                "morpheus_core.parallel.worker",
                [self._work.directory, theirs.fileno(), os.getpid()],
                slot,
                file,
                [theirs.fileno()],
            )
            worker = Worker(process, connection, (number, slot), log, log_start)
            self._workers.add(worker)
        with suppress(OSError):
            connection.send(self._work)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: Worker) -> None:
        """Hand on what a worker says, and then that it has ended."""

        def listen() -> None:
            with suppress(EOFError, OSError):
                while True:
                    self._news.put((worker, worker.connection.recv()))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        worker.process.wait()
        listener.join(LAST_WORDS)  # what the worker has started may keep the connection open
        self._news.put((worker, ENDED))

    def _hear(self, worker: Worker, news: object) -> int | None:
        """Take note of what a worker says; return its piece if that is done or lost."""
        if worker not in self._workers:
            return None  # its last words, after it was found to have ended
        if isinstance(news, Failure):
            worker.failure = news  # and its end comes soon
            return None
        if isinstance(news, int):
            worker.has_begun = True
            return None
        index, worker.index = worker.index, None
        if news is ENDED:
            self._workers.discard(worker)
            end_group(worker.process)  # whatever the worker has left behind
            worker.connection.close()
            self._free.append(worker.slot)
            if index is not None and not (worker.has_begun or worker.is_new or worker.failure):
                self._waiting.append(index)  # it was ended while it had nothing to do
                return None
        worker.is_new = False
        return index

    def _tell(self, worker: Worker, index: int, watch: Watch) -> None:
        """Tell of a piece that is done or lost."""
        if self._work.is_finished(index):  # whatever has become of its worker then
            watch.on_finished(index)
            return
        error = WorkerError(self._describe(worker, index))
        if worker.failure is not None and worker.failure.of_all:
            raise error
        watch.on_lost(index, error)

    def _describe(self, worker: Worker, index: int) -> str:
        ending = how_it_ended(worker.process.poll() or 0)
        if worker.failure is not None:
            ending = with_recipe(f"failed: {worker.failure.reason}")
        return (
            f"the worker of {self._work.name(index)} {ending}; "
            f"its log is {worker.log}, and ends with\n{tail(worker.log, worker.log_start)}"
        )

    def _end_all(self) -> None:
        for worker in self._workers:
            end_group(worker.process)
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()
        self._workers.clear()


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


def tail(log: Path, start: int) -> str:
    """Return the end of what a log holds behind some byte."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - LOG_TAIL))
        return file.read().decode(errors="replace").strip() or "nothing"


def how_it_ended(code: int) -> str:
    """Say what an exit code means."""
    if code == 0:
        return "ended before it was finished"
    if code > 0:
        return f"failed with exit code {code}"
    if -code == signal.SIGKILL:
        return "was killed by SIGKILL: out of memory is the usual cause"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"was killed by signal {-code}"
