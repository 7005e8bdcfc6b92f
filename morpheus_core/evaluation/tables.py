"""How tables of metrics are printed, and what is written of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.table import Table

#: Of real numbers: as many digits as the counts of some thousand pixels support.
PRINTED = ".4g"
#: Of sums of weights, which may be large.
SUMS = ".10g"


def with_formats(table: Table, metrics: str = PRINTED) -> Table:
    """Let a table print its real numbers shortly; its values stay as they are."""
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = SUMS if column.name == "pixels" else metrics
    return table


def without_formats(table: Table) -> Table:
    """Return a copy of which text formats store all digits."""
    bare = table.copy()
    for column in bare.itercols():
        column.info.format = None
    return bare
