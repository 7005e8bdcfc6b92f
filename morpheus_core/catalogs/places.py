"""Where a table is written, and where the rows are kept that are finished before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morpheus_core import checks
from morpheus_core.catalogs.answers import RowPredictor
from morpheus_core.catalogs.sources import Sources, exists
from morpheus_core.catalogs.statuses import texts_of
from morpheus_core.catalogs.tables import refuse_unwritable, result_table
from morpheus_core.errors import InputError
from morpheus_core.images.image import Image
from morpheus_core.results.outputs import refuse_to_replace

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True, slots=True)
class Places:
    """Where a table is written, and where finished rows are kept."""

    out: Path | None
    directory: Path | None
    overwrite: bool

    def check(
        self, table: Table, predictor: RowPredictor, inputs: Callable[[], Iterable[Path]]
    ) -> None:
        """Raise if the table cannot be written."""
        if self.out is None:
            return
        if not self.out.parent.is_dir():
            raise InputError(f"out must be in a folder that exists, got {self.out}")
        if exists(self.out):
            refuse_to_replace([self.out], list(filter(exists, inputs())), self.overwrite)
        rows = table[:1]
        values = predictor.empty(len(rows))
        for of_rows in values.values():
            of_rows[:] = np.nan
        blank = predictor.finished(values)
        first = result_table(rows, predictor.names, blank, texts_of(np.zeros(len(rows), np.uint8)))
        refuse_unwritable(table, first, self.out)


def input_paths(catalog: Any, sources: Sources, images: Sequence[Image]) -> list[Path]:
    """Return all files that are read."""
    named = isinstance(catalog, (str, os.PathLike))
    paths = [checks.path("catalog", catalog)] if named else []
    paths += [image.path for image in images if image.path is not None]
    return paths + list({path for paths_of_set in sources.paths for path in paths_of_set})


def places_of(out: Any, work_dir: Any, overwrite: Any) -> Places:
    """Return the places that users have asked for."""
    path = None if out is None else checks.path("out", out)
    if work_dir is not None:
        directory: Path | None = checks.path("work_dir", work_dir)
    else:
        directory = None if path is None else path.with_name(f"{path.name}.morpheus")
    if path is not None and path == directory:
        raise InputError(f"work_dir must be another place than out, got {path} for both")
    return Places(path, directory, checks.flag("overwrite", overwrite))
