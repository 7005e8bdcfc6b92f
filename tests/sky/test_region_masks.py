"""Regions of DS9 and coverage maps as masks."""

import pickle

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require
from sky_headers import ROTATED, sky_header

from morpheus_core import InputError, predict, region_mask
from morpheus_core.sky import region_masks

SHAPE = (40, 50)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
CIRCLE = (X - 20) ** 2 + (Y - 10) ** 2 < 8**2
HOLE = (X - 20) ** 2 + (Y - 10) ** 2 < 3**2


@pytest.fixture
def image(tmp_path):
    require("regions")
    fits.writeto(tmp_path / "image.fits", np.ones(SHAPE, np.float32), sky_header(ROTATED))
    return tmp_path / "image.fits"


def in_pixels(*lines):
    return "\n".join(["# Region file format: DS9", "image", *lines])  # DS9 counts from 1


def on_sky(image):
    centre = WCS(fits.getheader(image)).pixel_to_world(20, 10)
    return "\n".join(["icrs", f'circle({centre.ra.deg:.10f},{centre.dec.deg:.10f},{8.03 * 0.06}")'])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["circle(21,11,8)"], CIRCLE),
        (["circle(21,11,8)", "-circle(21,11,3)"], CIRCLE & ~HOLE),
        (["-circle(21,11,3)", "circle(21,11,8)"], CIRCLE & ~HOLE),
        (["circle(1,1,4)", "box(50,40,6,4,0)"], (X**2 + Y**2 < 16) | ((X >= 46.5) & (Y > 37))),
        (["circle(500,11,8)"], np.zeros(SHAPE, bool)),
    ],
)
def test_regions_in_pixels(image, tmp_path, lines, expected):
    (tmp_path / "bad.reg").write_text(in_pixels(*lines))
    mask = region_mask(tmp_path / "bad.reg", image)
    assert (mask.shape, mask.dtype) == (SHAPE, bool)
    np.testing.assert_array_equal(mask[:], expected)
    np.testing.assert_array_equal(mask[5:17], expected[5:17])


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("a.reg", "regions"),
        ("a.REG", "regions"),
        ("a.fits", "mocpy"),
        ("a.txt", "mocpy"),
        ("a", "mocpy"),
    ],
)
def test_the_package_that_reads_a_file_is_asked_for(image, tmp_path, monkeypatch, name, package):
    def refuse(asked, extra, what):
        raise LookupError(f"{asked} of {extra}")

    monkeypatch.setattr(region_masks, "require_package", refuse)
    with pytest.raises(LookupError, match=f"{package} of regions"):
        region_mask(tmp_path / name, image)


def test_regions_on_the_sky(image, tmp_path):
    (tmp_path / "bad.reg").write_text(on_sky(image))
    found = region_mask(tmp_path / "bad.reg", image)[:]
    np.testing.assert_array_equal(found, (X - 20) ** 2 + (Y - 10) ** 2 < 8.03**2)


def test_coverage_maps(image, tmp_path):
    mocpy = require("mocpy")
    wcs = WCS(fits.getheader(image))
    centre = wcs.pixel_to_world(20, 10)
    moc = mocpy.MOC.from_cone(
        centre.ra, centre.dec, radius=0.48 * units.arcsec, max_depth=26, delta_depth=4
    )
    moc.save(tmp_path / "bad.fits", format="fits")
    found = region_mask(tmp_path / "bad.fits", image)[:]
    assert (found != CIRCLE).sum() < 0.1 * CIRCLE.sum()
    assert isinstance(wcs.pixel_to_world(0, 0), SkyCoord)


def test_masked_pixels_get_no_result(image, tmp_path):
    (tmp_path / "bad.reg").write_text(in_pixels("circle(21,11,8)", "-circle(21,11,3)"))
    mask = region_mask(tmp_path / "bad.reg", image)
    _, (_, n) = predict(
        lambda batch: np.concatenate([batch[0]] * 2, axis=-1),
        image, 2, 64, (5, 5), stride=(5, 5), mask=mask, progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(n == 0, CIRCLE & ~HOLE)


def test_masks_travel_to_workers(image, tmp_path):
    (tmp_path / "bad.reg").write_text(on_sky(image))
    mask = region_mask(tmp_path / "bad.reg", image)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mask))[:], mask[:])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.reg", in_pixels("-circle(21,11,8)"), "a region that is not excluded, got 1 that are"),
        ("bad.reg", "fk5\ncircle(53.1,-27.8,1d)", "must have world coordinates for"),
        ("bad.fits", "no MOC", "the regions .* cannot be read"),
    ],
)
def test_regions_that_mask_nothing(image, tmp_path, name, text, message):
    require("mocpy")
    (tmp_path / name).write_text(text)
    source = np.ones(SHAPE) if "world" in message else image
    with pytest.raises(InputError, match=message):
        region_mask(tmp_path / name, source)
