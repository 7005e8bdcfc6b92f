"""Networks in the ONNX format, run by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from morpheus_core import checks
from morpheus_core.adapters.activations import Activation, checked_activation
from morpheus_core.adapters.base import Adapter, Network
from morpheus_core.adapters.normalizers import Float32, Normalizer
from morpheus_core.adapters.preparation import Channels, make_preparation
from morpheus_core.adapters.signature import NetworkInput
from morpheus_core.errors import InputError, ModelError
from morpheus_core.extras import require_package
from morpheus_core.parallel.devices import installed_gpus
from morpheus_core.pipeline.descriptions import described

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True, repr=False)
class OnnxSource:
    """Where a network in the ONNX format comes from.

    Attributes
    ----------
    path : Path
        The file.
    providers : tuple of str or "auto"
        What ONNX Runtime runs it on, in order of preference.
    """

    path: Path
    providers: tuple[str, ...] | Literal["auto"]

    __repr__ = described

    def load(self) -> Network:
        """Open a session."""
        import onnxruntime

        providers = chosen_providers() if self.providers == "auto" else list(self.providers)
        try:
            session = onnxruntime.InferenceSession(self.path, session_options(), providers)
        except Exception as error:  # of many types, none of them documented
            raise ModelError(f"{self.path} cannot be loaded: {error}") from error
        if session.get_providers()[0] != providers[0]:  # it would run, at another pace
            raise ModelError(
                f"ONNX Runtime must run on {providers[0]}, but can run on "
                f"{session.get_providers()}; pass providers=[{CPU!r}] to use the processor"
            )
        inputs = tuple(map(described_input, session.get_inputs()))

        def run(tensors: list[Float32]) -> Any:
            names = (network_input.name for network_input in inputs)
            return session.run(None, dict(zip(names, tensors, strict=True)))

        return Network(run, inputs)


def onnx_model(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[str] | Literal["auto"] = "auto",
    channels: Channels = "first",
    stack_inputs: bool = True,
    fill_nan: float | Literal["median"] | None = None,
    normalize: Normalizer | None = None,
    activation: Activation | None = None,
) -> Adapter:
    """Wrap a network in the ONNX format as a callable for `predict`.

    See :mod:`morpheus_core.adapters` for the order of the steps. As many threads are used as
    ``OMP_NUM_THREADS`` says, which is a worker's share of the cores.

    Parameters
    ----------
    path : path
        An ``.onnx`` file whose inputs and only output are float32.
    providers : list of str or "auto"
        What it runs on, as for `onnxruntime.InferenceSession`; it is an error if the first is not
        there. "auto" is CUDA if this process sees a GPU and ONNX Runtime is built for it
        (``pip install onnxruntime-gpu``), else the processor.
    channels : {"first", "last"}
        Whether the network takes and returns (batch, channels, height, width), as exports of
        PyTorch do, or (batch, height, width, channels), as those of Keras do.
    stack_inputs : bool, default True
        Stack the bands of all images into one tensor. False gives the network one tensor per image.
    fill_nan : float or "median", optional
        What takes the place of NaN, in the units of the image: a number, or the median of the band
        in the window (0 where all is NaN).
    normalize : callable, optional
        `min_max`, `z_score`, `standardize`, or a function of yours from float32 (batch, height,
        width, bands) to the same shape.
    activation : {"softmax", "sigmoid"}, optional
        Makes probabilities of what the network returns.

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
        If ONNX Runtime is not installed.
    """
    require_package("onnxruntime", "onnx", "onnx_model")
    source = OnnxSource(
        checks.existing_file("path", path, (".onnx",)), checked_providers(providers)
    )
    preparation = make_preparation(channels, stack_inputs, fill_nan, normalize)
    return Adapter(source, preparation, checked_activation(activation))


def checked_providers(providers: Any) -> tuple[str, ...] | Literal["auto"]:
    """Return the names of some providers, or "auto"."""
    if isinstance(providers, str) and providers == "auto":
        return "auto"
    names = tuple(providers) if isinstance(providers, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f'providers must be a list of names, or "auto", got {providers!r}')
    return names


def chosen_providers() -> list[str]:
    """Return what "auto" stands for in this process."""
    import onnxruntime

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    gpu = CUDA in onnxruntime.get_available_providers() and installed_gpus() != 0
    return [CUDA, CPU] if gpu and not hidden else [CPU]


def session_options() -> Any:
    """Return options with the thread limit that ONNX Runtime does not read by itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit():
        options.intra_op_num_threads = int(limit)
    return options


def described_input(tensor: Any) -> NetworkInput:
    """Return what a session says about one of its inputs."""
    if tensor.type != "tensor(float)":
        raise ModelError(
            f"the network's input {tensor.name!r} must be float32, got {tensor.type}; export it so"
        )
    # An axis of any length has a name, or None.
    return NetworkInput(tensor.name, tuple(n if isinstance(n, int) else None for n in tensor.shape))
