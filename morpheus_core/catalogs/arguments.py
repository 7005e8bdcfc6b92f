"""What arguments of `predict_catalog` mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from morpheus_core import checks
from morpheus_core.catalogs.answers import HALF, RowPredictor, column_names
from morpheus_core.catalogs.batches import Cut
from morpheus_core.catalogs.positions import Positions
from morpheus_core.catalogs.windows import CATALOG_EDGES
from morpheus_core.columns.derived import Derived, derived_columns
from morpheus_core.errors import InputError
from morpheus_core.pipeline.models import FactoryModel, Model
from morpheus_core.windows.grid import PADDINGS

if TYPE_CHECKING:
    from astropy.table import Table

#: Types of results.
CATALOG_DTYPES = (*checks.OUTPUT_DTYPES, HALF)


def make_predictor(
    model: Model | str,
    n_classes: Any,
    window_shape: Any,
    aperture: Any,
    columns: Any,
    class_names: Any,
    output_dtype: Any,
) -> RowPredictor:
    """Check what decides the answers."""
    checks.model(model)
    window_shape = checks.positive_pair("window_shape", window_shape)
    count = checks.whole_number("n_classes", n_classes)
    names = column_names(count, checks.class_names(class_names, count))
    wanted = derived_columns(columns, names)
    return RowPredictor(
        FactoryModel(model) if isinstance(model, str) else model,
        names,
        wanted,
        window_shape,
        None if aperture is None else checked_aperture(aperture, window_shape),
        checked_dtype(output_dtype, wanted),
    )


def checked_dtype(output_dtype: Any, columns: Sequence[Derived]) -> str:
    """Return the type of results, which may be of half precision where there is a vector."""
    name = checks.output_dtype(output_dtype, CATALOG_DTYPES)
    if name == HALF and not any(column.is_vector for column in columns):
        raise InputError(
            'output_dtype="float16" is for a vector of scores, got columns without one; add '
            '"vector" to columns, or leave it out'
        )
    return name


def checked_aperture(aperture: Any, window_shape: tuple[int, int]) -> float:
    """Return a radius in pixels that lies within windows, wherever in its pixel a position is."""
    radius = checks.positive_number("aperture", aperture)
    if 2 * radius >= min(window_shape):
        raise InputError(
            f"aperture must be less than half of window_shape, {window_shape}, got {aperture!r}"
        )
    return radius


def make_cut(
    positions: Positions, window_shape: tuple[int, int], batch_size: Any, edges: Any, padding: Any
) -> Cut:
    """Check what decides the windows."""
    edges = checks.one_of("edges", edges, CATALOG_EDGES)
    if padding is not None and edges != "pad":
        raise InputError(f'padding needs edges="pad", got padding={padding!r} and {edges=!s}')
    return Cut(
        positions.on_sky,
        window_shape,
        1 if batch_size == "auto" else checks.whole_number("batch_size", batch_size),
        edges,
        checks.one_of("padding", padding or "constant", PADDINGS) if edges == "pad" else None,
        in_middle=positions.in_middle,
    )


def kept(table: Table, keep: Any) -> Table:
    """Return the columns of the catalogue that the result has."""
    if keep is None:
        return table
    names = list(keep) if isinstance(keep, (list, tuple)) else []
    known = [name for name in table.colnames if name in names]
    if not names or len(known) < len(names):  # unknown ones, or one twice
        raise InputError(
            f"keep must be a list of columns of the catalogue, {', '.join(table.colnames)}, got "
            f"{keep!r}"
        )
    return table[names]
