import bz2
import errno
import gzip
import lzma
import os
import tempfile

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, NDDataRef
from astropy.wcs import WCS

from morpheus_core import InputError, MorpheusWarning
from morpheus_core.images.stack import open_inputs


@pytest.fixture
def write(tmp_path):
    """Write images as a FITS file and return its path."""

    def write(name, *images, **header):
        hdus = [fits.PrimaryHDU(images[0])] + [fits.ImageHDU(image) for image in images[1:]]
        hdus[0].header.update(header)
        path = tmp_path / name
        fits.HDUList(hdus).writeto(path)
        return path

    return write


def image(shape, dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">i2", "u1", "?"])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3)])
def test_arrays_keep_their_type_in_native_order(shape, dtype):
    array = image(shape, dtype)
    with open_inputs(array) as stack:
        (only,) = stack.images
        assert only.shape == (6, 7, shape[2] if len(shape) == 3 else 1)
        assert only.dtype.isnative
        assert only.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(only.read(2, 4).squeeze(), array[2:4])


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "u1"])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3)])
def test_files_give_the_rows_that_astropy_reads(write, shape, dtype):
    path = write("image.fits", image(shape, dtype))
    for source in (path, str(path), [path]):
        with open_inputs(source) as stack:
            (only,) = stack.images
            assert only.dtype == np.dtype(dtype).newbyteorder("=")
            rows = only.read(1, 5)
            assert rows.shape == (4, 7, only.shape[2])
            np.testing.assert_array_equal(rows.squeeze(), fits.getdata(path)[1:5])


def test_unsigned_integers_stay_unsigned_integers(write):
    """FITS stores them as signed ones with BZERO, which a memory map refuses."""
    path = write("camera.fits", np.uint16([[0, 1, 40_000], [65_535, 7, 8]]))
    with open_inputs(path) as stack:
        assert stack.images[0].dtype == np.uint16
        assert stack.images[0].read(0, 2)[..., 0].tolist() == [[0, 1, 40_000], [65_535, 7, 8]]


def test_image_of_the_only_extension_that_has_one(tmp_path):
    path = tmp_path / "extension.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])])
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(image((4, 5)))]).writeto(path)
    with open_inputs(path) as stack:
        assert stack.shape == (4, 5)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_vector_is_no_image(write, is_open):
    """Frames of the SDSS keep the flat field's columns beside the image."""
    path = write("frame.fits", image((4, 5)), image((5,)))
    with fits.open(path) as file, open_inputs(file if is_open else path) as stack:
        assert stack.shape == (4, 5)


def test_compressed_tiles(tmp_path):
    path = tmp_path / "image.fits.fz"
    counts = image((40, 50), np.int16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts)]).writeto(path)
    with open_inputs(path) as stack:
        np.testing.assert_array_equal(stack.images[0].read(13, 17)[..., 0], counts[13:17])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "at least one image, got an empty list"),
        (7, r"model_inputs\[0\] must be an array, the path of a file, .* got int"),
        ([image((4, 4)), 3], r"model_inputs\[1\] must be an array.*got int"),
        ([image((4, 4)), image((4, 5))], r"\(4, 5\) for model_inputs\[1\] but \(4, 4\)"),
        (image((4,)), r"got \(4,\) for model_inputs\[0\]"),
        (image((2, 4, 4, 2)), r"got \(2, 4, 4, 2\)"),
        (image((0, 4)), "must have pixels"),
        (image((4, 4), complex), "real numbers, got dtype complex128"),
        (np.full((4, 4), "x"), "real numbers, got dtype <U1"),
    ],
)
def test_what_is_no_list_of_images(sources, message):
    with pytest.raises(InputError, match=message):
        open_inputs(sources)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no such file: .*nowhere\.fits"):
        open_inputs(tmp_path / "nowhere.fits")


@pytest.mark.parametrize("content", [b"", b"not FITS at all\n" * 300])
def test_files_that_are_no_fits(tmp_path, content):
    path = tmp_path / "broken.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.fits cannot be read as FITS"):
        open_inputs(path)


@pytest.mark.parametrize("shape", [(400, 60), (400, 20, 3)])
def test_truncated_files(write, shape):
    path = write("short.fits", image(shape))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    with pytest.raises(InputError, match=r"short\.fits is truncated: it has \d+ bytes of at least"):
        open_inputs(path)


