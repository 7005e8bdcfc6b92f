"""Networks of Keras 3, on any of its backends."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from morpheus_core import checks
from morpheus_core.adapters.activations import Activation, checked_activation
from morpheus_core.adapters.answers import Output, checked_output, chosen
from morpheus_core.adapters.base import Adapter, Network, Source
from morpheus_core.adapters.kinds import what_it_is
from morpheus_core.adapters.normalizers import Float32, Normalizer
from morpheus_core.adapters.preparation import Channels, make_preparation
from morpheus_core.adapters.signature import NetworkInput
from morpheus_core.errors import InputError, ModelError
from morpheus_core.extras import leave_no_traces, require_package
from morpheus_core.pipeline.descriptions import arrays_as_bytes, described


@dataclass(frozen=True, repr=False, eq=False)
class KerasSource(Source):
    """Where a network of Keras comes from.

    Attributes
    ----------
    model : Path or keras.Model
        A file, or a model in memory.
    custom_objects : mapping, optional
        From names in the file to the classes and functions that they stand for.
    output : str or int, optional
        Which of its outputs holds the scores.
    """

    model: Path | Any
    custom_objects: Mapping[str, Any] | None = field(default=None, repr=False)
    output: Output | None = None

    __repr__ = described

    def digested(self) -> Iterable[Path | bytes]:
        """Yield the file, or the weights of a model in memory."""
        if isinstance(self.model, Path):
            return [self.model]
        return arrays_as_bytes((str(k), one) for k, one in enumerate(self.model.get_weights()))

    def load(self) -> Network:
        """Load the model on the backend that KERAS_BACKEND names."""
        model = self._read(self.model) if isinstance(self.model, Path) else self.model
        inputs = getattr(model, "inputs", None)  # models that are plain Python have none

        def run(tensors: list[Float32]) -> Any:
            answer = model.predict_on_batch(tensors[0] if len(tensors) == 1 else tensors)
            return chosen(answer, self.output)

        if inputs is None:
            return Network(run)
        return Network.of_inputs(run, tuple(NetworkInput(x.name, tuple(x.shape)) for x in inputs))

    def _read(self, path: Path) -> Any:
        leave_no_traces()
        try:
            import keras
        except ImportError as error:
            raise ModelError(
                f"Keras cannot be imported: {error}; install one of its backends and name it in "
                f"the environment variable KERAS_BACKEND: torch, jax or tensorflow"
            ) from error
        try:
            return keras.saving.load_model(
                path, custom_objects=self.custom_objects, compile=False, safe_mode=True
            )
        except Exception as error:  # of many types, for a file of another kind
            raise ModelError(f"{path} cannot be loaded: {error}{what_it_is(path)}") from error


def keras_model(
    model: Any,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    channels: Channels = "last",
    stack_inputs: bool = True,
    fill_nan: float | Sequence[float] | Literal["median"] | None = None,
    normalize: Normalizer | None = None,
    activation: Activation | None = None,
    output: Output | None = None,
) -> Adapter:
    """Wrap a network of Keras 3 as a callable for `predict`.

    The backend is the one that Keras is set to in the environment variable ``KERAS_BACKEND``,
    which workers inherit. See :mod:`morpheus_core.adapters` for the order of the steps.

    Parameters
    ----------
    model : path or keras.Model
        A ``.keras`` file, or a model. A file is loaded in safe mode: layers that hold Python code
        (Lambda) are refused.
    custom_objects : mapping, optional
        From names in the file to your own classes and functions.
    channels : {"last", "first"}
        Whether the network takes and returns (batch, height, width, channels), as most do, or
        (batch, channels, height, width).
    stack_inputs : bool, default True
        Stack the bands of all images into one tensor. False gives the network one tensor per image.
    fill_nan : float, sequence of float or "median", optional
        What takes the place of NaN, in the units of the image: a number for all bands, one for
        each, or the median of the band in the window (0 where all is NaN).
    normalize : callable, optional
        `min_max`, `z_score`, `standardize`, or a function of yours from float32 (batch, height,
        width, bands) to the same shape.
    activation : {"softmax", "sigmoid"}, optional
        Makes probabilities of what the network returns, if its last layer does not.
    output : str or int, optional
        Which output holds the scores, by name or position, where there are several.

    Returns
    -------
    Adapter
        From a list of (batch, height, width, bands) arrays to float32 (batch, height, width,
        classes) or (batch, classes).

    Raises
    ------
    InputError
        If an argument is wrong, or the file is not there. What is wrong about the network itself is
        a `ModelError` at the first call.
    MissingPackageError
        If Keras is not installed.
    """
    require_package("keras", "keras", "keras_model")
    if isinstance(model, (str, os.PathLike)):
        model = checks.existing_file("model", model, (".keras",))
    elif not hasattr(model, "predict_on_batch"):
        raise InputError(
            f"model must be the path of a .keras file, or a keras.Model, got "
            f"{type(model).__qualname__}"
        )
    elif custom_objects is not None:
        raise InputError("custom_objects are for a file: save the model and pass its path")
    preparation = make_preparation(channels, stack_inputs, fill_nan, normalize)
    source = KerasSource(model, custom_objects, checked_output(output))
    return Adapter(source, preparation, checked_activation(activation))
