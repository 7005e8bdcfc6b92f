from fractions import Fraction
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from morpheus_core import InputError
from morpheus_core.windows.grid import Group, Strip, WindowGrid, place_windows
from morpheus_core.windows.visits import Visits, distinct_rows

lengths = st.integers(1, 40)


@given(lengths, lengths, lengths, st.sampled_from(["cover", "drop"]), st.booleans())
def test_windows_lie_on_the_padded_axis(length, window, stride, edges, padded):
    origins, before, after = place_windows(length, window, stride, edges, padded)
    if not padded:
        assert (before, after) == (0, 0)
        assert len(origins) > 0 or window > length
    else:
        assert before == max(window - stride, 0)
        assert before + length + after >= window
    assert (np.diff(origins) > 0).all()
    assert (np.diff(origins)[:-1] == stride).all()
    if len(origins):
        assert origins[0] == -before
        assert origins[-1] + window <= length + after
    if edges == "cover" and len(origins):
        assert origins[-1] + window == length + after
        if stride <= window:
            reached = np.zeros(before + length + after, bool)
            for origin in origins + before:
                reached[origin : origin + window] = True
            assert reached.all()


@given(lengths, lengths, lengths)
def test_padding_makes_border_pixels_as_visited_as_inner_ones(length, window, stride):
    assume(window % stride == 0 and length % stride == 0)
    origins, _, _ = place_windows(length, window, stride, "cover", True)
    visits = [((origins <= pixel) & (pixel < origins + window)).sum() for pixel in range(length)]
    assert min(visits) == max(visits)


def test_known_grid():
    grid = WindowGrid((10, 11), (4, 5), (3, 4))
    assert grid.rows.origins.tolist() == [0, 3, 6]
    assert grid.columns.origins.tolist() == [0, 4, 6]
    assert len(grid) == 9


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 30))
def test_groups_fill_a_batch_and_no_more(batch_size, height, width):
    grid = WindowGrid((height, width), (1, 1), (1, 1))
    groups = list(grid.groups(batch_size, grid.whole()))
    assert groups[0].start == 0
    assert groups[-1].stop == height
    assert all(a.stop == b.start for a, b in pairwise(groups))
    for group in groups[:-1]:
        assert group.stop - group.start == max(1, batch_size // width)


def test_groups_of_a_strip_are_those_of_the_grid():
    grid = WindowGrid((10, 4), (1, 1), (1, 1))
    assert list(grid.groups(8, Strip(4, 8))) == [Group(4, 6), Group(6, 8)]


def test_group_height_spans_the_flush_last_row():
    grid = WindowGrid((12, 4), (4, 4), (5, 1))
    assert grid.rows.origins.tolist() == [0, 5, 8]
    assert grid.group_height(1, grid.whole()) == 4
    assert grid.group_height(2, grid.whole()) == 9


def test_dilation_scales_lengths_and_origins():
    grid = WindowGrid((8, 12), (4, 4), (2, 2), dilation=Fraction(3, 2))
    assert grid.output_shape == (12, 18)
    assert grid.output_window_shape == (6, 6)
    assert grid.tops.tolist() == [0, 3, 6]


@pytest.mark.parametrize(
    ("image", "window", "stride", "culprit"),
    [
        ((9, 8), (4, 4), (2, 2), "image shape"),
        ((8, 8), (4, 3), (2, 2), "window_shape"),
        ((8, 8), (4, 4), (1, 2), "stride"),
    ],
)
def test_dilation_must_give_whole_numbers(image, window, stride, culprit):
    with pytest.raises(InputError, match=f"{culprit} times dilation must be whole.*multiples of 2"):
        WindowGrid(image, window, stride, dilation=Fraction(1, 2))


def test_image_smaller_than_the_window():
    with pytest.raises(InputError, match=r'at least as large.*\(3, 9\).*padding="reflect"'):
        WindowGrid((3, 9), (4, 4), (1, 1))
    assert len(WindowGrid((3, 9), (4, 4), (1, 1), padding="edge")) > 0


@st.composite
def mapped_grids(draw):
    padding = draw(st.sampled_from([None, "reflect"]))
    dilation = draw(st.sampled_from([1, 2]))
    window = draw(st.tuples(*[st.integers(1, 6)] * 2))
    image = draw(st.tuples(*[st.integers(1 if padding else length, 15) for length in window]))
    stride = draw(st.tuples(*[st.integers(1, 8)] * 2))
    edges = draw(st.sampled_from(["cover", "drop"]))
    grid = WindowGrid(image, window, stride, edges, padding, Fraction(dilation))
    seed = draw(st.integers(0, 1000))
    update_map = np.random.default_rng(seed).integers(0, 3, grid.output_window_shape)
    return grid, update_map.astype(float)


@given(mapped_grids(), st.sampled_from([0, 100, Visits._REMEMBERED_BYTES]))
def test_visits_are_what_counting_finds(mapped_grid, remembered):
    grid, update_map = mapped_grid
    above, left_of = (grid.to_output(axis.before) for axis in (grid.rows, grid.columns))
    below, right_of = (grid.to_output(axis.after) for axis in (grid.rows, grid.columns))
    height, width = grid.output_shape
    counted = np.zeros((above + height + below, left_of + width + right_of))
    h, w = grid.output_window_shape
    for top in grid.tops + above:
        for left in grid.lefts:
            counted[top : top + h, left : left + w] += update_map
    counted = counted[above : above + height, left_of : left_of + width]
    visits = Visits(grid, update_map)
    with mock.patch.object(Visits, "_REMEMBERED_BYTES", remembered):
        np.testing.assert_array_equal(visits.rows(0, height), counted)
    assert len(visits._row_sums) <= max(1, remembered // (8 * width))
    assert visits.count_unreached() == (counted == 0).sum()


def test_visits_of_a_large_window_pass_16_bits():
    grid = WindowGrid((511, 511), (256, 256), (1, 1))
    assert Visits(grid, np.ones((256, 256))).row(255)[255] == 65_536


def test_distinct_rows_keep_their_order():
    distinct, kinds = distinct_rows(np.array([[1, 2], [0, 0], [0, 0], [1, 2], [3, 0]]))
    assert distinct.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert kinds == [0, 1, 1, 0, 2]
