"""The table of inputs in docs/fits.rst: each of its cells is tested here, and quoted.

`test_the_page_has_these_cells` compares the quotes with the page, so a row or a word that is
changed there needs its test here.
"""

import bz2
import gzip
import lzma
import pickle
import re
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.modeling import models
from astropy.nddata import CCDData, NDData
from astropy.table import Table
from astropy.wcs import WCS, DistortionLookupTable
from conftest import require
from range_server import serving
from sky_headers import sky_header

from morpheus_core import InputError, predict_catalog
from morpheus_core.catalogs.sky_positions import sky_wcs
from morpheus_core.images import fits_images, picture_files
from morpheus_core.images.address_files import AddressFile
from morpheus_core.images.stack import open_inputs, reopen

PAGE = Path(__file__).parents[2] / "docs" / "fits.rst"
COLUMNS = ("Is read", "Workers get", "Sky position from", "Refused")
PIXELS = np.arange(500 * 400, dtype="f4").reshape(500, 400)
HEADER = sky_header()
#: Bytes that may be in memory while two rows are read; the image has 800,000.
FEW = 60_000

#: What is said, and what tests it, by row and column.
CELLS = {}


def cell(row, column, text):
    """Let a function be the test of a cell."""

    def decorate(function):
        assert (row, column) not in CELLS
        CELLS[row, column] = text, function
        return function

    return decorate


def cells_of_the_page():
    """Return the table of docs/fits.rst, {(row, column): text}."""
    page = PAGE.read_text()
    begin = page.index("   * - What\n     - Is read")
    table = page[begin : page.index("\n\n", begin)]
    rows = [
        [" ".join(text.split()) for text in re.split(r"\n     - ", row)]
        for row in re.split(r"(?:^|\n)   \* - ", table)[1:]
    ]
    (_, *columns), *rows = rows
    assert tuple(columns) == COLUMNS
    return {
        (row[0], name): text for row in rows for name, text in zip(columns, row[1:], strict=True)
    }


