"""Images that are read when they are sliced: arrays of Dask and Zarr, and what is like them."""

from __future__ import annotations

import hashlib
import threading
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError, warn
from morpheus_core.images.expansion import Unpacking
from morpheus_core.images.image import Bands, Image, Layout, carried_mask, checked_dtype
from morpheus_core.images.row_blocks import KEPT_BLOCKS, RowBlocks
from morpheus_core.storage import pickles
from morpheus_core.storage.whole_files import write_secret

#: Rows by which an image is known again. The first and the last rows of mosaics are often blank.
SAMPLED_ROWS = 5
#: Bytes in a row of chunks of which users should know.
LARGE = 1 << 30

WAY_OUT = (
    "wrap it in a class that has shape and dtype, keeps a path, and opens the file in "
    "__getitem__(rows); or run in one process"
)


class LazyArray(Protocol):
    """What is sliced lazily: it is never asked for more than some of its rows."""

    @property
    def shape(self) -> Any:
        """A length per axis, as for an array."""

    @property
    def dtype(self) -> Any:
        """What slices are made of."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return what `numpy.asarray` makes an array of rows of.

        `index` is a slice of rows. Where other axes stand before that of the rows it is a tuple,
        which ends with that slice.
        """


def is_lazy(source: object) -> bool:
    """Say whether something has what it takes to be a :class:`LazyArray`."""
    if isinstance(source, (np.ndarray, np.generic)):
        return False
    # Asked of its class: arrays of a file that was closed raise whatever they like.
    names = {*dir(type(source)), *getattr(source, "__dict__", ())}
    return {"shape", "dtype", "__getitem__"} <= names or all(
        hasattr(source, name) for name in ("shape", "dtype", "__getitem__")
    )


class LazyImage:
    """An image that is read slab by slab from something that is sliced lazily.

    Where the source tells its chunks, rows of whole chunks are read and kept until they are done
    with: whatever a slice takes of a chunk, most sources compute or decompress all of it.

    Parameters
    ----------
    source : LazyArray
        The pixels.
    name : str
        What errors call it.
    bands : {"last", "first"}
        Where its bands are, if it has three axes.
    scheduler : str, optional
        What computes slices of Dask, as `dask.compute` takes it; by default what Dask would use.

    Raises
    ------
    InputError
        If it is no image.
    """

    path: Path | None = None
    header: fits.Header | None = None
    primary: fits.Header | None = None
    wcs: Any = None
    unpacking = Unpacking()

    def __init__(
        self, source: LazyArray, name: str, bands: Bands, scheduler: str | None = None
    ) -> None:
        self.name, self._source, self._bands, self._scheduler = name, source, bands, scheduler
        self.layout = Layout.of(known_shape(source, name), bands, name)
        self.shape = self.layout.shape
        self.dtype = checked_dtype(known_dtype(source, name), name)
        row_axis = len(self.layout.rows(0, 1)) - 1
        self._blocks = RowBlocks(self._load, chunk_edges(source, row_axis, self.shape[0]))
        self._pickled: bytes | None = None
        # A mask is read by the thread that cuts windows and by the one that finalizes rows.
        self._lock = threading.Lock()

    @property
    def chunk_rows(self) -> int:
        """The most rows in a chunk, 0 where there are none."""
        return self._blocks.chunk_rows

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows, of which those in chunks that were just read are in memory."""
        with self._lock:
            return self._blocks.read(start, stop)

    def _load(self, start: int, stop: int) -> NDArray[Any]:
        """Slice rows out of the source."""
        index = self.layout.rows(start, stop)
        try:
            # What can be sliced need not know of tuples.
            sliced = self._source[index if len(index) > 1 else index[0]]
            if hasattr(sliced, "__dask_graph__"):
                sliced = sliced.compute(scheduler=self._scheduler)
            stored = np.asanyarray(sliced)
        except Exception as error:
            raise InputError(
                f"{self.name}: rows {start} to {stop - 1} cannot be read: "
                f"{type(error).__name__}: {error}"
            ) from error
        if carried_mask(stored) is not None:
            raise InputError(
                f"{self.name} gives masked arrays, whose mask a model cannot see; pass them "
                f"filled, as da.ma.filled(array, value) does it, and "
                f"mask=da.ma.getmaskarray(array)"
            )
        expected = self.layout.stored_shape(stop - start)
        if stored.shape != expected or stored.dtype.newbyteorder("=") != self.dtype:
            raise InputError(
                f"{self.name}: rows {start} to {stop - 1} must be {expected} {self.dtype}, as its "
                f"shape and dtype promise, got {stored.shape} {stored.dtype}"
            )
        return self.layout.arrange(np.asarray(stored))

    def identity(self) -> dict[str, Any]:
        """Return shape, dtype and a digest of a few rows.

        An image of a file is known by the file. The names of Dask's arrays would not do: what is
        delayed has another one in each process.
        """
        file_identity = getattr(self._source, "file_identity", None)
        if file_identity is not None:
            return dict(file_identity)
        return {"shape": list(self.shape), "dtype": self.dtype.str, **sample_of(self)}

    def pickled(self) -> bytes:
        """Return what is sliced as bytes that another process can load.

        Raises
        ------
        InputError
            If it cannot be sent there.

        Warns
        -----
        MorpheusWarning
            If that takes more than a gibibyte.
        """
        if self._pickled is None:
            self._pickled = self._pickle()
        return self._pickled

    def _pickle(self) -> bytes:
        if holds_futures(self._source):
            raise InputError(
                f"{self.name} was persisted on a Dask cluster, whose workers cannot read it while "
                f"they run the model; pass the array as it was before persist()"
            )
        try:
            pickled = pickles.dump(self._source)
        except Exception as error:
            raise InputError(
                f"{self.name} cannot be sent to other processes: {type(error).__name__}: {error}; "
                f"{WAY_OUT}"
            ) from error
        if len(pickled) > LARGE:
            warn(
                f"{self.name} holds its pixels, {len(pickled) / 2**30:.1f} GiB, and every strip "
                f"loads them all; make it of files, as da.from_zarr does"
            )
        return pickled

    def store(self, path: Path) -> dict[str, Any]:
        """Write what is sliced, not its pixels, as a pickle beside `path`."""
        path = path.with_suffix(".pkl")
        write_secret(path, self.pickled())
        self._pickled = None  # it may be large
        return {"pickle": str(path.absolute()), "name": self.name, "bands": self._bands}

    def close(self) -> None:
        """Forget the rows, and leave the user's object alone."""
        self._blocks.clear()


