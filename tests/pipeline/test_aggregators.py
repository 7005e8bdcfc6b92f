"""One suite that every aggregator passes, and what is particular to each."""

import numpy as np
import pytest
from conftest import require
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from morpheus_core.pipeline.aggregators import AGGREGATORS, Collection, Ending, Fold
from morpheus_core.pipeline.kernels import plain
from morpheus_core.pipeline.ring import RowRing, spans_of
from morpheus_core.pipeline.shelf import Shelf

RING, WIDTH, CLASSES = 7, 12, 3


@pytest.fixture
def kernels(both_kernels):
    from morpheus_core.pipeline import kernels

    return kernels.fastest()


@pytest.fixture(params=AGGREGATORS.values(), ids=list(AGGREGATORS))
def aggregator(request):
    return request.param


def make_fold(seed, update_map, batch=9, dtype=np.float32):
    random = np.random.default_rng(seed)
    height, width = update_map.shape
    binary = set(np.unique(update_map)) <= {0, 1}
    return Fold(
        random.normal(size=(batch, height, width, CLASSES)).astype(dtype),
        spans_of(update_map) if binary else None,
        update_map[np.newaxis],
        int(random.integers(-5, 20)),
        random.integers(0, WIDTH - width + 1, batch),
    )


def fold_all(aggregator, kernels, folds):
    planes = np.zeros((aggregator.n_planes, RING, WIDTH, CLASSES))
    count = np.zeros((RING, WIDTH))
    for fold in folds:
        aggregator.fold(kernels, planes, fold)
        plain.add_weights(count, fold.weights, fold.top, fold.lefts)
    return planes, count


def finalize(aggregator, kernels, planes, n, fill_value=np.nan):
    shape = (*n.shape, *aggregator.result_shape(planes.shape[-1]))
    results = np.empty(shape, np.float32)
    aggregator.finalize(kernels, planes, n, fill_value, results)
    return results


MAPS = {
    "all": np.ones((5, 4)),
    "crop": np.pad(np.ones((3, 2)), 1),
    "ragged": np.random.default_rng(1).integers(0, 2, (5, 4)).astype(float),
    "weights": np.random.default_rng(2).random((5, 4)) * np.arange(4),
}


@pytest.mark.parametrize("update_map", MAPS.values(), ids=list(MAPS))
class TestEveryAggregator:
    def test_merging_is_adding(self, aggregator, kernels, update_map):
        one, other = make_fold(1, update_map), make_fold(2, update_map)
        together, n = fold_all(aggregator, kernels, [one, other])
        apart = [fold_all(aggregator, kernels, [fold])[0] for fold in (one, other)]
        np.testing.assert_allclose(
            finalize(aggregator, kernels, sum(apart), n),
            finalize(aggregator, kernels, together, n),
            rtol=1e-6,
            atol=1e-13,
        )

    def test_order_of_adds_hardly_matters(self, aggregator, kernels, update_map):
        one, other = make_fold(1, update_map), make_fold(2, update_map)
        forth, n = fold_all(aggregator, kernels, [one, other])
        back, _ = fold_all(aggregator, kernels, [other, one])
        np.testing.assert_allclose(
            finalize(aggregator, kernels, forth, n),
            finalize(aggregator, kernels, back, n),
            rtol=1e-6,
            atol=1e-13,
        )

    def test_compiled_and_plain_give_the_same_bytes(self, aggregator, update_map):
        require("numba")
        from morpheus_core.pipeline.kernels import compiled

        for dtype in (np.float32, np.float64):
            folds = [make_fold(seed, update_map, dtype=dtype) for seed in range(3)]
            sums, n = fold_all(aggregator, plain, folds)
            assert sums.tobytes() == fold_all(aggregator, compiled, folds)[0].tobytes()
            sums[0, 0, 0, 1] = np.nan
            results = [finalize(aggregator, module, sums, n, -1) for module in (plain, compiled)]
            np.testing.assert_array_equal(*results)

    def test_empty_pixels_hold_zero_sums(self, aggregator, kernels, update_map):
        planes, n = fold_all(aggregator, kernels, [make_fold(1, update_map, batch=1)])
        assert (n == 0).any()
        assert not planes[:, n == 0].any()

    def test_pixels_that_do_not_count_are_never_read(self, aggregator, kernels, update_map):
        fold = make_fold(1, update_map)
        clean, _ = fold_all(aggregator, kernels, [fold])
        fold.predictions[:, update_map == 0] = np.nan
        spoiled, _ = fold_all(aggregator, kernels, [fold])
        assert clean.tobytes() == spoiled.tobytes()

    def test_one_nonfinite_class_spoils_the_pixel_alone(self, aggregator, kernels, update_map):
        for value in (np.nan, np.inf, -np.inf):
            fold = make_fold(1, update_map, batch=1)
            row, column = np.argwhere(update_map > 0)[0]
            fold.predictions[0, row, column, 1] = value
            planes, n = fold_all(aggregator, kernels, [fold])
            spoiled = np.isnan(finalize(aggregator, kernels, planes, n, fill_value=-1))
            spoiled = spoiled.reshape(RING, WIDTH, -1)
            ring_row, left = (fold.top + row) % RING, fold.lefts[0] + column
            assert spoiled[ring_row, left].all()
            spoiled[ring_row, left] = False
            assert not spoiled[n > 0].any()


