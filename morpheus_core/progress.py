"""One progress bar, over windows; the only module that imports tqdm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(windows: int, done: int, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar for `windows` windows, of which some are done before.

    Call what is yielded with the number just finished.
    """
    from tqdm.auto import tqdm

    with tqdm(
        total=windows, initial=done, unit="window", unit_scale=True, disable=not shown
    ) as bar:
        yield bar.update