def sample_of(image: Image) -> dict[str, Any]:
    """Return the numbers of a few rows of an image, and a digest of them, as JSON values."""
    digest = hashlib.sha256()
    rows = (2 * np.arange(SAMPLED_ROWS) + 1) * image.shape[0] // (2 * SAMPLED_ROWS)
    for row in rows.tolist():
        digest.update(np.ascontiguousarray(image.read(row, row + 1), image.dtype).data)
    return {"sampled_rows": rows.tolist(), "sha256": digest.hexdigest()}


class ReopenedImage(LazyImage):
    """An image whose source was made for it, in another process than the user's."""

    def __init__(self, source: LazyArray, name: str, bands: Bands) -> None:
        # A worker of a cluster must not wait for tasks that wait for its own one to end.
        super().__init__(source, name, bands, scheduler="threads")

    def close(self) -> None:
        """Forget the rows, and close the source, if it can be."""
        super().close()
        getattr(self._source, "close", lambda: None)()


def holds_futures(source: LazyArray) -> bool:
    """Say whether chunks of a Dask array are in the memory of a cluster."""
    graph = source.__dask_graph__() if hasattr(source, "__dask_graph__") else None
    # xarray answers None where its pixels are in memory.
    tasks = () if graph is None else graph.values()
    return any(type(task).__module__ == "distributed.client" for task in tasks)


def open_lazy(source: LazyArray, name: str, bands: Bands) -> LazyImage:
    """Open an image, and read its first row: a promise that does not hold shows before any work.

    Raises
    ------
    InputError
        If it is no image, or that row is not what shape and dtype promise.

    Warns
    -----
    MorpheusWarning
        If a row of chunks takes more than a gibibyte.
    """
    try:
        image = LazyImage(source, name, bands)
    except OSError as error:  # of a file that was closed
        raise InputError(f"{name} cannot be read: {error}; open its file again") from error
    size = image.chunk_rows * image.shape[1] * image.shape[2] * image.dtype.itemsize
    if size > LARGE:
        warn(
            f"{name} is read in whole chunks, {image.chunk_rows} rows at a time, and each process "
            f"keeps {KEPT_BLOCKS} times {size / 2**30:.1f} GiB of them; chunks of fewer rows take "
            f"less"
        )
    image.read(0, 1)
    return image


def reopen_lazy(place: dict[str, Any]) -> LazyImage:
    """Open an image whose :meth:`LazyImage.store` returned this place.

    Raises
    ------
    InputError
        If it cannot be loaded here.
    """
    pickled = pickles.read(Path(place["pickle"]))
    try:
        source = pickles.load(pickled)
    except Exception as error:
        raise InputError(
            f"{place['name']} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return ReopenedImage(source, place["name"], place["bands"])


def known_shape(source: LazyArray, name: str) -> tuple[int, ...]:
    """Return the shape of what is sliced, which must not depend on its pixels."""
    shape = source.shape
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, Integral) for n in shape):
        raise InputError(
            f"shape must be whole numbers, got {shape} for {name}; compute_chunk_sizes() finds "
            f"what Dask does not know"
        )
    return tuple(map(int, shape))


def known_dtype(source: LazyArray, name: str) -> np.dtype[Any]:
    """Return the dtype of what is sliced."""
    try:
        dtype: np.dtype[Any] = np.dtype("O" if source.dtype is None else source.dtype)
    except TypeError as error:
        raise InputError(
            f"dtype must be one of numpy, got {source.dtype} for {name}; pass what numpy.asarray "
            f"makes of it"
        ) from error
    return dtype


def chunk_edges(source: LazyArray, axis: int, height: int) -> NDArray[np.int64] | None:
    """Return the rows at which chunks begin, and where the last one ends, if a source tells.

    Dask has the lengths of all chunks of each axis, Zarr and h5py the one that they have alike.
    """
    chunks = getattr(source, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) <= axis:
        return None
    if isinstance(chunks[axis], tuple):
        return np.cumsum([0, *chunks[axis]])
    return np.append(np.arange(0, height, chunks[axis]), height)
