"""Sky positions as cards that programs read: pixel scales, and distortions of unusual kinds."""

from fractions import Fraction

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from sky_headers import ROTATED, TNX, TPV, sky_header, with_wat

from morpheus_core import MorpheusWarning
from morpheus_core.sky.headers import sky_of, with_planes
from morpheus_core.sky.world_cards import linear_tpv, matrix_of

SCALE = 0.06 / 3600
SHEARED = ((-1.0, 0.2), (0.1, 0.7))
PIXELS = np.array([[0.0, 0.0], [12.0, 30.0], [480.0, 7.0], [499.0, 506.0]])


def camera_header(matrix=((-1.0, 0.0), (0.0, 1.0)), ctypes=("RA---TAN", "DEC--TAN")):
    """Return a header with a CD matrix, as cameras write it."""
    header = fits.Header({"NAXIS": 2, "NAXIS1": 500, "NAXIS2": 507})
    header.update({"CTYPE1": ctypes[0], "CTYPE2": ctypes[1], "CRVAL1": 53.1, "CRVAL2": -27.8})
    if ctypes[0].startswith("DEC"):
        header.update({"CRVAL1": -27.8, "CRVAL2": 53.1})
    header.update({"CRPIX1": 250.5, "CRPIX2": 211.0})
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = matrix[i - 1][j - 1] * SCALE
    return header


@pytest.mark.parametrize("dilation", [Fraction(1, 2), Fraction(1), Fraction(4)])
@pytest.mark.parametrize("axes", [{}, {"CLASS": ""}])
@pytest.mark.parametrize(
    ("matrix", "scales"),
    [
        (((-1.0, 0.0), (0.0, 1.0)), (-1.0, 1.0)),
        (((1.0, 0.0), (0.0, -1.0)), (-1.0, 1.0)),
        (((1.0, 0.0), (0.0, 1.0)), (1.0, 1.0)),
        (ROTATED, (-1.0, 1.0)),
        (SHEARED, (-np.hypot(1, 0.2), np.hypot(0.1, 0.7))),
    ],
)
def test_cdelt_is_the_pixel_scale(matrix, scales, axes, dilation):
    source = camera_header(matrix)
    header = sky_of(source, dilation).cards(axes)
    shift = len(axes)
    found = [header[f"CDELT{axis + shift}"] for axis in (1, 2)]
    np.testing.assert_allclose(found, np.multiply(scales, SCALE) / float(dilation), rtol=1e-12)
    turned = [[header[f"PC{i + shift}_{j + shift}"] for j in (1, 2)] for i in (1, 2)]
    np.testing.assert_allclose(np.hypot(*np.transpose(turned)), 1, rtol=1e-12)
    in_output = (PIXELS + 0.5) * float(dilation) - 0.5
    np.testing.assert_allclose(
        WCS(header).celestial.all_pix2world(in_output, 0),
        WCS(source).all_pix2world(PIXELS, 0),
        rtol=0,
        atol=1e-9,
    )


def test_the_longitude_runs_to_the_left_on_the_second_axis_as_well():
    source = camera_header(((1.0, 0.0), (0.0, -1.0)), ("DEC--TAN", "RA---TAN"))
    cards = sky_of(source, Fraction(1)).cards({})
    assert (cards["CDELT1"], cards["CDELT2"]) == pytest.approx((SCALE, -SCALE), rel=1e-12)


def test_a_scale_that_is_there_keeps_its_digits():
    source = sky_header()
    source.update({"CDELT1": 1.23456789e-5, "CDELT2": 1e-5, "PC1_1": 1.0, "PC2_2": 1.0})
    cards = sky_of(source, Fraction(1)).cards({})
    assert cards["CDELT1"] == 1.23456789e-5


def test_polynomials_of_tpv_come_with_a_matrix():
    """wcslib misreads them beside CDELT."""
    source = camera_header(ROTATED)
    source.update(TPV)
    with pytest.warns(MorpheusWarning, match="n keeps it"):
        sky = sky_of(source, Fraction(1))
    plane = sky.cards({})
    assert "CD1_1" in plane
    assert not {"CDELT1", "PC1_1"} & set(plane)
    np.testing.assert_allclose(
        WCS(plane).all_pix2world(PIXELS, 0), WCS(source).all_pix2world(PIXELS, 0), atol=1e-9
    )
    with pytest.warns(MorpheusWarning, match="a single image keeps the distortion"):
        planes = with_planes(plane)
    assert "CD1_1" not in planes
    assert planes["CDELT1"] == pytest.approx(-SCALE, rel=1e-2)