def test_a_header_that_claims_too_much(write):
    path = write("lying.fits", image((40, 50)))
    path.write_bytes(
        path.read_bytes().replace(
            b"NAXIS2  =                   40", b"NAXIS2  =           1000000000"
        )
    )
    with pytest.raises(InputError, match="is truncated"):
        open_inputs(path)


def test_file_without_an_image(write):
    with pytest.raises(InputError, match=r"empty\.fits holds no image"):
        open_inputs(write("empty.fits", None))


def test_file_with_several_images_lists_them(write):
    path = write("several.fits", image((4, 5)), image((6, 7)))
    message = r"got 2: \[0\] PRIMARY \(4, 5\), \[1\] unnamed \(6, 7\); say which .*fits\[0\]"
    with pytest.raises(InputError, match=message):
        open_inputs(path)


@pytest.fixture
def exposure(tmp_path):
    """A file of several extensions, in a folder with brackets in its name."""
    folder = tmp_path / "run[1]"
    folder.mkdir()
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        hdus += [
            fits.ImageHDU(image((4, 5)) + version, name="SCI", ver=version),
            fits.ImageHDU(image((4, 5)), name="DQ", ver=version),
        ]
    hdus.append(fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])], name="CAT"))
    path = folder / "exposure.fits"
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize(
    ("extension", "index"), [("1", 1), ("3", 3), ("SCI", 1), ("sci", 1), ("SCI,2", 3), ("DQ, 2", 4)]
)
def test_extensions_in_brackets(exposure, extension, index):
    with open_inputs(f"{exposure}[{extension}]") as stack:
        np.testing.assert_array_equal(
            stack.images[0].read(0, 4)[..., 0], fits.getdata(exposure, index)
        )


@pytest.mark.parametrize("versions", [(1, 1), (2, 2)])
def test_names_that_several_hdus_share(tmp_path, versions):
    """astropy takes the first of them without a word."""
    path = tmp_path / "exposure.fits"
    hdus = [fits.ImageHDU(image((4, 5)) + k, name="SCI", ver=k) for k in versions]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    message = r"\] must name one HDU of .*exposure\.fits, got \[1\] SCI.*\[2\] SCI.*as in \[1\]"
    for name in ("SCI", f"sci,{versions[0]}"):
        if name == "SCI" and versions == (2, 2):
            message = "names no image|must name one HDU"
        with pytest.raises(InputError, match=message):
            open_inputs(f"{path}[{name}]")
    with open_inputs(f"{path}[2]") as stack:
        assert stack.images[0].read(0, 1)[0, 0, 0] == versions[1]


@pytest.mark.parametrize("extension", ["0", "5", "9", "ERR", "SCI,3", "CAT"])
def test_extensions_that_are_no_image(exposure, extension):
    message = rf"\[{extension}\] names no image of .*holds \[1\] SCI \(4, 5\), .* \[3\] SCI,2 "
    with pytest.raises(InputError, match=message):
        open_inputs(f"{exposure}[{extension}]")


def test_a_file_with_brackets_in_its_name(write):
    with open_inputs(write("field[1]", image((4, 5)))) as stack:
        assert stack.shape == (4, 5)


def test_files_are_closed_when_a_later_one_fails(write, tmp_path):
    """An unclosed file would be a ResourceWarning, and warnings are errors here."""
    with pytest.raises(InputError, match="no such file"):
        open_inputs([write("good.fits", image((4, 5))), tmp_path / "missing.fits"])


def test_real_field_from_four_files_is_the_cube(data):
    files = [data / f"goodss/{band}.fits" for band in "hjvz"]
    with open_inputs(files) as bands, open_inputs(data / "goodss/hjvz_cube.fits") as cube:
        assert cube.images[0].shape == (256, 256, 4)
        rows = np.concatenate([band.read(100, 110) for band in bands.images], axis=-1)
        np.testing.assert_array_equal(rows, cube.images[0].read(100, 110))


@pytest.mark.parametrize("bands", ["last", "first"])
@pytest.mark.parametrize("shape", [(1, 6, 7), (1, 1, 6, 7)])
def test_leading_axes_of_length_one_are_left_out(write, shape, bands):
    array = image(shape)
    for source in (array, write("leading.fits", array)):
        with open_inputs(source, bands) as stack:
            assert stack.images[0].shape == (6, 7, 1)
            np.testing.assert_array_equal(stack.images[0].read(2, 5)[..., 0], array.squeeze()[2:5])


