import functools
import hashlib
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require_program
from sky_headers import ROTATED, SIP, TPV, sky_header

from morpheus_core import MorpheusWarning, __version__, predict
from morpheus_core.fits.cards import observation_cards
from morpheus_core.pipeline.descriptions import model_name
from morpheus_core.sky.headers import Sky, sky_of


def product_header(source, dilation, names):
    return sky_of(source, dilation).cards(dict.fromkeys(names, "meaning"))


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


PIXELS = np.array([[0.0, 0.0], [12.0, 30.0], [40.0, 7.0]])


@pytest.mark.parametrize("distortion", [SIP, TPV], ids=["SIP", "TPV"])
def test_two_dimensional_outputs_keep_the_distortion(distortion):
    source = sky_header(ROTATED)
    source.update(distortion)
    with pytest.warns(MorpheusWarning, match="cannot be kept with axes for classes; n keeps it"):
        sky = sky_of(source, Fraction(1))
    np.testing.assert_allclose(
        WCS(sky.cards({})).all_pix2world(PIXELS, 0),
        WCS(source).all_pix2world(PIXELS, 0),
        rtol=0,
        atol=1e-9,
    )


def test_no_distortion_is_kept_with_a_dilation():
    source = sky_header()
    source.update(SIP)
    with pytest.warns(MorpheusWarning, match="is not kept with dilation=2"):
        sky = sky_of(source, Fraction(2))
    assert sky.cards({})["CTYPE1"] == "RA---TAN"


def test_the_linear_terms_of_tpv_are_kept():
    """Constant and linear terms alone are a TAN projection that is moved, turned and scaled."""
    source = sky_header(ROTATED)
    source.update({key: value for key, value in TPV.items() if not key.endswith("_4")})
    with pytest.warns(MorpheusWarning, match="cannot be kept"):
        cards = sky_of(source, Fraction(1)).cards({"CLASS": "meaning"})
    assert not [key for key in cards if key.startswith("PV")]
    np.testing.assert_allclose(
        WCS(cards).celestial.all_pix2world(PIXELS, 0),
        WCS(source).all_pix2world(PIXELS, 0),
        rtol=0,
        atol=1e-9,
    )


def test_distortion_tables_do_not_cost_the_sky_position():
    source = sky_header()
    source.update({"CPDIS1": "LOOKUP", "DP1.EXTVER": 1.0, "D2IMDIS1": "LOOKUP"})
    with pytest.warns(MorpheusWarning, match="distortion tables of the input are left out"):
        cards = sky_of(source, Fraction(1)).cards({})
    assert cards["CTYPE1"] == "RA---TAN"


def test_the_sky_position_has_all_digits_of_a_double():
    source = sky_header()
    source["CRVAL1"] = 359.12345678901234
    assert sky_of(source, Fraction(1)).cards({})["CRVAL1"] == 359.12345678901234


def test_the_observation_is_inherited():
    source = sky_header()
    source.update({"OBJECT": ("M 31", "target"), "EXPTIME": 20.5, "BSCALE": 2.0, "AIRMASS": None})
    cards = observation_cards(source)
    assert cards["OBJECT"] == ("M 31", "target")
    assert cards["EXPTIME"][0] == 20.5
    assert not {"BSCALE", "AIRMASS", "CRVAL1"} & set(cards)


def test_the_first_image_that_knows_its_place_gives_the_header(tmp_path):
    image = np.ones((20, 24), np.float32)
    fits.writeto(tmp_path / "a.fits", image, fits.Header({"OBJECT": "nowhere"}))
    fits.writeto(tmp_path / "b.fits", image, sky_header())
    fits.setval(tmp_path / "b.fits", "OBJECT", value="here")
    (hdul, _), _ = predict_classes([image, tmp_path / "a.fits", tmp_path / "b.fits"])
    assert hdul[0].header["OBJECT"] == "here"
    assert "CRVAL2" in hdul[0].header
    (hdul, _), _ = predict_classes([image, tmp_path / "a.fits"])
    assert hdul[0].header["OBJECT"] == "nowhere"


def predict_classes(inputs, **options):
    return predict(
        lambda batch: np.concatenate([batch[0]] * 3, axis=-1),
        inputs,
        3,
        16,
        (8, 8),
        stride=(4, 4),
        progress=False,
        **options,
    )