@st.composite
def collections(draw):
    """Windows in rows and columns, in planes that hold sums of earlier ones."""
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    height, width = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    rows, columns = draw(st.tuples(st.integers(1, 4), st.integers(1, 6)))
    n_classes = draw(st.sampled_from([1, 3, 33]))
    tops = np.cumsum(random.integers(1, height + 3, rows)) + draw(st.integers(-9, 9))
    lefts = np.cumsum(random.integers(0, width + 3, columns))
    crop = [sorted(random.choice(length + 1, 2, replace=False)) for length in (height, width)]
    (top, bottom), (left, right) = crop
    shape = (rows * columns, height, width, n_classes)
    predictions = random.integers(0, 5, shape).astype(draw(st.sampled_from(["f4", "f8"]))) / 3
    if draw(st.booleans()):
        predictions[tuple(random.integers(0, length) for length in shape)] = np.nan
    carried = int(tops[0]) + draw(st.integers(0, 4)), draw(st.integers(0, 9))
    rectangle = (top, bottom, left, right)
    return Collection(predictions, rectangle, tops + top, lefts + left, carried)


@pytest.mark.parametrize("powers", [True, False])
@given(folded=collections())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_to_collect_is_to_add_window_after_window(aggregator, kernels, powers, folded):
    first, stop = int(folded.tops[0]), folded.stop
    rows, n_classes = stop - first, folded.predictions.shape[-1]
    columns = int(folded.lefts[-1]) + folded.predictions.shape[2]
    random = np.random.default_rng(len(folded.predictions))
    planes = random.integers(0, 5, (aggregator.n_planes, rows, columns, n_classes)) / 3
    at = np.arange(first, stop) % rows
    added = planes.copy()
    row, column = folded.carried
    added[:, at[max(row - first, 0) :], column:] = 0
    update_map = np.zeros(folded.predictions.shape[1:3])
    top, bottom, left, right = folded.crop
    update_map[top:bottom, left:right] = 1
    across = len(folded.lefts)
    for k, row in enumerate(folded.tops):
        part = folded.predictions[k * across : (k + 1) * across]
        fold = Fold(part, spans_of(update_map), update_map[None], row - top, folded.lefts - left)
        aggregator.fold(kernels, added, fold)

    n = np.full((rows, columns - 2 * (columns > 2)), 4.0 if powers else 3.0)
    n[0, 0] = 0 if not powers else 4
    start = int(columns > 2)
    before = planes.copy()
    results = np.full((rows, columns + 1, *aggregator.result_shape(n_classes)), 9, np.float32)
    aggregator.finish(kernels, planes, folded, Ending(first, start, n, -1.0), results, 1)
    assert planes.tobytes() == before.tobytes()
    assert (results[:, 0] == 9).all()
    assert (results[:, 1 + n.shape[1] :] == 9).all()
    expected = np.empty((*n.shape, *results.shape[2:]), np.float32)
    sums = added[:, at, start : start + n.shape[1]]
    aggregator.finalize(kernels, sums, n, -1.0, expected)
    assert results[:, 1 : 1 + n.shape[1]].tobytes() == expected.tobytes()

    aggregator.collect(kernels, planes, folded, (first, stop), (start, columns))
    assert planes[:, :, :start].tobytes() == before[:, :, :start].tobytes()
    planes, added = planes[:, :, start:], added[:, :, start:]
    np.testing.assert_array_equal(np.isnan(planes).any(axis=-1), np.isnan(added).any(axis=-1))
    finite = ~np.isnan(added).any(axis=-1)
    np.testing.assert_array_equal(planes[finite], added[finite])