@pytest.mark.parametrize("leading", [(), (1,)])
def test_bands_first(write, leading):
    array = image((*leading, 3, 6, 7))
    for source in (array, write("cube.fits", array)):
        with open_inputs(source, "first") as stack:
            assert stack.images[0].shape == (6, 7, 3)
            expected = np.moveaxis(array.reshape(3, 6, 7), 0, -1)
            np.testing.assert_array_equal(stack.images[0].read(2, 5), expected[2:5])


@pytest.mark.parametrize(
    ("shape", "bands", "other"),
    [
        ((4, 40, 50), "last", "first"),
        ((50, 40, 4), "first", "last"),
        ((20, 100, 100), "last", "first"),  # more bands than most surveys have
        ((56, 120, 130), "last", "first"),
        ((130, 120, 102), "first", "last"),
    ],
)
def test_bands_that_seem_to_be_elsewhere(shape, bands, other):
    with pytest.warns(MorpheusWarning, match=f'pass bands="{other}"'):
        open_inputs(image(shape), bands)


@pytest.mark.parametrize("shape", [(40, 50, 4), (40, 50, 40), (41, 40, 50), (3, 40, 3)])
def test_bands_that_are_where_they_should_be(shape):
    open_inputs(image(shape))


def open_hdus(path, tmp_path):
    """An HDU that is still in its file, one whose data were read, and one that has no file."""
    with fits.open(path) as file:
        yield file[0]
    with fits.open(path) as file:
        assert file[0].data.sum() > 0
        yield file[0]
    yield fits.PrimaryHDU(fits.getdata(path))
    with fits.open(path) as file:
        yield file


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_objects_of_astropy(write, tmp_path, dtype):
    path = write("image.fits", image((6, 7), dtype))
    for hdu in open_hdus(path, tmp_path):
        with open_inputs(hdu) as stack:
            assert stack.images[0].dtype == dtype
            rows = stack.images[0].read(2, 5)[..., 0]
            np.testing.assert_array_equal(rows, fits.getdata(path)[2:5])


def test_an_hdu_that_is_not_read_yet_is_read_row_by_row(exposure):
    with fits.open(exposure) as file, open_inputs(file["SCI", 2]) as stack:
        assert stack.paths == [exposure]
        assert stack.identity()["images"][0]["hdu"] == 3
        assert "data" not in vars(file["SCI", 2])


def test_an_hdu_whose_data_were_changed_is_used_as_it_is(write):
    path = write("image.fits", image((6, 7)))
    with fits.open(path) as file:
        file[0].data[2, 3] = 1000
        with open_inputs(file[0]) as stack:
            assert stack.images[0].read(2, 3)[0, 3, 0] == 1000
            assert stack.paths == [path]


def test_the_header_of_an_hdu_is_the_one_in_memory(write):
    with fits.open(write("image.fits", image((6, 7)))) as file:
        file[0].header["OBJECT"] = "M 31"
        with open_inputs(file[0]) as stack:
            assert stack.images[0].header["OBJECT"] == "M 31"


def test_hdus_that_are_no_image(exposure):
    with fits.open(exposure) as file:
        for source in (file["CAT"], file[0]):
            with pytest.raises(InputError, match=r"model_inputs\[0\] must be an image, got an HDU"):
                open_inputs(source)
        with pytest.raises(InputError, match=r"must hold one image, got \[1\] SCI .* pass the HDU"):
            open_inputs(file)


