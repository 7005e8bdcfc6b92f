"""Odd but valid files, made by somebody who had not read the code: no number is wrong in silence.

Pixels are those of astropy, and for BLANK those of the standard; places are those of astropy's WCS,
in the windows of catalogues as in the headers of outputs.
"""

import gzip
from contextlib import nullcontext

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from morpheus_core import InputError, MorpheusWarning, predict, predict_catalog

HEIGHT, WIDTH = 40, 48
RANDOM = np.random.default_rng(3)
IMAGE = RANDOM.normal(size=(HEIGHT, WIDTH)).astype("f4")
COUNTS = RANDOM.integers(-3000, 3000, (HEIGHT, WIDTH)).astype("i2")
#: Where positions are compared: columns and rows, off the borders of pixels.
PLACES = np.meshgrid(np.linspace(3.1, WIDTH - 4.2, 4), np.linspace(3.1, HEIGHT - 4.2, 4))
COLUMNS, ROWS = (np.ravel(axis) for axis in PLACES)


def tan(**cards):
    """Return a header with other cards in place of some; None leaves one out."""
    plain = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2}
    plain |= {"CRPIX1": 20.3, "CRPIX2": 30.7, "CDELT1": -1e-4, "CDELT2": 1e-4}
    return fits.Header({key: one for key, one in {**plain, **cards}.items() if one is not None})


def types(longitude, latitude, projection, **cards):
    return tan(CTYPE1=f"{longitude}-{projection}", CTYPE2=f"{latitude}-{projection}", **cards)


