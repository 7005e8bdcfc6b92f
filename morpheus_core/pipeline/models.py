"""Calling the user's model, checking what it returns, and sending it to other processes."""

from __future__ import annotations

import importlib
import reprlib
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import ModelError, warn
from morpheus_core.pipeline.batches import Batch
from morpheus_core.pipeline.kernels import Predictions
from morpheus_core.pipeline.nan_policy import NanWatch, OnNan, OnSpread
from morpheus_core.progress import say
from morpheus_core.storage import pickles

Model = Callable[[list[NDArray[Any]]], Any]

#: How far beyond 0 and 1 rounding may bring a probability, or a mean of some.
ROUNDING = 1e-5


class LoadingError(ModelError):
    """The model cannot be loaded, whatever it is given."""


class CheckedModel:
    """A model whose answers are sure to be predictions of every pixel and class.

    Parameters
    ----------
    model : callable
        Takes a list with one (batch, height, width, bands) array per input image.
    n_classes : int
        Classes that it promised.
    window_shape : tuple of int
        Height and width of a prediction, in output pixels.
    asked_ahead : bool
        Whether the model is called again while its last answer is still in use.
    on_nan : {"warn", "raise", "ignore"}
        What to do if NaN of the windows spreads in the answers.
    """

    def __init__(
        self,
        model: Model,
        n_classes: int,
        window_shape: tuple[int, int],
        asked_ahead: bool = False,
        on_nan: OnNan = "warn",
    ) -> None:
        self._model = model
        self._nan_policy = NanWatch(on_nan)
        self._n_classes = n_classes
        self._window_shape = window_shape
        self._buffers = TwoBuffers() if asked_ahead else None

    def __call__(self, batch: Batch) -> Callable[[], Predictions]:
        """Predict one batch.

        Returns
        -------
        callable
            Returns the predictions, (batch, height, width, classes), float32 or float64, native
            and C-contiguous, once they have come from a GPU. They hold until the next
            call, or with `asked_ahead` until the call after that.

        Raises
        ------
        ModelError
            If the model raises, or its result has another shape or is not real numbers. Of a
            result on a GPU the returned callable says so.
        """
        try:
            answer = self._model(batch.windows)
            if self._buffers is not None and is_on_gpu(answer):
                arriving, context = copy_from_gpu(answer), describe(batch)
                return lambda: self._arrived(arriving, batch, context)
            array = to_numpy(answer)
            del answer  # which would count as another holder of the memory
        except Exception as error:
            raise failure(error, describe(batch)) from error
        # The model may return the same memory each time. Asked before there are more names for it.
        buffers = None if self._buffers is None or is_unshared(array) else self._buffers
        predictions = self._checked(array, batch)
        copied = np.ascontiguousarray(predictions) if buffers is None else buffers.copy(predictions)
        return lambda: copied

    def _arrived(
        self, arriving: Callable[[], NDArray[Any]], batch: Batch, context: str
    ) -> Predictions:
        """Wait for an answer from a GPU, which also says what went wrong there."""
        try:
            array = arriving()
        except Exception as error:
            raise failure(error, context) from error
        return np.ascontiguousarray(self._checked(array, batch))

    def sum_up(self, on_spread: OnSpread) -> None:
        """Tell, at the end, in how many answers NaN has spread."""
        self._nan_policy.sum_up(on_spread)

    def _checked(self, answer: NDArray[Any], batch: Batch) -> Predictions:
        scores = as_float(answer)
        predictions = self._spread(scores, len(batch))
        per_class = scores.ndim == predictions.ndim or scores.shape[1:] == predictions.shape[3:]
        windows = batch.windows if batch.may_hold_nan else []
        self._nan_policy.look(windows, scores if per_class else predictions)
        return predictions

    def _spread(self, predictions: Predictions, batch_size: int) -> Predictions:
        """Give predictions all four axes; those of a whole window hold for each of its pixels."""
        full = (batch_size, *self._window_shape, self._n_classes)
        if predictions.shape == full:
            return predictions
        if predictions.shape == (batch_size, self._n_classes):
            return np.broadcast_to(predictions[:, np.newaxis, np.newaxis, :], full)
        if self._n_classes == 1 and predictions.shape == full[:3]:
            return predictions[..., np.newaxis]
        expected = f"{full}, or {(batch_size, self._n_classes)} for whole windows"
        if self._n_classes == 1:
            expected += f", or {full[:3]}"
        if predictions.shape == (batch_size, self._n_classes, *self._window_shape):
            expected += "; np.moveaxis(scores, 1, -1) puts classes last"
        count = predictions.shape[-1] if predictions.ndim in (2, 4) else 0
        if predictions.shape in ((*full[:3], count), (batch_size, count)):
            expected += f"; pass n_classes={count} if these are its classes"
        raise ModelError(
            f"model returned {predictions.shape} for n_classes={self._n_classes}; "
            f"expected {expected}"
        )


