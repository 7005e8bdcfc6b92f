"""Sinks: what kind of files outputs become.

A run always fills plain FITS files, in which any row has its place whoever computes it, and when.
For other sinks they are made of these when all rows are there, checked against the sums of what
was computed, and given their names; the plain ones are removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from astropy.io import fits

from morpheus_core import checks
from morpheus_core.errors import OutputError
from morpheus_core.extras import require_package
from morpheus_core.results.outputs import (
    Product,
    Results,
    give_name,
    open_results,
    output_path,
    part_path,
    publish,
    remove_replaced,
)
from morpheus_core.results.stored_images import PLAIN, STORE, TILES, arrays_in
from morpheus_core.results.tile_files import make_tile_file
from morpheus_core.results.verification import Difference, differences, unit_differences
from morpheus_core.results.zarr_stores import make_store

logger = logging.getLogger("morpheus_core")

#: Names of sinks, for users.
SinkName = Literal["fits", "fits.fz", "zarr"]


@dataclass(frozen=True, slots=True)
class Sink:
    """A kind of files that outputs become.

    Attributes
    ----------
    ending : str
        What their names end in.
    make : callable or None
        Makes one, given a plain file and its own path; None where the plain one is what is wanted.
    check : callable
        Yields in what a file that was just made reads back otherwise than it was written.
    open : callable
        Opens those of some products in a folder, as :func:`morpheus_core.predict` returns them.
    package : str or None
        An optional package that it needs, which has the name of its extra.
    """

    ending: str
    make: Callable[[Path, Path], None] | None
    check: Callable[[Path], Iterable[Difference]]
    open: Callable[[Sequence[Product], Path], Results]
    package: str | None = None


def open_tile_files(products: Sequence[Product], directory: Path) -> Results:
    """Open tile-compressed files; their images are unpacked where they are sliced."""
    with ExitStack() as opened:
        paths = final_paths(products, directory, "fits.fz")
        hduls = [opened.enter_context(fits.open(path, memmap=False)) for path in paths]
        sections: list[Any] = [hdu.section for hdul in hduls for hdu in hdul if hdu.shape]
        opened.pop_all()
    return hduls, sections


def open_stores(products: Sequence[Product], directory: Path) -> Results:
    """Open stores of Zarr, which hold no HDUs."""
    paths = final_paths(products, directory, "zarr")
    return [], [array for path in paths for array in arrays_in(path)]


SINKS: dict[SinkName, Sink] = {
    "fits": Sink(PLAIN, None, unit_differences, open_results),
    # Pixels are compared with their sums when they are packed, so that no tile need be unpacked.
    "fits.fz": Sink(TILES, make_tile_file, unit_differences, open_tile_files),
    "zarr": Sink(STORE, make_store, differences, open_stores, "zarr"),
}


def checked_sink(value: object) -> SinkName:
    """Return the name of a sink that can be used here.

    Raises
    ------
    InputError
        If there is none of this name.
    MissingPackageError
        If what it needs is not installed.
    """
    name = checks.one_of("sink", value, tuple(SINKS))
    package = SINKS[name].package
    if package is not None:
        require_package(package, package, f'sink="{name}"')
    return name


def final_paths(products: Sequence[Product], directory: Path, sink: SinkName) -> list[Path]:
    """Return where outputs are when they are complete."""
    plain = dict.fromkeys(output_path(product, directory) for product in products)
    return [path.with_suffix(SINKS[sink].ending) for path in plain]


def growing(path: Path) -> Path:
    """Return where a file grows that is at a path when it is complete."""
    return path.with_name(f"{path.name}.part")


def publish_as(
    sink: SinkName, products: Sequence[Product], directory: Path, overwrite: bool
) -> None:
    """Make complete plain files what is wanted of them, and give that its names.

    May be called again if it was interrupted: a plain file is removed when the other one is
    complete, and not before.

    Raises
    ------
    OutputError
        If a file cannot be written, reads back otherwise than was computed, or cannot get its name.
        What is complete is kept.
    """
    make = SINKS[sink].make
    if make is None:
        publish(products, directory, overwrite)
        return
    paths = final_paths(products, directory, sink)
    plain = list(dict.fromkeys(part_path(product, directory) for product in products))
    for source, path in zip(plain, paths, strict=True):
        if source.exists():
            logger.info("%s becomes %s", source, path)
            make(source, growing(path))
            refuse_differences(SINKS[sink].check(growing(path)))
    for source, path in reversed(list(zip(plain, paths, strict=True))):
        source.unlink(missing_ok=True)
        if growing(path).exists():
            give_name(growing(path), path, overwrite)
        remove_replaced(path)


def refuse_differences(found: Iterable[Difference]) -> None:
    """Raise if a file that was just written reads back otherwise."""
    for difference in found:
        raise OutputError(
            f"what is read back is not what was written: {difference}; the rows are whole: pass "
            f"resume=True to write the outputs again"
        )