TURNED = {"PC1_1": 0.8, "PC1_2": 0.6, "PC2_1": -0.6, "PC2_2": 0.8}
MATRIX = {"CD1_1": -2e-4, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 2e-4}
OTHER_AXES = {"CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CDELT3": 1e6, "CRPIX3": 1.0}
OTHER_AXES |= {"CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 1.0, "CRPIX4": 1.0}
ARCSEC = {"CUNIT1": "arcsec", "CDELT1": -0.36, "CRVAL1": 150.1 * 3600}

HEADERS = {
    "CROTA2": tan(CROTA2=33.0),
    "CROTA1 alone": tan(CROTA1=20.0),
    "both to the right and down": tan(CDELT1=1e-4, CDELT2=-1e-4),
    "PC of mixed units": tan(CUNIT2="deg", **ARCSEC, **TURNED),
    "CD beside CDELT": tan(**MATRIX),
    "CD in parts": tan(CDELT1=None, CDELT2=None, CD1_1=-2e-4, CD2_2=2e-4),
    "LONPOLE": tan(LONPOLE=120.0),
    "equinox 1975": tan(RADESYS="FK5", EQUINOX=1975.0),
    "EPOCH 1950 alone": tan(EPOCH=1950.0),
    "galactic": types("GLON", "GLAT", "TAN"),
    "ecliptic": types("ELON", "ELAT", "TAN"),
    "ZEA": types("RA--", "DEC-", "ZEA", CRVAL2=80.0, CDELT1=-0.1, CDELT2=0.1),
    "CAR off the equator": types("RA--", "DEC-", "CAR", CRVAL2=40.0, CDELT1=-0.01),
    "slanted SIN": types("RA--", "DEC-", "SIN", PV2_1=0.1, PV2_2=-0.2),
    "NCP": types("RA--", "DEC-", "NCP", CRVAL2=60.0),
    "declination first": tan(
        CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=2.2, CRVAL2=150.1,
        CD1_1=1e-5, CD1_2=1e-4, CD2_1=-1e-4, CD2_2=1e-5,
    ),
    "alternative axes": tan(CTYPE1A="GLON-TAN", CTYPE2A="GLAT-TAN", CDELT1A=0.1, CDELT2A=0.1),
    "around the pole": tan(CRVAL2=89.999),
    "around the first meridian": tan(CRVAL1=-359.9995),
    "more axes than pixels": tan(WCSAXES=4, **OTHER_AXES),
}  # fmt: skip


def pixels_of(source, shape=(HEIGHT, WIDTH), **options):
    """Return what the model sees, if one window is the image, and the header of n."""
    seen = []

    def model(batch):
        seen.append(batch[0][0].copy())
        return np.zeros((*batch[0].shape[:3], 2))

    hduls, _ = predict(model, source, 2, 1, shape, progress=False, **options)
    return seen[0], hduls[1][0].header if hduls else None


def corner(batch):
    return batch[0][:, 0, 0, :1].astype("f8")


def assert_places(source, wcs, pixels, **options):
    """Compare windows of a catalogue, and the header of n, with what astropy says."""
    sky = wcs.pixel_to_world(COLUMNS, ROWS).icrs
    assert np.isfinite(sky.ra.deg).all()
    table = Table({"ra": sky.ra.deg, "dec": sky.dec.deg})
    run = {"progress": False, "output_dtype": "float64", **options}
    found = predict_catalog(corner, source, table, 1, 8, (1, 1), **run)
    expected = pixels[np.round(ROWS).astype(int), np.round(COLUMNS).astype(int)]
    np.testing.assert_array_equal(found["class_0"], expected)
    _, header = pixels_of(source, **options)
    apart = WCS(header).pixel_to_world(COLUMNS, ROWS).icrs.separation(sky).arcsec
    assert apart.max() < 1e-4


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("kind", HEADERS)
def test_places(tmp_path, kind):
    fits.writeto(tmp_path / "image.fits", IMAGE, HEADERS[kind])
    assert_places(tmp_path / "image.fits", WCS(HEADERS[kind]).celestial, IMAGE)


@pytest.mark.parametrize("cards", [{}, TURNED])
def test_axes_of_length_one(tmp_path, cards):
    header = tan(**OTHER_AXES, **cards)
    fits.writeto(tmp_path / "image.fits", IMAGE.reshape(1, 1, HEIGHT, WIDTH), header)
    assert_places(tmp_path / "image.fits", WCS(header).celestial, IMAGE)


@pytest.mark.parametrize("bands", ["first", "last"])
def test_spectral_cubes(tmp_path, bands):
    """The bands are the third axis of the header, or its first."""
    cube = RANDOM.normal(size=(5, HEIGHT, WIDTH)).astype("f4")
    wave = {"CTYPE": "WAVE", "CRVAL": 5e-7, "CDELT": 1e-8, "CRPIX": 1.0, "CUNIT": "m"}
    sky = tan(CROTA2=30.0)
    if bands == "first":
        header = fits.Header({**sky, **{f"{key}3": value for key, value in wave.items()}})
    else:
        moved = {f"{key[:-1]}{int(key[-1]) + 1}": value for key, value in sky.items()}
        header = fits.Header({**{f"{key}1": value for key, value in wave.items()}, **moved})
    fits.writeto(
        tmp_path / "cube.fits", cube if bands == "first" else np.moveaxis(cube, 0, 2), header
    )
    seen, _ = pixels_of(tmp_path / "cube.fits", bands=bands)
    np.testing.assert_array_equal(seen, np.moveaxis(cube, 0, 2))
    assert_places(tmp_path / "cube.fits", WCS(header).celestial, cube[0], bands=bands)


@pytest.mark.parametrize("sip", [{}, {"A_ORDER": 2, "A_2_0": 1e-4, "B_ORDER": 2, "B_0_2": 1e-4}])
def test_exponents_of_fortran(tmp_path, sip):
    """They are valid, and astropy's WCS reads -1.0 of -1.0D-04."""
    header = types("RA--", "DEC-", "TAN-SIP" if sip else "TAN", **sip)
    fits.writeto(tmp_path / "image.fits", IMAGE, header)
    content = (tmp_path / "image.fits").read_bytes()
    cards = ["CDELT1  = -1.0D-04/deg", "CDELT2  = 1.D-4", "CRVAL1  = 150.1/deg", "A_2_0   = .1D-3"]
    for card in cards if sip else cards[:-1]:
        start = content.index(card[:9].encode())
        content = content[:start] + card.ljust(80).encode() + content[start + 80 :]
    (tmp_path / "image.fits").write_bytes(content)
    with nullcontext() if not sip else pytest.warns(MorpheusWarning, match="n keeps it"):
        assert_places(tmp_path / "image.fits", WCS(header), IMAGE)


def write_stored(path, stored, **cards):
    """Write stored numbers as they are, and cards that say what they stand for."""
    hdu = fits.PrimaryHDU(stored.astype(stored.dtype.newbyteorder(">")))
    hdu.writeto(path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as file:
        file[0].header.update(cards)


WHOLE = RANDOM.integers(-(1 << 63), (1 << 63) - 1, (HEIGHT, WIDTH))
BYTES = RANDOM.integers(0, 256, (HEIGHT, WIDTH)).astype("u1")


@pytest.mark.parametrize(
    ("stored", "cards", "expected"),
    [
        (BYTES, {"BZERO": -128}, BYTES.astype("i2") - 128),
        (BYTES, {"BZERO": -128, "BLANK": 0}, np.where(BYTES == 0, np.nan, BYTES - 128.0)),
        (BYTES, {"BLANK": 255}, np.where(BYTES == 255, np.nan, BYTES)),
        (COUNTS, {"BSCALE": -2.0, "BZERO": 0.5, "BLANK": 17}, None),
        (COUNTS, {"BZERO": 32768.5}, COUNTS + 32768.5),
        (COUNTS, {"BSCALE": 0.0, "BZERO": 3.0}, np.full(COUNTS.shape, 3.0)),
        (WHOLE, {}, WHOLE),
        (WHOLE, {"BZERO": 1 << 63}, WHOLE.astype("u8") + np.uint64(1 << 63)),
        (IMAGE, {"BSCALE": 2.0, "BZERO": 1.0}, IMAGE * np.float32(2) + np.float32(1)),
    ],
    ids=["signed", "signed blank", "blank", "negative", "half", "zero", "64", "unsigned 64", "f4"],
)
def test_stored_numbers(tmp_path, stored, cards, expected):
    write_stored(tmp_path / "image.fits", stored, **cards)
    if expected is None:
        expected = np.where(stored == 17, np.nan, stored * -2.0 + 0.5)
    seen, _ = pixels_of(tmp_path / "image.fits")
    assert (seen.dtype.kind == "f") == (np.asarray(expected).dtype.kind == "f")
    np.testing.assert_array_equal(seen[..., 0], expected)


ZEROS = np.where(IMAGE > 0, IMAGE, 0).astype("f4")
HOLES = np.where(IMAGE > 1, np.nan, IMAGE).astype("f4")
TILES = {
    "no multiple of the image": (IMAGE, {"tile_shape": (7, 13)}),
    "lossless": (IMAGE, {"compression_type": "GZIP_2", "quantize_level": 0.0}),
    "dithered zeros": (ZEROS, {"quantize_method": 2, "quantize_level": 4}),
    "holes": (HOLES, {"quantize_level": 4, "tile_shape": (9, 11)}),
    "holes of HCOMPRESS": (HOLES, {"compression_type": "HCOMPRESS_1", "tile_shape": (16, 16)}),
    "one number": (np.full_like(IMAGE, 3.5), {}),
    "unsigned": ((COUNTS.astype("i4") + 32768).astype("u2"), {}),
    "64 bits": (WHOLE, {"compression_type": "GZIP_1"}),
}


@pytest.mark.parametrize("kind", TILES)
def test_tiles(tmp_path, kind):
    pixels, options = TILES[kind]
    hdu = fits.CompImageHDU(pixels, tan(), **options)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "image.fits")
    expected = fits.getdata(tmp_path / "image.fits", 1)
    seen, _ = pixels_of(tmp_path / "image.fits")
    np.testing.assert_array_equal(seen[..., 0], expected)
    filled = np.where(np.isnan(expected), 1e9, expected)  # blank rows have no result
    if kind.startswith("holes"):
        assert np.isnan(seen).sum() == np.isnan(pixels).sum()
    else:
        assert_places(tmp_path / "image.fits", WCS(tan()), filled)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"BSCALE": 0.5, "BZERO": 100.0}, COUNTS * 0.5 + 100),
        ({"ZBLANK": int(COUNTS[3, 4])}, np.where(COUNTS[3, 4] == COUNTS, np.nan, COUNTS)),
    ],
    ids=["scaled", "blank without BLANK"],
)
def test_tiles_of_stored_numbers(tmp_path, cards, expected):
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(COUNTS)]).writeto(tmp_path / "image.fits")
    with fits.open(tmp_path / "image.fits", mode="update", disable_image_compression=True) as file:
        file[1].header.update(cards)
    np.testing.assert_array_equal(pixels_of(tmp_path / "image.fits")[0][..., 0], expected)