def describe(batch: Batch) -> str:
    """Say what a model is given, and where that lies."""
    return f"{given(batch.windows)}, window rows {batch.rows[0]} to {batch.rows[-1]}"


def given(windows: list[NDArray[Any]]) -> str:
    """Say what a model is given."""
    return f"it was given [{', '.join(f'{one.shape} {one.dtype}' for one in windows)}]"


def failure(error: Exception, context: str) -> ModelError:
    """Return the error of a model that raised another one."""
    if isinstance(error, LoadingError):
        return LoadingError(str(error))
    if isinstance(error, ModelError):  # an adapter knows better
        return ModelError(f"{error}; {context}")
    return ModelError(f"the model failed with {type(error).__name__}: {error}; {context}")


class TwoBuffers:
    """Copies arrays to two places in turn, since fresh memory costs more than the copy."""

    def __init__(self) -> None:
        self._buffers: list[NDArray[Any]] = [np.empty(0), np.empty(0)]

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a C-contiguous copy, which holds until the next but one is made."""
        self._buffers.reverse()
        if self._buffers[0].dtype != array.dtype or self._buffers[0].size < array.size:
            self._buffers[0] = np.empty(array.size, array.dtype)
        copy = self._buffers[0][: array.size].reshape(array.shape)
        np.copyto(copy, array)
        return copy


def is_unshared(array: NDArray[Any]) -> bool:
    """Say whether a variable of the caller is all that holds an array, and the memory of it.

    Then nothing can overwrite it. Where that cannot be told the answer is no.
    """
    owner = array if array.base is None else array.base
    if not isinstance(owner, np.ndarray) or not owner.flags.owndata:
        return False
    return reference_counts(array) == FRESH_COUNTS[owner is array]


def reference_counts(array: NDArray[Any]) -> tuple[int, int]:
    """Return how often an array, and the array that it is a view of, are referred to."""
    return sys.getrefcount(array), 0 if array.base is None else sys.getrefcount(array.base)


def fresh_counts(is_owner: bool) -> tuple[int, int]:
    """Return the counts of an array that nothing else holds, as :func:`is_unshared` sees them.

    They differ between versions of Python.
    """

    def seen(array: NDArray[Any]) -> tuple[int, int]:
        owner = array if array.base is None else array.base
        assert (owner is array) == is_owner
        return reference_counts(array)

    array = np.empty((2, 2)) if is_owner else np.empty((2, 2))[:1]
    return seen(array)


FRESH_COUNTS = {is_owner: fresh_counts(is_owner) for is_owner in (True, False)}


def is_on_gpu(answer: Any) -> bool:
    """Say whether an answer is a PyTorch tensor on a GPU."""
    return hasattr(answer, "detach") and getattr(answer, "is_cuda", False)


def copy_from_gpu(answer: Any) -> Callable[[], NDArray[Any]]:
    """Begin to copy a PyTorch tensor; what is returned waits for the end of that."""
    torch: Any = importlib.import_module("torch")  # typed only in part
    answer = answer.detach()
    # Only to pinned memory does the GPU copy while both processors go on.
    arriving = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
    with torch.cuda.device(answer.device):
        arriving.copy_(answer, non_blocking=True)
        # Its memory must not be given to others before, on whatever stream the model works.
        answer.record_stream(torch.cuda.current_stream())
        copied = torch.cuda.Event()
        copied.record()

    def wait() -> NDArray[Any]:
        copied.synchronize()
        return to_numpy(arriving)

    return wait


def to_numpy(answer: Any) -> NDArray[Any]:
    """Bring an array of any framework to numpy, without importing that framework."""
    if hasattr(answer, "detach"):  # a PyTorch tensor, on whatever device
        answer = answer.detach().cpu()
        if not answer.dtype.is_complex and answer.dtype.itemsize < 4:
            answer = answer.float()  # numpy knows no bfloat16
        return np.asarray(answer.numpy())
    if hasattr(answer, "get") and hasattr(answer, "__cuda_array_interface__"):  # CuPy
        answer = answer.get()
    if isinstance(answer, np.ma.MaskedArray) or hasattr(answer, "unmasked"):  # astropy's Masked
        answer = answer.astype(np.float64).filled(np.nan)
    return np.asarray(answer)


def as_float(answer: NDArray[Any]) -> Predictions:
    """Return real numbers as native float32 where that holds them exactly, else as float64."""
    if answer.shape == () and answer.dtype.kind == "O":
        raise ModelError(f"model returned {reprlib.repr(answer.item())}; expected an array")
    if answer.dtype.kind not in "biuf" and answer.dtype.name != "bfloat16":
        raise ModelError(f"model returned dtype {answer.dtype}; expected real numbers")
    fits_float32 = answer.dtype.itemsize < 4 or answer.dtype.newbyteorder("=") == np.float32
    return answer.astype(np.float32 if fits_float32 else np.float64, copy=False)


def resolve(model: Model | str) -> Model:
    """Return the model, which may be named as the ``"package.module:factory"`` that makes it.

    Raises
    ------
    ModelError
        If the factory cannot be imported or called.
    """
    if not isinstance(model, str):
        return model
    module, _, factory = model.partition(":")
    say(f"making the model of {model}")
    try:
        made: Model = getattr(importlib.import_module(module), factory)()
    except Exception as error:
        raise ModelError(f"{model} failed: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise ModelError(f"{model} must return a callable, got {type(made).__name__}")
    return made


class StandIn:
    """Calls the user's model, and does something beside."""

    model: Any


