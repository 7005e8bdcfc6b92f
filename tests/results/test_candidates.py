"""Which regions of a result become candidates, where they are, and what they are for."""

import itertools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from conftest import require
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sky_headers import ROTATED, SIP, sky_header

import morpheus_core as package
from morpheus_core import (
    InputError,
    MissingPackageError,
    OutputError,
    export_candidates,
    find_candidates,
    predict,
)
from morpheus_core.results import finished

EXAMPLES = Path(__file__).parents[2] / "examples"
COLUMNS = [
    *("id", "x", "y", "peak", "x_peak", "y_peak", "area", "mean"),
    *("x_min", "x_max", "y_min", "y_max", "at_border"),
]
SKY_COLUMNS = ["id", "ra", "dec", *COLUMNS[1:]]
SHAPE = (40, 50)
GALACTIC = {**sky_header(), "CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}
SOLAR = {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CDELT1": 0.01, "CDELT2": 0.01}


@pytest.fixture(autouse=True)
def scipy():
    require("scipy")


def in_memory(share):
    """Return what `predict` does for one class of which this is the share."""
    share = np.asarray(share)
    return [share[..., np.newaxis], np.ones(share.shape)]


def flooded(inside, corners):
    """Return the connected pixels of each region, by growing it from one of them."""
    left = {tuple(map(int, pixel)) for pixel in np.argwhere(inside)}
    steps = [step for step in itertools.product((-1, 0, 1), repeat=2) if corners or 0 in step]
    while left:
        region, front = [], [left.pop()]
        while front:
            y, x = front.pop()
            region.append((y, x))
            reached = {(y + dy, x + dx) for dy, dx in steps} & left
            left -= reached
            front.extend(reached)
        yield sorted(region)


def row_of(region, share):
    """Return what a table says of a region, but for its id."""
    values = [float(share[pixel]) for pixel in region]
    rows, columns = zip(*region, strict=True)
    peak = max(values)
    y_peak, x_peak = region[values.index(peak)]
    x, y = (np.average(places, weights=values) for places in (columns, rows))
    bounds = min(columns), max(columns), min(rows), max(rows)
    height, width = share.shape
    at_border = min(rows) == 0 or max(rows) == height - 1
    at_border |= min(columns) == 0 or max(columns) == width - 1
    return (x, y, peak, x_peak, y_peak, len(region), np.mean(values), *bounds, at_border)


SHARES = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 8)),
    elements=st.sampled_from([np.nan, 0, 0.25, 0.5, 0.75, 1]),
)


@given(SHARES, st.sampled_from([0.25, 0.5, 1]), st.integers(1, 4), st.booleans(), st.integers(1, 4))
def test_regions_are_those_of_a_flood_fill(share, threshold, min_area, corners, rows_at_once):
    regions = [row_of(pixels, share) for pixels in flooded(share >= threshold, corners)]
    expected = [row for row in regions if row[5] >= min_area]
    expected.sort(key=lambda row: (-row[2], row[4], row[3]))
    with mock.patch.object(finished, "BLOCK_BYTES", rows_at_once * 8 * share.shape[1]):
        table = find_candidates(
            in_memory(share), "class_0", threshold, min_area, connectivity=8 if corners else 4
        )
    assert table.colnames == COLUMNS
    assert_array_equal(table["id"], np.arange(1, len(expected) + 1))
    for name, *values in zip(COLUMNS[1:], *expected, strict=True):
        assert_allclose(table[name], values, rtol=1e-12)


@pytest.mark.parametrize(("connectivity", "areas"), [(8, [4]), (4, [2, 1, 1])])
def test_pixels_that_share_a_corner(connectivity, areas):
    share = np.array([[0.6, 0, 0, 0.7], [0, 0.8, 0.9, 0], [0, 0, 0, 0]])
    table = find_candidates(in_memory(share), "class_0", 0.5, connectivity=connectivity)
    assert table["area"].tolist() == areas
    assert table["peak"][0] == 0.9


def test_a_candidate_is_where_its_pixels_are():
    share = np.zeros(SHAPE)
    share[20, 30:34] = [0.5, 0.5, 1, 1]
    (row,) = find_candidates(in_memory(share), "class_0", 0.5)
    assert row["x"] == pytest.approx((0.5 * (30 + 31) + 32 + 33) / 3)
    assert (row["y"], row["x_peak"], row["y_peak"]) == (20, 32, 20)
    assert [row[name] for name in COLUMNS[-5:-1]] == [30, 33, 20, 20]
    assert row["mean"] == 0.75


def test_a_share_that_is_the_threshold_reaches_it():
    votes = np.full(SHAPE, 0.9, ">f4")
    assert find_candidates(in_memory(votes), "class_0", 0.9)["area"].tolist() == [votes.size]


