"""What a run on disk is, as data that can be stored, compared and handed to other processes."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from morpheus_core.images.stack import ImageStack, as_given
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.job import Job
from morpheus_core.results.sinks import SinkName
from morpheus_core.version import RUN_FORMAT, __version__
from morpheus_core.windows.grid import Strip, WindowGrid


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: what decides its numbers, and how it is cut into strips.

    Attributes
    ----------
    run : str
        A name that no other run has.
    version, format : str and int
        Of this package, and of what it keeps on disk.
    parameters : dict
        Arguments of :func:`morpheus_core.predict`, as JSON values.
    inputs : dict
        What identifies the images and their mask.
    strips : list of Strip
        Window rows of each strip.
    factory : str or None
        The name of what makes the model, where that was given for a model.
    apart : bool
        Whether strips keep their rows in files of their own until all are complete.
    sink : str
        What kind of files the outputs become.
    """

    run: str
    version: str
    format: int
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    strips: list[Strip]
    factory: str | None
    apart: bool
    sink: SinkName

    @classmethod
    def make(
        cls,
        job: Job,
        stack: ImageStack,
        strips: list[Strip],
        factory: str | None,
        apart: bool,
        sink: SinkName,
    ) -> Self:
        """Describe a new run."""
        run = uuid.uuid4().hex
        return cls(
            run,
            __version__,
            RUN_FORMAT,
            job.parameters(),
            stack.identity(),
            strips,
            factory,
            apart,
            sink,
        )

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
            parameters["output_dtype"],
            parameters["skip_blank"],
            self.inputs["mask"] is not None,
            tuple(parameters["class_names"]),
            parameters["on_nan"],
            parameters["threads"],
            parameters["memory_format"],
            None if parameters["products"] is None else tuple(parameters["products"]),
            parameters["product_dtype"],
            tuple((index, threshold) for index, threshold in parameters["thresholds"]),
        )

    def other_version(self) -> str | None:
        """Say which version has begun the run, if it is another than this one."""
        if self.version != __version__:
            return f"it was begun by version {self.version}, this is {__version__}"
        if self.format != RUN_FORMAT:
            return f"it was begun by another build of version {self.version}"
        return None

    def difference(self, asked: Plan) -> str | None:
        """Name the first thing that decides the numbers and that another plan has otherwise."""
        if (self.version, self.format) != (asked.version, asked.format):
            return self.other_version()
        if self.factory != asked.factory:
            return f"model was {self.factory or 'an object'}, is {asked.factory or 'an object'}"
        if self.sink != asked.sink:
            return f"sink was {self.sink}, is {asked.sink}"
        for name, stored in self.parameters.items():
            if stored != asked.parameters[name]:
                return f"{name} was {stored}, is {asked.parameters[name]}"
        images, asked_images = self.inputs["images"], asked.inputs["images"]
        if len(images) != len(asked_images):
            return f"it has {len(images)} inputs, not {len(asked_images)}"
        for index, (stored, given) in enumerate(zip(images, asked_images, strict=True)):
            if stored != given:
                return f"model_inputs[{index}] {changed_input(stored, given)}"
        if self.inputs["mask"] != asked.inputs["mask"]:
            return "its mask is another one"
        return None


def changed_input(stored: dict[str, Any], given: dict[str, Any]) -> str:
    """Say in what way an input is another one."""
    if as_given(stored) == as_given(given):
        return f"{prepared_as(stored)}, {prepared_as(given).replace('was', 'is', 1)}"
    if stored.get("path") != given.get("path"):
        return f"was {stored.get('path', 'an array')}, is {given.get('path', 'an array')}"
    if "path" not in stored:
        return "has other pixels"
    if (stored["hdu"], stored["bands"]) != (given["hdu"], given["bands"]):
        return f"was another image of {stored['path']}, or was read with other bands"
    return f"is {stored['path']}, which was written to after the run had begun"


def prepared_as(identity: dict[str, Any]) -> str:
    """Say how an input was prepared."""
    prepared = identity.get("prepared")
    if prepared is None:
        return "was not prepared"
    digest = prepared.get("state", prepared["sha256"])[:8]
    return f"was prepared by {prepared['step']} ({digest})"
