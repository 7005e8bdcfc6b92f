"""One progress bar, over windows or rows, and what a run does before it moves.

This is the only module that imports tqdm.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: Told what a run is doing: bars that are shown, and the log of a worker.
LISTENERS: list[Callable[[str], object]] = []


def say(step: str) -> None:
    """Tell who shows it what is being done that may take its time; from any thread."""
    for listener in LISTENERS[-1:]:  # of bars below each other the one that stands still
        listener(step)


@contextmanager
def told(listener: Callable[[str], object]) -> Iterator[None]:
    """Let a function hear what is being done."""
    LISTENERS.append(listener)
    try:
        yield
    finally:
        LISTENERS.remove(listener)


def write_line(text: str) -> None:
    """Print a line above the bars that are shown, at once: a file may take hours."""
    from tqdm.auto import tqdm

    tqdm.write(text)
    sys.stdout.flush()


class Bar:
    """Shows steps until something is finished, and then how much.

    Parameters
    ----------
    shown : tqdm
        The bar.
    """

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._has_step = False

    def __call__(self, count: int) -> None:
        """Show that so many more are finished."""
        if self._has_step and count:
            self._has_step = False
            self._shown.set_description_str("", refresh=False)
        self._shown.update(count)

    def show(self, step: str) -> None:
        """Show what is being done."""
        self._has_step = True
        self._shown.set_description_str(step)


@contextmanager
def progress_bar(
    total: int, done: int, shown: bool, unit: str = "windows"
) -> Iterator[Callable[[int], None]]:
    """Show a bar for `total` windows, or another unit, of which `done` are finished already.

    Call what is yielded with the number just finished.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a notebook that has only text: text is fine
        from tqdm.auto import tqdm

    shown_bar = tqdm(
        total=total,
        initial=done,
        unit=f" {unit}",
        disable=not shown,
        leave=None,  # what is shown below another bar is gone at its end
        # Each update is a line of its own in a log, where one in half a minute is enough.
        mininterval=0.1 if sys.stderr.isatty() else 30.0,
    )
    bar = Bar(shown_bar)
    with shown_bar, told(bar.show):
        yield bar


def both(first: Callable[[int], object], second: Callable[[int], object]) -> Callable[[int], None]:
    """Return a function that tells two others how many were just finished."""

    def tell(count: int) -> None:
        first(count)
        second(count)

    return tell
