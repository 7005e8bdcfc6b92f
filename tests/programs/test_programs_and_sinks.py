"""What programs and packages of others make of the files of each sink."""

import subprocess
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require, require_program

from morpheus_core import predict
from morpheus_core.fits.units import units_of
from morpheus_core.results.tile_files import make_tile_file
from morpheus_core.results.zarr_stores import make_store

pytestmark = pytest.mark.programs

TYPES = ["u1", "i2", "i4", "f4", "f8"]


def bits(pixels):
    return np.asarray(pixels).astype(pixels.dtype.newbyteorder(">")).tobytes()


def pixels_of(kind, shape):
    """Pixels with all that a type has: every bit, infinities, numbers that are none."""
    rng = np.random.default_rng(3)
    stored = rng.integers(0, 256, (*shape, np.dtype(kind).itemsize), dtype=np.uint8)
    pixels = np.ascontiguousarray(stored).view(kind)[..., 0]
    if kind[0] == "f":
        pixels[2:30] = rng.random((28, *shape[1:]))
        pixels[5], pixels[6], pixels[7] = np.nan, np.inf, -0.0
    return pixels


@pytest.fixture(params=[(kind, None) for kind in TYPES] + [("f4", 2), ("u1", 3)])
def files(request, tmp_path):
    """A plain file, and what sinks make of it."""
    require("zarr")
    kind, axis = request.param
    shape = (41, 37) if axis is None else (41, 37, 3, 2)[: axis + 2]
    pixels = pixels_of(kind, shape)
    header = fits.Header({"EXTNAME": "MAP", "OBJECT": "two fields'", "CLASS0": "star"})
    header["SCALE"], header["LONG"] = 1e-3, "words " * 20
    header["LONGSTRN"] = "OGIP 1.0"
    header["HISTORY"] = "made of noise"
    hdu = fits.PrimaryHDU(pixels, header) if axis else fits.ImageHDU(pixels, header)
    hdus = fits.HDUList([hdu] if axis else [fits.PrimaryHDU(), hdu])
    hdus.writeto(tmp_path / "map.fits", checksum=True)
    make_tile_file(tmp_path / "map.fits", tmp_path / "map.fits.fz")
    make_store(tmp_path / "map.fits", tmp_path / "map.zarr")
    return tmp_path, pixels


def ran(name, *arguments):
    command = [require_program(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fitsverify_finds_no_error(files):
    told = ran("fitsverify", files[0] / "map.fits.fz")
    assert "found 0 warning(s) and 0 error(s)" in told


def test_astropy_reads_tiles(files):
    folder, pixels = files
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(folder / "map.fits.fz", checksum=True) as hdul:
            assert bits(hdul[1].data) == bits(pixels)
            assert bits(hdul[1].section[3:9]) == bits(pixels[3:9])
            assert hdul[1].header["OBJECT"] == "two fields'"


def test_fitsio_reads_tiles(files):
    folder, pixels = files
    with require("fitsio").FITS(folder / "map.fits.fz") as hdus:
        assert bits(hdus[1][(slice(None),) * pixels.ndim]) == bits(pixels)
        if pixels.ndim < 4:
            assert bits(hdus[1].read()) == bits(pixels)


def test_funpack_gives_the_file_back(files):
    folder, pixels = files
    ran("funpack", "-O", folder / "back.fits", folder / "map.fits.fz")
    (before,), (back,) = (
        [unit for unit in units_of(folder / name) if unit.shape]
        for name in ("map.fits", "back.fits")
    )
    assert bits(back.read(0, 41)) == bits(pixels)
    kept = [card for card in before.header.cards if card.keyword not in ("CHECKSUM", "EXTEND")]
    assert [str(card) for card in kept if str(card) not in map(str, back.header.cards)] == []


@pytest.mark.parametrize("files", [("f4", None), ("u1", None)], indirect=True)
def test_source_extractor_reads_tiles_that_are_unpacked(files):
    folder, _ = files
    ran("funpack", "-O", folder / "back.fits", folder / "map.fits.fz")
    (folder / "all.param").write_text("NUMBER\n")
    ran(
        "source-extractor", f"{folder / 'back.fits'}[1]", "-PARAMETERS_NAME", folder / "all.param",
        "-CATALOG_NAME", folder / "found.cat", "-FILTER", "N", "-VERBOSE_TYPE", "QUIET",
    )  # fmt: skip
    assert (folder / "found.cat").exists()


def test_zarr_xarray_and_dask_read_stores(files):
    folder, pixels = files
    zarr, xarray, dask = require("zarr"), require("xarray"), require("dask.array")
    group = zarr.open_group(folder / "map.zarr", mode="r")
    ((name, array),) = group.arrays()
    assert array.metadata.zarr_format == 3
    assert bits(array[:]) == bits(pixels)
    assert bits(dask.from_zarr(folder / "map.zarr" / name).compute()) == bits(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xarray.open_zarr(folder / "map.zarr", chunks=None, consolidated=False) as dataset:
            assert bits(dataset[name].values) == bits(pixels)
            assert dataset[name].dims[:2] == ("y", "x")
            assert dataset[name].attrs["class_names"] == ["star"]


@pytest.mark.parametrize("sink", ["fits.fz", "zarr"])
def test_positions_on_the_sky(tmp_path, sink):
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg"})
    header.update({"CRVAL1": 53.1, "CRVAL2": -27.8, "CRPIX1": 9.5, "CRPIX2": 4.5, "CUNIT2": "deg"})
    header.update({"CDELT1": -1e-4, "CDELT2": 1e-4})
    image = np.random.default_rng(1).random((30, 20), dtype=np.float32)
    fits.writeto(tmp_path / "image.fits", image, header)
    hduls, arrays = predict(
        lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1), tmp_path / "image.fits",
        2, 8, (8, 8), out_dir=tmp_path / "out", sink=sink, progress=False,
    )  # fmt: skip
    if sink == "zarr":
        require("zarr")
        headers = [
            fits.Header.fromstring("\n".join(array.attrs["header"]), sep="\n") for array in arrays
        ]
    else:
        headers = [hdul[1].header for hdul in hduls]
    wanted = WCS(header).all_pix2world([[3, 4], [15, 20]], 0)
    for found in headers:
        positions = WCS(found).celestial.all_pix2world([[3, 4], [15, 20]], 0)
        np.testing.assert_allclose(positions, wanted, rtol=0, atol=1e-10)
    for hdul in hduls:
        hdul.close()
