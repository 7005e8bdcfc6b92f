"""Distributions over bins: what is made of each, and how good they are against true values."""

from itertools import pairwise

import numpy as np
import pytest
from astropy.table import Table
from conftest import require
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import InputError, columns
from morpheus_core.columns import truth as truth_module
from morpheus_core.results.table_files import WRITERS

RANDOM = np.random.default_rng(3)
CENTRES = np.array([0.05, 0.1, 0.2, 0.25, 0.4, 0.7, 0.75])
SCORES = RANDOM.dirichlet(np.full(7, 0.5), 40)
TRUTH = RANDOM.uniform(-0.1, 0.9, 40)


def exact_crps(scores, edges, truth):
    """Integrate (F − [z ≥ truth])², piece by piece with Simpson's rule, exact for parabolas."""
    below = np.append(0, np.cumsum(scores) / np.sum(scores))
    knots = np.unique([*edges, truth])
    total = 0.0
    for start, stop in pairwise(knots):
        step = float(start >= truth)
        places = [start, (start + stop) / 2, stop]
        a, b, c = (np.interp(places, edges, below) - step) ** 2
        total += (stop - start) * (a + 4 * b + c) / 6
    return total


def test_edges_are_in_the_middle():
    assert_allclose(columns.bin_edges([1, 2, 4]), [0.5, 1.5, 3, 5])
    with pytest.raises(InputError, match="bin_centres must be increasing numbers"):
        columns.bin_edges([2, 1])


def test_pit_and_crps_against_simpson():
    edges = columns.bin_edges(CENTRES)
    assert_allclose(
        columns.crps(SCORES, CENTRES, TRUTH),
        [exact_crps(*row) for row in zip(SCORES, [edges] * 40, TRUTH, strict=True)],
        rtol=0,
        atol=1e-12,
    )
    below = [
        np.interp(value, edges, np.append(0, np.cumsum(row)))
        for row, value in zip(SCORES, TRUTH, strict=True)
    ]
    assert_allclose(columns.pit(SCORES, CENTRES, TRUTH), below, rtol=0, atol=1e-12)


@given(st.floats(-2, 3), st.floats(0.01, 10))
def test_crps_of_what_has_no_width_is_the_distance(value, scale):
    centres = np.array([-1e-9, 0, 1e-9])
    found = columns.crps([[0, scale, 0]], centres, [value])
    assert_allclose(found, abs(value), atol=1e-8)


def test_rows_without_scores_or_truth():
    scores, values = SCORES[:4].copy(), np.ma.array(TRUTH[:4], mask=[0, 0, 1, 0])
    scores[1, 3] = np.nan
    for find in (columns.pit, columns.crps):
        assert_array_equal(np.isnan(find(scores, CENTRES, values)), [0, 1, 1, 0])


def test_blocks_of_rows_change_nothing(monkeypatch):
    whole = columns.crps(SCORES, CENTRES, TRUTH)
    monkeypatch.setattr(truth_module, "BLOCK_ROWS", 7)
    assert_array_equal(columns.crps(SCORES, CENTRES, TRUTH), whole)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (SCORES[0], TRUTH[:1], r"scores must be \(rows, bins\), .* got \(7,\) for 7 bins"),
        (SCORES[:, :5], TRUTH, r"got \(40, 5\) for 7 bins"),
        (SCORES, TRUTH[:3], r"true values of shape \(3,\)"),
        (SCORES, ["a"] * 40, "true values and scores must be numbers"),
    ],
)
def test_arguments_that_do_not_fit(scores, truth, message):
    with pytest.raises(InputError, match=message):
        columns.pit(scores, CENTRES, truth)


