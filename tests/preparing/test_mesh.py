"""The ready steps against what they are said to be."""

import numpy as np
import pytest
from astropy.stats import SigmaClip
from conftest import require
from numpy.testing import assert_allclose

from morpheus_core import InputError, MorpheusWarning, preparing
from morpheus_core.images.image import ArrayImage
from morpheus_core.images.preparing_steps import ImageRows
from morpheus_core.preparing.splines import Surface


def fitted(step, image):
    """Return what a step finds of an image of one band."""
    return step.fit(ImageRows(ArrayImage(image, "image")))


def prepared(step, image):
    rows = image[..., np.newaxis].copy()
    return step.apply(rows, 0, fitted(step, image))[..., 0]


@pytest.fixture
def sky():
    """A sloping sky of noise 8 with stars, (256, 320), and the sky."""
    random = np.random.default_rng(1)
    rows, columns = np.indices((256, 320))
    level = 300 + 0.3 * columns - 0.1 * rows + 20 * np.sin(columns / 90)
    image = random.normal(level, 8)
    for row, column in zip(*random.integers(4, 250, (2, 150)), strict=True):
        image[row - 2 : row + 3, column - 2 : column + 3] += random.pareto(1) * 100
    return image.astype(np.float32), level


class TestMesh:
    def test_boxes_are_those_of_photutils(self, sky):
        background = require("photutils.background")
        image, _ = sky
        other = background.Background2D(
            image.astype(np.float64), (32, 32), filter_size=1, exclude_percentile=100,
            sigma_clip=SigmaClip(3, maxiters=None),
            bkg_estimator=background.SExtractorBackground(),  # the noise is its standard deviation
        )  # fmt: skip
        state = fitted(preparing.MeshBackground(32, smoothing=1), image)
        assert_allclose(state.level.values[..., 0], other.background_mesh, rtol=1e-9)
        assert_allclose(state.noise.values[..., 0], other.background_rms_mesh, rtol=1e-9)

    def test_flattens_the_sky(self, sky):
        image, level = sky
        flat = prepared(preparing.MeshBackground(32), image)
        assert flat.dtype == np.float32
        truth = (image - level) / 8
        faint = truth < 3
        # Light of stars below the threshold stays in the background, a tenth of the noise.
        difference = (flat - truth)[faint]
        assert abs(difference.mean()) < 0.1
        assert difference.std() < 0.2

    def test_unit_is_left_where_nothing_is_divided(self, sky):
        image, level = sky
        flat = prepared(preparing.MeshBackground(32, divide=False), image)
        assert_allclose(np.median(flat - (image - level)), 0, atol=1)

    def test_holes_have_the_background_around_them(self, sky):
        image, _ = sky
        whole = prepared(preparing.MeshBackground(32), image)
        image[64:128, 64:160] = np.nan
        holed = prepared(preparing.MeshBackground(32), image)
        assert np.isnan(holed[64:128, 64:160]).all()
        good = np.isfinite(holed)
        assert good.sum() == image.size - 64 * 96
        assert abs(holed - whole)[good].mean() < 0.2

    @pytest.mark.parametrize("value", [7, np.nan])
    def test_images_without_noise(self, value):
        flat = prepared(preparing.MeshBackground(16), np.full((40, 50), value, np.float32))
        assert np.isnan(flat).all() if np.isnan(value) else abs(flat).max() < 1e-6

    def test_boxes_divide_the_image_evenly(self):
        image = np.random.default_rng(0).normal(size=(100, 70))
        state = fitted(preparing.MeshBackground((30, 64)), image)
        assert state.level.values.shape == (3, 1, 1)
        assert_allclose(state.level.rows, [16, 49, 82.5])  # of 33, 33 and 34 rows
        assert_allclose(state.level.columns, [34.5])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"box": 0}, "box must be"),
            ({"clip": 0}, "clip must be"),
            ({"smoothing": 2}, "smoothing must be odd, got 2; take one more"),
            ({"divide": 1}, "divide must be"),
        ],
    )
    def test_parameters_out_of_range(self, options, message):
        with pytest.raises(InputError, match=message):
            preparing.MeshBackground(**options)