def test_outputs_say_how_they_came_about(tmp_path):
    image = np.ones((20, 24), np.float32)
    path = tmp_path / "image é.fits"
    fits.writeto(path, image, sky_header())
    mask = np.zeros((20, 24), bool)
    names = ["point source", "disk", "sky"]
    hduls, _ = predict_classes(
        [path], class_names=names, mask=mask, out_dir=tmp_path / "out", padding="reflect"
    )
    for hdul in hduls:
        hdul.close()
    header = hduls[0][0].header
    assert header["CREATOR"] == f"morpheus_core {__version__}"
    assert "predict_classes" in header["MODEL"]
    assert (header["WINDOW"], header["STRIDE"], header["PADDING"]) == ("8 x 8", "4 x 4", "reflect")
    assert header["INPUT0"] == r"image \xe9.fits"
    digest = hashlib.sha256(fits.getheader(path).tostring().encode()).hexdigest()
    assert header["INSUM0"] == f"sha256 {digest[:32]}"
    assert header["MASK0"] == "array of 20 x 24 x 1 bool"
    assert "INSUM1" not in header
    assert [header[f"CLASS{k}"] for k in range(3)] == names
    assert "rank_vote" in " ".join(header["HISTORY"])
    assert (header["EXTNAME"], header["BUNIT"]) == ("RANK_VOTE", "")
    assert (hduls[1][0].header["EXTNAME"], hduls[1][0].header["BUNIT"]) == ("N", "count")


class Network:
    def __call__(self, batch):
        return batch


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("package.module:factory", "package.module:factory"),
        (Network(), "test_headers.Network"),
        (sky_header, "sky_headers.sky_header"),
        (functools.partial(sky_header, 1), "sky_headers.sky_header"),
    ],
)
def test_names_of_models(model, name):
    assert model_name(model) == name


def test_distortion_is_left_out_whole():
    source = sky_header()
    source.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2})
    source.update({"A_2_0": 1e-5, "B_0_2": 1e-5})
    with pytest.warns(MorpheusWarning, match=r"the distortion of the input cannot be kept"):
        header = product_header(source, Fraction(1), ("CLASS",))
    assert (header["CTYPE2"], header["CTYPE3"]) == ("RA---TAN", "DEC--TAN")
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
        assert sky_of(fits.Header({"CTYPE1": 3}), Fraction(1)) == Sky()


@pytest.mark.parametrize("source", [None, fits.Header()])
def test_no_sky_position_to_inherit(source):
    header = product_header(source, Fraction(1), ("CLASS",))
    assert list(header) == ["CTYPE1"]


def test_bands_of_the_input_do_not_shift_the_sky():
    """A (height, width, bands) cube has its sky on FITS axes 2 and 3."""
    cube = product_header(sky_header(), Fraction(1), ("BAND",))
    sky = sky_of(cube, Fraction(1), axes=(2, 3)).cards({})
    assert (sky["CTYPE1"], sky["CRPIX2"]) == ("RA---TAN", 11.0)


def test_cards_of_scaled_integers_are_not_inherited():
    source = sky_header()
    source.update({"BZERO": 32768, "BSCALE": 2.0, "BLANK": -1, "CHECKSUM": "x", "DATASUM": "1"})
    header = product_header(source, Fraction(1), ("CLASS",))
    assert not {"BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM"} & set(header)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CTYPE1": "DEC--TPV", "CTYPE2": "RA---TPV", "PV1_1": 1.0, "PV1_4": 0.3}, "latitude on"),
        ({"CTYPE1": "RA---XYZ"}, "no sky position"),
    ],
)
def test_world_coordinates_that_cannot_be_written(changes, message):
    """What comes out can be read at least."""
    source = sky_header(ROTATED)
    source.update(changes)
    with pytest.warns(MorpheusWarning, match=message):
        sky = sky_of(source, Fraction(1))
    WCS(sky.cards({"CLASS": ""}))


def test_a_promise_of_distortion_that_is_not_kept():
    source = sky_header()
    source.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
    sky = sky_of(source, Fraction(1))  # without a warning
    assert sky.linear["CTYPE1"] == sky.plane["CTYPE1"] == "RA---TAN"


def spectral_header():
    header = sky_header()
    header.update({"WCSAXES": 3, "CTYPE3": "WAVE", "CRVAL3": 5e-7, "CDELT3": 1e-9, "CUNIT3": "m"})
    return header