BAD = RANDOM.random((HEIGHT, WIDTH)) < 0.3


FLAGS = {
    "bytes": (BAD.astype("u1"), None),
    "unsigned 64": (BAD.astype("u8") << np.uint64(63), None),
    "bit 60": (BAD.astype("i8") << np.int64(60) | 1, 1 << 60),
    "sign bit": (np.where(BAD, -(1 << 31), 1).astype("i4"), 1 << 31),
    "camera": (BAD.astype("u2") * 40_000, None),
    "signed bytes": (np.where(BAD, -128, 1).astype("i1"), 128),
}
PACKED_FLAGS = [kind for kind in FLAGS if kind != "signed bytes"]  # which astropy does not pack


@pytest.mark.parametrize(
    ("kind", "tiles"), [*((kind, False) for kind in FLAGS), *((one, True) for one in PACKED_FLAGS)]
)
def test_masks(tmp_path, kind, tiles):
    flags, bits = FLAGS[kind]
    hdu = fits.CompImageHDU(flags, compression_type="GZIP_1") if tiles else fits.ImageHDU(flags)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "mask.fits")
    good = n_of(mask=tmp_path / "mask.fits", mask_bits=bits) > 0
    np.testing.assert_array_equal(good, ~BAD)


def n_of(**options):
    def model(batch):
        return np.zeros((*batch[0].shape[:3], 2))

    return predict(model, IMAGE, 2, 64, (1, 1), progress=False, **options)[1][1]