def test_mode_is_where_the_distribution_is_densest():
    # The widest bin, around 0.7, holds most and is the least dense of the two.
    scores = np.array([[0, 0.3, 0, 0, 0, 0.1, 0], [0.5, 0, 0, 0, 0, 0, 0.5]])
    scores = np.vstack([scores, [0.2, 0, 0, 0, 0.8, 0, 0]])
    found = columns.mode(CENTRES).of_scores(scores)
    assert_array_equal(found[:, 0], [0.1, 0.05, 0.05])


def test_odds_are_the_share_around_the_mode():
    centres = np.linspace(0.005, 0.995, 100)
    even = np.full((1, 100), 0.01)
    even[0, 50] += 1e-9
    found = columns.odds(centres, half_width=0.1).of_scores(even)
    assert_allclose(found, 2 * 0.1 * 1.505, rtol=1e-6)
    assert_allclose(columns.odds(centres, half_width=9).of_scores(even), 1)
    with pytest.raises(InputError, match="half_width must be a finite number > 0"):
        columns.odds(centres, half_width=0)


def answers(scores, truth, centres=CENTRES):
    bins = " ".join(map(repr, centres.tolist()))
    return Table({"scores": scores, "z_spec": truth}, meta={"BINS": bins})


def test_summary_of_a_catalogue():
    scores = SCORES.copy()
    scores[5] = np.nan  # a row without result
    table = answers(scores, np.clip(TRUTH, 0, None))
    known = np.arange(40) != 5
    z = table["z_spec"][known]
    dz = (scores[known] @ CENTRES - z) / (1 + z)
    found = columns.redshift_summary(table, "z_spec", pit_intervals=10)
    assert found.n == 39
    assert_allclose(found.bias, dz.mean(), atol=1e-12)
    spread = 1.4826 * np.median(abs(dz - np.median(dz)))
    assert_allclose(found.sigma_mad, spread, atol=1e-12)
    assert found.outlier_share == np.mean(abs(dz) > 0.05)
    rows = zip(scores[known], [columns.bin_edges(CENTRES)] * 39, z, strict=True)
    assert_allclose(found.crps, np.mean([exact_crps(*row) for row in rows]), atol=1e-12)
    assert found.pit_counts.sum() == 39
    assert len(found.pit_edges) == 11


def test_summary_of_other_redshifts():
    table = answers(SCORES, TRUTH)
    table["Z"] = TRUTH + 0.1 * (1 + TRUTH)
    found = columns.redshift_summary(table, TRUTH, point="Z")
    assert_allclose([found.bias, found.sigma_mad], [0.1, 0], atol=1e-12)
    assert found.outlier_share == 1
    assert columns.redshift_summary(table, TRUTH, point="Z", outlier=0.15).outlier_share == 0


def test_summary_of_what_cannot_be_compared():
    table = answers(SCORES, TRUTH)
    with pytest.raises(InputError, match="must have the column z, got scores, z_spec"):
        columns.redshift_summary(table, "z")
    with pytest.raises(InputError, match="must have scores and a true redshift, got none"):
        columns.redshift_summary(table, np.full(40, np.nan))
    table.meta.clear()
    with pytest.raises(InputError, match="must have BINS in its meta"):
        columns.redshift_summary(table, "z_spec")


@pytest.mark.parametrize("end", [".fits", ".hdf5", ".parquet", ".ecsv"])
def test_qp_of_rail_reads_what_was_written(tmp_path, end):
    qp = require("qp")
    WRITERS[end](answers(SCORES.astype(np.float32), TRUTH), tmp_path / f"photoz{end}")
    table = Table.read(tmp_path / f"photoz{end}")
    bins, scores = columns.bins_of(table), np.array(table["scores"], float)
    assert_array_equal(bins, CENTRES)
    edges = columns.bin_edges(bins)
    densities = scores / np.diff(edges)
    ensemble = qp.Ensemble(qp.hist, data={"bins": edges, "pdfs": densities})
    below = ensemble.cdf(TRUTH[:, np.newaxis])[:, 0]
    assert_allclose(below, columns.pit(scores, bins, TRUTH), rtol=0, atol=1e-12)