def test_the_page_has_these_cells():
    assert cells_of_the_page() == {key: text for key, (text, _) in CELLS.items()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, beside one for temporary files."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return tmp_path


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_cell(row, column, folder):
    CELLS[row, column][1](folder)


# What most cells have in common


def scratch_files(folder):
    return sorted((folder / "scratch").iterdir())


def assert_rows_are_read_alone(source, expected=PIXELS, few=FEW):
    """Read two rows, which must not take much more memory."""
    with open_inputs(source) as stack:
        image = stack.images[0]
        image.read(0, 1)
        tracemalloc.start()
        rows = image.read(300, 302)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(rows[..., 0], expected[300:302])
    assert peak < few


def place_of_workers(source, folder, expected=PIXELS):
    """Return what workers are given, from which they must read the same pixels."""
    stored = folder / "stored"
    stored.mkdir()
    with open_inputs(source) as stack:
        places = stack.store(stored)
        with reopen(places) as other:
            np.testing.assert_array_equal(other.images[0].read(0, 500)[..., 0], expected)
    return places["images"][0]


def assert_sky(image, expected=HEADER):
    """Compare the place of a pixel with what a header says."""
    found = sky_wcs(image).all_pix2world([[7, 9]], 0)
    np.testing.assert_allclose(found, WCS(expected).all_pix2world([[7, 9]], 0), rtol=0, atol=1e-9)


def assert_sky_of_header(source):
    with open_inputs(source) as stack:
        assert_sky(stack.images[0])


def write_image(folder, pixels=PIXELS):
    fits.writeto(folder / "image.fits", pixels, HEADER)
    return folder / "image.fits"


def write_tiles(folder, tile_shape=(10, 400)):
    tiles = fits.CompImageHDU(PIXELS.astype("i4"), HEADER, tile_shape=tile_shape)
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(folder / "image.fits.fz")
    return folder / "image.fits.fz"


def write_packed(folder, ending="gz"):
    path = folder / f"image.fits.{ending}"
    with {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[ending](path, "wb") as file:
        file.write(write_image(folder, PIXELS).read_bytes())
    return path


# FITS files

FILES = "FITS files, HDUs of them"


@cell(FILES, "Is read", "row by row")
def _(folder):
    path = write_image(folder)
    assert_rows_are_read_alone(path)
    with fits.open(path) as file:
        assert_rows_are_read_alone(file[0])


@cell(FILES, "Workers get", "the path")
def _(folder):
    path = write_image(folder)
    assert place_of_workers(path, folder)["path"] == str(path)


@cell(FILES, "Sky position from", "the header, and tables of the file")
def _(folder):
    assert_sky_of_header(write_image(folder))
    wcs = WCS(HEADER)
    grid = np.full((4, 4), 5.0, "f4")
    wcs.cpdis1 = DistortionLookupTable(grid, (1.0, 1.0), (1.0, 1.0), (160.0, 160.0))
    wcs.cpdis2 = DistortionLookupTable(0 * grid, (1.0, 1.0), (1.0, 1.0), (160.0, 160.0))
    made = wcs.to_fits(relax=True)
    image = fits.ImageHDU(PIXELS, made[0].header)
    fits.HDUList([fits.PrimaryHDU(), image, *made[1:]]).writeto(folder / "tables.fits")
    moved = HEADER.copy()
    moved["CRPIX1"] -= 5
    with open_inputs(f"{folder / 'tables.fits'}[1]") as stack:
        assert_sky(stack.images[0], moved)


@cell(FILES, "Refused", "names that several HDUs share")
def _(folder):
    hdus = [fits.ImageHDU(PIXELS, name="SCI"), fits.ImageHDU(PIXELS, name="SCI")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "image.fits")
    with pytest.raises(InputError, match=r"\[SCI\] must name one HDU of"):
        open_inputs(f"{folder / 'image.fits'}[SCI]")


# Tiles

TILES = "tiles (``.fz``)"


@cell(
    TILES,
    "Is read",
    "row of tiles by row of tiles; unpacked once where one exceeds 64 MiB",
)
def _(folder):
    assert fits_images.KEPT_TILES == 64 << 20
    path = write_tiles(folder)
    assert_rows_are_read_alone(path, few=10 * 400 * 4 * 10)  # a row of tiles, and what it takes
    with pytest.MonkeyPatch.context() as patch, open_inputs(path) as whole:
        patch.setattr(fits_images, "KEPT_TILES", 1000)
        assert scratch_files(folder) == []
        with open_inputs(path) as stack:
            assert len(scratch_files(folder)) == 1
            for start in (0, 400):
                rows = [one.images[0].read(start, start + 9) for one in (stack, whole)]
                np.testing.assert_array_equal(*rows)
            assert len(scratch_files(folder)) == 1


@cell(TILES, "Workers get", "the path")
def _(folder):
    path = write_tiles(folder)
    assert place_of_workers(path, folder)["path"] == str(path)


@cell(TILES, "Sky position from", "the header")
def _(folder):
    assert_sky_of_header(write_tiles(folder))


@cell(TILES, "Refused", "files that are too short")
def _(folder):
    path = write_tiles(folder)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(InputError, match="is truncated: it has 20000 bytes"):
        open_inputs(path)


# Files that are packed as a whole

PACKED = "``.gz``, ``.bz2``, ``.xz``"


@cell(PACKED, "Is read", "row by row, once unpacked")
def _(folder):
    for ending in ("gz", "bz2", "xz"):
        (folder / ending).mkdir()
        path = write_packed(folder / ending, ending)
        assert_rows_are_read_alone(path)
        assert scratch_files(folder) == []
        with open_inputs(path) as stack:
            (unpacked,) = scratch_files(folder)
            before = unpacked.stat().st_mtime_ns
            stack.images[0].read(3, 5)
            assert unpacked.stat().st_mtime_ns == before


@cell(PACKED, "Workers get", "what is unpacked")
def _(folder):
    place = place_of_workers(write_packed(folder), folder)
    assert Path(place["path"]).parent == folder / "scratch"


@cell(PACKED, "Sky position from", "the header")
def _(folder):
    assert_sky_of_header(write_packed(folder))


@cell(PACKED, "Refused", "``.Z``, ``.zip``, ``.zst``")
def _(folder):
    for ending, magic in (("Z", b"\x1f\x9d"), ("zip", b"PK\x03\x04"), ("zst", b"\x28\xb5\x2f\xfd")):
        (folder / f"image.fits.{ending}").write_bytes(magic + bytes(5000))
        with pytest.raises(InputError, match="compressed in a way that cannot be read here"):
            open_inputs(folder / f"image.fits.{ending}")


# Addresses


@contextmanager
def served(folder, name="image.fits"):
    """Yield the address of a file of this machine."""
    require("fsspec")
    require("aiohttp")
    with serving(folder) as server:
        yield f"{server.address}/{name}"


@cell("addresses", "Is read", "row by row; what is small whole")
def _(folder):
    write_image(folder)
    fits.writeto(folder / "small.fits", PIXELS[:100])
    require("fsspec")
    require("aiohttp")
    with serving(folder) as server:
        with open_inputs(f"{server.address}/small.fits") as stack:
            assert server.sent == [(folder / "small.fits").stat().st_size]
            stack.images[0].read(3, 5)
            assert len(server.sent) == 1
        with open_inputs(f"{server.address}/image.fits") as stack:
            server.sent.clear()
            np.testing.assert_array_equal(stack.images[0].read(3, 5)[..., 0], PIXELS[3:5])
            assert sum(server.sent) <= 2 * 1600


@cell("addresses", "Workers get", "the address, and ``storage_options``")
def _(folder):
    write_image(folder)
    with served(folder) as address, open_inputs(address, storage_options={"ssl": False}) as stack:
        (folder / "stored").mkdir()
        (place,) = stack.store(folder / "stored")["images"]
        content = Path(place["pickle"]).read_bytes()
        assert len(content) < 60_000
        (file,) = [one for one in vars(pickle.loads(content)).values() if type(one) is AddressFile]
        assert (file._address, file._options) == (address, {"ssl": False})


@cell("addresses", "Sky position from", "the header")
def _(folder):
    write_image(folder)
    with served(folder) as address:
        assert_sky_of_header(address)


@cell("addresses", "Refused", "what is compressed as a whole")
def _(folder):
    write_packed(folder)
    with (
        served(folder, "image.fits.gz") as address,
        pytest.raises(InputError, match="is compressed as a whole"),
    ):
        open_inputs(address)


# Pictures

PICTURES = "JPEG, PNG, TIFF"


def write_tiff(folder, pixels=PIXELS, **options):
    require("tifffile").imwrite(folder / "image.tif", pixels, **options)
    return folder / "image.tif"


@cell(PICTURES, "Is read", "as a whole, of up to 256 MiB")
def _(folder):
    with open_inputs(write_tiff(folder)) as stack:
        (folder / "image.tif").unlink()
        np.testing.assert_array_equal(stack.images[0].read(0, 500)[..., 0], PIXELS)
    assert picture_files.MOST_BYTES == 256 << 20


@cell(PICTURES, "Workers get", "a copy on disk")
def _(folder):
    place = place_of_workers(write_tiff(folder), folder)
    np.testing.assert_array_equal(np.load(place["array"])[0], PIXELS)


@cell(PICTURES, "Sky position from", "nothing: ``x`` and ``y``")
def _(folder):
    with open_inputs(write_tiff(folder)) as stack:
        assert stack.images[0].header is None
        with pytest.raises(InputError, match=r"celestial world coordinates, .* give x= and y="):
            sky_wcs(stack.images[0])


@cell(PICTURES, "Refused", "colours that are not RGB")
def _(folder):
    ink = np.zeros((20, 20, 4), np.uint8)
    with pytest.raises(InputError, match="must be grey or red, green and blue, got CMYK"):
        open_inputs(write_tiff(folder, ink, photometric="separated"))


# ASDF


def write_asdf(folder, **tree):
    require("asdf").AsdfFile({"data": PIXELS, **tree}).write_to(folder / "image.asdf")
    return folder / "image.asdf"


@cell("ASDF", "Is read", "row by row; what is compressed is unpacked once")
def _(folder):
    assert_rows_are_read_alone(write_asdf(folder))
    file = require("asdf").AsdfFile({"data": PIXELS})
    file.write_to(folder / "packed.asdf", all_array_compression="zlib")
    assert_rows_are_read_alone(folder / "packed.asdf")
    with open_inputs(folder / "packed.asdf"):
        assert [path.suffix for path in scratch_files(folder)] == [".npy"]


@cell("ASDF", "Workers get", "the path")
def _(folder):
    path = write_asdf(folder)
    content = Path(place_of_workers(path, folder)["pickle"]).read_bytes()
    assert pickle.loads(content).path == path
    assert len(content) < 2000


@cell("ASDF", "Sky position from", "``meta.wcs`` beside the array (extra ``gwcs``)")
def _(folder):
    path = write_asdf(folder, meta={"wcs": general_wcs()})
    with open_inputs(f"{path}[data]") as stack:
        assert_sky(stack.images[0])


@cell("ASDF", "Refused", "masked arrays")
def _(folder):
    masked = np.ma.array(PIXELS, mask=PIXELS > 9)
    with pytest.raises(InputError, match="gives masked arrays"):
        open_inputs(write_asdf(folder, data=masked))


def general_wcs():
    """Return what HEADER says as a pipeline of gwcs."""
    gwcs = require("gwcs")
    frames = require("gwcs.coordinate_frames")
    scale = HEADER["PC2_2"] * HEADER["CDELT2"]
    transform = (
        (models.Shift(1 - HEADER["CRPIX1"]) & models.Shift(1 - HEADER["CRPIX2"]))
        | (models.Scale(-scale) & models.Scale(scale))
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(HEADER["CRVAL1"], HEADER["CRVAL2"], 180.0)
    )
    detector = frames.Frame2D(name="detector", unit=(units.pix, units.pix))
    sky = frames.CelestialFrame(reference_frame=ICRS(), unit=(units.deg, units.deg))
    return gwcs.WCS([(detector, transform), (sky, None)])


# Arrays

ARRAYS = "arrays, HDUs made of them"


@cell(ARRAYS, "Is read", "from memory")
def _(folder):
    for source in (PIXELS, fits.ImageHDU(PIXELS)):
        with open_inputs(source) as stack:
            data = source if source is PIXELS else source.data
            assert np.shares_memory(stack.images[0].read(3, 5), data)


@cell(ARRAYS, "Workers get", "a copy on disk")
def _(folder):
    for name, source in {"array": PIXELS, "hdu": fits.ImageHDU(PIXELS)}.items():
        (folder / name).mkdir()
        path = Path(place_of_workers(source, folder / name)["array"])
        np.testing.assert_array_equal(np.load(path)[0], PIXELS)


@cell(ARRAYS, "Sky position from", "the header of an HDU")
def _(folder):
    assert_sky_of_header(fits.ImageHDU(PIXELS, HEADER))
    refuse_sky_positions(PIXELS)


def refuse_sky_positions(source):
    """Make sure that positions of its catalogues must be in pixels."""
    table = Table({"ra": [HEADER["CRVAL1"]], "dec": [HEADER["CRVAL2"]]})
    with pytest.raises(InputError, match=r"and .* has none; give x= and y= in pixels"):
        predict_catalog(corner, source, table, 1, 8, (5, 5), progress=False)
    pixels = Table({"x": [7.0], "y": [9.0]})
    found = predict_catalog(corner, source, pixels, 1, 8, (1, 1), progress=False)
    assert found["class_0"][0] == PIXELS[9, 7]


def corner(batch):
    return batch[0][:, 0, 0, :1]


@cell(ARRAYS, "Refused", "complex numbers")
def _(folder):
    with pytest.raises(InputError, match="an image must be real numbers, got dtype complex"):
        open_inputs(PIXELS * 1j)


# What is sliced lazily

LAZY = "Dask, Zarr, xarray, h5py"


def lazy_arrays(folder):
    """Yield the image as each kind of array, in chunks of 50 rows; that of h5py is the last."""
    dask, zarr, xarray = require("dask.array"), require("zarr"), require("xarray")
    stored = zarr.create_array(
        folder / "image.zarr", shape=(500, 400), chunks=(50, 400), dtype="f4"
    )
    stored[:] = PIXELS
    yield stored
    yield dask.from_zarr(stored)
    yield xarray.DataArray(dask.from_zarr(stored))
    h5py = require("h5py")
    with h5py.File(folder / "image.h5", "w") as file:
        yield file.create_dataset("image", data=PIXELS, chunks=(50, 400))


@cell(LAZY, "Is read", "row of chunks by row of chunks")
def _(folder):
    for source in lazy_arrays(folder):
        assert_rows_are_read_alone(source, few=PIXELS.nbytes // 2)
        with open_inputs(source) as stack:
            assert stack.images[0].chunk_rows == 50


@cell(LAZY, "Workers get", "the object, without an open file")
def _(folder):
    for number, source in enumerate(lazy_arrays(folder)):
        if type(source).__module__.startswith("h5py"):
            with open_inputs(source) as stack, pytest.raises(InputError, match="cannot be sent to"):
                stack.check_portable()
            continue
        (folder / str(number)).mkdir()
        place = place_of_workers(source, folder / str(number))
        assert Path(place["pickle"]).stat().st_size < PIXELS.nbytes // 10


@cell(LAZY, "Sky position from", "nothing: ``x`` and ``y``")
def _(folder):
    for source in lazy_arrays(folder):
        refuse_sky_positions(source)


@cell(LAZY, "Refused", "masked slices")
def _(folder):
    masked = require("dask.array").ma.masked_less(require("dask.array").from_array(PIXELS), 3)
    with pytest.raises(InputError, match="gives masked arrays"):
        open_inputs(masked)


# NDData

NDDATA = "``NDData``, ``CCDData``"


@cell(NDDATA, "Is read", "as its array")
def _(folder):
    for source in (NDData(PIXELS), CCDData(PIXELS, unit="adu")):
        with open_inputs(source) as stack:
            assert np.shares_memory(stack.images[0].read(3, 5), PIXELS)
    for lazy in lazy_arrays(folder):
        if type(lazy).__module__.startswith("dask"):
            assert_rows_are_read_alone(NDData(lazy), few=PIXELS.nbytes // 2)


@cell(NDDATA, "Workers get", "as its array")
def _(folder):
    assert "array" in place_of_workers(CCDData(PIXELS, unit="adu"), folder)


@cell(NDDATA, "Sky position from", "its ``wcs``, also of gwcs")
def _(folder):
    assert_sky_of_header(CCDData(PIXELS, wcs=WCS(HEADER), unit="adu"))
    for wcs in (WCS(HEADER), general_wcs()):  # which CCDData does not take
        assert_sky_of_header(NDData(PIXELS, wcs=wcs))


@cell(NDDATA, "Refused", "``mask_bits`` of booleans")
def _(folder):
    source = NDData(PIXELS, mask=PIXELS > 3)
    with pytest.raises(InputError, match="mask_bits needs a mask of integers"):
        open_inputs(source, mask_bits=1)
