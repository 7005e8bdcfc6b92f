"""Images whose pixels are prepared as a whole, before windows are cut of them."""

from __future__ import annotations

import hashlib
import tempfile
import time
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError, MorpheusError
from morpheus_core.images.expansion import Unpacking
from morpheus_core.images.image import Image, carried_mask, checked_dtype
from morpheus_core.images.lazy_images import sample_of
from morpheus_core.images.preparing_steps import (
    ImageRows,
    Preparing,
    PreparingFunction,
    PreparingStep,
    is_step,
    own_rows,
)
from morpheus_core.storage import pickles
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import save_array, write_secret


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a step has found out of an image, and what it makes of it.

    Attributes
    ----------
    state : object
        What it has found.
    dtype : dtype
        Of the pixels that it makes, native.
    """

    state: Any
    dtype: np.dtype[Any]


class PreparedImage:
    """An image whose pixels are others than those of its source; all else is as there.

    Nothing is computed before pixels are wanted: what a run refuses, it refuses before.

    Parameters
    ----------
    source : Image
        The image as it was given.
    step : str
        What the preparation is called.
    """

    def __init__(self, source: Image, step: str) -> None:
        self.source, self.step = source, step
        self.name, self.shape, self.layout = source.name, source.shape, source.layout
        self.header, self.primary, self.wcs = source.header, source.primary, source.wcs
        self.unpacking = source.unpacking
        self.preparing = Unpacking()

    @property
    def path(self) -> Path | None:
        """The file of the source, if it has one."""
        return self.source.path

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels that a model sees, native; to know it, the image is prepared."""

    def settle(self) -> None:
        """Prepare the image, unless that was done."""
        _ = self.dtype

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``[start, stop)``, (rows, width, bands)."""

    @abstractmethod
    def digests(self) -> dict[str, Any]:
        """Return what tells the preparation from others, as JSON values."""

    @abstractmethod
    def store(self, path: Path) -> dict[str, Any]:
        """Make sure that other processes can open the image, with files at `path`."""

    def identity(self) -> dict[str, Any]:
        """Return what tells source and preparation from others."""
        return {**self.source.identity(), "prepared": {"step": self.step, **self.digests()}}

    def close(self) -> None:
        """Release what the source holds open."""
        self.source.close()

    def _failed(self, error: Exception) -> InputError:
        return InputError(
            f"prepare={self.step} failed on {self.name}: {type(error).__name__}: {error}"
        )

    def _checked(self, answer: Any, expected: tuple[int, ...], what: str) -> NDArray[Any]:
        """Return an answer as an array, or raise if it is none of the same shape."""
        if carried_mask(answer) is not None:
            raise InputError(
                f"{what} of prepare={self.step} must return plain arrays, got a masked one for "
                f"{self.name}; fill it with NaN, or pass the mask as mask="
            )
        array = np.asarray(answer)
        if array.shape != expected:
            raise InputError(
                f"{what} of prepare={self.step} must return the shape that it is given, "
                f"{expected}, got {array.shape} for {self.name}"
            )
        checked_dtype(array.dtype, f"what {what} of prepare={self.step} made of {self.name}")
        return array


class SteppedImage(PreparedImage):
    """An image to whose rows a step is applied when they are read.

    Parameters
    ----------
    source : Image
        The image as it was given.
    step : PreparingStep
        What is done to it.
    name : str
        What the step is called.
    fitted : Fitted, optional
        What another process has found out.
    """

    def __init__(
        self, source: Image, step: PreparingStep, name: str, fitted: Fitted | None = None
    ) -> None:
        super().__init__(source, name)
        self._step = step
        if fitted is not None:
            self.__dict__["_fitted"] = fitted

    @cached_property
    def _fitted(self) -> Fitted:
        start = time.perf_counter()
        try:
            state = self._step.fit(ImageRows(self.source))
        except MorpheusError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        self.preparing = Unpacking(0, time.perf_counter() - start)
        last = min(2, self.shape[0])
        both = self._apply(0, last, state)
        alone = self._apply(last - 1, last, state)
        if both[last - 1 :].tobytes() != alone.tobytes():
            raise InputError(
                f"apply of prepare={self.step} makes another row {last - 1} of {self.name} when "
                f"it is given alone; what depends on other rows must be found by fit"
            )
        return Fitted(state, both.dtype.newbyteorder("="))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels that the step makes."""
        return self._fitted.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows as the step makes them."""
        rows = self._apply(start, stop, self._fitted.state)
        if rows.dtype.newbyteorder("=") != self.dtype:
            raise InputError(
                f"apply of prepare={self.step} must return the same dtype for all rows, got "
                f"{rows.dtype} for rows {start} to {stop - 1} of {self.name} and {self.dtype} for "
                f"the first ones"
            )
        return rows

    def _apply(self, start: int, stop: int, state: Any) -> NDArray[Any]:
        rows = own_rows(self.source, start, stop)
        shape = rows.shape
        try:
            answer = self._step.apply(rows, start, state)
        except MorpheusError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        return self._checked(answer, shape, "apply")

    def digests(self) -> dict[str, Any]:
        """Return digests of the state and of a few rows."""
        state = hashlib.sha256(self._dumped(self._fitted.state, "what fit has returned"))
        return {"state": state.hexdigest(), **sample_of(self)}

    def check_portable(self) -> None:
        """Raise if the step cannot be sent to other processes."""
        self._dumped(self._step, "the step")

    def _dumped(self, value: Any, what: str) -> bytes:
        try:
            return pickles.dump(value)
        except Exception as error:
            raise InputError(
                f"{what} of prepare={self.step} cannot be pickled, which it must: "
                f"{type(error).__name__}: {error}; let it hold numbers and arrays"
            ) from error

    def store(self, path: Path) -> dict[str, Any]:
        """Write the step and what it has found, beside what the source needs."""
        pickled = path.with_suffix(".step.pkl")
        write_secret(pickled, self._dumped((self._step, self._fitted), "the step"))
        return {
            "step": str(pickled.absolute()),
            "name": self.step,
            "source": self.source.store(path),
        }


class ComputedImage(PreparedImage):
    """An image that a function computes of a whole one, once, into a temporary file.

    Parameters
    ----------
    source : Image
        The image as it was given.
    function : callable
        Takes (height, width), or (height, width, bands) where there are several bands.
    name : str
        What the function is called.
    """

    def __init__(self, source: Image, function: PreparingFunction, name: str) -> None:
        super().__init__(source, name)
        self._function = function

    @cached_property
    def _rows(self) -> NDArray[Any]:
        """The pixels, (height, width, bands), mapped from a file that has no name."""
        start = time.perf_counter()
        height, width, bands = self.shape
        whole = own_rows(self.source, 0, height)
        shape = (height, width) if bands == 1 else whole.shape
        try:
            answer = self._function(whole.reshape(shape))
        except Exception as error:
            raise self._failed(error) from error
        del whole
        array = self._checked(answer, shape, "the function").reshape(self.shape)
        with tempfile.TemporaryFile(prefix="morpheus_core-") as file:
            try:
                # Written and not mapped: a full disk is an error then, and no signal.
                for row in array:
                    file.write(np.ascontiguousarray(row, array.dtype.newbyteorder("=")).data)
                file.flush()
            except OSError as error:
                raise InputError(
                    f"what prepare={self.step} made of {self.name} does not fit into "
                    f"{tempfile.gettempdir()}: {error}; set TMPDIR to a folder with more space"
                ) from error
            mapped = np.memmap(file, array.dtype.newbyteorder("="), "r", shape=self.shape)
        self.preparing = Unpacking(mapped.nbytes, time.perf_counter() - start)
        return mapped

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels that the function makes."""
        return self._rows.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows of what the function has made."""
        return self._rows[start:stop]

    def digests(self) -> dict[str, Any]:
        """Return a digest of all pixels."""
        digest = hashlib.sha256()
        for row in self._rows:
            digest.update(row.data)
        return {"sha256": digest.hexdigest()}

    def store(self, path: Path) -> dict[str, Any]:
        """Write the pixels as a .npy file, (bands, height, width), unless it is there already."""
        if not is_there(path):
            save_array(path, np.moveaxis(self._rows, -1, 0))
        # The temporary file goes, and its space with it.
        self._rows = np.moveaxis(np.load(path, mmap_mode="r"), 0, -1)
        return {"array": str(path.absolute()), "name": self.name}

    def close(self) -> None:
        """Remove the file, unless others map it still."""
        super().close()
        self.__dict__.pop("_rows", None)


def prepared_by(image: Image, prepare: Preparing | None, name: str) -> Image:
    """Return an image that a step or a function prepares, or the image itself where there is none.

    Parameters
    ----------
    image : Image
        As it was given.
    prepare : PreparingStep, callable or None
        What is done to it.
    name : str
        What that is called.
    """
    if prepare is None:
        return image
    if is_step(prepare):
        return SteppedImage(image, prepare, name)
    assert callable(prepare), "it was checked"
    return ComputedImage(image, prepare, name)


def reopen_stepped(place: dict[str, Any], source: Image) -> SteppedImage:
    """Open an image whose :meth:`SteppedImage.store` returned this place, with its source.

    Raises
    ------
    InputError
        If the step cannot be loaded here.
    """
    pickled = pickles.read(Path(place["step"]))
    try:
        step, fitted = pickles.load(pickled)
    except Exception as error:
        raise InputError(
            f"prepare={place['name']} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return SteppedImage(source, step, place["name"], fitted)
