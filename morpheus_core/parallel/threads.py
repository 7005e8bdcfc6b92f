"""How many threads the libraries of this process compute with while it runs a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from morpheus_core.parallel.devices import thread_limits

#: Read anew by numba whenever it compiles, which fails if it has started another number.
ONLY_BEFORE_IMPORT = "NUMBA_NUM_THREADS"


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Let libraries have as many threads as a worker with that limit; None changes nothing.

    What is loaded meanwhile reads the environment; PyTorch, and by threadpoolctl libraries of
    linear algebra and OpenMP, are told if they have been loaded. An ONNX Runtime session that is
    open already keeps its own number.
    """
    if threads is None:
        yield
        return
    limits = thread_limits(1, threads)
    del limits[ONLY_BEFORE_IMPORT]
    with ExitStack() as stack:
        stack.callback(restore, {name: os.environ.get(name) for name in limits})
        os.environ.update(limits)
        if find_spec("threadpoolctl") is not None:
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(threads))
        torch = sys.modules.get("torch")
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield


def restore(variables: Mapping[str, str | None]) -> None:
    """Give variables of the environment the values that they had."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
