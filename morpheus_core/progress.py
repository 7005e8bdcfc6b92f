"""One progress bar, over windows; the only module that imports tqdm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(windows: int, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar for `windows` windows; call what is yielded with the number just finished."""
    from tqdm.auto import tqdm

    with tqdm(total=windows, unit="window", unit_scale=True, disable=not shown) as bar:
        yield bar.update
