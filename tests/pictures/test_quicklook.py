"""What a picture of a result shows, of which pixels, and where they are."""

import os
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS
from conftest import require
from numpy.testing import assert_allclose, assert_array_equal
from sky_headers import ROTATED, SIP, sky_header

import morpheus_core as package
from morpheus_core import InputError, MissingPackageError, MorpheusWarning, predict, quicklook
from morpheus_core.pictures.colours import (
    BACKGROUND_COLOUR,
    FAINTEST,
    MISSING_COLOUR,
    bright_colours,
    class_colours,
    class_map,
    rgb,
)
from morpheus_core.pictures.sampling import Sampling
from morpheus_core.results import finished

SHAPE = (60, 80)
NAMES = ["source", "halo", "background"]
PANELS = {
    "mean_var": ["Most probable class", "Dispersion", "Predictions"],
    "rank_vote": ["Class with most votes", "Dispersion", "Predictions"],
}


def model(batch):
    """Score three classes by brightness, and never twice the same."""
    pixels = batch[0] + 0.2 * np.sin(len(batch[0]) + np.arange(batch[0].shape[2]))[:, np.newaxis]
    scores = np.exp(-3 * np.abs(pixels - [1, 0.5, 0]))
    return scores / scores.sum(axis=-1, keepdims=True)


def sky_image():
    image = np.random.default_rng(1).normal(scale=0.05, size=SHAPE).astype(np.float32)
    image[20:30, 50:70] += 1
    return image


@pytest.fixture
def run_in(tmp_path):
    """Run with any options, and return what `predict` does."""
    require("matplotlib")
    opened = ExitStack()

    def run_in(sky=None, scores=model, **options):
        path = tmp_path / "image.fits"
        fits.writeto(path, sky_image(), sky_header() if sky is None else sky, overwrite=True)
        options = {"out_dir": tmp_path / "out", "class_names": NAMES, "stride": (5, 4), **options}
        hduls, arrays = predict(scores, path, 3, 64, (10, 8), progress=False, **options)
        for hdul in hduls:
            opened.enter_context(hdul)
        return hduls, arrays

    with opened:
        yield run_in


