"""What a run on disk is, as data that can be stored, compared and handed to other processes."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from morpheus_core.aggregators import AGGREGATION_METHODS
from morpheus_core.inputs import Image
from morpheus_core.pipeline import Job
from morpheus_core.version import __version__
from morpheus_core.windows import Strip, WindowGrid


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: what decides its numbers, and how it is cut into strips.

    Attributes
    ----------
    run : str
        A name that no other run has.
    version : str
        Of this package.
    parameters : dict
        Arguments of :func:`morpheus_core.predict`, as JSON values.
    inputs : list of dict
        What identifies each input image.
    strips : list of Strip
        Window rows of each strip.
    factory : str or None
        The name of what makes the model, where that was given for a model.
    """

    run: str
    version: str
    parameters: dict[str, Any]
    inputs: list[dict[str, Any]]
    strips: list[Strip]
    factory: str | None

    @classmethod
    def make(
        cls, job: Job, images: Sequence[Image], strips: list[Strip], factory: str | None
    ) -> Self:
        """Describe a new run."""
        inputs = [image.identity() for image in images]
        return cls(uuid.uuid4().hex, __version__, parameters_of(job), inputs, strips, factory)

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "strips": [Strip(*strip) for strip in fields["strips"]]})

    def job(self, update_map: NDArray[np.float64]) -> Job:
        """Return the job; its update map is stored apart, only its digest is in the plan."""
        parameters = self.parameters
        grid = WindowGrid(
            tuple(parameters["image_shape"]),
            tuple(parameters["window_shape"]),
            tuple(parameters["stride"]),
            parameters["edges"],
            parameters["padding"],
            Fraction(parameters["dilation"]),
        )
        return Job(
            grid,
            parameters["n_classes"],
            parameters["batch_size"],
            update_map,
            tuple(AGGREGATION_METHODS(method) for method in parameters["aggregate_method"]),
            parameters["nan_policy"],
            float(parameters["fill_value"]),
        )

    def difference(self, asked: Plan) -> str | None:
        """Name the first thing that decides the numbers and that another plan has otherwise."""
        if self.version != asked.version:
            return f"it was begun by version {self.version}, this is {asked.version}"
        if self.factory != asked.factory:
            return f"model was {self.factory or 'an object'}, is {asked.factory or 'an object'}"
        for name, stored in self.parameters.items():
            if stored != asked.parameters[name]:
                return f"{name} was {stored}, is {asked.parameters[name]}"
        if len(self.inputs) != len(asked.inputs):
            return f"it has {len(self.inputs)} inputs, not {len(asked.inputs)}"
        for index, (stored, given) in enumerate(zip(self.inputs, asked.inputs, strict=True)):
            if stored != given:
                return f"model_inputs[{index}] {changed_input(stored, given)}"
        return None


def changed_input(stored: dict[str, Any], given: dict[str, Any]) -> str:
    """Say in what way an input is another one."""
    if stored.get("path") != given.get("path"):
        return f"was {stored.get('path', 'an array')}, is {given.get('path', 'an array')}"
    if "path" in stored:
        return f"is {stored['path']}, which was written to after the run had begun"
    return "has other pixels"


def parameters_of(job: Job) -> dict[str, Any]:
    """Return everything that decides the numbers as JSON values, under the users' names."""
    grid = job.grid
    return {
        "image_shape": list(grid.image_shape),
        "window_shape": list(grid.window_shape),
        "stride": list(grid.stride),
        "edges": grid.edges,
        "padding": grid.padding,
        "dilation": str(grid.dilation),
        "n_classes": job.n_classes,
        "batch_size": job.batch_size,
        "update_map": hashlib.sha256(job.update_map.tobytes()).hexdigest(),
        "aggregate_method": [str(method) for method in job.methods],
        "nan_policy": job.nan_policy,
        # NaN is not JSON, and not equal to itself.
        "fill_value": "nan" if math.isnan(job.fill_value) else repr(job.fill_value),
    }
