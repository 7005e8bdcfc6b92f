import subprocess
from fractions import Fraction

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require_program

from morpheus_core import MorpheusWarning, predict
from morpheus_core.headers import celestial_cards
from morpheus_core.headers import product_header as header_of_cards


def sky_header(matrix=((-1.0, 0.0), (0.0, 1.0))):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 53.1, -27.8
    wcs.wcs.crpix = 20.5, 11.0
    wcs.wcs.cd = np.array(matrix) * 0.06 / 3600
    return wcs.to_header()


def product_header(source, dilation, names):
    return header_of_cards(celestial_cards(source, dilation), dict.fromkeys(names, "meaning"))


ROTATED = ((-0.8, 0.6), (0.6, 0.8))


@pytest.mark.parametrize("dilation", [Fraction(1, 2), Fraction(1), Fraction(2), Fraction(3)])
@pytest.mark.parametrize("matrix", [((-1.0, 0.0), (0.0, 1.0)), ROTATED])
@pytest.mark.parametrize("axes", [(), ("CLASS",), ("CLASS", "STATISTIC")])
def test_output_pixels_lie_where_their_input_pixels_lie(dilation, matrix, axes):
    source = sky_header(matrix)
    output = WCS(product_header(source, dilation, axes)).celestial
    centre = np.array([[0.0, 0.0], [12.0, 30.0], [40.0, 7.0]])
    in_output = (centre + 0.5) * float(dilation) - 0.5
    np.testing.assert_allclose(
        output.all_pix2world(in_output, 0), WCS(source).all_pix2world(centre, 0), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("inputs", ["files", "arrays"])
def test_fitsverify_finds_nothing(tmp_path, inputs):
    fitsverify = require_program("fitsverify")
    image = np.ones((20, 24), np.float32)
    fits.writeto(tmp_path / "image.fits", image, sky_header(ROTATED))
    hduls, _ = predict(
        lambda batch: np.concatenate([batch[0]] * 3, axis=-1),
        tmp_path / "image.fits" if inputs == "files" else image,
        3,
        16,
        (8, 8),
        stride=(4, 4),
        aggregate_method=["mean_var", "rank_vote"],
        out_dir=tmp_path / "out",
        progress=False,
    )
    for hdul in hduls:
        hdul.close()
    paths = sorted((tmp_path / "out").glob("*.fits"))
    run = subprocess.run([fitsverify, *paths], capture_output=True, text=True)
    assert len(paths) == 3
    assert run.stdout.count("found 0 warning(s) and 0 error(s)") == 3, run.stdout


def test_classes_come_first_in_fits_order():
    header = product_header(sky_header(), Fraction(1), ("CLASS", "STATISTIC"))
    assert [header[f"CTYPE{axis}"] for axis in range(1, 5)] == [
        "STATISTIC",
        "CLASS",
        "RA---TAN",
        "DEC--TAN",
    ]


def test_distortion_is_left_out_whole():
    source = sky_header()
    source.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2})
    source.update({"A_2_0": 1e-5, "B_0_2": 1e-5})
    with pytest.warns(MorpheusWarning, match="SIP distortion of the input is left out"):
        header = product_header(source, Fraction(1), ())
    assert (header["CTYPE1"], header["CTYPE2"]) == ("RA---TAN", "DEC--TAN")
    assert not [key for key in header if key.startswith(("A_", "B_"))]


def test_every_card_of_an_axis_moves_with_it():
    source = sky_header()
    source.update({"CRDER1": 1e-6, "CSYER2": 2e-6, "CNAME1": "alpha"})
    header = product_header(source, Fraction(1), ("CLASS",))
    assert (header["CRDER2"], header["CSYER3"], header["CNAME2"]) == (1e-6, 2e-6, "alpha")
    assert not {"CRDER1", "CSYER1", "CNAME1"} & set(header)


def test_nonstandard_cards_do_not_cost_the_sky_position(data):
    """astropy warns of the formatting of some cards of this one, and warnings are errors here."""
    source = fits.getheader(data / "fits" / "candels_f160w.fits")
    assert "CRPIX2" in product_header(source, Fraction(1), ("CLASS",))


def test_a_broken_sky_position_is_warned_of():
    with pytest.warns(MorpheusWarning, match="the outputs get no sky position"):
        assert celestial_cards(fits.Header({"CTYPE1": 3}), Fraction(1)) == {}


@pytest.mark.parametrize("source", [None, fits.Header()])
def test_no_sky_position_to_inherit(source):
    header = product_header(source, Fraction(1), ("CLASS",))
    assert list(header) == ["CTYPE1"]


def test_bands_of_the_input_do_not_shift_the_sky():
    """A (height, width, bands) cube has its sky on FITS axes 2 and 3."""
    cube = product_header(sky_header(), Fraction(1), ("BAND",))
    assert product_header(cube, Fraction(1), ())["CTYPE1"] == "RA---TAN"
    assert product_header(cube, Fraction(1), ())["CRPIX2"] == 11.0


def test_cards_of_scaled_integers_are_not_inherited():
    source = sky_header()
    source.update({"BZERO": 32768, "BSCALE": 2.0, "BLANK": -1, "CHECKSUM": "x", "DATASUM": "1"})
    header = product_header(source, Fraction(1), ("CLASS",))
    assert not {"BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM"} & set(header)
