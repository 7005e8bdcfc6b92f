"""One progress bar, over windows or rows; the only module that imports tqdm."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int, done: int, shown: bool, unit: str = "windows"
) -> Iterator[Callable[[int], object]]:
    """Show a bar for `total` windows, or another unit, of which `done` are finished already.

    Call what is yielded with the number just finished.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a notebook that has only text: text is fine
        from tqdm.auto import tqdm

    bar = tqdm(
        total=total,
        initial=done,
        unit=f" {unit}",
        disable=not shown,
        leave=None,  # what is shown below another bar is gone at its end
        # Each update is a line of its own in a log.
        mininterval=0.1 if sys.stderr.isatty() else 1.0,
    )
    with bar:
        yield bar.update


def both(first: Callable[[int], object], second: Callable[[int], object]) -> Callable[[int], None]:
    """Return a function that tells two others how many were just finished."""

    def tell(count: int) -> None:
        first(count)
        second(count)

    return tell