def test_a_cube_whose_sky_is_not_in_its_rows_and_columns(tmp_path):
    """(wavelength, y, x) that is taken for (height, width, bands)."""
    pixels = np.ones((40, 30, 30), np.float32)
    fits.writeto(tmp_path / "cube.fits", pixels, spectral_header())
    (inputs,) = [tmp_path / "cube.fits"]
    with pytest.warns(
        MorpheusWarning, match=r"axes 1 and 2 of the input, whose columns and rows ar"
    ):
        hduls, _ = predict(
            lambda b: b[0][..., :3], inputs, 3, 64, (8, 8), stride=(8, 8), progress=False
        )
    assert "CRVAL2" not in hduls[0][0].header
    assert "CTYPE3" not in hduls[0][0].header
    hduls, _ = predict(
        lambda b: b[0][..., :3], inputs, 3, 64, (8, 8), stride=(8, 8), progress=False, bands="first"
    )
    assert hduls[0][0].header["CTYPE2"] == "RA---TAN"


@pytest.mark.parametrize("leading", [1, 2])
def test_distortion_with_leading_axes_of_length_one(tmp_path, leading):
    source = sky_header(ROTATED)
    source.update(SIP)
    fits.writeto(tmp_path / "a.fits", np.ones((1,) * leading + (20, 24), np.float32), source)
    with pytest.warns(MorpheusWarning, match="n keeps it"):
        (_, n), _ = predict_classes(tmp_path / "a.fits")
    np.testing.assert_allclose(
        WCS(n[0].header).all_pix2world(PIXELS, 0), WCS(source).all_pix2world(PIXELS, 0)
    )


@pytest.mark.parametrize("inherit", [None, False])
def test_extensions_inherit_the_observation_of_the_primary(tmp_path, inherit):
    primary = fits.PrimaryHDU(header=fits.Header({"TELESCOP": "HST", "OBJECT": "field"}))
    extension = fits.ImageHDU(np.ones((20, 24), np.float32), fits.Header({"OBJECT": "M 31"}))
    if inherit is not None:
        extension.header["INHERIT"] = inherit
    fits.HDUList([primary, extension]).writeto(tmp_path / "mef.fits")
    with fits.open(tmp_path / "mef.fits") as file:
        loaded = file[1]
        assert loaded.data.all()
        for source in (f"{tmp_path}/mef.fits[1]", loaded):
            (hdul, _), _ = predict_classes(source)
            assert hdul[0].header["OBJECT"] == "M 31"
            assert hdul[0].header.get("TELESCOP") == (None if inherit is False else "HST")
            assert hdul[0].header["INPUT0"] == "mef.fits[1]"


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("DATE-OBS", "2003-06-12", True),
        ("DATE-OBS", "2003-06-12T01:02:03.5", True),
        ("DATE-OBS", "2003-06-12T01:02:03Z", False),
        ("DATE-OBS", "2020-13-45", False),
        ("OBJECT", 1234, False),
        ("TELESCOP", True, False),
        ("EXPTIME", "20", False),
        ("EXPTIME", 20, True),
    ],
)
def test_cards_that_are_not_what_their_keyword_promises(key, value, kept):
    assert (key in observation_cards(fits.Header({key: value}))) is kept


def test_comments_that_do_not_fit_are_left_out():
    source = fits.Header()
    source["OBJECT"] = ("it's " * 10 + "x", "target")
    assert observation_cards(source)["OBJECT"][1] == ""


def test_bits_of_a_mask_and_order_of_bands_are_kept(tmp_path):
    mask = np.zeros((20, 24), np.int16)
    hduls, _ = predict_classes(np.ones((1, 20, 24)), mask=mask, mask_bits=[4, 8], out_dir=tmp_path)
    for hdul in hduls:
        assert (hdul[0].header["MASKBITS"], hdul[0].header["BANDS"]) == (12, "last")
        hdul.close()


def test_sip_replaces_the_polynomials_of_an_earlier_fit():
    source = sky_header(ROTATED)
    source.update({**SIP, "PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 1e-3})
    with pytest.warns(MorpheusWarning, match="n keeps it"):
        sky = sky_of(source, Fraction(1))
    plain = sky_header(ROTATED)
    plain.update(SIP)
    np.testing.assert_allclose(
        WCS(sky.cards({})).all_pix2world(PIXELS, 0), WCS(plain).all_pix2world(PIXELS, 0)
    )


def test_distortion_tables_in_any_case():
    source = sky_header()
    source["CPDIS1"] = "lookup"
    with pytest.warns(MorpheusWarning, match="distortion tables"):
        assert sky_of(source, Fraction(1)).plane["CTYPE1"] == "RA---TAN"
