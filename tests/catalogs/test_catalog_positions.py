"""Positions and windows are those of Cutout2D and SkyCoord."""

import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS, DistortionLookupTable
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sky_headers import ROTATED, SIP, TPV, sky_header

from morpheus_core import InputError, MorpheusWarning, predict_catalog
from morpheus_core.catalogs.angles import parse_angles
from morpheus_core.catalogs.sky_positions import SkyToPixels
from morpheus_core.catalogs.windows import corners_of
from morpheus_core.images.fits_images import FitsImage
from morpheus_core.images.image import ArrayImage

IMAGE = np.arange(30 * 41.0).reshape(30, 41)
#: A position in each corner and at each edge, and one within.
PLACES = [(x, y) for y in (0.2, 14.6, 28.9) for x in (-0.3, 20.0, 40.4)]


class Collecting:
    """A model that keeps the windows it is given and returns their sums."""

    def __init__(self):
        self.windows = []

    def __call__(self, batch):
        self.windows += list(batch[0][..., 0])
        return np.nansum(batch[0], axis=(1, 2))


def cut(places, shape, image=IMAGE, **options):
    """Return the table and the windows, in the order of the catalogue."""
    catalog = Table({"x": [x for x, _ in places], "y": [y for _, y in places]})
    seen = {}
    for row in range(len(places)):
        model = Collecting()
        predict_catalog(
            model, image, catalog[row : row + 1], 1, 4, shape, progress=False, **options
        )
        seen[row] = model.windows
    return [seen[row] for row in range(len(places))]


def header_with(distortion, matrix):
    header = sky_header(matrix)
    header.update(distortion)
    return header


HEADERS = {
    "TAN": header_with({}, ((-1, 0), (0, 1))),
    "rotated": header_with({}, ROTATED),
    "SIP": header_with(SIP, ROTATED),
    "TPV": header_with(TPV, ROTATED),
}


@pytest.mark.parametrize("name", HEADERS)
def test_sky_positions_are_those_of_skycoord(name):
    wcs = WCS(HEADERS[name])
    columns, rows = np.random.default_rng(2).uniform((0, 0), (40, 29), (50, 2)).T
    sky = wcs.pixel_to_world(columns, rows)
    image = ArrayImage(IMAGE, "image", header=HEADERS[name])
    (found,) = SkyToPixels([image])(sky.icrs.ra.deg, sky.icrs.dec.deg)
    assert_allclose(found, [rows, columns], rtol=0, atol=1e-6)
    assert_allclose(found[::-1], sky.to_pixel(wcs), rtol=0, atol=1e-6)
    assert_allclose(found[::-1], wcs.world_to_pixel(sky), rtol=0, atol=1e-6)


def test_latitude_may_be_the_first_axis():
    wcs = WCS(HEADERS["rotated"]).sub([2, 1])
    columns, rows = np.random.default_rng(2).uniform((0, 0), (40, 29), (50, 2)).T
    sky = wcs.pixel_to_world(columns, rows)
    image = ArrayImage(IMAGE, "image", header=wcs.to_header())
    (found,) = SkyToPixels([image])(sky.icrs.ra.deg, sky.icrs.dec.deg)
    assert_allclose(found, [rows, columns], rtol=0, atol=1e-6)