@pytest.fixture
def ccd():
    """A CCDData with world coordinates, a mask and a header."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 10, 20
    mask = np.zeros((6, 7), bool)
    mask[1, 2] = True
    header = fits.Header({"OBJECT": "M 31"})
    return CCDData(image((6, 7)), unit="adu", mask=mask, wcs=wcs, meta=header)


def test_ccd_data_bring_mask_and_sky_along(ccd):
    with open_inputs(ccd) as stack:
        header = stack.images[0].header
        assert (header["CTYPE1"], header["CRVAL2"], header["OBJECT"]) == ("RA---TAN", 20, "M 31")
        np.testing.assert_array_equal(stack.mask.read(0, 6)[..., 0], ccd.mask)
    with open_inputs([ccd, image((6, 7))], mask=image((6, 7)) == 3) as stack:
        expected = ccd.mask | (image((6, 7)) == 3)
        np.testing.assert_array_equal(stack.mask.read(0, 6)[..., 0], expected)


def test_nddata_without_anything_but_pixels():
    with open_inputs(NDData(image((6, 7, 2)))) as stack:
        assert stack.images[0].shape == (6, 7, 2)
        assert stack.mask is None


def test_a_mask_of_bands_marks_a_pixel_that_is_bad_in_one():
    mask = np.zeros((6, 7, 2), bool)
    mask[3, 4, 1] = True
    with open_inputs(NDData(image((6, 7, 2)), mask=mask)) as stack:
        assert np.argwhere(stack.mask.read(0, 6)[..., 0]).tolist() == [[3, 4]]


FLAGS = np.array([[0, 1, 2, 4], [5, 8, 12, 0]])


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, ">i4", np.float32, bool])
def test_what_is_not_zero_is_bad(write, dtype):
    flags = FLAGS.astype(dtype)
    sources = [flags] if dtype is bool else [flags, write("flags.fits", flags)]
    for mask in sources:
        with open_inputs(image((2, 4)), mask=mask) as stack:
            np.testing.assert_array_equal(stack.mask.read(0, 2)[..., 0], FLAGS != 0)


def test_bits_of_a_mask():
    with open_inputs(image((2, 4)), mask=FLAGS.astype(np.int16), mask_bits=12) as stack:
        np.testing.assert_array_equal(stack.mask.read(0, 2)[..., 0], FLAGS >= 4)
        np.testing.assert_array_equal(stack.mask.read(1, 2)[..., 0], FLAGS[1:] >= 4)


def test_masks_with_nan_are_bad_there():
    with open_inputs(image((1, 2)), mask=np.array([[0.0, np.nan]])) as stack:
        assert stack.mask.read(0, 1)[..., 0].tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("mask", "bits", "message"),
    [
        (np.zeros((3, 4)), None, r"width of the images, \(2, 4\), got \(3, 4\)"),
        (np.zeros((2, 4, 2)), None, r"a mask must be \(height, width\), got \(2, 4, 2\)"),
        (np.zeros((2, 4)), 4, "mask_bits needs a mask of integers, got dtype float64"),
        ("nowhere.fits", None, r"no such file: nowhere\.fits"),
        (7, None, "mask must be an array, the path of a file"),
    ],
)
def test_what_is_no_mask(mask, bits, message):
    with pytest.raises(InputError, match=message):
        open_inputs(image((2, 4)), "last", mask, bits)


COMPRESSORS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_compressed_files_are_unpacked_once(write, tmp_path, monkeypatch, caplog, kind):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    plain = write("image.fits", image((6, 7)))
    path = tmp_path / f"image.fits.{kind}"
    path.write_bytes(COMPRESSORS[kind](plain.read_bytes()))
    with caplog.at_level("INFO", "morpheus_core"), open_inputs(path) as stack:
        np.testing.assert_array_equal(stack.images[0].read(2, 5)[..., 0], image((6, 7))[2:5])
        assert stack.paths == [path]
        (unpacked,) = scratch.iterdir()
        assert unpacked.read_bytes() == plain.read_bytes()
        place = stack.images[0].store(tmp_path / "not needed")
        assert place["path"] == str(unpacked.resolve())
    assert f"unpacking {path} to {unpacked}" in caplog.text
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_compressed_files_that_are_damaged(write, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = COMPRESSORS[kind](write("image.fits", image((60, 70))).read_bytes())
    path = tmp_path / "damaged.fits"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged\.fits is damaged, or there is no space"):
        open_inputs(path)
    assert {p.name for p in tmp_path.iterdir()} == {"image.fits", "damaged.fits"}


def test_compressed_files_that_end_too_early(write, tmp_path):
    content = write("image.fits", image((60, 70))).read_bytes()[:9000]
    path = tmp_path / "short.fits.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"short\.fits\.gz is truncated: it has 9000 bytes"):
        open_inputs(path)


def test_compressions_that_cannot_be_read(tmp_path):
    path = tmp_path / "image.fits.Z"
    path.write_bytes(b"\x1f\x9d\x90" * 100)
    with pytest.raises(InputError, match="compressed in a way that cannot be read here"):
        open_inputs(path)


def test_directories(tmp_path):
    with pytest.raises(InputError, match=r"is a directory; pass the FITS files in it"):
        open_inputs(tmp_path)


def test_files_without_permission(write):
    path = write("private.fits", image((4, 5)))
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # may read everything
            os.seteuid(65534)
        with pytest.raises(InputError, match=r"(private\.fits cannot be read|Permission denied)"):
            open_inputs(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_axes_of_length_zero(tmp_path, shape):
    path = tmp_path / "empty.fits"
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2)])
    header["NAXIS1"], header["NAXIS2"] = shape[::-1]
    path.write_bytes(header.tostring(padding=True).encode())
    with pytest.raises(InputError, match="must have pixels, got shape"):
        open_inputs(path)


@pytest.mark.parametrize("name", ["table.fits", "table.fits[1]", "table.fits[CAT]"])
def test_tables(tmp_path, name):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])], name="CAT")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    with pytest.raises(InputError, match=r"no image, only \[0\] PRIMARY empty, \[1\] CAT"):
        open_inputs(f"{tmp_path}/{name}")


def test_rows_that_cannot_be_read_are_named(write):
    path = write("image.fits", image((4000, 100)))
    with open_inputs(path) as stack:
        os.truncate(path, 10_000)  # while it is being read
        with pytest.raises(InputError, match=r"image\.fits: rows 100 to 199 cannot be read"):
            stack.images[0].read(100, 200)


def test_the_mask_of_a_cube_has_the_shape_of_a_band():
    mask = np.zeros((24, 24), bool)
    mask[3] = True
    with open_inputs(NDData(image((24, 24, 24)), mask=mask)) as stack:
        np.testing.assert_array_equal(stack.mask.read(0, 24)[..., 0], mask)
    with pytest.raises(InputError, match=r"of the images, \(24, 24\), got \(5, 24\)"):
        open_inputs(NDData(image((24, 24, 3)), mask=mask[:5]))


def test_a_single_flag_masks_all():
    with open_inputs(NDData(image((4, 5)), mask=True)) as stack:
        assert stack.mask.read(0, 4).all()


def test_files_that_are_no_fits_are_not_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "large.h5"
    with path.open("wb") as file:
        file.write(b"\x89HDF\r\n")
        file.truncate(1 << 34)
    with pytest.raises(InputError, match=r"large\.h5 is an HDF5 file"):
        open_inputs(path)


def test_compressed_images_that_are_opened_as_tables(tmp_path):
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(image((40, 50), np.int16))]
    fits.HDUList(hdus).writeto(tmp_path / "tiles.fits")
    with fits.open(tmp_path / "tiles.fits", disable_image_compression=True) as file:
        for source in (file, file[1]):
            with pytest.raises(InputError, match="must"):
                open_inputs(source)


def test_names_that_are_too_long():
    with pytest.raises(InputError, match="cannot be read as FITS"):
        open_inputs("x" * 5000 + "[1]")


def test_world_coordinates_of_a_slice_are_not_those_of_the_whole(ccd):
    """Slicing leaves the cards of the header as they were."""
    header = fits.Header({"OBJECT": "M 31", **ccd.wcs.to_header()})
    part = NDDataRef(ccd.data, wcs=ccd.wcs, meta=header)[1:, 2:]
    with pytest.warns(MorpheusWarning, match="that a FITS header cannot hold"):
        stack = open_inputs(part)
    assert stack.images[0].header["OBJECT"] == "M 31"
    assert "CRVAL1" not in stack.images[0].header


def test_the_coordinates_of_an_nddata_replace_those_of_its_header(ccd):
    header = fits.Header({"CTYPE1": "RA---TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-3})
    with open_inputs(NDData(ccd.data, wcs=ccd.wcs, meta=header)) as stack:
        assert stack.images[0].header["CTYPE1"] == "RA---TAN"
        assert "A_2_0" not in stack.images[0].header


@pytest.mark.parametrize("failing", [0, 1])
def test_servers_that_are_away_hide_no_error(write, monkeypatch, failing):
    stack = open_inputs([write(f"{band}.fits", image((6, 7))) for band in "ab"])
    closed, close = [], type(stack.images[0]).close

    def closing(part):
        close(part)
        closed.append(part)
        if part is stack.images[failing]:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(type(stack.images[0]), "close", closing)
    stack.close()
    assert len(closed) == 2
