"""How kernels become machine code; the only module that imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

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