def test_distortions_may_be_tables_in_other_hdus(tmp_path):
    wcs = WCS(HEADERS["TAN"])
    shifts = np.linspace(0, 3, 16, dtype="f4").reshape(4, 4)
    wcs.cpdis1, wcs.cpdis2 = (
        DistortionLookupTable(table, (1.0, 1.0), (1.0, 1.0), (13.0, 10.0))
        for table in (shifts, shifts.T.copy())
    )
    hdus = wcs.to_fits(relax=True)
    hdus[0].data = IMAGE
    hdus.writeto(tmp_path / "image.fits")
    sky = wcs.pixel_to_world([8.0, 25], [6.0, 20]).icrs
    image = FitsImage(tmp_path / "image.fits", 0)
    (found,) = SkyToPixels([image])(sky.ra.deg, sky.dec.deg)
    image.close()
    assert_allclose(found, [[6, 20], [8, 25]], rtol=0, atol=1e-6)
    (linear,) = SkyToPixels([ArrayImage(IMAGE, "image", header=HEADERS["TAN"])])(
        sky.ra.deg, sky.dec.deg
    )
    assert np.abs(linear - found).max() > 0.5


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("shape", [(5, 6), (8, 3)])
def test_windows_at_sky_positions_are_those_of_cutout2d(name, shape):
    wcs = WCS(HEADERS[name])
    sky = wcs.pixel_to_world(np.linspace(9, 30, 7), np.linspace(20.2, 10, 7)).icrs
    model = Collecting()
    hdu = fits.ImageHDU(IMAGE, HEADERS[name])
    for one in sky:
        catalog = Table({"RA": [one.ra.deg], "Dec": [one.dec.deg]})
        predict_catalog(model, hdu, catalog, 1, 4, shape, edges="skip", progress=False)
    # Cutout2D leaves the noise of the transformation in, half of whose positions are whole here.
    pixels = np.round(np.transpose(wcs.world_to_pixel(sky)), 6)
    expected = [Cutout2D(IMAGE, tuple(one), shape, mode="strict").data for one in pixels]
    assert_array_equal(model.windows, expected)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(-6, 47), st.integers(-6, 47)),
    st.sampled_from([0, 0.25, 0.5, 0.75]),
)
def test_corners_are_those_of_cutout2d(shape, whole, fraction):
    position = np.array(whole) + fraction
    corner = corners_of(position[:, np.newaxis], shape)[:, 0]
    image = np.zeros((80, 80))
    cutout = Cutout2D(image, tuple(position[::-1] + 12), shape, mode="strict")
    assert_array_equal(corner + 12, cutout.origin_original[::-1])


@pytest.mark.parametrize("shape", [(7, 8), (8, 7)])
def test_windows_beyond_the_image_are_padded(shape):
    windows = cut(PLACES, shape, edges="pad")
    for (seen,), place in zip(windows, PLACES, strict=True):
        expected = Cutout2D(IMAGE, place, shape, mode="partial", fill_value=0).data
        assert_array_equal(seen, expected)


@pytest.mark.parametrize("padding", ["reflect", "symmetric", "edge", "constant"])
@pytest.mark.parametrize("shape", [(7, 8), (70, 50)])
def test_padding_is_that_of_numpy(padding, shape):
    wide = np.pad(IMAGE, 80, mode=padding)
    for (seen,), (x, y) in zip(
        cut(PLACES, shape, edges="pad", padding=padding), PLACES, strict=True
    ):
        expected = Cutout2D(wide, (x + 80, y + 80), shape, mode="strict").data
        assert_array_equal(seen, expected)


def test_windows_of_one_batch_are_those_of_many():
    x, y = np.transpose(PLACES)
    several, one = (
        predict_catalog(
            Collecting(), IMAGE, Table({"x": x, "y": y}), 1, size, (7, 8), edges="pad",
            progress=False,
        )["class_0"]
        for size in (16, 1)
    )  # fmt: skip
    assert_array_equal(several, one)


@pytest.mark.parametrize("shape", [(7, 8), (30, 41)])
def test_windows_beyond_the_image_are_moved_inside(shape):
    for (seen,), (x, y) in zip(cut(PLACES, shape), PLACES, strict=True):
        top, left = (
            min(max(int(np.ceil(p - n / 2)), 0), length - n)
            for p, n, length in zip((y, x), shape, IMAGE.shape, strict=True)
        )
        assert_array_equal(seen, IMAGE[top : top + shape[0], left : left + shape[1]])


def test_windows_beyond_the_image_are_skipped():
    catalog = Table({"x": [x for x, _ in PLACES], "y": [y for _, y in PLACES]})
    with pytest.warns(MorpheusWarning, match="8 of 9 rows have no result: 1 ok, 8 at the edge"):
        table = predict_catalog(
            Collecting(), IMAGE, catalog, 1, 4, (7, 8), edges="skip", progress=False
        )
    inside = np.array(table["status"]) == "ok"
    assert_array_equal(np.flatnonzero(inside), [4])
    assert_array_equal(np.isnan(table["class_0"]), ~inside)


