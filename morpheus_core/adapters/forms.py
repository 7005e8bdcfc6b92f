"""Networks as they are passed to `predict`, in adapters with their defaults."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from morpheus_core.adapters.base import Adapter
from morpheus_core.adapters.files import load_model
from morpheus_core.adapters.keras import keras_model
from morpheus_core.adapters.pytorch import torch_model
from morpheus_core.adapters.sklearn import PixelClassifier, sklearn_model
from morpheus_core.errors import InputError
from morpheus_core.pipeline.models import Model

logger = logging.getLogger("morpheus_core")

#: Classes of networks, by the module and the name of a base, and the adapters for them.
FORMS: dict[tuple[str, str], Callable[[Any], Model]] = {
    ("torch.nn.modules.module", "Module"): torch_model,
    ("torch.export.exported_program", "ExportedProgram"): torch_model,
    ("keras.src.models.model", "Model"): keras_model,
}
#: What holds a network, but needs a function of the user's.
SESSIONS = {"InferenceSession": "its path", "Booster": "its wrapper for scikit-learn"}


def as_model(model: Any) -> Any:
    """Return a model for `predict`: a callable as it is, a network in its adapter.

    Raises
    ------
    InputError
        If it is a network that no adapter takes as it is.
    MissingPackageError
        If its framework is not installed.
    """
    adapted = in_adapter(model)
    if adapted is not model:
        logger.info("the model is run as %r", adapted)
    return adapted


def in_adapter(model: Any) -> Any:
    """Return a network in its adapter, and anything else as it is."""
    if isinstance(model, (str, os.PathLike)):
        return model if is_factory(model) else load_model(model)
    if isinstance(model, (Adapter, PixelClassifier)):
        return model
    for base in type(model).__mro__:
        adapter = FORMS.get((base.__module__, base.__qualname__))
        if adapter is not None:
            return adapter(model)
    if callable(model):
        return model
    if hasattr(model, "predict_proba") and not isinstance(model, type):
        return sklearn_model(model)
    kind = type(model).__name__
    if kind in SESSIONS:
        raise InputError(f"model must be callable, got {kind}: pass {SESSIONS[kind]} instead")
    return model


def is_factory(model: str | os.PathLike[str]) -> bool:
    """Say whether text is the name of what makes a model, or nothing known at all."""
    return isinstance(model, str) and ":" in model and not Path(model).exists()
