"""How kernels become machine code; the only module that imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import event

from morpheus_core.progress import say

Function = TypeVar("Function", bound=Callable[..., object])


def compile_kernel(function: Function) -> Function:
    """Compile without the GIL, and keep the machine code on disk where a place for it exists.

    It is compiled anew when its own file changes, not when a function of another file does that
    it calls: who changes one of those touches the files of its callers.
    """
    try:
        compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package nor a user cache folder can be written
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Function, compiled)


def inline_kernel(function: Function) -> Function:
    """Let kernels have a function's loops in them: a call with three arrays takes 35 ns."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy", inline="always")(function)
    return cast(Function, compiled)


class Compilations(event.Listener):
    """Tells, once, that kernels are compiled: the machine code was not found on disk."""

    def __init__(self) -> None:
        self._is_told = False

    def on_start(self, event: Any) -> None:
        """Tell of the first kernel; functions of others are not ours to speak of."""
        function = event.data["dispatcher"].py_func
        if not self._is_told and function.__module__.startswith(__package__):
            self._is_told = True
            say("compiling inner loops, once per installation")

    def on_end(self, event: Any) -> None:
        """Let the bar speak."""


event.register("numba:compile", Compilations())  # type: ignore[no-untyped-call]