@pytest.mark.parametrize("place", [(-0.6, 4), (40.6, 4), (4, -0.6), (4, 29.6), (1e9, 1e9)])
def test_positions_off_the_image_have_no_window(place):
    with pytest.raises(InputError, match='1 of 1 rows with status "off image"'):
        cut([place], (3, 3), edges="pad")


def test_inputs_may_differ_in_pointing_and_size():
    header = HEADERS["SIP"].copy()
    header["CRPIX1"] -= 6
    header["CRPIX2"] -= 3
    inputs = [fits.ImageHDU(IMAGE, HEADERS["SIP"]), fits.ImageHDU(IMAGE[3:, 6:], header)]
    sky = WCS(HEADERS["SIP"]).pixel_to_world([20, 30], [15, 20]).icrs

    def difference(batch):
        return np.abs(batch[0] - batch[1]).max(axis=(1, 2))

    table = predict_catalog(
        difference, inputs, Table([sky], names=["where"]), 1, 4, (8, 8), progress=False
    )
    assert_allclose(table["class_0"], 0)


@pytest.mark.parametrize("is_template", [False, True])
def test_positions_in_pixels_are_of_one_sky(tmp_path, is_template):
    header = HEADERS["TAN"].copy()
    header["CRPIX1"] += 7
    fits.writeto(tmp_path / "g-1.fits", IMAGE, HEADERS["TAN"])
    fits.writeto(tmp_path / "r-1.fits", IMAGE, header)
    names = ["{n}.fits"] if is_template else ["1.fits"]
    inputs = [str(tmp_path / f"{band}-{name}") for band in "gr" for name in names]
    catalog = Table({"n": [1], "x": [20], "y": [15]})
    with pytest.warns(MorpheusWarning, match="same sky in the same pixels, got .* up to 7 pixels"):
        predict_catalog(Collecting(), inputs, catalog, 1, 4, (8, 8), progress=False)


@pytest.mark.parametrize("factors", [(1.05, 1), (1.3, 1 / 1.3)])
def test_pixel_scales_must_agree(factors):
    header = HEADERS["TAN"].copy()
    header["CDELT1"] *= factors[0]
    header["CDELT2"] *= factors[1]
    inputs = [fits.ImageHDU(IMAGE, HEADERS["TAN"]), fits.ImageHDU(IMAGE, header)]
    catalog = Table({"ra": [53.1], "dec": [-27.8]})
    with pytest.raises(InputError, match="must agree to 1%"):
        predict_catalog(Collecting(), inputs, catalog, 1, 4, (8, 8), progress=False)


