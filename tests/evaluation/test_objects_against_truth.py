"""Completeness and purity of objects against a catalogue."""

import io

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.stats import binom_conf_interval
from astropy.table import Table
from conftest import require
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from morpheus_core import InputError, evaluate
from morpheus_core.cli import main
from morpheus_core.evaluation.objects import matched

RANDOM = np.random.default_rng(6)


@pytest.fixture(autouse=True, scope="module")
def scipy():
    """What finds the nearest object."""
    return require("scipy")


def sky_tables():
    """Return 200 objects, of which 120 are found within half an arcsecond, and 30 others."""
    truth = Table({"ra": RANDOM.uniform(0, 0.2, 200) - 0.1, "dec": RANDOM.uniform(60, 60.1, 200)})
    truth["ra"] %= 360  # around the meridian, where they are small and large
    truth["mag"] = np.linspace(18, 24, 200)
    places = SkyCoord(truth["ra"][:120], truth["dec"][:120], unit="deg")
    places = places.directional_offset_by(
        RANDOM.uniform(0, 2 * np.pi, 120) * 57.3 * places.ra.unit, 0.5 / 3600 * places.ra.unit
    )
    found = Table({"ra": places.ra.deg, "dec": places.dec.deg})
    others = Table({"ra": np.full(30, 40.0), "dec": np.linspace(0, 1, 30)})
    return truth, Table(np.hstack([found, others])), len(others)


def test_completeness_and_purity_by_magnitude():
    truth, found, n_others = sky_tables()
    table = evaluate(found, truth, match_radius=1, strata=("mag", [18, 20, 22, 24])).table
    assert [*table["stratum"]] == ["all", "18 to 20", "20 to 22", "22 to 24"]
    row = table[0]
    assert (row["n_true"], row["n_found"], row["n_detected"], row["n_matched"]) == (
        200, 120, 120 + n_others, 120,
    )  # fmt: skip
    assert (row["completeness"], row["purity"]) == (0.6, 0.8)
    low, high = binom_conf_interval(120, 200, interval="jeffreys")
    assert_allclose([row["completeness_low"], row["completeness_high"]], [low, high], rtol=1e-4)
    bins = np.digitize(truth["mag"], [18, 20, 22, 24]) - 1
    for place, one in enumerate(table[1:]):
        assert one["n_true"] == np.sum(bins == place)
        assert one["n_found"] == np.sum(bins[:120] == place)
    assert table["purity"].mask.tolist() == [False, True, True, True]
    assert evaluate(found, truth, match_radius=0.4).table["n_found"][0] == 0


def test_purity_is_split_where_what_is_found_has_the_column():
    truth = Table({"x": [1.0, 5.0], "y": [1.0, 5.0], "mag": [19.0, 21.0]})
    found = Table({"x": [1.2, 9.0, 20.0], "y": [1.0, 9.0, 20.0], "mag": [19.2, 20.5, np.nan]})
    table = evaluate(found, truth, match_radius=1, strata=("mag", [18, 20, 22])).table
    assert [*table["purity"]] == [1 / 3, 1, 0]
    assert [*table["completeness"]] == [0.5, 1, 0]
    assert [*table["n_detected"]] == [3, 1, 1]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
)
def test_the_closest_pair_is_matched_first(first, second):
    # So no two distances up to 2 are equal, of which either may be taken first.
    first, second = np.array(first, float), np.array(second, float) + np.array([0.3, 0.41])
    distances = np.hypot(*(first[:, np.newaxis] - second).transpose(2, 0, 1))
    expected, left = [], distances.copy()
    while left.min(initial=np.inf) <= 2:
        one, other = np.unravel_index(left.argmin(), left.shape)
        expected.append(distances[one, other])
        left[one], left[:, other] = np.inf, np.inf
    rows, others = matched(first, second, 2)
    assert len({*rows}) == len(rows)
    assert len({*others}) == len(others)
    assert_allclose(np.sort(distances[rows, others]), np.sort(expected), rtol=1e-9)


def test_rows_without_position_count_for_nothing():
    truth = Table({"x": np.ma.array([1.0, 5.0], mask=[False, True]), "y": [1.0, 5.0]})
    found = Table({"x": [1.0, np.nan], "y": [1.0, 3.0]})
    row = evaluate(found, truth, match_radius=1).table[0]
    assert (row["n_true"], row["n_detected"], row["completeness"], row["purity"]) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": np.zeros((3, 3))}, "compares objects, which have no mask; leave it out"),
        ({"class_names": ["a"]}, "compares objects, which have no class_names"),
        ({"match_radius": 0}, "match_radius must be a finite number > 0"),
        ({"strata": ("mag", [1, 2])}, "must be of a column of the truth, x, y, got 'mag'"),
        ({"truth": Table({"ra": [1.0], "dec": [1.0]})}, "of the same kind, got ra and dec and x"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    table = Table({"x": [1.0], "y": [1.0]})
    arguments = {"truth": table, "match_radius": 1, **options}
    with pytest.raises(InputError, match=message):
        evaluate(table, **arguments)


def test_figure_of_strata():
    require("matplotlib")
    truth, found, _ = sky_tables()
    evaluation = evaluate(found, truth, match_radius=1, strata=("mag", [18, 21, 24]))
    (axes,) = evaluation.plot().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["18 to 21", "21 to 24"]
    assert axes.get_xlabel() == "mag"
    # Purity is not known by magnitude, so points of completeness lie on their ticks.
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["completeness of all: 0.600", "purity of all: 0.800", "completeness"]
    (points,) = axes.containers
    assert_array_equal(points.lines[0].get_xdata(), axes.get_xticks())
    assert [line.get_ydata()[0] for line in axes.lines[:2]] == [0.6, 0.8]
    figure = axes.figure
    figure.savefig(io.BytesIO(), format="png")
    frame = axes.get_window_extent()
    for label in axes.get_xticklabels():
        box = label.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1


def test_figure_of_strata_in_which_purity_is_known():
    require("matplotlib")
    truth, found, _ = sky_tables()
    found["mag"] = np.linspace(18, 24, len(found))
    evaluation = evaluate(found, truth, match_radius=1, strata=("mag", [18, 21, 24]))
    (axes,) = evaluation.plot().axes
    assert [points.get_label() for points in axes.containers] == ["completeness", "purity"]
    (axes,) = evaluate(found, truth, match_radius=1).plot().axes
    assert len(axes.containers) == 2


def test_the_command(tmp_path, monkeypatch, capsys):
    require("matplotlib")
    monkeypatch.chdir(tmp_path)
    truth, found, _ = sky_tables()
    truth.write("catalog.csv")
    found.write("found.ecsv")
    call = "evaluate found.ecsv catalog.csv --match-radius 1 --out table.csv --picture it.png"
    assert main([*call.split(), "--strata", "mag", "--edges", "18", "21", "25"]) == 0
    assert "0.6" in capsys.readouterr().out
    assert_array_equal(Table.read("table.csv")["n_true"], [200, 100, 100])
    assert (tmp_path / "it.png").stat().st_size > 5000
    assert main(call.split()) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*call.split()[:5], "--strata", "mag"]) == 1
    assert "--strata and --edges need each other" in capsys.readouterr().err
