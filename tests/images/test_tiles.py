"""Images that are compressed in tiles: each tile is unpacked about once."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import predict
from morpheus_core.images import fits_images
from morpheus_core.images.expansion import Unpacked
from morpheus_core.images.stack import open_inputs, reopen


@pytest.fixture
def unpackings(monkeypatch):
    """Count how often tiles are unpacked."""
    from astropy.io.fits.hdu.compressed import section

    counts = []
    original = section.decompress_image_data_section

    def counting(*arguments):
        counts.append(1 + np.subtract(arguments[-1], arguments[-2]))
        return original(*arguments)

    monkeypatch.setattr(section, "decompress_image_data_section", counting)
    return counts


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder for temporary files, empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def write(path, tile_shape, pixels=None, **cards):
    pixels = np.arange(40 * 30, dtype="i2").reshape(40, 30) if pixels is None else pixels
    hdu = fits.CompImageHDU(pixels, tile_shape=tile_shape, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True) as file:
        file[1].header.update(cards)
    return fits.getdata(path)


def in_slabs(image, rows):
    starts = range(0, image.shape[0], rows)
    return np.concatenate([image.read(k, min(k + rows, image.shape[0])) for k in starts])


@pytest.mark.parametrize("tile_shape", [(40, 30), (7, 30), (8, 11)])
def test_each_tile_is_unpacked_once(tmp_path, unpackings, scratch, tile_shape):
    expected = write(tmp_path / "image.fits.fz", tile_shape)
    unpackings.clear()
    with open_inputs(tmp_path / "image.fits.fz") as stack:
        np.testing.assert_array_equal(in_slabs(stack.images[0], 2)[..., 0], expected)
    assert sum(map(np.prod, unpackings)) == -(-40 // tile_shape[0]) * -(-30 // tile_shape[1])
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("cards", [{}, {"BSCALE": 0.5, "BZERO": 3, "BLANK": 0}, {"BZERO": 32768}])
@pytest.mark.parametrize("tile_shape", [(40, 30), (20, 30)])
def test_large_tiles_are_unpacked_to_a_file(
    tmp_path, unpackings, scratch, monkeypatch, tile_shape, cards
):
    path = tmp_path / "image.fits.fz"
    write(path, tile_shape, **cards)
    with open_inputs(path) as stack:
        expected = in_slabs(stack.images[0], 40)
    monkeypatch.setattr(fits_images, "KEPT_TILES", 1000)
    unpackings.clear()
    with open_inputs(f"{path}[SCI]") as stack:
        image = stack.images[0]
        np.testing.assert_array_equal(in_slabs(image, 2), expected)
        assert image.dtype == expected.dtype
        assert (image.path, image.identity()["hdu"]) == (path, 1)
        assert image.header["EXTNAME"] == "SCI"
        assert len(unpackings) == 40 // tile_shape[0]
        (unpacked,) = scratch.iterdir()
        assert unpacked.stat().st_size % 2880 == 0
        # Other processes read the same file.
        with reopen(stack.store(tmp_path)) as other:
            np.testing.assert_array_equal(in_slabs(other.images[0], 3), expected)
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


def test_bands_first(tmp_path, scratch, monkeypatch):
    cube = np.random.default_rng(0).normal(size=(3, 20, 30)).astype("f4")
    path = tmp_path / "cube.fits"
    hdu = fits.CompImageHDU(cube, tile_shape=(3, 20, 30), compression_type="GZIP_1")
    hdu.quantize_level = 0
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    expected = np.moveaxis(fits.getdata(path), 0, -1)
    for kept in (fits_images.KEPT_TILES, 100):
        monkeypatch.setattr(fits_images, "KEPT_TILES", kept)
        with open_inputs(path, "first") as stack:
            np.testing.assert_array_equal(in_slabs(stack.images[0], 3), expected)


def test_files_of_a_catalogue_are_unpacked_once_for_all_sets(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(fits_images, "KEPT_TILES", 100)
    paths = [tmp_path / "a.fits", tmp_path / "b.fits"]
    for path in paths:
        write(path, (40, 30))
    with Unpacked() as unpacked:
        for path in (paths[0], paths[0], paths[1]):
            unpacked.keep([path])
            fits_images.FitsImage(path, None, "last", unpacked).close()
            assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_workers_read_what_was_unpacked(tmp_path, scratch, monkeypatch):
    def model(batch):
        return np.concatenate([batch[0], 2000.0 - batch[0]], axis=-1)

    write(tmp_path / "image.fits", (40, 30))
    run = {"n_classes": 2, "batch_size": 8, "window_shape": (6, 6), "stride": (6, 6)}
    expected = predict(model, str(tmp_path / "image.fits"), **run, progress=False)[1][0]
    monkeypatch.setattr(fits_images, "KEPT_TILES", 100)
    hduls, (votes, _) = predict(
        model, str(tmp_path / "image.fits"), **run, cpus=2, out_dir=tmp_path / "out", progress=False
    )
    np.testing.assert_array_equal(votes, expected)
    for hdul in hduls:
        hdul.close()
    assert list(scratch.glob("morpheus_core-*.fits")) == []
