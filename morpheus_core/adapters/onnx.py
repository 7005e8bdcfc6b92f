"""Networks in the ONNX format, run by ONNX Runtime."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from morpheus_core import checks
from morpheus_core.adapters.activations import Activation, checked_activation
from morpheus_core.adapters.answers import Output, checked_output
from morpheus_core.adapters.base import Adapter, Network, Source
from morpheus_core.adapters.kinds import what_it_is
from morpheus_core.adapters.normalizers import Float32, Normalizer
from morpheus_core.adapters.preparation import Channels, make_preparation
from morpheus_core.adapters.signature import NetworkInput
from morpheus_core.errors import InputError, ModelError, warn
from morpheus_core.extras import leave_no_traces, require_package
from morpheus_core.parallel.devices import installed_gpus
from morpheus_core.pipeline.descriptions import described

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
#: Types of tensors as ONNX Runtime calls them, and those of numpy.
INPUT_TYPES = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8"}
#: Runtimes hand out other types, such as float8, as the bytes that they lie in.
OUTPUT_TYPES = (*INPUT_TYPES, "tensor(bfloat16)")


@dataclass(frozen=True, repr=False)
class OnnxSource(Source):
    """Where a network in the ONNX format comes from.

    Attributes
    ----------
    path : Path
        The file.
    providers : tuple of str or "auto"
        What ONNX Runtime runs it on, in order of preference.
    output : str or int, optional
        Which of its outputs holds the scores, by name or position.
    """

    path: Path
    providers: tuple[str, ...] | Literal["auto"]
    output: Output | None = None

    __repr__ = described

    def digested(self) -> Iterable[Path | bytes]:
        """Yield the file."""
        return [self.path]

    def load(self) -> Network:
        """Open a session."""
        onnxruntime = runtime()
        if is_dynamically_quantized(self.path):
            warn(
                f"{self.path} is quantized dynamically: what it says of a window depends on the "
                f"windows of its batch, so batch_size decides the result; quantize it statically "
                f"to have one answer"
            )
        providers = chosen_providers() if self.providers == "auto" else list(self.providers)
        try:
            session = onnxruntime.InferenceSession(self.path, session_options(), providers)
        except Exception as error:  # of many types, none of them documented
            raise ModelError(
                f"{self.path} cannot be loaded: {error}{what_it_is(self.path)}"
            ) from error
        if session.get_providers()[0] != providers[0]:  # it would run, at another pace
            raise ModelError(
                f"ONNX Runtime must run on {providers[0]}, but can run on "
                f"{session.get_providers()}; pass providers=[{CPU!r}] to use the processor"
            )
        inputs = tuple(map(described_input, session.get_inputs()))
        dtypes = [INPUT_TYPES[tensor.type] for tensor in session.get_inputs()]
        output = chosen_output(session.get_outputs(), self.output)

        def run(tensors: list[Float32]) -> Any:
            given = {
                one.name: tensor.astype(dtype, copy=False)
                for one, tensor, dtype in zip(inputs, tensors, dtypes, strict=True)
            }
            return session.run([output], given)[0]

        return Network.of_inputs(run, inputs)


def onnx_model(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[str] | Literal["auto"] = "auto",
    channels: Channels = "first",
    stack_inputs: bool = True,
    fill_nan: float | Sequence[float] | Literal["median"] | None = None,
    normalize: Normalizer | None = None,
    activation: Activation | None = None,
    output: Output | None = None,
) -> Adapter:
    """Wrap a network in the ONNX format as a callable for `predict`.

    See :mod:`morpheus_core.adapters` for the order of the steps. As many threads are used as
    ``OMP_NUM_THREADS`` says, which is a worker's share of the cores.

    Parameters
    ----------
    path : path
        An ``.onnx`` file whose inputs are real numbers, of 16, 32 or 64 bits, and so its scores.
    providers : list of str or "auto"
        What it runs on, as for `onnxruntime.InferenceSession`; it is an error if the first is not
        there. "auto" is CUDA if this process sees a GPU and ONNX Runtime is built for it
        (``pip install onnxruntime-gpu``), else the processor.
    channels : {"first", "last"}
        Whether the network takes and returns (batch, channels, height, width), as exports of
        PyTorch do, or (batch, height, width, channels), as those of Keras do.
    stack_inputs : bool, default True
        Stack the bands of all images into one tensor. False gives the network one tensor per image.
    fill_nan : float, sequence of float or "median", optional
        What takes the place of NaN, in the units of the image: a number for all bands, one for
        each, or the median of the band in the window (0 where all is NaN).
    normalize : callable, optional
        `min_max`, `z_score`, `standardize`, or a function of yours from float32 (batch, height,
        width, bands) to the same shape.
    activation : {"softmax", "sigmoid"}, optional
        Makes probabilities of what the network returns.
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
        If ONNX Runtime is not installed.
    """
    require_package("onnxruntime", "onnx", "onnx_model")
    source = OnnxSource(
        checks.existing_file("path", path, (".onnx",)),
        checked_providers(providers),
        checked_output(output),
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
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    gpu = CUDA in runtime().get_available_providers() and installed_gpus() != 0
    return [CUDA, CPU] if gpu and not hidden else [CPU]


def session_options() -> Any:
    """Return options with the thread limit that ONNX Runtime does not read by itself."""
    options = runtime().SessionOptions()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit():
        options.intra_op_num_threads = int(limit)
    return options


def runtime() -> Any:
    """Import ONNX Runtime."""
    leave_no_traces()
    import onnxruntime

    return onnxruntime


def is_dynamically_quantized(path: Path) -> bool:
    """Say whether a file has a step that finds the range of its numbers anew for each batch."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"DynamicQuantize") >= 0


def described_input(tensor: Any) -> NetworkInput:
    """Return what a session says about one of its inputs."""
    if tensor.type not in INPUT_TYPES:
        raise ModelError(
            f"the network's input {tensor.name!r} must be real numbers, float16, float or double, "
            f"got {tensor.type}; export it so"
        )
    # An axis of any length has a name, or None.
    return NetworkInput(tensor.name, tuple(n if isinstance(n, int) else None for n in tensor.shape))


def chosen_output(outputs: Sequence[Any], asked: Output | None) -> str:
    """Return the name of the output that holds the scores.

    Raises
    ------
    ModelError
        If it cannot be told which, there is none of that name, or it is no tensor of real numbers.
    """
    listed = ", ".join(f"{one.name!r} {one.type}" for one in outputs)
    names = [one.name for one in outputs]
    if asked is None and len(outputs) > 1:
        raise ModelError(
            f"the network has several outputs, {listed}; name the one that holds the scores: "
            f"output={names[-1]!r}"
        )
    position = asked if isinstance(asked, int) else names.index(asked) if asked in names else 0
    if (isinstance(asked, str) and asked not in names) or not 0 <= position < len(names):
        raise ModelError(f"output must be one of {listed}, got {asked!r}")
    chosen = outputs[position]
    if chosen.type not in OUTPUT_TYPES:
        raise ModelError(
            f"the network's output {chosen.name!r} must be scores, float16, float or double, got "
            f"{chosen.type}: labels, complex numbers and float8 are none; the outputs are {listed}"
        )
    return str(chosen.name)
