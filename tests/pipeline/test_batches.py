from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus_core.images.image import ArrayImage
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.batches import BatchReader
from morpheus_core.pipeline.slabs import SlabReader
from morpheus_core.windows.grid import Strip, WindowGrid


class CountingImage(ArrayImage):
    """Remembers which rows were read."""

    def __init__(self, array):
        super().__init__(array, "counted")
        self.reads = []

    def read(self, start, stop):
        self.reads.append((start, stop))
        return super().read(start, stop)


def read_all(image, grid, batch_size):
    strip = grid.whole()
    reader = BatchReader(ImageStack([image]), grid, batch_size, strip)
    return [batch for group in grid.groups(batch_size, strip) for batch in reader.batches(group)]


@pytest.mark.parametrize("padding", [None, "reflect", "symmetric", "edge", "constant"])
@pytest.mark.parametrize("read_bytes", [1, 60, SlabReader._READ_BYTES])
@given(
    image_shape=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)),
    window_shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    batch_size=st.integers(1, 20),
)
def test_windows_are_cut_from_the_padded_image(
    read_bytes, padding, image_shape, window_shape, stride, batch_size
):
    height, width, _ = image_shape
    if padding is None:
        window_shape = min(height, window_shape[0]), min(width, window_shape[1])
    grid = WindowGrid((height, width), window_shape, stride, "cover", padding)
    image = np.random.default_rng(0).random(image_shape).astype(">f4")
    around = [
        (grid.rows.before, grid.rows.after),
        (grid.columns.before, grid.columns.after),
        (0, 0),
    ]
    padded = np.pad(image, around, mode=padding) if padding else image
    with mock.patch.object(SlabReader, "_READ_BYTES", read_bytes):
        stored = ArrayImage(np.moveaxis(image, -1, 0), "image", "first")
        batches = read_all(stored, grid, batch_size)
    assert max(map(len, batches)) <= batch_size
    assert sum(map(len, batches)) == len(grid)
    for batch in batches:
        (windows,) = batch.windows
        for window, row, column in zip(windows, batch.rows, batch.columns, strict=True):
            top = grid.rows.origins[row] + grid.rows.before
            left = grid.columns.origins[column] + grid.columns.before
            expected = padded[top : top + window_shape[0], left : left + window_shape[1]]
            np.testing.assert_array_equal(window, expected)


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">u2", "?"])
def test_batches_are_what_frameworks_accept(dtype):
    image = np.asfortranarray(np.ones((8, 9, 2), dtype))
    image.flags.writeable = False
    for batch in read_all(ArrayImage(image, "image"), WindowGrid((8, 9), (3, 3), (2, 2)), 5):
        (windows,) = batch.windows
        assert windows.dtype == image.dtype.newbyteorder("=")
        assert windows.dtype.isnative
        assert windows.flags.c_contiguous
        assert windows.flags.writeable
        windows[...] = 0  # belongs to the model
    assert image.all()


def test_short_rows_share_a_batch():
    grid = WindowGrid((8, 6), (3, 3), (1, 1))
    sizes = [len(b) for b in read_all(ArrayImage(np.ones((8, 6)), "image"), grid, 10)]
    assert sizes == [8, 8, 8]


def test_long_rows_are_cut_into_batches():
    grid = WindowGrid((4, 12), (3, 3), (1, 1))
    sizes = [len(b) for b in read_all(ArrayImage(np.ones((4, 12)), "image"), grid, 4)]
    assert sizes == [4, 4, 2, 4, 4, 2]


def test_each_row_is_read_once(monkeypatch):
    monkeypatch.setattr(SlabReader, "_READ_BYTES", 1)
    image = CountingImage(np.ones((100, 5)))
    read_all(image, WindowGrid((100, 5), (8, 5), (3, 1)), 1)
    rows = [row for start, stop in image.reads for row in range(start, stop)]
    assert rows == list(range(100))
    assert len(image.reads) > 5


@pytest.mark.parametrize("padding", [None, "reflect"])
def test_a_strip_reads_no_rows_of_others(padding):
    """What is read at once would reach far into the strips that follow."""
    image, grid = (
        CountingImage(np.ones((100, 5))),
        WindowGrid((100, 5), (8, 5), (4, 1), "cover", padding),
    )
    strip = Strip(2, 9)
    reader = BatchReader(ImageStack([image]), grid, 1, strip)
    for group in grid.groups(1, strip):
        list(reader.batches(group))
    first, last = grid.rows_of(strip)
    assert (min(start for start, _ in image.reads), max(stop for _, stop in image.reads)) == (
        first,
        last,
    )


@pytest.mark.parametrize("read_bytes", [1, SlabReader._READ_BYTES])
@pytest.mark.parametrize("padding", [None, "reflect"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@given(holes=st.sets(st.tuples(st.integers(0, 29), st.integers(0, 6)), max_size=2))
def test_windows_with_nan_are_said_to_hold_some(read_bytes, padding, dtype, holes):
    image = np.zeros((30, 7), dtype)
    if image.dtype.kind == "f":
        for hole in holes:
            image[hole] = np.nan
    grid = WindowGrid(image.shape, (4, 3), (2, 2), padding=padding)
    with mock.patch.object(SlabReader, "_READ_BYTES", read_bytes):
        batches = read_all(ArrayImage(image, "image"), grid, 2)
    for batch in batches:
        assert batch.may_hold_nan or not np.isnan(batch.windows[0]).any()
    if not np.isnan(image).any():
        assert not any(batch.may_hold_nan for batch in batches)
    elif read_bytes == 1 and max(holes)[0] < 20:
        assert not batches[-1].may_hold_nan
