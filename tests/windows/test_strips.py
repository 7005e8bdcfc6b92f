"""Strips of a grid, beside counting which window rows touch which output rows."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus_core.windows.grid import Strip, WindowGrid


@st.composite
def cut_grids(draw):
    """Draw a grid of one window column, and the strips it is cut into at random places."""
    padding = draw(st.sampled_from([None, "edge"]))
    window, stride = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    height = draw(st.integers(1 if padding else window, 30))
    edges = draw(st.sampled_from(["cover", "drop"]))
    dilation = Fraction(draw(st.sampled_from([1, 2])))
    grid = WindowGrid((height, 1), (window, 1), (stride, 1), edges, padding, dilation)
    rows = len(grid.tops)
    inner = draw(st.sets(st.integers(1, rows - 1), max_size=6)) if rows > 1 else set()
    return grid, [Strip(start, stop) for start, stop in pairwise([0, *sorted(inner), rows])]


def touched(grid, strip):
    """Return the output rows that windows of a strip lie on; negative ones in the padding."""
    height = grid.output_window_shape[0]
    tops = grid.tops[strip.start : strip.stop].tolist()
    return {row for top in tops for row in range(top, top + height)}


def shared_rows(grid, strips):
    """Return the output rows that several strips touch."""
    all_rows = [touched(grid, strip) for strip in strips]
    return {
        row for rows in all_rows for row in rows if sum(row in others for others in all_rows) > 1
    }


@given(cut_grids())
def test_a_strip_shares_what_others_touch(cut_grid):
    grid, strips = cut_grid
    shared = shared_rows(grid, strips)
    bounds = [grid.strip_rows(strip) for strip in strips]
    for strip, (start, own_start, own_stop, stop) in zip(strips, bounds, strict=True):
        assert start <= own_start <= own_stop <= stop
        assert start == grid.tops[strip.start]
        rows = set(range(start, stop))
        assert touched(grid, strip) <= rows
        assert {*range(start, own_start), *range(own_stop, stop)} == rows & shared
    assert all(above.own_stop == below.start for above, below in pairwise(bounds))
    end = grid.output_shape[0] + grid.to_output(grid.rows.after)
    assert bounds[-1].own_stop == bounds[-1].stop == end


@given(cut_grids())
def test_seams_are_runs_of_shared_rows(cut_grid):
    grid, strips = cut_grid
    shared = [row in shared_rows(grid, strips) for row in range(grid.output_shape[0])]
    changes = np.flatnonzero(np.diff([False, *shared, False]))
    assert grid.seams(strips) == list(zip(changes[::2], changes[1::2], strict=True))


def test_seams_that_are_apart_stay_apart():
    grid = WindowGrid((12, 1), (3, 1), (2, 1))
    thirds = [Strip(0, 2), Strip(2, 4), Strip(4, 6)]
    assert grid.seams(thirds) == [(4, 5), (8, 9)]


def test_seams_that_meet_are_one():
    grid = WindowGrid((23, 1), (5, 1), (2, 1))
    strips = [Strip(0, 2), Strip(2, 6), Strip(6, 7), Strip(7, 10)]
    assert grid.seams(strips) == [(4, 7), (12, 17)]


@given(cut_grids(), st.integers(1, 4), st.integers(-9, 70))
def test_the_rest_begins_with_the_first_group_that_reaches_a_row(cut_grid, batch_size, row):
    grid, _ = cut_grid
    groups = list(grid.groups(batch_size, grid.whole()))
    reaching = [group for group in groups if max(touched(grid, group)) >= row]
    first = (reaching or groups[-1:])[0]
    assert grid.rest_of(grid.whole(), batch_size, row) == (first.start, len(grid.tops))


@pytest.mark.parametrize(
    ("windows", "starts"),
    [
        ([1] * 12, [0, 4, 8]),
        ([1] * 10, [0, 3, 7]),
        ([9, 9, 9, 1, 1, 1], [0, 1, 2]),  # each is nearest to a third
        ([0, 0, 0, 0, 0, 5], [0, 1, 2]),  # nothing above: none is left empty
        ([5, 0, 0, 0, 0, 0], [0, 1, 2]),
        ([0, 0, 0, 0, 0, 0], [0, 1, 2]),
        ([1, 1], [0, 1]),  # no more strips than groups
    ],
)
def test_strips_are_as_equal_as_groups_allow(windows, starts):
    grid = WindowGrid((len(windows), 1), (1, 1), (1, 1))
    strips = grid.strips(1, 3, np.array(windows))
    assert strips == [Strip(start, stop) for start, stop in pairwise([*starts, len(windows)])]


def test_the_last_strips_keep_a_group_each():
    grid = WindowGrid((8, 1), (1, 1), (1, 1))
    windows = np.array([0, 0, 0, 0, 0, 0, 0, 4])
    assert [strip.start for strip in grid.strips(2, 4, windows)] == [0, 2, 4, 6]
    assert [strip.start for strip in grid.strips(2, 2, windows[::-1])] == [0, 2]
    crowded = np.array([1, 1, 1, 1, 1, 1, 40, 40])
    assert [strip.start for strip in grid.strips(1, 4, crowded)] == [0, 5, 6, 7]
