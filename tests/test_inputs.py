import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError
from morpheus_core.inputs import ImageStack


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
    with ImageStack(array) as stack:
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
        with ImageStack(source) as stack:
            (only,) = stack.images
            assert only.dtype == np.dtype(dtype).newbyteorder("=")
            rows = only.read(1, 5)
            assert rows.shape == (4, 7, only.shape[2])
            np.testing.assert_array_equal(rows.squeeze(), fits.getdata(path)[1:5])


def test_unsigned_integers_stay_unsigned_integers(write):
    """FITS stores them as signed ones with BZERO, which a memory map refuses."""
    path = write("camera.fits", np.uint16([[0, 1, 40_000], [65_535, 7, 8]]))
    with ImageStack(path) as stack:
        assert stack.images[0].dtype == np.uint16
        assert stack.images[0].read(0, 2)[..., 0].tolist() == [[0, 1, 40_000], [65_535, 7, 8]]


def test_image_of_the_only_extension_that_has_one(tmp_path):
    path = tmp_path / "extension.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])])
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(image((4, 5)))]).writeto(path)
    with ImageStack(path) as stack:
        assert stack.shape == (4, 5)


def test_compressed_tiles(tmp_path):
    path = tmp_path / "image.fits.fz"
    counts = image((40, 50), np.int16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts)]).writeto(path)
    with ImageStack(path) as stack:
        np.testing.assert_array_equal(stack.images[0].read(13, 17)[..., 0], counts[13:17])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "at least one image, got an empty list"),
        (7, "list of arrays or of paths, got int"),
        ([image((4, 4)), 3], r"got int for model_inputs\[1\]"),
        ([image((4, 4)), "x.fits"], r"an array for model_inputs\[0\] but a path"),
        ([image((4, 4)), image((4, 5))], r"\(4, 5\) for model_inputs\[1\] but \(4, 4\)"),
        (image((4,)), r"got \(4,\) for model_inputs\[0\]"),
        (image((1, 4, 4, 2)), r"got \(1, 4, 4, 2\)"),
        (image((0, 4)), "must have pixels"),
        (image((4, 4), complex), "real numbers, got dtype complex128"),
        (np.full((4, 4), "x"), "real numbers, got dtype <U1"),
        (np.ma.masked_less(image((4, 4)), 3), r"masked array.*array\.filled"),
    ],
)
def test_what_is_no_list_of_images(sources, message):
    with pytest.raises(InputError, match=message):
        ImageStack(sources)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no such file: .*nowhere\.fits"):
        ImageStack(tmp_path / "nowhere.fits")


@pytest.mark.parametrize("content", [b"", b"not FITS at all\n" * 300])
def test_files_that_are_no_fits(tmp_path, content):
    path = tmp_path / "broken.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.fits cannot be read as FITS"):
        ImageStack(path)


@pytest.mark.parametrize("shape", [(400, 60), (400, 20, 3)])
def test_truncated_files(write, shape):
    path = write("short.fits", image(shape))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    with pytest.raises(InputError, match=r"short\.fits is truncated: it has \d+ bytes of at least"):
        ImageStack(path)


def test_a_header_that_claims_too_much(write):
    path = write("lying.fits", image((40, 50)))
    path.write_bytes(
        path.read_bytes().replace(
            b"NAXIS2  =                   40", b"NAXIS2  =           1000000000"
        )
    )
    with pytest.raises(InputError, match="is truncated"):
        ImageStack(path)


def test_file_without_an_image(write):
    with pytest.raises(InputError, match=r"empty\.fits holds no image"):
        ImageStack(write("empty.fits", None))


def test_file_with_several_images_lists_them(write):
    path = write("several.fits", image((4, 5)), image((6, 7)))
    message = r"got 2: \[0\] PRIMARY \(4, 5\), \[1\] unnamed \(6, 7\); say which .*fits\[0\]"
    with pytest.raises(InputError, match=message):
        ImageStack(path)


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
    with ImageStack(f"{exposure}[{extension}]") as stack:
        np.testing.assert_array_equal(
            stack.images[0].read(0, 4)[..., 0], fits.getdata(exposure, index)
        )


@pytest.mark.parametrize("extension", ["0", "5", "9", "ERR", "SCI,3", "CAT"])
def test_extensions_that_are_no_image(exposure, extension):
    message = rf"\[{extension}\] names no image of .*holds \[1\] SCI \(4, 5\), .* \[3\] SCI,2 "
    with pytest.raises(InputError, match=message):
        ImageStack(f"{exposure}[{extension}]")


def test_a_file_with_brackets_in_its_name(write):
    with ImageStack(write("field[1]", image((4, 5)))) as stack:
        assert stack.shape == (4, 5)


def test_files_are_closed_when_a_later_one_fails(write, tmp_path):
    """An unclosed file would be a ResourceWarning, and warnings are errors here."""
    with pytest.raises(InputError, match="no such file"):
        ImageStack([write("good.fits", image((4, 5))), tmp_path / "missing.fits"])


def test_real_field_from_four_files_is_the_cube(data):
    files = [data / f"goodss/{band}.fits" for band in "hjvz"]
    with ImageStack(files) as bands, ImageStack(data / "goodss/hjvz_cube.fits") as cube:
        assert cube.images[0].shape == (256, 256, 4)
        rows = np.concatenate([band.read(100, 110) for band in bands.images], axis=-1)
        np.testing.assert_array_equal(rows, cube.images[0].read(100, 110))
