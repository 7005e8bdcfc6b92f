"""Results as users give them: the outputs or the products of a run, on disk or in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.results.finished import FinishedRun, Output, Outputs, outputs_in
from morpheus_core.results.outputs import Results
from morpheus_core.results.product_runs import ProductRun
from morpheus_core.results.products import PRODUCTS_NAME
from morpheus_core.results.stored_images import ending_of, header_beside, rows_of

#: An `out_dir`, or all or a part of what `predict` returns.
GivenResults = str | os.PathLike[str] | Results | Sequence[fits.HDUList] | Sequence[NDArray[Any]]


def open_run(directory: Path, scattered: bool = False) -> FinishedRun | ProductRun:
    """Open the outputs of a finished run, or its products.

    Raises
    ------
    InputError
        If there are none.
    """
    path = outputs_in(directory)[0]
    if path.name == f"{PRODUCTS_NAME}{ending_of(path)}":
        return ProductRun(path, scattered)
    return FinishedRun(directory, scattered)


def open_outputs(results: GivenResults, scattered: bool = False) -> Outputs:
    """Return the outputs of a run that are on disk, or in the hands of the user.

    Parameters
    ----------
    results : path, or what `predict` returns
        An `out_dir`, a list of HDULists or of arrays with n at the end, or both lists as a tuple.
    scattered : bool
        Whether rows will be read that are far apart.

    Raises
    ------
    InputError
        If they are not the outputs of one finished run.
    """
    if isinstance(results, (str, os.PathLike)):
        return open_run(checks.path("results", results), scattered)
    arrays, headers = arrays_of(results)
    whole = len(arrays) == len(headers) > 1
    if not whole or not all(map(is_sliced, arrays)):
        raise InputError(
            "results must be the out_dir of a run, or what predict returns: a list of HDULists or "
            f"of arrays, n at the end, or both lists, got {type(results).__name__}"
        )
    return Outputs(
        [
            Output(f"results[{k}]", tuple(array.shape), header, rows_of(array))
            for k, (array, header) in enumerate(zip(arrays, headers, strict=True))
        ]
    )


def arrays_of(results: Any) -> tuple[list[Any], list[fits.Header]]:
    """Return the arrays of what `predict` returns, and their headers."""
    hduls, arrays = [], results if is_list(results) else []
    if len(arrays) == 2 and all(map(is_list, arrays)):
        hduls, arrays = results
    elif all(map(is_output, arrays)):
        hduls, arrays = arrays, [pixels_of(image_in(hdul)) for hdul in arrays]
    headers = [image_in(hdul).header for hdul in hduls if is_output(hdul)]
    return list(arrays), headers or [header_beside(array) for array in arrays]


def is_list(value: object) -> bool:
    """Say whether a value is a list of outputs, and not an open file."""
    return isinstance(value, (list, tuple)) and not isinstance(value, fits.HDUList)


def is_output(value: object) -> bool:
    """Say whether a value is an open file that is not empty."""
    return isinstance(value, fits.HDUList) and len(value) > 0


def is_sliced(value: object) -> bool:
    """Say whether a value gives rows: an array of numpy or Zarr, or the section of an HDU."""
    return all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))


def image_in(hdul: fits.HDUList) -> Any:
    """Return the HDU of an output that has the pixels, which are never in a primary in tiles."""
    return next((hdu for hdu in hdul if hdu.shape), hdul[0])


def pixels_of(hdu: Any) -> Any:
    """Return what gives the rows of an HDU; tiles are unpacked where they are wanted."""
    return hdu.section if isinstance(hdu, fits.CompImageHDU) else hdu.data