@pytest.mark.parametrize(
    ("kind", "parameters"), [("TNX", ""), ("ZPX", "projp1=1. projp3=337.74 ")], ids=["TNX", "ZPX"]
)
@pytest.mark.parametrize("polynomials", TNX.values(), ids=TNX)
def test_polynomials_of_iraf_become_those_of_tpv(kind, parameters, polynomials):
    source = with_wat(camera_header(ROTATED), kind, *polynomials, parameters)
    with pytest.warns(MorpheusWarning, match="n keeps it") as warned:
        sky = sky_of(source, Fraction(1))
    assert len(warned) == 1
    plane = sky.cards({})
    assert plane["CTYPE1"] == "RA---TPV"
    assert not [key for key in plane if key.startswith(("DQ", "CQ", "WAT"))]
    truth = WCS(source).all_pix2world(PIXELS, 0)
    np.testing.assert_allclose(WCS(plane).all_pix2world(PIXELS, 0), truth, rtol=0, atol=1e-9)
    near = [[249.5, 210.0], [250.5, 209.0]]  # where the linear terms are all
    np.testing.assert_allclose(
        WCS(sky.cards({"CLASS": ""})).celestial.all_pix2world(near, 0),
        WCS(source).all_pix2world(near, 0),
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("parameters", "terms", "shift"),
    [
        ({}, ((1, 0), (0, 1)), (0, 0)),
        ({"PV1_1": 2.0, "PV2_0": 7 * SCALE}, ((2, 0), (0, 1)), (0, 7)),
        ({"PV1_2": 0.5, "PV2_1": 3.0}, ((1, 0.5), (0, 3)), (0, 0)),
        ({"PV2_2": 0.25, "PV1_0": 5 * SCALE}, ((1, 0), (0.25, 1)), (5, -1.25)),
    ],
)
def test_linear_terms_of_tpv_that_are_absent_are_those_of_tan(parameters, terms, shift):
    cards = dict(camera_header(((1.0, 0.0), (0.0, 1.0)), ("RA---TPV", "DEC--TPV")))
    linear = linear_tpv({**cards, **parameters})
    assert (linear["CTYPE1"], linear["CTYPE2"]) == ("RA---TAN", "DEC--TAN")
    np.testing.assert_allclose(matrix_of(linear), np.array(terms) * SCALE, rtol=1e-12)
    apart = [cards[f"CRPIX{axis}"] - linear[f"CRPIX{axis}"] for axis in (1, 2)]
    assert apart == pytest.approx(shift, abs=1e-9)


def test_planes_are_counted_from_zero():
    planes = with_planes(sky_of(camera_header(ROTATED), Fraction(1)).cards({}))
    assert planes["WCSAXES"] == 3
    assert planes["CTYPE3"] == "CLASS"
    pixels = [[250.5, 211.0, 1.0], [250.5, 211.0, 5.0]]
    np.testing.assert_allclose(WCS(planes).wcs_pix2world(pixels, 1)[:, 2], [0.0, 4.0], atol=1e-12)


def test_fits_say_how_far_they_are_away():
    source = with_wat(camera_header(), "ZPX", *TNX["plain"], "projp1=1. projp3=2000. projp5=3E7 ")
    source.update({f"CD{i}_{j}": 40 * source[f"CD{i}_{j}"] for i in (1, 2) for j in (1, 2)})
    with (
        pytest.warns(MorpheusWarning, match="n keeps it"),
        pytest.warns(MorpheusWarning, match=r"polynomial \(TPV\).* up to \S+ pixels away"),
    ):
        sky = sky_of(source, Fraction(1))
    apart = WCS(sky.cards({})).all_pix2world(PIXELS, 0) - WCS(source).all_pix2world(PIXELS, 0)
    assert 1e-9 < abs(apart).max() < 4 * SCALE


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (0, "cannot be fitted without the size of the image"),
        (500, "pixels away from any polynomial of TPV"),
    ],
)
def test_distortions_that_cannot_be_fitted(width, message):
    source = with_wat(camera_header(), "ZPX", *TNX["plain"], "projp1=1. projp3=337.74 ")
    source.update({f"CD{i}_{j}": 400 * source[f"CD{i}_{j}"] for i in (1, 2) for j in (1, 2)})
    source["NAXIS1"] = width
    with pytest.warns(MorpheusWarning, match=message):
        sky = sky_of(source, Fraction(1))
    assert sky.plane == sky.linear
    assert sky.linear["CTYPE1"][-3:] in ("TAN", "ZPN")