def pixels_of(axes, beside=False):
    """Return the colours, (rows, columns, 3), that axes, or the tick labels left of them, have."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = FigureCanvasAgg(axes.figure)
    drawn.draw()
    canvas = np.asarray(drawn.buffer_rgba())[::-1, :, :3]
    left, bottom, right, top = axes.bbox.extents.astype(int)
    columns = slice(left - 50, left - 8) if beside else slice(left + 3, right - 3)
    return canvas[bottom + 3 : top - 3, columns]


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("with_image", [True, False])
@pytest.mark.parametrize("method", ["mean_var", "rank_vote", ["rank_vote", "mean_var"]])
def test_panels(run_in, tmp_path, method, with_image):
    run_in(aggregate_method=method)
    figure = quicklook(tmp_path / "out", tmp_path / "image.fits" if with_image else None)
    expected = PANELS[method if isinstance(method, str) else "mean_var"]
    expected = ["Input", *expected] if with_image else expected
    panels = figure.axes[: len(expected)]
    assert [axes.get_title(loc="left") for axes in panels] == expected
    assert legend_of(figure) == NAMES
    for axes in panels:
        assert len(np.unique(pixels_of(axes).reshape(-1, 3), axis=0)) > 2
        assert [coordinate.coord_type for coordinate in axes.coords] == ["longitude", "latitude"]
    assert (pixels_of(panels[0], beside=True) < 128).any()
    assert figure.get_size_inches()[0] <= 9


def test_of_both_methods_the_moments_are_drawn(run_in):
    _, (moments, _, n) = run_in(aggregate_method=["mean_var", "rank_vote"])
    dispersion = quicklook(run_in(out_dir=None, aggregate_method="mean_var")).axes[1].images[0]
    winner = moments[..., 0].argmax(axis=-1)[..., np.newaxis]
    expected = np.sqrt(np.take_along_axis(moments[..., 1], winner, axis=-1)[..., 0])
    assert_allclose(dispersion.get_array(), expected, rtol=1e-6)
    assert n.max() > 1


def test_of_both_methods_votes_are_drawn_where_they_are_asked_for(run_in):
    results = run_in(aggregate_method=["mean_var", "rank_vote"])
    _, (_, votes, _) = results
    dispersion = quicklook(results, aggregate_method="rank_vote").axes[1].images[0]
    assert_allclose(dispersion.get_array(), 1 - votes.max(axis=-1))
    with pytest.raises(InputError, match="aggregate_method must be one of 'rank_vote'"):
        quicklook(run_in(out_dir=None), aggregate_method="mean_var")


def test_dispersion_of_votes(run_in):
    _, (votes, n) = run_in()
    _, dispersion, count = quicklook([votes, n]).axes[:3]
    assert_allclose(dispersion.images[0].get_array(), 1 - votes.max(axis=-1))
    assert_array_equal(count.images[0].get_array(), n)


@pytest.mark.parametrize(
    "part",
    [
        lambda run, folder: folder / "out",
        lambda run, folder: str(folder / "out"),
        lambda run, folder: run,
        lambda run, folder: run[0],
        lambda run, folder: tuple(run[1]),
    ],
    ids=["path", "text", "both", "HDULists", "arrays"],
)
def test_all_kinds_of_results_look_the_same(run_in, tmp_path, part):
    run = run_in(aggregate_method="mean_var")
    options = {"class_names": NAMES, "image": tmp_path / "image.fits"}
    expected, figure = (quicklook(r, **options) for r in (run, part(run, tmp_path)))
    for axes, expected_axes in zip(figure.axes[:4], expected.axes[:4], strict=True):
        assert_array_equal(axes.images[0].get_array(), expected_axes.images[0].get_array())
        assert_allclose(axes.wcs.wcs.crval, expected_axes.wcs.wcs.crval)


def test_names_come_from_the_user_the_headers_or_nowhere(run_in):
    hduls, arrays = run_in()
    assert legend_of(quicklook(hduls)) == NAMES
    assert legend_of(quicklook(arrays)) == ["class_0", "class_1", "class_2"]
    assert legend_of(quicklook(hduls, class_names=["a", "b", "c"])) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("image", "bands"),
    [
        (sky_image(), "last"),
        (np.stack([sky_image(), sky_image() * np.nan], axis=-1), "last"),
        (np.stack([sky_image(), sky_image() * np.nan]), "first"),
        (fits.ImageHDU(sky_image()), "last"),
        (NDData(sky_image()), "last"),
        ([sky_image(), sky_image() * np.nan], "last"),
    ],
)
def test_the_first_band_of_the_first_image_is_shown(run_in, image, bands):
    shown = quicklook(run_in(), image, bands=bands).axes[0].images[0].get_array()
    assert_array_equal(shown, sky_image())


@pytest.mark.parametrize("value", [0, 1.5, np.nan])
def test_images_without_contrast(run_in, tmp_path, value):
    figure = quicklook(run_in(), np.full(SHAPE, value))
    figure.savefig(tmp_path / "look.png")
    assert len(np.unique(pixels_of(figure.axes[0]).reshape(-1, 3), axis=0)) == 1


def test_scores_are_drawn_with_a_warning(run_in):
    results = run_in(scores=lambda batch: 9 * model(batch) - 4, aggregate_method="mean_var")
    with pytest.warns(MorpheusWarning, match=r"from 0 to 1, are needed, got means from"):
        quicklook(results)


def test_pixels_without_result_are_grey(run_in):
    mask = np.zeros(SHAPE, bool)
    mask[:, :40] = True
    figure = quicklook(run_in(mask=mask, fill_value=0, aggregate_method="mean_var"))
    assert legend_of(figure) == [*NAMES, "no result"]
    for axes in figure.axes[:3]:
        drawn = pixels_of(axes)
        left = drawn[:, : drawn.shape[1] // 2 - 5]
        assert_array_equal(left, np.broadcast_to(255 * rgb(MISSING_COLOUR), left.shape).round())
        assert not (drawn[:, drawn.shape[1] // 2 + 5 :] == left[0, 0]).all(axis=-1).any()


def test_a_pixel_needs_a_mean_of_each_class_and_no_variance_below_zero():
    require("matplotlib")
    moments = np.full((6, 8, 2, 2), [0.5, -1e-9])
    moments[2, 3, 1, 0] = np.nan
    figure = quicklook([moments, np.ones((6, 8))])
    assert legend_of(figure)[-1] == "no result"
    expected = np.zeros((6, 8))
    expected[2, 3] = np.nan
    assert_array_equal(np.ma.filled(figure.axes[1].images[0].get_array(), np.nan), expected)


@pytest.mark.parametrize(
    "sky",
    [sky_header(), sky_header(ROTATED), fits.Header({**sky_header(ROTATED), **SIP})],
    ids=["upright", "rotated", "SIP"],
)
@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
def test_pixels_lie_where_they_are_on_the_sky(run_in, tmp_path, sky):
    run_in(sky=sky)
    figure = quicklook(tmp_path / "out", tmp_path / "image.fits", max_pixels=27)
    image, expected = sky_image(), WCS(sky)
    for axes in figure.axes[:4]:
        drawn = axes.images[0]
        rows, columns = drawn.get_array().shape[:2]
        assert (rows, columns) == (20, 27)
        left, right, bottom, top = drawn.get_extent()
        x = left + (np.arange(columns) + 0.5) * (right - left) / columns
        y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
        assert_allclose(x, np.arange(1, 80, 3), atol=1e-9)
        assert_allclose(y, np.arange(1, 60, 3), atol=1e-9)
        corners = np.array([[x[0], y[0]], [x[-1], y[0]], [x[-1], y[-1]]])
        found = axes.wcs.all_pix2world(corners, 0)
        assert_allclose(found, expected.all_pix2world(corners, 0), rtol=0, atol=1e-9)
    assert_array_equal(figure.axes[0].images[0].get_array(), image[1::3, 1::3])


@pytest.mark.parametrize(("sky", "labels"), [(((-1, 0), (0, 1)), "RA"), (((0, 1), (1, 0)), "Dec")])
def test_each_axis_says_what_it_is(run_in, sky, labels):
    first, second = quicklook(run_in(sky=sky_header(sky))).axes[0].coords
    below = first if labels == "RA" else second
    assert below.get_ticks_position() == ["b"]
    assert below.get_axislabel() == labels


def test_without_a_sky_position_pixels_are_counted(run_in):
    _, arrays = run_in()
    figure = quicklook(arrays, sky_image())
    assert not hasattr(figure.axes[0], "wcs")
    assert figure.axes[2].get_ylabel() == "row"


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("dilation", "most"), [(2, 1000), (2, 50), (0.5, 1000), (0.5, 11)])
def test_with_a_dilation_all_panels_show_the_same_sky(run_in, tmp_path, dilation, most, in_memory):
    def scores(batch):
        if dilation == 2:
            return model(batch).repeat(2, axis=1).repeat(2, axis=2)
        return model(batch)[:, ::2, ::2]

    hduls, arrays = run_in(scores=scores, dilation=dilation, stride=(4, 4))
    results = arrays if in_memory else hduls
    figure = quicklook(results, tmp_path / "image.fits", max_pixels=most)
    source = WCS(sky_header())
    step = -(-80 // most)
    first = (step - 1) // 2
    left, _, bottom, _ = figure.axes[0].images[0].get_extent()
    centre = np.array([[left, bottom]]) + step * dilation / 2
    for axes in figure.axes[:4]:
        assert axes.get_xlim() == (-0.5, 80 * dilation - 0.5)
        assert axes.get_ylim() == (-0.5, 60 * dilation - 0.5)
        found = axes.wcs.all_pix2world(centre, 0)
        assert_allclose(found, source.all_pix2world([[first, first]], 0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1000), (100, 7), (999, 1000), (1000, 1001)])
@pytest.mark.parametrize("most", [1, 10, 333, 1000, 5000])
def test_samples_are_few_and_stand_for_the_whole_image(shape, most):
    sampling = Sampling.of(shape, most)
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    assert 1 <= len(sampling.rows) <= most
    assert 1 <= len(sampling.columns) <= most
    pixels = sampling.read(lambda start, stop: image[start:stop])
    assert_array_equal(pixels, image[np.ix_(sampling.rows, sampling.columns)])
    left, right, bottom, top = sampling.extent
    assert max(left, bottom) <= 0
    half = (sampling.step + 1) / 2
    assert right >= shape[1] - half
    assert top >= shape[0] - half


def test_of_a_large_result_few_rows_are_read(tmp_path, monkeypatch):
    require("matplotlib")
    for name, shape in (("output", (20_000, 20_000, 5, 2)), ("n", (20_000, 20_000))):
        header = fits.PrimaryHDU(np.zeros((1,) * len(shape), ">f4")).header
        for axis, length in enumerate(reversed(shape), start=1):
            header[f"NAXIS{axis}"] = length
        header.tofile(tmp_path / f"{name}.fits")
        size = (tmp_path / f"{name}.fits").stat().st_size + header.data_size_padded
        os.truncate(tmp_path / f"{name}.fits", size)
    asked, read = [], finished.Output.read

    def counting(output, start, stop):
        asked.append((Path(output.name).name, start, stop))
        return read(output, start, stop)

    monkeypatch.setattr(finished.Output, "read", counting)
    figure = quicklook(tmp_path, max_pixels=40)
    rows = [(row, row + 1) for row in range(249, 20_000, 500)]
    assert asked == [(name, *row) for name in ("output.fits", "n.fits") for row in rows]
    assert figure.axes[0].images[0].get_array().shape == (40, 40, 3)


class TestColours:
    def test_brightness_is_probability(self):
        shares = np.array([[[1, 0, 0], [0.5, 0.3, 0.2], [0, 0, 1], [np.nan, 1, 0]]])
        sure, unsure, background, missing = class_map(shares, NAMES)[0]
        star, _, dark = class_colours(NAMES)
        assert_allclose(sure, star)
        assert_allclose(unsure, dark + (FAINTEST + (1 - FAINTEST) * 0.25) * (star - dark))
        assert_allclose(background, dark)
        assert_allclose(missing, rgb(MISSING_COLOUR))

    @pytest.mark.parametrize("name", ["background", "Sky"])
    def test_what_is_behind_the_sources_is_dark(self, name):
        assert_array_equal(class_colours(["star", name])[1], rgb(BACKGROUND_COLOUR))

    def test_a_lone_class_is_as_bright_as_it_scores(self):
        colours = class_map(np.array([[[0.0], [0.5], [1.0]]]), ["cloud"])[0]
        assert (np.diff(colours.max(axis=-1)) > 0.1).all()

    @pytest.mark.parametrize("count", [0, 1, 7, 8, 20, 100])
    def test_no_two_classes_look_the_same(self, count):
        colours = bright_colours(count)
        assert colours.shape == (count, 3)
        assert len(np.unique((255 * colours).round(), axis=0)) == count

    def test_of_many_classes_the_legend_names_the_most_frequent(self):
        require("matplotlib")
        votes = np.zeros((1, 40, 100))
        votes[0, range(40), [*range(0, 80, 4), *[99] * 20]] = 1
        figure = quicklook([votes, np.ones((1, 40))])
        legend = legend_of(figure)
        assert {"class_99", "class_0", "class_76"} < set(legend)
        assert legend[-1] == "and 76 more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": "nowhere"}, "nowhere must hold .* got no such folder"),
        ({"results": "."}, "got none that are complete"),
        ({"results": 5}, "results must be the out_dir of a run, or what predict returns.* got int"),
        ({"results": []}, "results must be the out_dir"),
        ({"results": [np.ones((3, 4, 2))]}, "results must be the out_dir"),
        ({"results": [np.ones((3, 4, 2)), np.ones((4, 3))]}, r"n of shape \(4, 3\)"),
        ({"results": [np.ones((3, 4)), np.ones((3, 4))]}, "must be an output of predict"),
        ({"results": ([fits.HDUList([fits.PrimaryHDU()])], [np.ones(3)] * 2)}, "results must be"),
        ({"results": [np.ones((0, 4, 2)), np.ones((0, 4))]}, "must be an output of predict"),
        ({"results": [fits.HDUList(), fits.HDUList()]}, "results must be"),
        ({"results": ([fits.HDUList()] * 2, [5, 5])}, "results must be"),
        ({"image": np.ones((60, 81))}, r"image must show .* \(60, 80\) .* got \(60, 81\)"),
        ({"image": np.ones((80, 60))}, "image must show the sky"),
        ({"image": "nowhere.fits"}, "no such file: nowhere.fits"),
        ({"image": []}, "at least one image"),
        ({"image": 5}, "image must be an array, the path"),
        ({"class_names": ["a"]}, "class_names must be 3 strings"),
        ({"bands": "middle"}, "bands must be one of"),
        ({"max_pixels": 0}, "max_pixels must be a whole number >= 1, got 0"),
    ],
)
def test_refuses(run_in, tmp_path, monkeypatch, change, message):
    _, arrays = run_in()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match=message):
        quicklook(**{"results": arrays, **change})


def test_an_unfinished_run(tmp_path):
    require("matplotlib")
    (tmp_path / "n.fits").touch()
    (tmp_path / "output.fits.part").touch()
    with pytest.raises(InputError, match="got an unfinished run; complete it with resume=True"):
        quicklook(tmp_path)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setattr("morpheus_core.extras.find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match=r"pip install '\.\[plot\]' in the clone"
    ) as error:
        quicklook([np.ones((3, 4, 2)), np.ones((3, 4))])
    assert isinstance(error.value, ImportError)


def test_leaves_pyplot_alone():
    require("matplotlib")
    script = (
        "import sys, numpy as np, morpheus_core\n"
        "assert 'matplotlib' not in sys.modules\n"
        "morpheus_core.quicklook([np.ones((3, 4, 2)), np.ones((3, 4))])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, env=path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("before", ["import matplotlib.pyplot", "", "%matplotlib inline"])
def test_a_notebook_shows_one_picture(run_in, tmp_path, before):
    nbformat, nbclient = require("nbformat"), require("nbclient")
    require("ipykernel")
    run_in()
    source = f"{before}\nfrom morpheus_core import quicklook\nquicklook('out', 'image.fits')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    path = {"PYTHONPATH": str(Path(package.__file__).parent.parent)}
    with warnings.catch_warnings(), mock.patch.dict(os.environ, path):
        warnings.simplefilter("ignore")  # of the client's own event loop
        nbclient.NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    (output,) = notebook.cells[0].outputs
    assert "image/png" in output.data