def test_pixels_without_a_result_belong_to_nothing():
    share, n = np.ones((*SHAPE, 1)), np.ones(SHAPE)
    share[:, 10] = np.nan
    n[:, 20] = 0
    assert find_candidates([share, n], "class_0", 0.5)["x_max"].tolist() == [9, 19, 49]


def scores(batch):
    """Score brightness, and its lack."""
    bright = np.clip(batch[0], 0, 1)  # (batch, height, width, 1)
    return np.concatenate([bright, 1 - bright], axis=-1)


@pytest.fixture
def run(tmp_path):
    """Run over two sources with any header and options, and return what `predict` does."""
    image = np.zeros(SHAPE, np.float32)
    image[8:12, 5:9] = [[0.7, 0.8, 0.9, 0.6]]
    image[30:33, 40:42] = 0.95
    opened = []

    def run(sky=None, **options):
        path = tmp_path / "image.fits"
        fits.writeto(path, image, fits.Header(sky or sky_header()))
        defaults = {"class_names": ["source", "sky"], "aggregate_method": "mean_var"}
        results = predict(
            options.pop("model", scores),
            path,
            2,
            64,
            (8, 10),
            stride=(4, 5),
            out_dir=tmp_path / "out",
            progress=False,
            **{**defaults, **options},
        )
        opened.extend(results[0])
        return results

    yield run
    for hdul in opened:
        hdul.close()


def test_all_kinds_of_results_give_the_same_table(run, tmp_path):
    hduls, (mean_var, n) = run()
    expected = find_candidates(tmp_path / "out", "source", 0.65, min_area=3)
    assert expected.colnames == SKY_COLUMNS
    assert expected["area"].tolist() == [6, 12]
    for results in (str(tmp_path / "out"), hduls, (hduls, [mean_var, n])):
        table = find_candidates(results, "source", 0.65, min_area=3)
        assert_array_equal(table.as_array(), expected.as_array())
    bare = find_candidates([mean_var, n], "class_0", 0.65, min_area=3)
    assert_array_equal(bare.as_array(), expected[COLUMNS].as_array())


def test_the_mean_counts_and_not_the_variance(run, tmp_path):
    run(aggregate_method=["rank_vote", "mean_var"])
    means, votes = (
        find_candidates(tmp_path / "out", "source", 0.65, aggregate_method=method)
        for method in ("mean_var", "rank_vote")
    )
    assert means["area"].tolist() == [6, 12]
    assert votes["area"].tolist() == [16, 6]
    with pytest.raises(InputError, match="aggregate_method must say which of"):
        find_candidates(tmp_path / "out", "source", 0.65)


@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
@pytest.mark.parametrize(
    "sky",
    [sky_header(), sky_header(ROTATED), {**sky_header(ROTATED), **SIP}, GALACTIC],
    ids=["upright", "rotated", "SIP", "galactic"],
)
def test_sky_positions_are_those_of_the_image(run, tmp_path, sky):
    run(sky)
    table = find_candidates(tmp_path / "out", "source", 0.5)
    expected = WCS(fits.Header(sky)).pixel_to_world(table["x"], table["y"]).icrs
    assert_allclose(table["ra"], expected.ra.deg, rtol=0, atol=1e-9)
    assert_allclose(table["dec"], expected.dec.deg, rtol=0, atol=1e-9)
    assert {str(table[name].unit) for name in ("ra", "dec")} == {"deg"}


def test_with_a_dilation_positions_are_of_output_pixels(run, tmp_path):
    run(model=lambda batch: scores(batch).repeat(2, axis=1).repeat(2, axis=2), dilation=2)
    table = find_candidates(tmp_path / "out", "source", 0.94)
    assert (table["x"][0], table["y"][0], table["area"][0]) == (81.5, 62.5, 24)
    found = SkyCoord(table["ra"], table["dec"])
    expected = WCS(sky_header()).pixel_to_world(40.5, 31)
    assert found[0].separation(expected).deg < 1e-9


def test_a_sky_without_right_ascension(run, tmp_path):
    run(SOLAR)
    assert find_candidates(tmp_path / "out", "source", 0.5).colnames == COLUMNS


def test_scores_are_no_probabilities():
    means = np.stack([np.full((6, 8, 2), 7.3), np.zeros((6, 8, 2))], axis=-1)
    with pytest.raises(InputError, match=r"from 0 to 1, are needed, got means from 0 to 7\.3;"):
        find_candidates([means, np.ones((6, 8))], "class_0", 0.9)


def test_nothing_found(run, tmp_path):
    run()
    table = find_candidates(tmp_path / "out", "source", 0.99)
    found = find_candidates(tmp_path / "out", "source", 0.5)
    assert len(table) == 0
    assert table.dtype == found.dtype
    assert table["ra"].unit == found["ra"].unit


