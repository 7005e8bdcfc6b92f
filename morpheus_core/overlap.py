"""Work beside the model: batches are read ahead of it, and predictions are folded behind it.

The model keeps the caller's thread. One thread reads, another one folds; each does its work in the
order in which a single thread would, so the results are the same bytes. Reading and folding leave
the GIL to the model for most of their time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from morpheus_core.resources import Resource

Item = TypeVar("Item")

#: Batches that are read ahead: one that is ready, and one that is being cut.
PREFETCH = 2

_END: Any = object()


class Ahead(Resource, Generic[Item]):
    """An iterator whose next items are being made while the last one is used.

    Parameters
    ----------
    items : iterator
        Is asked for its items in a thread of its own.
    depth : int
        The most items that wait; with 0 there is no thread, and each is made when it is asked for.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._thread = ThreadPoolExecutor(1, "morpheus-read") if depth else None
        self._waiting: deque[Future[Item]] = deque()
        for _ in range(depth):
            self._request()

    def __iter__(self) -> Iterator[Item]:
        return self._items if self._thread is None else self._received()

    def _received(self) -> Iterator[Item]:
        while (item := self._waiting.popleft().result()) is not _END:
            self._request()
            yield item

    def _request(self) -> None:
        assert self._thread is not None
        self._waiting.append(self._thread.submit(next, self._items, _END))

    def close(self) -> None:
        """Wait for the item that is being made, and make no more."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)


class Behind(Resource):
    """Does tasks in order, while its caller goes on to the next one.

    A task begins when the one before it has succeeded, so none builds on one that failed.

    Parameters
    ----------
    threaded : bool
        Whether there is a thread for it; without one, a task is done when it is handed over.
    """

    def __init__(self, threaded: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "morpheus-fold") if threaded else None
        self._current: Future[None] | None = None

    def do(self, task: Callable[..., None], *arguments: Any) -> None:
        """Hand over a task; raises what the one before it raised."""
        if self._thread is None:
            task(*arguments)
        else:
            self.wait()
            self._current = self._thread.submit(task, *arguments)

    def wait(self) -> None:
        """Wait until all tasks are done, and raise what the last one raised."""
        if self._current is not None:
            self._current.result()

    def close(self) -> None:
        """Wait until all tasks have ended."""
        if self._thread is not None:
            self._thread.shutdown()