def test_variance_at_the_rounding_floor(kernels):
    """p = 0.999 ± 1e-4 over 1600 visits: float32 sums would be 100 times off, some negative."""
    random = np.random.default_rng(0)
    values = (0.999 + 1e-4 * random.normal(size=(1600, 2, 3, CLASSES))).astype(np.float32)
    everywhere = np.zeros(1600, dtype=np.int64)
    planes = np.zeros((2, 2, 3, CLASSES))
    kernels.add_moments(*planes, values, spans_of(np.ones((2, 3))), 0, everywhere)
    result = finalize(AGGREGATORS["mean_var"], kernels, planes, np.full((2, 3), 1600.0))
    exact = values.astype(np.float64)
    np.testing.assert_allclose(result[..., 0], exact.mean(axis=0), rtol=6e-8)
    np.testing.assert_allclose(result[..., 1], exact.var(axis=0), rtol=1e-4)


def test_ties_go_to_the_lowest_class(kernels):
    predictions = np.float32([[[[0.2, 0.5, 0.5], [0.3, 0.3, 0.3]]]])
    votes = np.zeros((1, 2, 3))
    zero = np.zeros(1, dtype=np.int64)
    kernels.add_votes(votes, predictions, spans_of(np.ones((1, 2))), 0, zero)
    assert votes.tolist() == [[[0, 1, 0], [1, 0, 0]]]


def test_spans_are_the_runs_of_each_row():
    update_map = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert spans_of(update_map).tolist() == [[0, 1, 3], [0, 4, 5], [2, 0, 5]]


def test_ring_releases_rows_once_and_cleared():
    ring = RowRing(
        plain,
        list(AGGREGATORS.values()),
        first=-2,
        rows=3,
        width=4,
        n_classes=2,
        update_map=np.ones((2, 4)),
        omit=True,
        counted=True,
    )
    ones, at = np.ones((1, 2, 4, 2), np.float32), np.array([0])
    ring.add(ones, np.array([-2]), at)
    ring.add(ones, np.array([-1]), at)
    released = [
        (row, planes[0][0].max(), counted.max())
        for first, planes, counted, _ in ring.release(5)
        for row in range(first, first + planes[0].shape[1])
    ]
    assert [row for row, *_ in released] == [-2, -1, 0, 1, 2, 3, 4]
    ring.add(ones, np.array([5]), at)
    again = next(ring.release(6))
    assert again.planes[0][0].tolist() == np.ones((1, 4, 2)).tolist()


@pytest.fixture
def wide_ring(monkeypatch):
    """Make rings for windows of 2 x 4 pixels that release 60 values at a time."""
    monkeypatch.setattr(RowRing, "_BLOCK_VALUES", 60)

    def make(width, n_classes):
        return RowRing(
            plain,
            list(AGGREGATORS.values()),
            first=0,
            rows=2,
            width=width,
            n_classes=n_classes,
            update_map=np.ones((2, 4)),
            omit=False,
            counted=False,
        )

    return make


@pytest.mark.parametrize(
    ("width", "n_classes", "rows"), [(9, 2, 3), (10, 2, 3), (11, 2, 2), (30, 2, 1), (31, 2, 1)]
)
def test_rows_are_released_as_many_as_fit(wide_ring, width, n_classes, rows):
    assert wide_ring(width, n_classes).block_rows == rows


