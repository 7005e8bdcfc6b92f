"""Images at http:// and https://, on a server of this machine that counts what it sends."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require
from range_server import serving

from morpheus_core import InputError, MorpheusWarning, predict, predict_catalog
from morpheus_core.images.address_files import READ_AHEAD, SMALL
from morpheus_core.images.stack import open_inputs, reopen

require("fsspec")
require("aiohttp")
require("cryptography")

PIXELS = np.random.default_rng(0).normal(size=(700, 500)).astype("f4")
SMALL_PIXELS = PIXELS[:256, :256]
RUN = {"n_classes": 2, "batch_size": 64, "window_shape": (20, 20), "stride": (20, 20)}
RUN |= {"progress": False, "aggregate_method": "mean_var"}


def model(batch):
    return np.concatenate([batch[0], -batch[0]], axis=-1)


@pytest.fixture
def folder(tmp_path):
    """A file that is fetched whole, larger ones, and tiles."""
    folder = tmp_path / "served"
    folder.mkdir()
    fits.writeto(folder / "small.fits", SMALL_PIXELS, checksum=True)
    flags = (PIXELS > 2).astype("i2")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(PIXELS, name="SCI"), fits.ImageHDU(flags, name="DQ")]
    fits.HDUList(hdus).writeto(folder / "large.fits", checksum=True)
    tiles = fits.CompImageHDU(
        PIXELS, tile_shape=(10, 500), compression_type="GZIP_1", quantize_level=0
    )
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(folder / "tiles.fits")
    assert (folder / "small.fits").stat().st_size < SMALL < (folder / "tiles.fits").stat().st_size
    return folder


@pytest.mark.parametrize(
    ("name", "tls", "needed"),
    [
        ("small.fits", False, SMALL_PIXELS.nbytes),
        pytest.param("large.fits[SCI]", True, PIXELS.nbytes, marks=pytest.mark.slow),
        pytest.param("tiles.fits", False, None, marks=pytest.mark.slow),
    ],
)
def test_workers_fetch_their_rows_alone(folder, tmp_path, name, tls, needed):
    """Files that are small are fetched once for all, and headers of others go along."""
    expected, arrays = predict(model, f"{folder}/{name}", **RUN)
    with serving(folder, tls=tls) as server:
        run = {**RUN, "cpus": 2, "out_dir": tmp_path / "out"}
        options = {"ssl": False} if tls else {}
        hduls, found = predict(model, f"{server.address}/{name}", **run, storage_options=options)
    for one, other in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(one, other)
    needed = needed or (folder / "tiles.fits").stat().st_size
    assert sum(server.sent) < 1.04 * needed
    for hdul in [*hduls, *expected]:
        hdul.close()


def test_each_tile_is_fetched_once(folder):
    with serving(folder) as server:
        with open_inputs(f"{server.address}/tiles.fits") as stack:
            for start in range(0, 700, 40):
                stack.images[0].read(start, min(start + 40, 700))
        assert sum(server.sent) < (folder / "tiles.fits").stat().st_size + 3 * READ_AHEAD


def test_one_window_costs_a_few_rows(folder):
    table = Table({"x": [30.0], "y": [600.0], "name": ["large"]})

    def middle(batch):
        return batch[0][:, 2, 2]

    with serving(folder) as server:
        address = f"{server.address}/{{name}}.fits[SCI]"
        found = predict_catalog(middle, address, table, 1, 8, (5, 5), progress=False)
        assert found["class_0"][0] == PIXELS[600, 30]
        assert sum(server.sent) < 10 * READ_AHEAD


@pytest.mark.parametrize("says_version", [True, False])
def test_a_run_that_goes_on_knows_a_changed_file(folder, tmp_path, says_version):
    path = folder / "large.fits"
    with serving(folder, says_version=says_version) as server:
        run = {**RUN, "out_dir": tmp_path / "out"}
        predict(model, f"{server.address}/large.fits[SCI]", **run, begin_only=True)
        content = bytearray(path.read_bytes())
        content[300_000:600_000] = bytes(300_000)
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"model_inputs\[0\] has other pixels"):
            predict(model, f"{server.address}/large.fits[SCI]", **run, resume=True)


def test_workers_refuse_a_file_that_has_changed(folder, tmp_path):
    path = folder / "large.fits"
    with serving(folder) as server, open_inputs(f"{server.address}/large.fits[SCI]") as stack:
        places = stack.store(tmp_path)
        path.write_bytes(path.read_bytes() + bytes(2880))
        with (
            reopen(places) as other,
            pytest.raises(InputError, match=r"stay as it is while .*large\.fits has changed"),
        ):
            other.images[0].read(0, 3)


@pytest.mark.parametrize(
    ("name", "check", "is_told"),
    [
        ("small.fits", "warn", True),
        ("small.fits", "error", True),
        ("small.fits", "ignore", False),
        ("large.fits[SCI]", "warn", False),
        ("large.fits[SCI]", "error", True),
    ],
)
@pytest.mark.parametrize("is_damaged", [True, False])
def test_check_sums_of_addresses(folder, name, check, is_told, is_damaged):
    path = folder / name.partition("[")[0]
    if is_damaged:
        content = bytearray(path.read_bytes())
        content[20000] ^= 1
        path.write_bytes(content)
    with serving(folder) as server:

        def run():
            return predict(model, f"{server.address}/{name}", **RUN, check_sums=check)

        if not (is_told and is_damaged):
            run()
        elif check == "error":
            with pytest.raises(InputError, match=r"is not what its DATASUM and CHECKSUM was made"):
                run()
        else:
            with pytest.warns(MorpheusWarning, match="is not what its DATASUM"):
                run()


def test_servers_that_give_no_parts(folder):
    with serving(folder, gives_parts=False) as server:
        with pytest.raises(InputError, match=r"must give parts of files, .* gave \d+ bytes for"):
            open_inputs(f"{server.address}/large.fits[SCI]")
        with open_inputs(f"{server.address}/small.fits") as stack:
            np.testing.assert_array_equal(stack.images[0].read(0, 256)[..., 0], SMALL_PIXELS)


def test_missing_files(folder):
    with (
        serving(folder) as server,
        pytest.raises(InputError, match=r"none\.fits cannot be read: FileNotFoundError"),
    ):
        open_inputs(f"{server.address}/none.fits")