class TestSurface:
    def test_is_the_spline_of_scipy(self):
        interpolate = require("scipy.interpolate")
        random = np.random.default_rng(3)
        rows, columns = np.array([4.5, 14.5, 24, 33.5, 44]), np.array([7.0, 21, 36.5, 50])
        values = random.normal(size=(5, 4))
        across = interpolate.CubicSpline(columns, values, axis=1, bc_type="natural")
        expected = interpolate.CubicSpline(
            rows, across(np.arange(58)), axis=0, bc_type="natural"
        )(np.arange(49))  # fmt: skip
        surface = Surface.through(rows, columns, values[..., np.newaxis])
        assert_allclose(surface.at(0, 49, 58)[..., 0], expected, rtol=0, atol=1e-12)
        assert (surface.at(20, 9, 58) == surface.at(0, 49, 58)[20:29]).all()

    @pytest.mark.parametrize("nodes", [1, 2])
    def test_few_nodes(self, nodes):
        places = np.array([3.0, 9.0])[:nodes]
        values = np.arange(nodes, dtype=float).reshape(-1, 1, 1)
        column = Surface.through(places, np.array([0.0]), values).at(0, 12, 3)[:, :, 0]
        assert (column == column[:, :1]).all()
        expected = (np.arange(12) - 3) / 6 if nodes == 2 else np.zeros(12)
        assert_allclose(column[:, 0], expected, atol=1e-14)


class TestLevels:
    def test_median_and_scatter(self):
        image = np.random.default_rng(5).normal(50, 4, (200, 300)).astype(np.float32)
        median = np.median(image)
        scatter = 1.482602218505602 * np.median(abs(image.astype(float) - median))
        assert_allclose(
            prepared(preparing.GlobalMedian(), image), (image - median) / scatter, atol=1e-5
        )
        assert scatter == pytest.approx(4, rel=0.02)

    def test_percentiles(self):
        image = np.random.default_rng(6).integers(0, 60000, (150, 90)).astype(np.uint16)
        low, high = np.percentile(image, [2, 95])
        scaled = (image - low) / (high - low)
        step = preparing.Percentiles(2, 95)
        assert_allclose(prepared(step, image), scaled.clip(0, 1), atol=1e-6)
        step = preparing.Percentiles(2, 95, clip=False)
        assert_allclose(prepared(step, image), scaled, atol=1e-6)

    def test_a_grid_of_pixels_where_there_are_many(self, monkeypatch):
        image = np.random.default_rng(7).normal(size=(97, 210))
        monkeypatch.setattr("morpheus_core.preparing.levels.SAMPLE", 2000)
        monkeypatch.setattr("morpheus_core.images.preparing_steps.BLOCK_BYTES", 5 * 210 * 8)
        state = fitted(preparing.GlobalMedian(), image)
        assert state.offset == np.median(image[::4, ::4])

    def test_equal_pixels_are_not_divided(self):
        image = np.zeros((20, 20))
        image[:5] = 3
        with pytest.warns(MorpheusWarning, match="half of the pixels are 0: they are not divided"):
            assert (prepared(preparing.GlobalMedian(), image) == image).all()
        with pytest.raises(InputError, match="must be two numbers, got 0 for both"):
            prepared(preparing.Percentiles(1, 50), image)

    def test_bands_without_a_finite_pixel_stay_as_they_are(self):
        image = np.full((9, 9), np.nan)
        for step in (preparing.GlobalMedian(), preparing.Percentiles()):
            assert np.isnan(prepared(step, image)).all()

    @pytest.mark.parametrize("pair", [(5, 5), (-1, 50), (50, 101), (np.nan, 3)])
    def test_percentages_out_of_order(self, pair):
        with pytest.raises(InputError, match="low"):
            preparing.Percentiles(*pair)