class FactoryModel(StandIn):
    """The model that a factory makes, at the first call; only the factory's name is pickled.

    Parameters
    ----------
    factory : str
        ``"package.module:factory"``.
    """

    def __init__(self, factory: str) -> None:
        self.factory = factory

    @cached_property
    def model(self) -> Model:
        """What the factory made."""
        return resolve(self.factory)

    def __getstate__(self) -> dict[str, str]:
        return {"factory": self.factory}

    def __call__(self, windows: list[NDArray[Any]]) -> Any:
        """Predict."""
        return self.model(windows)


RECIPE = """\
wrap it in a class that holds only what it takes to make the model, and makes it at the first call:

    class Wrapped:
        model = None

        def __call__(self, batch):
            if self.model is None:
                self.model = load_my_model("weights file")
            return self.model(batch)

and pass Wrapped(), or pass the name of a function that makes the model, "package.module:factory"\
"""


def with_recipe(failure: str) -> str:
    """Return what a worker said, with a way out if its model was pickled without what it uses."""
    return f"{failure}; {RECIPE}" if "NameError" in failure else failure


def pickle_model(model: Any) -> bytes:
    """Return a model, or what holds one, as bytes that another process can load.

    The same model has the same bytes in every process: resumed runs compare them.

    Raises
    ------
    ModelError
        If it cannot be pickled, or not be loaded again.
    """
    try:
        return pickles.dump(model)
    except Exception as error:
        raise ModelError(
            f"the model cannot be sent to other processes: {type(error).__name__}: {error}; "
            f"{RECIPE}"
        ) from error


def unpickle_model(pickled: bytes) -> Any:
    """Load what :func:`pickle_model` returned.

    Raises
    ------
    ModelError
        If it cannot be loaded here.
    """
    try:
        return pickles.load(pickled)
    except Exception as error:
        raise ModelError(
            f"the model cannot be loaded: {type(error).__name__}: {error}; {RECIPE}"
        ) from error


def warn_of_another_model(model: Any, stored: bytes, directory: str) -> None:
    """Warn if the model that was stored will run, and another one was passed."""
    try:
        same = pickle_model(model) == stored
    except ModelError:
        same = False
    if not same:
        warn(
            f"resume=True runs the model that was stored when the run in {directory} "
            f"began; the one that is passed now is not the same, byte for byte, and is ignored. A "
            f"network in memory seldom is the same in another process, so this may be harmless; "
            f"what always is the same: the path of a file, torch_model(MyNetwork, "
            f'state_dict="weights.pt"), or "package.module:factory"'
        )
