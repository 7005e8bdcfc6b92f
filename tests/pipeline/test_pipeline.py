"""Strips side by side, and strips that go on where they stopped, give what one run gives."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import ways_of_folding
from hypothesis import given, settings
from hypothesis import strategies as st
from test_predict_properties import Oracle, cases

from morpheus_core import AGGREGATION_METHODS, checks
from morpheus_core.images.image import ArrayImage
from morpheus_core.images.stack import ImageStack, open_inputs
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.strip import count_windows, run_strip
from morpheus_core.windows.grid import WindowGrid

pytestmark = pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")


def job_of(case):
    images, model, batch_size, options = case
    stack = open_inputs(images, options["bands"], options["mask"])
    grid = WindowGrid(
        stack.shape,
        options["window_shape"],
        options["stride"],
        options["edges"],
        options["padding"],
        Fraction(options["dilation"]),
    )
    job = Job(
        grid,
        options["n_classes"],
        batch_size,
        checks.update_map(options["update_map"], grid.output_window_shape),
        tuple(AGGREGATION_METHODS),
        options["nan_policy"],
        np.nan,
        skip_blank=options["skip_blank"],
        masked=options["mask"] is not None,
    )
    return job, stack, model


def rows_of(job, strip, images, model, counts=None, first_row=None, prefetch=0):
    """Return what a strip hands over as {row: (shared, bytes)}."""
    found = {}
    counts = [] if counts is None else counts

    def keep(rows):
        for row in range(rows.first, rows.stop):
            k = row - rows.first
            parts = [
                block[:, k] if block.ndim == 4 and rows.shared else block[k]
                for block in rows.blocks
            ]
            assert row not in found
            found[row] = rows.shared, b"".join(part.tobytes() for part in parts)

    run_strip(
        job,
        strip,
        images,
        model,
        on_rows=keep,
        on_windows=counts.append,
        first_row=first_row,
        prefetch=prefetch,
    )
    return found


@pytest.mark.parametrize("examples", [30, pytest.param(100, marks=pytest.mark.slow)])
def test_every_row_belongs_to_one_strip_or_to_a_seam(examples):
    @settings(max_examples=examples)
    @given(
        case=cases(),
        count=st.sampled_from([1, 2, 3, 5]),
        prefetch=st.integers(0, 3),
        collects=st.booleans(),
    )
    def check(case, count, prefetch, collects):
        with ways_of_folding(collects):
            rows_belong_to_one_strip_or_to_a_seam(case, count, prefetch)

    check()


def rows_belong_to_one_strip_or_to_a_seam(case, count, prefetch):
    job, images, model = job_of(case)
    grid = job.grid
    strips = grid.strips(job.batch_size, count, count_windows(job, images))
    counts = []
    whole = rows_of(job, grid.whole(), images, model)
    assert list(whole) == list(range(grid.output_shape[0]))
    owned, shared = {}, set()
    for strip in strips:
        for row, (is_shared, content) in rows_of(
            job, strip, images, model, counts, prefetch=prefetch
        ).items():
            if is_shared:
                shared.add(row)
            else:
                assert row not in owned
                owned[row] = content
    assert sum(counts) == count_windows(job, images).sum()
    seams = {row for first, stop in grid.seams(strips) for row in range(first, stop)}
    assert shared == seams
    assert set(owned) == set(whole) - seams
    assert all(whole[row][1] == content for row, content in owned.items())


@settings(max_examples=100)
@given(
    case=cases(),
    count=st.sampled_from([1, 2, 3]),
    fraction=st.floats(0, 1),
    collects=st.booleans(),
)
def test_a_strip_goes_on_where_it_stopped(case, count, fraction, collects):
    with ways_of_folding(collects):
        strip_goes_on_where_it_stopped(case, count, fraction)


@settings(max_examples=100)
@given(case=cases(), count=st.sampled_from([1, 2]))
def test_to_collect_hands_over_what_to_add_does(case, count):
    job, images, model = job_of(case)
    for strip in job.grid.strips(job.batch_size, count, count_windows(job, images)):
        found = []
        for collects in (False, True):
            with ways_of_folding(collects):
                found.append(rows_of(job, strip, images, model))
        assert found[0] == found[1]


def strip_goes_on_where_it_stopped(case, count, fraction):
    job, images, model = job_of(case)
    grid = job.grid
    for strip in grid.strips(job.batch_size, count, count_windows(job, images)):
        all_rows = rows_of(job, strip, images, model)
        keys = list(all_rows)
        if not keys:
            continue
        first_row = keys[min(int(fraction * len(keys)), len(keys) - 1)]
        counts = []
        rest = rows_of(job, strip, images, model, counts, first_row)
        assert rest == {row: content for row, content in all_rows.items() if row >= first_row}
        needed = (
            grid.tops[strip.start : strip.stop] + grid.output_window_shape[0] > first_row
        ).sum()
        group = max(1, job.batch_size // len(grid.columns.origins))
        assert sum(counts) <= (needed + group) * len(grid.columns.origins)


@given(st.integers(1, 50), st.integers(1, 12), st.integers(1, 5), st.integers(1, 9))
def test_strips_are_equal_but_for_a_group(height, batch_size, width, count):
    grid = WindowGrid((height, width), (1, 1), (1, 1))
    strips = grid.strips(batch_size, count, np.full(height, width))
    groups = list(grid.groups(batch_size, grid.whole()))
    assert len(strips) == min(count, len(groups))
    starts = {group.start for group in groups}
    assert {strip.start for strip in strips} <= starts
    rows = [strip.stop - strip.start for strip in strips]
    assert sum(rows) == height
    group_rows = groups[0].stop - groups[0].start
    assert max(rows) - min(rows) <= 2 * group_rows
    assert all(
        abs(strip.start - height * k / len(strips)) <= group_rows for k, strip in enumerate(strips)
    )


def test_many_strips_may_meet_in_a_row():
    grid = WindowGrid((10, 3), (6, 3), (1, 1))
    strips = grid.strips(1, 5, np.ones(5, int))
    assert grid.seams(strips) == [(1, 9)]
    job = Job(grid, 1, 1, np.ones((6, 3)), (AGGREGATION_METHODS.MEAN_VAR,), "propagate", np.nan)
    oracle = Oracle(1, 1, 0, 1, steps=0, holes=None)
    meeting = [
        rows_of(job, strip, ImageStack([ArrayImage(np.ones((10, 3)), "image")]), oracle)
        for strip in strips
    ]
    assert sum(5 in rows for rows in meeting) == 5


@pytest.mark.parametrize("first_row", [12, 13, 14])
def test_a_run_that_stopped_in_a_gap_between_windows(first_row):
    """Rows 12 to 14 are reached by no window; they still have to be written."""
    grid = WindowGrid((18, 2), (2, 2), (5, 2), edges="drop")
    job = Job(grid, 1, 1, np.ones((2, 2)), (AGGREGATION_METHODS.MEAN_VAR,), "propagate", np.nan)
    oracle = Oracle(1, 1, 0, 1, steps=0, holes=None)
    images = ImageStack([ArrayImage(np.ones((18, 2)), "image")])
    rows = rows_of(job, grid.whole(), images, oracle, first_row=first_row)
    assert list(rows) == list(range(first_row, 18))


@pytest.mark.parametrize("collects", [False, True])
@pytest.mark.parametrize("begun_bytes", [0, 1 << 20])
def test_results_are_written_where_they_belong(monkeypatch, collects, begun_bytes):
    """Whether or not batches of less than a row of windows complete some columns of it."""
    monkeypatch.setattr("morpheus_core.pipeline.finisher.BEGUN_BYTES", begun_bytes)
    random = np.random.default_rng(0)
    stack = ImageStack([ArrayImage(random.random((17, 23, 1)), "image")])
    grid = WindowGrid(stack.shape, (5, 6), (2, 3), padding="reflect")
    job = Job(grid, 2, 3, np.ones((5, 6)), tuple(AGGREGATION_METHODS), "propagate", np.nan)

    def model(batch):
        return np.concatenate([batch[0], 1 - batch[0]], axis=-1)

    shape = grid.output_shape
    outputs = [np.empty((*shape, *pixel), np.float32) for pixel in ((2, 2), (2,), ())]
    handed_over = []

    def keep(rows):
        for block, output in zip(rows.blocks, outputs, strict=True):
            assert np.shares_memory(block, output[rows.first : rows.stop])
        handed_over.extend(range(rows.first, rows.stop))

    def room(first, stop):
        return [output[first:stop] for output in outputs]

    with ways_of_folding(collects):
        run_strip(job, grid.whole(), stack, model, on_rows=keep, on_windows=int, room=room)
        expected = rows_of(job, grid.whole(), stack, model)
    assert handed_over == list(range(shape[0]))
    for row, (_, content) in expected.items():
        assert b"".join(output[row].tobytes() for output in outputs) == content
