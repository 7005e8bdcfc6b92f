"""Run a trained model over astronomical images too large for it."""

from morpheus_core.errors import (
    InputError,
    ModelError,
    MorpheusError,
    MorpheusWarning,
    OutputError,
    WorkerError,
)
from morpheus_core.morpheus_core import AGGREGATION_METHODS, predict

__all__ = [
    "AGGREGATION_METHODS",
    "InputError",
    "ModelError",
    "MorpheusError",
    "MorpheusWarning",
    "OutputError",
    "WorkerError",
    "predict",
]

__version__ = "1.0.0"
