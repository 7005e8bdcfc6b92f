"""From the path of a trained model to the adapter for it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from morpheus_core import checks
from morpheus_core.adapters.keras import keras_model
from morpheus_core.adapters.kinds import what_it_is
from morpheus_core.adapters.onnx import onnx_model
from morpheus_core.adapters.pytorch import EXPORT_SUFFIX, SCRIPT_SUFFIXES, torch_model
from morpheus_core.adapters.sklearn import sklearn_model
from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.pipeline.models import Model
from morpheus_core.storage import pickles

ADAPTERS: dict[str, Callable[..., Model]] = {
    ".onnx": onnx_model,
    ".keras": keras_model,
    **dict.fromkeys((EXPORT_SUFFIX, *SCRIPT_SUFFIXES), torch_model),
}
PICKLES = (".pkl", ".dill", ".joblib")


def load_model(
    path: str | os.PathLike[str], *, trust_pickle: bool = False, **options: Any
) -> Model | str:
    """Wrap the model in a file, by its suffix.

    Parameters
    ----------
    path : path or str
        ``.onnx``; ``.pt2``, ``.pt``, ``.pth`` or ``.ts`` of PyTorch; ``.keras``; or a pickle,
        ``.pkl``, ``.dill`` or ``.joblib``, of an estimator of scikit-learn or of any callable for
        `predict`. Or ``"package.module:factory"``, which is returned as it is, since `predict`
        takes that.
    trust_pickle : bool, default False
        Load pickles, which run whatever code they hold.
    **options
        For `onnx_model`, `torch_model`, `keras_model` or `sklearn_model`. A callable takes none.

    Returns
    -------
    callable or str
        A model for `predict`.

    Raises
    ------
    InputError
        If the suffix says nothing, the file is not there, a pickle is not trusted or cannot be
        loaded or holds no model, or an option is wrong.
    MissingPackageError
        If the framework of the model is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix in ADAPTERS:
        return wrapped(ADAPTERS[suffix], path, options)
    if suffix in PICKLES:
        return from_pickle(checks.existing_file("path", path, PICKLES), trust_pickle, options)
    if isinstance(path, str) and path.count(":") == 1:
        refuse_options(options, path)
        return path
    known = ", ".join([*ADAPTERS, *PICKLES])
    raise InputError(
        f"a model must be a file with one of the suffixes {known}, a model package, which predict "
        f'takes as it is, or "package.module:factory", got {str(path)!r}{what_it_is(Path(path))}'
    )


def from_pickle(path: Path, trusted: bool, options: dict[str, Any]) -> Model:
    """Load a callable, or wrap an estimator."""
    if not trusted:
        raise InputError(
            f"{path} is a pickle, which runs whatever code it holds when it is loaded; pass "
            f"trust_pickle=True of load_model if you know who wrote it"
        )
    model: Model = unpickled(path)
    if hasattr(model, "predict_proba"):
        return wrapped(sklearn_model, model, options)
    if not callable(model):
        raise InputError(
            f"{path} must hold an estimator with predict_proba or a callable, got "
            f"{type(model).__qualname__}"
        )
    refuse_options(options, path)
    return model


def unpickled(path: Path) -> Any:
    """Load a pickle."""
    is_joblib = path.suffix.lower() == ".joblib"
    if is_joblib:
        require_package("joblib", "sklearn", "a .joblib file")
    try:
        if is_joblib:
            import joblib

            return joblib.load(path)
        return pickles.load(path.read_bytes())
    except Exception as error:  # there is no end to what a damaged pickle may raise
        raise InputError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error


def wrapped(adapter: Callable[..., Model], model: Any, options: dict[str, Any]) -> Model:
    """Call the function that makes an adapter with options that it may not know."""
    known = list(inspect.signature(adapter).parameters)[1:]
    for name in options:
        checks.one_of(f"an option of {adapter.__name__}", name, known)
    return adapter(model, **options)


def refuse_options(options: dict[str, Any], path: object) -> None:
    """Raise if options are given to a model that is used as it is."""
    if options:
        raise InputError(f"{path} is used as it is and takes no {', '.join(options)}")
