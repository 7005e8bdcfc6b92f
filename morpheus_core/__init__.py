"""Run a trained model over astronomical images too large for it."""

from morpheus_core import adapters, columns, packages, preparing, update_maps
from morpheus_core.catalogs.prediction import predict_catalog
from morpheus_core.errors import (
    InputError,
    MissingPackageError,
    ModelError,
    MorpheusError,
    MorpheusWarning,
    OutputError,
    WorkerError,
)
from morpheus_core.evaluation.evaluate import evaluate
from morpheus_core.evaluation.reports import Evaluation, PixelEvaluation
from morpheus_core.exposures.class_tables import read_priors, read_thresholds
from morpheus_core.exposures.mapping import map_exposures
from morpheus_core.job_arrays import run_strip, stitch
from morpheus_core.morpheus_core import AGGREGATION_METHODS, predict
from morpheus_core.pictures.quicklook import quicklook
from morpheus_core.planning.forecast import Forecast, plan
from morpheus_core.results.candidate_files import export_candidates
from morpheus_core.results.candidates import find_candidates
from morpheus_core.results.exports import export_masks, export_planes
from morpheus_core.results.segments import export_segments, merge_candidates
from morpheus_core.results.verification import Difference, verify
from morpheus_core.sky.region_masks import region_mask
from morpheus_core.version import __version__

__all__ = [
    "AGGREGATION_METHODS",
    "Difference",
    "Evaluation",
    "Forecast",
    "InputError",
    "MissingPackageError",
    "ModelError",
    "MorpheusError",
    "MorpheusWarning",
    "OutputError",
    "PixelEvaluation",
    "WorkerError",
    "__version__",
    "adapters",
    "columns",
    "evaluate",
    "export_candidates",
    "export_masks",
    "export_planes",
    "export_segments",
    "find_candidates",
    "map_exposures",
    "merge_candidates",
    "packages",
    "plan",
    "predict",
    "predict_catalog",
    "preparing",
    "quicklook",
    "read_priors",
    "read_thresholds",
    "region_mask",
    "run_strip",
    "stitch",
    "update_maps",
    "verify",
]
