"""What stored integers stand for: BSCALE, BZERO, BLANK, and how users opened them."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError
from morpheus_core.images.stack import open_inputs

STORED = {bits: np.arange(-3, 9).reshape(3, 4) for bits in (16, 32, 64)} | {
    8: np.arange(12).reshape(3, 4)
}
TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


def write(path, bits, tiles=False, **cards):
    """Write an image whose stored numbers are small, and cards that say what they stand for."""
    stored = STORED.get(bits, STORED[16]).astype(TYPES[bits])
    hdu = fits.ImageHDU(stored) if not tiles else fits.CompImageHDU(stored, tile_shape=(1, 4))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    with fits.open(path, mode="update", disable_image_compression=True) as file:
        file[1].header.update(cards)
    return stored


def pixels(source, **options):
    with open_inputs(source, **options) as stack:
        image = stack.images[0]
        read = image.read(0, image.shape[0])[..., 0]
        assert read.dtype.newbyteorder("=") == image.dtype
        return read.astype(image.dtype)


@pytest.mark.filterwarnings("ignore:Invalid")  # BLANK of floats
@pytest.mark.parametrize(
    ("bits", "tiles"), [*((bits, False) for bits in TYPES), (8, True), (16, True), (32, True)]
)
@pytest.mark.parametrize("cards", [{}, {"BSCALE": 0.5}, {"BZERO": 3.0}, {"BSCALE": 2, "BZERO": -1}])
@pytest.mark.parametrize("blank", [{}, {"BLANK": 2}, {"BLANK": 99}])
def test_numbers_are_those_of_astropy(tmp_path, bits, cards, blank, tiles):
    write(tmp_path / "image.fits", bits, tiles, **cards, **blank)
    with fits.open(tmp_path / "image.fits") as file:
        expected = file[1].section[:]
    read = pixels(tmp_path / "image.fits")
    assert read.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("uint", [True, False])
def test_integers_that_are_moved_by_half_their_range(tmp_path, bits, uint):
    stored = write(tmp_path / "image.fits", bits, BZERO=-128 if bits == 8 else 1 << (bits - 1))
    with fits.open(tmp_path / "image.fits", uint=uint) as file:
        read = pixels(file[1])
        expected = file[1].section[:]
        np.testing.assert_array_equal(read, expected)
        assert read.dtype == expected.dtype.newbyteorder("=") or bits == 8
    if uint:
        half = -128 if bits == 8 else 1 << (bits - 1)
        assert read.dtype.kind == ("i" if bits == 8 else "u")
        assert read.tolist() == [[int(n) + half for n in row] for row in stored]


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("offset", [{}, {"BZERO": "half"}, {"BSCALE": 2.0, "BZERO": 5.0}])
@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_blank_pixels_are_nan(tmp_path, bits, blank, offset, tiles):
    """astropy forgets BLANK = 0, and BLANK of unsigned integers."""
    half = -128 if bits == 8 else 1 << (bits - 1)
    cards = {key: half if value == "half" else value for key, value in offset.items()}
    stored = write(tmp_path / "image.fits", bits, tiles, BLANK=blank, **cards).astype(float)
    expected = stored * cards.get("BSCALE", 1) + cards.get("BZERO", 0)
    expected[stored == blank] = np.nan
    path = tmp_path / "image.fits"
    np.testing.assert_array_equal(pixels(path), expected)
    with fits.open(path) as file:
        np.testing.assert_array_equal(pixels(file[1]), expected)
        if bits > 8 or "half" not in offset.values():  # which astropy casts NaN to
            assert file[1].data is not None
            np.testing.assert_array_equal(pixels(file[1]), expected)


@pytest.mark.parametrize(
    "options", [{"do_not_scale_image_data": True}, {"uint": False}, {"ignore_blank": True}, {}]
)
@pytest.mark.parametrize("cards", [{"BZERO": 32768}, {"BLANK": 3}, {"BZERO": 32768, "BLANK": 3}])
@pytest.mark.parametrize("primary", [False, True])
def test_how_the_user_opened_an_hdu_counts(tmp_path, options, cards, primary):
    """Whether somebody looked at its data or not; also in other processes, which open the file."""
    write(tmp_path / "image.fits", 16, **cards)
    if primary:
        with fits.open(tmp_path / "image.fits", do_not_scale_image_data=True) as file:
            alone = fits.PrimaryHDU(file[1].data)
        alone.header.update(cards)
        alone._bzero = alone._orig_bzero = 0
        alone.writeto(tmp_path / "alone.fits")
    path = tmp_path / ("alone.fits" if primary else "image.fits")
    with fits.open(path, **options) as file:
        hdu = file[0 if primary else 1]
        untouched = pixels(hdu)
        with open_inputs(hdu) as stack:
            places = stack.store(tmp_path)
        shown = hdu.data
        # astropy takes ignore_blank for the primary HDU alone.
        ignored = primary and "ignore_blank" in options
        if "BLANK" not in cards or "do_not_scale_image_data" in options or ignored:
            np.testing.assert_array_equal(untouched, shown)
        np.testing.assert_array_equal(untouched, pixels(hdu))
    from morpheus_core.images.stack import reopen

    with reopen(places) as stack:
        np.testing.assert_array_equal(stack.images[0].read(0, 3)[..., 0], untouched)


def test_an_hdu_that_is_made_in_memory(tmp_path):
    stored = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for hdu, blank in (
        (fits.ImageHDU(stored.astype("i2"), fits.Header({"BLANK": 0})), 0),
        (fits.ImageHDU(stored, fits.Header({"BLANK": 3 - 32768})), 3),
    ):
        expected = np.where(stored == blank, np.nan, stored)
        np.testing.assert_array_equal(pixels(hdu), expected)


@pytest.mark.parametrize("tiles", [False, True])
def test_flags_stay_integers_whatever_blank_says(tmp_path, tiles):
    path = tmp_path / "flags.fits"
    stored = write(path, 32, tiles, BLANK=-2147483648)
    with fits.open(path) as file:
        for mask in (path, file):
            with open_inputs(np.zeros(stored.shape), mask=mask, mask_bits=4) as stack:
                np.testing.assert_array_equal(stack.mask.read(0, 3)[..., 0], stored & 4 != 0)


def test_a_card_that_stands_there_twice(tmp_path):
    """The last counts, as for astropy."""
    write(tmp_path / "image.fits", 16)
    with fits.open(tmp_path / "image.fits", mode="update") as file:
        file[1].header.append(("BZERO", 1))
        file[1].header.append(("BZERO", 7))
    expected = fits.getdata(tmp_path / "image.fits")
    np.testing.assert_array_equal(pixels(tmp_path / "image.fits"), expected)


@pytest.mark.parametrize("value", ["x", "1"])
def test_scales_that_are_no_numbers(tmp_path, value):
    write(tmp_path / "image.fits", 16, BSCALE=value)
    with pytest.raises(InputError, match="cannot be read as FITS"):
        pixels(tmp_path / "image.fits")


@pytest.mark.filterwarnings("ignore:Invalid value for 'BLANK'")
@pytest.mark.parametrize("card", [3.0, "3", 0.0, "3.0 "])
@pytest.mark.parametrize("scale", [{}, {"BSCALE": 2.0, "BZERO": 5.0}, {"BZERO": 32768}])
def test_blank_as_a_whole_number_of_another_form(tmp_path, card, scale):
    """CFITSIO reads it; astropy warns, and gives the number."""
    stored = write(tmp_path / "image.fits", 16, BLANK=card, **scale).astype(float)
    expected = stored * scale.get("BSCALE", 1) + scale.get("BZERO", 0)
    expected[stored == float(card)] = np.nan
    np.testing.assert_array_equal(pixels(tmp_path / "image.fits"), expected)
    with fits.open(tmp_path / "image.fits") as file:
        np.testing.assert_array_equal(pixels(file[1]), expected)
        assert file[1].data is not None
        np.testing.assert_array_equal(pixels(file[1]), expected)


@pytest.mark.filterwarnings("ignore:Invalid value for 'BLANK'")
@pytest.mark.parametrize("card", [2.5, "none", True])
def test_blank_that_is_no_whole_number_marks_nothing(tmp_path, card):
    stored = write(tmp_path / "image.fits", 16, BLANK=card)
    np.testing.assert_array_equal(pixels(tmp_path / "image.fits"), stored)