def turned(degrees, mirror=1):
    """Return a header like that of TAN, turned about the same position on the sky."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return header_with({}, ((-cosine * mirror, sine), (sine * mirror, cosine)))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (turned(180), "turned by 180 degrees against"),
        (turned(10), "turned by 10 degrees against"),
        (turned(0, mirror=-1), "mirrored against"),
    ],
)
def test_orientations_must_agree(header, message):
    inputs = [fits.ImageHDU(IMAGE, HEADERS["TAN"]), fits.ImageHDU(IMAGE, header)]
    catalog = Table({"ra": [53.1], "dec": [-27.8]})
    with pytest.raises(InputError, match=message):
        predict_catalog(Collecting(), inputs, catalog, 1, 4, (8, 8), progress=False)


def test_orientations_may_differ_a_little():
    images = [ArrayImage(IMAGE, "image", header=header) for header in (turned(0), turned(2))]
    assert len(SkyToPixels(images)(np.array([53.1]), np.array([-27.8]))) == 2


@pytest.mark.parametrize(
    ("card", "image", "status"),
    [
        ({"CDELT1": 1.5}, IMAGE, "other scale"),
        ({"CTYPE1": "", "CTYPE2": ""}, IMAGE, "no world coordinates"),
        ({}, IMAGE[:5], "too small"),
        ({"PC1_1": 0.06 / 3600}, IMAGE, "other orientation"),
    ],
)
def test_the_status_says_what_is_wrong_with_a_file(tmp_path, card, image, status):
    header = HEADERS["TAN"].copy()
    for name in ("g-0", "r-0", "g-1"):
        fits.writeto(tmp_path / f"{name}.fits", IMAGE, header)
    header.update(card)
    fits.writeto(tmp_path / "r-1.fits", image, header)
    catalog = Table({"n": [0, 1], "ra": [53.1] * 2, "dec": [-27.8] * 2})
    template = str(tmp_path / "{band}-{n}.fits")
    with pytest.warns(MorpheusWarning, match=f"1 ok, 1 {status}"):
        predict_catalog(
            Collecting(), template, catalog, 1, 4, (8, 8), bands=["g", "r"], progress=False
        )


@pytest.mark.parametrize(
    ("catalog", "options"),
    [
        (lambda sky: Table({"RA": sky.ra.deg, "DEC": sky.dec.deg}), {}),
        (lambda sky: Table({"Ra": sky.ra.to_string("hour", sep=":", precision=8),
                            "Dec": sky.dec.to_string(sep=":", precision=8)}), {}),
        (lambda sky: Table({"a": sky.ra.to("rad"), "d": sky.dec}), {"ra": "a", "dec": "d"}),
        (lambda sky: Table([sky.galactic], names=["where"]), {}),
        (lambda sky: Table([sky.fk5], names=["ra"]), {"ra": "ra"}),
        (lambda sky: Table([sky, [9, 9]], names=["a", "x"]), {"ra": "a"}),
    ],
)  # fmt: skip
def test_positions_come_in_many_forms(catalog, options):
    sky = WCS(HEADERS["TAN"]).pixel_to_world([20, 30], [15, 20]).icrs
    hdu = fits.ImageHDU(IMAGE, HEADERS["TAN"])
    table = predict_catalog(
        lambda batch: batch[0][:, 0, 0, :],
        hdu,
        catalog(sky),
        1,
        4,
        (1, 1),
        progress=False,
        **options,
    )
    assert_array_equal(table["class_0"], [IMAGE[15, 20], IMAGE[20, 30]])


USUAL = ["00:00:00.41", "12h34m56.78s", "1 2 3", "23:59:59.999", "10d41m04s"]
UNUSUAL = ["01:30", "12h30.5m", "12.5d", "12 30.5", "5h", "12.5 deg", "12°30′15″", "12h 30m 15s"]


@pytest.mark.parametrize("text", USUAL + UNUSUAL)
@pytest.mark.parametrize("sign", ["", "+", "-", "\N{MINUS SIGN}"])
def test_text_is_read_as_astropy_reads_it(text, sign):
    expected = Angle(sign + text, unit="hourangle").deg
    assert_allclose(parse_angles([f" {sign}{text} "], 15), expected, rtol=1e-13)
    assert_allclose(parse_angles([sign + text], 1), Angle(sign + text, "deg").deg, rtol=1e-13)


@pytest.mark.parametrize(("text", "hours"), [("1:2:60", 1.05), ("12:59:60.0", 13), ("1:60:0", 2)])
def test_sixty_seconds_are_a_minute(text, hours):
    assert_allclose(parse_angles([text], 15), 15 * hours, rtol=1e-13)


@pytest.mark.parametrize("text", ["\N{MINUS SIGN}12.5", "-12.5", "-1.25e1"])
def test_numbers_are_degrees(text):
    assert parse_angles([text], 15) == [-12.5]


@pytest.mark.parametrize("text", ["", " ", "nan", "--", "None"])
def test_no_text_is_no_position(text):
    assert np.isnan(parse_angles([text], 15)).all()


@pytest.mark.parametrize("text", ["-", "12:61:00", "12:00:61", "north", "1:2:3:4", "1,5", "5 kg"])
def test_text_that_is_no_angle_is_infinity(text):
    assert np.isinf(parse_angles([text], 15)).all()


class TestTextThatIsNotUnderstood:
    hdu = fits.ImageHDU(IMAGE, HEADERS["TAN"])
    sky = WCS(HEADERS["TAN"]).pixel_to_world(20, 15).icrs

    def run(self, longitudes):
        catalog = Table({"RA": longitudes, "dec": [self.sky.dec.deg] * len(longitudes)})
        return predict_catalog(Collecting(), self.hdu, catalog, 1, 4, (3, 3), progress=False)

    def test_is_told(self, caplog):
        longitudes = ["", "5,3", str(self.sky.ra.deg), "6,3"]
        with pytest.warns(MorpheusWarning, match="1 ok, 1 no position, 2 bad position"):
            table = self.run(longitudes)
        assert [*table["status"]] == ["no position", "bad position", "ok", "bad position"]
        assert "2 values of RA cannot be read as angles, '5,3' for one" in caplog.text

    def test_is_refused_where_nothing_is_understood(self):
        with pytest.raises(
            InputError, match="must have a position that can be read, got 5,3 for RA"
        ):
            self.run(["5,3", "6,3"])


def test_declinations_beyond_the_poles_are_bad():
    hdu = fits.ImageHDU(IMAGE, HEADERS["TAN"])
    catalog = Table({"ra": [53.1, 53.1], "dec": [-27.8, -999]})
    with pytest.warns(MorpheusWarning, match="1 bad position"):
        table = predict_catalog(Collecting(), hdu, catalog, 1, 4, (3, 3), progress=False)
    assert table["status"][1] == "bad position"


@pytest.mark.parametrize("kind", ["CAR", "CEA", "MER"])
@pytest.mark.parametrize("latitude_first", [False, True])
@pytest.mark.parametrize("reference", [0.5, 1.0, 180.5, 300.0])
def test_images_of_all_the_sky_may_begin_anywhere(kind, latitude_first, reference):
    image = np.arange(9 * 36.0).reshape(9, 36)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = f"RA---{kind}", f"DEC--{kind}"
    wcs.wcs.crval, wcs.wcs.cdelt, wcs.wcs.crpix = (80, 0), (-10, 10), (reference / 10, 5)
    columns = np.arange(36)
    longitudes = (80 - 10 * (columns + 1 - reference / 10)) % 360
    latitude = wcs.wcs_pix2world(reference / 10, 7, 1)[1]
    if latitude_first:
        wcs, image = wcs.sub([2, 1]), image.T
    catalog = Table({"ra": longitudes, "dec": np.full(36, latitude)})
    hdu = fits.ImageHDU(image, wcs.to_header())
    table = predict_catalog(
        lambda batch: batch[0][:, 0, 0], hdu, catalog, 1, 4, (1, 1), progress=False
    )
    assert_array_equal(table["class_0"], 6 * 36 + columns)


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"},
        {"CTYPE1": "MALN-CAR", "CTYPE2": "MALT-CAR"},
        {"CDELT1": 0.0, "CDELT2": 0.0},
    ],
)
def test_frames_without_icrs_positions_stop_nothing(tmp_path, cards):
    fits.writeto(tmp_path / "0.fits", IMAGE, HEADERS["TAN"])
    other = HEADERS["TAN"].copy()
    other.update(cards)
    fits.writeto(tmp_path / "1.fits", IMAGE, other)
    catalog = Table({"n": [0, 1, 0], "ra": [53.1] * 3, "dec": [-27.8] * 3})
    arguments = (catalog, 1, 4, (3, 3))
    with pytest.warns(MorpheusWarning, match="2 ok, 1 no world coordinates"):
        predict_catalog(Collecting(), str(tmp_path / "{n}.fits"), *arguments, progress=False)
    with pytest.raises(InputError, match=r"1\.fits"):
        predict_catalog(Collecting(), tmp_path / "1.fits", *arguments, progress=False)


def test_minus_zero_is_south():
    assert parse_angles(["-00:10:00"], 1)[0] == -1 / 6
    assert SkyCoord("00:00:00.41 -10:22:25.7", unit=("hourangle", "deg")).dec.deg == pytest.approx(
        parse_angles(["-10:22:25.7"], 1)[0]
    )
