"""Work beside the model: batches are read ahead of it, and predictions are folded behind it.

The model keeps the caller's thread. One thread reads, another one folds; each does its work in the
order in which a single thread would, so the results are the same bytes. Reading and folding leave
the GIL to the model for most of their time.

Threads talk through `queue.SimpleQueue` alone: it is the one tool of the standard library whose
state an interrupt by Ctrl-C cannot spoil.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

from morpheus_core.storage.resources import Resource

Item = TypeVar("Item")

#: Batches that are read ahead: one that is ready, and one that is being cut.
PREFETCH = 2

_END: Any = object()


class Beside(Resource):
    """A thread that has always ended when it is closed, however often that is interrupted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = self._stopped = self._finished = False
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _work(self) -> None:
        """Do what the thread is for, until `_stopped`."""

    @abstractmethod
    def _wake(self) -> None:
        """Let the thread see that it is stopped."""

    def _start(self) -> None:
        """Start the thread, if it is not there yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
            self._begun = True

    def _run(self) -> None:
        self._begun = True  # here as well: an interrupt may come before the starter notes it
        try:
            self._work()
        finally:
            self._finished = True
            self._ended.put(None)

    def close(self) -> None:
        """Stop the thread, and wait for the end of what it is doing."""
        self._stopped = True
        self._wake()
        interrupt = None
        # One that has not begun, because its start was interrupted, will see that it is stopped.
        while self._begun and not self._finished:
            try:
                self._ended.get(timeout=1.0)
            except Empty:
                continue
            except KeyboardInterrupt as error:  # it may be writing: its files must stay open
                interrupt = error
        if interrupt is not None:
            raise interrupt
        if self._begun and self._thread is not None:
            self._thread.join()


class Ahead(Beside, Generic[Item]):
    """An iterator whose next items are being made while the last one is used.

    Parameters
    ----------
    items : iterator
        Is asked for its items in a thread of its own.
    depth : int
        The most items that wait; with 0 there is no thread, and each is made when it is asked for.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        super().__init__("morpheus-read")
        self._items, self._depth = items, depth
        self._wanted: SimpleQueue[None] = SimpleQueue()
        self._made: SimpleQueue[tuple[Item, BaseException | None]] = SimpleQueue()

    def __iter__(self) -> Iterator[Item]:
        return self._received() if self._depth else self._items

    def _received(self) -> Iterator[Item]:
        for _ in range(self._depth):
            self._wanted.put(None)
        self._start()
        while True:
            item, error = self._made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            self._wanted.put(None)
            yield item

    def _work(self) -> None:
        item = None
        while item is not _END:
            self._wanted.get()
            if self._stopped:
                return
            try:
                item = next(self._items, _END)
                self._made.put((item, None))
            except BaseException as error:
                self._made.put((_END, error))
                return

    def _wake(self) -> None:
        self._wanted.put(None)


class Behind(Beside):
    """Does tasks in order, while its caller goes on to the next one.

    A task begins when the one before it has succeeded, so none builds on one that failed. One that
    was handed over is done, also when the caller fails meanwhile.

    Parameters
    ----------
    threaded : bool
        Whether there is a thread for it; without one, a task is done when it is handed over.
    """

    def __init__(self, threaded: bool) -> None:
        super().__init__("morpheus-fold")
        self._threaded = threaded
        self._tasks: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._pending = False

    def do(self, task: Callable[..., None], *arguments: Any) -> None:
        """Hand over a task; raises what the one before it raised."""
        if not self._threaded:
            task(*arguments)
            return
        self.wait()
        self._start()
        self._pending = True
        self._tasks.put((task, arguments))

    def wait(self) -> None:
        """Wait until all tasks are done, and raise what the last one raised."""
        if self._pending:
            error = self._done.get()
            self._pending = False
            if error is not None:
                raise error

    def _work(self) -> None:
        while (handed_over := self._tasks.get()) is not None:
            task, arguments = handed_over
            error = None
            try:
                task(*arguments)
            except BaseException as raised:
                error = raised
            del handed_over, task, arguments  # predictions, which take room
            self._done.put(error)

    def _wake(self) -> None:
        self._tasks.put(None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, Exception) and not self._done.empty():
            failure = self._done.get()
            if failure is not None:  # it came first
                raise failure from error
