"""A worker: does one piece after the other in a process of its own.

``python -m morpheus_core.parallel.worker DIRECTORY DESCRIPTOR PARENT_PID``: from the descriptor,
which is one end of a connection, it gets the work and the indices of its pieces, and there it
answers. The directory is for those who look at lists of processes. It ends with its parent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

from morpheus_core.extras import leave_no_traces
from morpheus_core.parallel.counters import WindowCounter
from morpheus_core.parallel.gpus import on_one_gpu
from morpheus_core.parallel.pieces import Failure, NotLoadedError, Work
from morpheus_core.parallel.reports import PieceReport, report, report_model
from morpheus_core.pipeline.models import Model
from morpheus_core.progress import told

#: Seconds between two looks at whether the parent is still there.
PARENT_INTERVAL = 0.5


def main(_: str, descriptor: str, parent: str) -> None:
    """Do pieces until there are no more."""
    threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    leave_no_traces()  # before the model is imported
    os.set_inheritable(int(descriptor), False)
    connection = Connection(int(descriptor))
    code = 0
    try:
        with told(report):
            serve(connection)
    except BaseException as error:
        traceback.print_exc()  # into the log
        failure = str(error) if isinstance(error, NotLoadedError) else as_text(error)
        with suppress(OSError):
            connection.send(Failure(failure, isinstance(error, NotLoadedError)))
        code = 1
    flush()
    os._exit(code)  # whatever threads the model has left running


def serve(connection: Connection) -> None:
    """Do pieces: give each back when it is begun, and None when it is done."""
    work: Work = connection.recv()
    loaded = None
    for index in indices(connection):
        if loaded is None:
            try:
                loaded = work.load(guarded)
            except Exception as error:
                raise NotLoadedError(as_text(error)) from error
        connection.send(index)
        with WindowCounter(work.folders.progress_path(index)) as count:
            piece = PieceReport(work.name(index), count)
            work.do(index, loaded, piece)
        piece.end()
        flush()
        connection.send(None)


def guarded(model: Model) -> Model:
    """Return a model that runs where it should, and note which it is."""
    report_model(model)
    return on_one_gpu(model)


def indices(connection: Connection) -> Iterator[int]:
    """Yield the pieces that are asked for, until there are no more."""
    while True:
        try:
            index: int = connection.recv()
        except EOFError:
            return
        yield index


def as_text(error: BaseException) -> str:
    """Return what went wrong in a line."""
    return traceback.format_exception_only(error)[-1].strip()


def flush() -> None:
    """Let the log tell all that was printed."""
    sys.stdout.flush()
    sys.stderr.flush()


def end_with(parent: int) -> None:
    """End this process, and all that it started, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(PARENT_INTERVAL)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