@pytest.mark.parametrize("end", [".ecsv", ".fits", ".csv", ".parquet", ".vot"])
def test_tables_can_be_written(run, tmp_path, end):
    run()
    table, path = find_candidates(tmp_path / "out", "source", 0.5), tmp_path / f"table{end}"
    export_candidates(table, path)
    with pytest.raises(OutputError, match="exists already"):
        export_candidates(table, path)
    kind = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".vot": "votable"}.get(end, end[1:])
    read = Table.read(path, format=kind)
    for name in table.colnames[:-1]:
        assert_allclose(read[name], table[name], rtol=1e-6, atol=5e-4)
        if end != ".csv":
            assert read[name].unit == table[name].unit
    assert [str(value) for value in read["at_border"]] == ["False", "False"]
    if end in (".csv", ".ecsv"):
        line = path.read_text().splitlines()[-1].replace(" ", ",")
        assert line == "2,53.1002456,-27.8000083,6.467,9.5,0.9,7,8,16,0.75,5,8,8,11,False"
    assert [one.name for one in tmp_path.glob("*table*")] == [path.name]


def test_candidates_as_regions_of_ds9(run, tmp_path):
    regions = require("regions")
    run()
    table = find_candidates(tmp_path / "out", "source", 0.5)
    export_candidates(table, tmp_path / "sky.reg")
    export_candidates(table[COLUMNS], tmp_path / "pixels.reg")
    on_sky = regions.Regions.read(tmp_path / "sky.reg")
    assert_allclose([one.center.ra.deg for one in on_sky], table["ra"], atol=1e-7)
    assert [str(one.meta["text"]) for one in on_sky] == ["1", "2"]
    (first, _) = regions.Regions.read(tmp_path / "pixels.reg")
    assert (first.center.x, first.center.y, first.width, first.height) == (40.5, 31, 2, 3)
    assert "box(41.5" in (tmp_path / "pixels.reg").read_text()  # DS9 counts from 1


@pytest.mark.parametrize(
    ("table", "name", "error", "message"),
    [
        ([1], "a.csv", InputError, "table must be one of find_candidates, .* got list"),
        (None, "a.txt", InputError, r"path must end in one of \.csv.*\.reg, got"),
        (None, "nowhere/a.csv", OutputError, "cannot write"),
    ],
)
def test_candidates_that_cannot_be_written(tmp_path, table, name, error, message):
    table = table or find_candidates(in_memory(np.ones(SHAPE)), "class_0", 0.5)
    with pytest.raises(error, match=message):
        export_candidates(table, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": "nowhere"}, "nowhere must hold .* got no such folder"),
        ({"results": 5}, "results must be the out_dir of a run, or what predict returns.* got int"),
        ({"class_name": "lens"}, "class_name must be one of 'class_0', got 'lens'"),
        ({"class_name": 0}, "class_name must be one of 'class_0', got 0"),
        ({"threshold": 0}, "threshold must be a finite number > 0, got 0"),
        ({"threshold": np.nan}, "threshold must be a finite number > 0, got nan"),
        ({"threshold": 1.5}, "threshold must be a probability, > 0 and <= 1, got 1.5"),
        ({"threshold": "high"}, "threshold must be a number, got 'high'"),
        ({"min_area": 0}, "min_area must be a whole number >= 1, got 0"),
        ({"min_area": 2.5}, "min_area must be a whole number >= 1, got 2.5"),
        ({"connectivity": 6}, "connectivity must be 4 or 8, got 6"),
        ({"connectivity": [8]}, r"connectivity must be 4 or 8, got \[8\]"),
        ({"aggregate_method": "mean_var"}, "one of 'rank_vote', got 'mean_var'"),
    ],
)
def test_refusals(change, message):
    arguments = {"results": in_memory(np.ones(SHAPE)), "class_name": "class_0", "threshold": 0.5}
    with pytest.raises(InputError, match=message):
        find_candidates(**{**arguments, **change})


def test_an_unfinished_run(run, tmp_path):
    run()
    (tmp_path / "out" / "output.fits").rename(tmp_path / "out" / "output.fits.part")
    with pytest.raises(InputError, match="unfinished run; complete it with resume=True"):
        find_candidates(tmp_path / "out", "source", 0.5)


def test_without_scipy(monkeypatch):
    monkeypatch.setattr("morpheus_core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"'\.\[candidates\]'"):
        find_candidates(in_memory(np.ones(SHAPE)), "class_0", 0.5)


def test_nothing_is_imported_before_it_is_needed():
    script = "import sys, morpheus_core; assert not {'scipy', 'astropy.table'} & set(sys.modules)"
    path = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", script], check=True, env=path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_a_lens_finder_finds_lenses(monkeypatch, capsys):
    require("torch")
    require("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runpy.run_path(str(EXAMPLES / "lens_finder.py"))
    printed = re.findall(
        r"completeness (\d+)% of \d+ lenses, purity (\d+)%", capsys.readouterr().out
    )
    assert len(printed) == 2
    assert all(int(completeness) >= 90 and int(purity) >= 70 for completeness, purity in printed)