def test_masks_that_are_scaled(tmp_path):
    write_stored(tmp_path / "mask.fits", np.where(BAD, 3, 1).astype("i2"), BSCALE=2.0, BZERO=-2.0)
    np.testing.assert_array_equal(n_of(mask=tmp_path / "mask.fits") > 0, ~BAD)


def test_images_among_tables_and_empty_hdus(tmp_path):
    table = fits.BinTableHDU(Table({"a": [1, 2]}), name="SCI", ver=3)
    images = [fits.ImageHDU(IMAGE * version, tan(), name="SCI", ver=version) for version in (1, 2)]
    path = tmp_path / "file.fits"
    fits.HDUList([fits.PrimaryHDU(), table, *images, fits.ImageHDU()]).writeto(path)
    for brackets, version in (("[3]", 2), ("[sci,2]", 2), ("[ SCI , 2 ]", 2), ("[SCI,1]", 1)):
        seen, _ = pixels_of(f"{path}{brackets}")
        np.testing.assert_array_equal(seen[..., 0], IMAGE * version)
    for brackets in ("[SCI,3]", "[0]", "[-1]", "[9]"):
        with pytest.raises(InputError, match="names no image of"):
            pixels_of(f"{path}{brackets}")


def test_long_cards(tmp_path):
    header = tan()
    header["OBJECT"] = "x" * 150 + "'quoted'"
    header["HIERARCH ESO DET NAME"] = "abc"
    fits.writeto(tmp_path / "image.fits", IMAGE, header)
    assert_places(tmp_path / "image.fits", WCS(tan()), IMAGE)
    assert pixels_of(tmp_path / "image.fits")[1]["OBJECT"] == header["OBJECT"]


def test_packed_in_two_members_under_another_name(tmp_path):
    fits.writeto(tmp_path / "plain.fits", IMAGE, tan())
    content = (tmp_path / "plain.fits").read_bytes()
    packed = gzip.compress(content[:3000]) + gzip.compress(content[3000:])
    (tmp_path / "image.fits").write_bytes(packed)
    assert_places(tmp_path / "image.fits", WCS(tan()), IMAGE)


GROUPS = fits.GroupData(
    np.zeros((3, 1, 4, 4)), bitpix=-32, parnames=["a"], pardata=[np.arange(3.0)]
)
WITHOUT_IMAGE = {
    "empty": lambda: [fits.PrimaryHDU()],
    "table": lambda: [fits.PrimaryHDU(), fits.BinTableHDU(Table({"a": [1, 2]}))],
    "row": lambda: [fits.PrimaryHDU(IMAGE[0])],
    "groups": lambda: [fits.GroupsHDU(GROUPS)],
}


@pytest.mark.parametrize("kind", WITHOUT_IMAGE)
def test_what_holds_no_image(tmp_path, kind):
    hdus = WITHOUT_IMAGE[kind]()
    fits.HDUList(hdus).writeto(tmp_path / "file.fits")
    with pytest.raises(InputError, match=r"file\.fits holds no image, only \[0\] PRIMARY"):
        pixels_of(tmp_path / "file.fits")


@pytest.mark.parametrize(
    "array",
    [
        IMAGE.astype(">f4"), np.asfortranarray(IMAGE), IMAGE[::-1, ::-1], IMAGE.astype("f2"),
        IMAGE > 0, WHOLE.astype(">i8"), np.repeat(IMAGE, 2, axis=1)[:, ::2],
    ],
    ids=["big-endian", "by columns", "backwards", "f2", "bool", "64 bits", "with gaps"],
)  # fmt: skip
def test_arrays(array):
    np.testing.assert_array_equal(pixels_of(array)[0][..., 0], array)
