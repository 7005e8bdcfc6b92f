"""Whether a package gives on this machine the answer that it was packed with."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError, ModelError
from morpheus_core.packages.package import MOST_OF_TEST, Files, PackagedModel
from morpheus_core.packages.schema import ANSWER_TOLERANCE
from morpheus_core.pipeline.models import as_float, to_numpy


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far the answer of this machine is from the stored one.

    Attributes
    ----------
    windows : int
        That were scored.
    difference : float
        The largest of all scores.
    tolerance : float
        The most that the package allows.
    """

    windows: int
    difference: float
    tolerance: float


def check_package(package: PackagedModel) -> Outcome:
    """Score the test windows of a package, and compare with the stored answer.

    Parameters
    ----------
    package : PackagedModel
        As `load_package` returns it.

    Returns
    -------
    Outcome
        How far the answer is from the stored one.

    Raises
    ------
    InputError
        If the package has no test, or its file cannot be read.
    ModelError
        If the answer differs by more than the package allows, or the network fails.
    """
    test = package.card.test
    if test is None:
        raise InputError(f"the package {package.name} has no test: it lacks the table [test]")
    windows, expected = read_test(package, test.file)
    answer = as_float(to_numpy(package([window.copy() for window in windows])))
    if answer.shape != expected.shape:
        raise ModelError(
            f"the package {package.name} must answer its test with {expected.shape}, got "
            f"{answer.shape}"
        )
    if not np.array_equal(np.isnan(answer), np.isnan(expected)):
        raise ModelError(f"the package {package.name} has NaN elsewhere than in its stored answer")
    apart = np.abs(answer - expected)
    difference = float(apart[np.isfinite(apart)].max(initial=0))
    tolerance = test.tolerance or ANSWER_TOLERANCE
    if difference > tolerance:
        raise ModelError(
            f"the package {package.name} must answer its test within {tolerance:g} of the stored "
            f"scores, got a difference of {difference:.3g}"
        )
    return Outcome(len(expected), difference, tolerance)


def read_test(package: PackagedModel, name: str) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Return the windows of each image, (batch, height, width, bands), and the answer."""
    content = BytesIO(Files(package.path).read(name, MOST_OF_TEST))
    try:
        refuse_large(content)
        with np.load(content) as arrays:
            count = len(arrays.files) - 1
            return [arrays[f"windows_{k}"] for k in range(count)], arrays["answer"]
    except Exception as error:  # of many types
        raise InputError(
            f"{name} must hold windows_0, windows_1, ... and answer, as numpy.savez writes them: "
            f"{error}"
        ) from error


def refuse_large(content: BytesIO) -> None:
    """Raise if the arrays of an archive would take more memory than a test may."""
    with ZipFile(content) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    content.seek(0)
    if size > MOST_OF_TEST:
        raise ValueError(f"arrays must have at most {MOST_OF_TEST} bytes, got {size}")


def packed_test(windows: list[NDArray[Any]], answer: NDArray[Any]) -> bytes:
    """Return the file that :func:`read_test` reads."""
    content = BytesIO()
    arrays: dict[str, Any] = {f"windows_{k}": array for k, array in enumerate(windows)}
    np.savez_compressed(content, answer=answer, **arrays)
    return content.getvalue()