@pytest.mark.parametrize(
    "batches", [[range(1, 6)], [range(1, 3), range(3, 6)], [[1], [2, 3, 4], [5]]]
)
def test_columns_are_touched_once_in_whatever_batches(wide_ring, monkeypatch, batches):
    touched = []
    monkeypatch.setattr(Shelf, "touched", lambda self, pixels: touched.append(pixels))
    ring = wide_ring(9, 2)
    for lefts in batches:
        ones = np.ones((len(lefts), 2, 4, 2), np.float32)
        ring.add(ones, np.zeros(len(lefts), int), np.array(lefts))
    # Both rows are cleared, and what is added is counted by the columns in which windows begin.
    assert sum(touched) == 2 * 9 + 2 * 5


@pytest.mark.parametrize("maps", [1, 3])
def test_weights_are_counted_of_one_map_or_of_each_window(kernels, maps):
    weights = np.random.default_rng(maps).random((maps, 2, 4))
    lefts, expected = np.array([0, 1, 5]), np.zeros((3, 9))
    count = np.zeros_like(expected)
    kernels.add_weights(count, weights, 5, lefts)
    for window, left in enumerate(lefts):
        for i in range(2):
            expected[(5 + i) % 3, left : left + 4] += weights[window % maps, i]
    np.testing.assert_allclose(count, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("n_classes", "dtype"), [(1, np.float32), (5, np.float64), (32, np.float32), (33, np.float32)]
)
def test_votes_of_any_number_of_classes(n_classes, dtype):
    """Beyond 32 classes the compiled loop is another one."""
    require("numba")
    from morpheus_core.pipeline.kernels import compiled

    random = np.random.default_rng(n_classes)
    predictions = random.integers(0, 9, (6, 4, 5, n_classes)).astype(dtype)
    predictions[2, 1, 3, n_classes // 2] = np.nan
    predictions[4, 2, 2, 0] = -np.inf
    update_map = np.pad(np.ones((3, 4)), ((0, 1), (1, 0)))
    for spans in (spans_of(np.ones((4, 5))), spans_of(update_map)):
        votes = [np.zeros((RING, WIDTH, n_classes)) for _ in range(2)]
        for kernels, planes in zip((plain, compiled), votes, strict=True):
            kernels.add_votes(planes, predictions, spans, 5, np.array([0, 7, 3, 3, 6, 1]))
        # Which class of a pixel is NaN does not matter: in the end all are.
        spoiled = [np.isnan(planes).any(axis=-1) for planes in votes]
        assert spoiled[0].any()
        np.testing.assert_array_equal(*spoiled)
        np.testing.assert_array_equal(*(planes[~spoiled[0]] for planes in votes))
        results = [np.empty((RING, WIDTH, n_classes), np.float32) for _ in range(2)]
        n = np.full((RING, WIDTH), 3.0)
        n[2, 4] = 0
        for kernels, planes, shares in zip((plain, compiled), votes, results, strict=True):
            kernels.finish_votes(planes, n, -1.0, shares)
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_moments_of_few_windows_are_done_at_once_unless_one_is_not_finite(windows):
    require("numba")
    from morpheus_core.pipeline.kernels import collecting

    flat = np.random.default_rng(windows).random(windows * 3, np.float32)
    results = np.empty(6, np.float32)
    of_windows = flat, np.arange(windows, dtype=np.uintp) * np.uintp(3), windows
    of_sums = np.zeros(3), np.zeros(3), np.uintp(0), np.uintp(3)

    def finish_few():
        return collecting.finish_few(*of_windows, *of_sums, 1 / windows, results, np.uintp(0))

    assert finish_few()
    each = flat.reshape(windows, 3).astype(np.float64)
    np.testing.assert_allclose(results[::2], each.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(results[1::2], each.var(axis=0), atol=1e-7)
    for value in (np.nan, np.inf):
        flat[-1] = value
        assert not finish_few()
    flat[:] = np.nan
    assert not finish_few()
