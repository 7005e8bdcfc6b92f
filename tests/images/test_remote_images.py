"""Images at addresses, on a real S3 server of this machine."""

import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

from morpheus_core import InputError, MorpheusWarning, predict, predict_catalog
from morpheus_core.images.address_files import READ_AHEAD, AddressFile
from morpheus_core.images.stack import open_inputs, reopen

fsspec = require("fsspec")
require("s3fs")
ThreadedMotoServer = require("moto.server").ThreadedMotoServer

PIXELS = np.random.default_rng(0).normal(size=(600, 500)).astype("f4")
FLAGS = (PIXELS > 2).astype("i4") * 4


def model(batch):
    return np.concatenate([batch[0], -batch[0]], axis=-1)


def middle(batch):
    return batch[0][:, 1, 1]


@pytest.fixture(scope="module")
def server():
    """Storage options of a server that has some files."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "testing",
        "secret": "testing",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
        "skip_instance_cache": True,
    }
    server.stop()


@pytest.fixture(scope="module")
def files(server, tmp_path_factory):
    """The same files in a bucket and in a folder."""
    folder = tmp_path_factory.mktemp("files")
    header = fits.Header({"OBJECT": "M 31", "BUNIT": "adu"})
    fits.writeto(folder / "image.fits", PIXELS, header)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(PIXELS, name="SCI"), fits.ImageHDU(FLAGS, name="DQ")]
    fits.HDUList(hdus).writeto(folder / "exposure.fits")
    counts = fits.CompImageHDU((PIXELS * 100).astype("i2"), tile_shape=(64, 500))
    fits.HDUList([fits.PrimaryHDU(), counts]).writeto(folder / "tiles.fits.fz")
    blank = fits.PrimaryHDU(np.arange(12, dtype="i2").reshape(3, 4))
    blank.header["BLANK"] = 0
    blank.writeto(folder / "blank.fits")
    (folder / "short.fits").write_bytes((folder / "image.fits").read_bytes()[:90000])
    (folder / "image.fits.gz").write_bytes(b"\x1f\x8b" + bytes(3000))
    (folder / "text.fits").write_bytes(b"no FITS" * 1000)
    system = fsspec.filesystem("s3", **server)
    system.mkdir("sky")
    for path in folder.iterdir():
        system.put(str(path), f"sky/{path.name}")
    return folder


@pytest.fixture
def fetched(monkeypatch):
    """Bytes that were asked for, read by read."""
    counts = []
    original = AddressFile._fetch

    def counting(self, start, stop):
        counts.append(stop - start)
        return original(self, start, stop)

    monkeypatch.setattr(AddressFile, "_fetch", counting)
    return counts


@pytest.mark.parametrize("bands", ["last", "first"])
@pytest.mark.parametrize(
    "name", ["image.fits", "exposure.fits[SCI]", "exposure.fits[2]", "tiles.fits.fz", "blank.fits"]
)
def test_pixels_and_headers_are_those_of_files(server, files, name, bands):
    with (
        open_inputs(f"s3://sky/{name}", bands, storage_options=server) as there,
        open_inputs(f"{files}/{name}", bands) as here,
    ):
        image, expected = there.images[0], here.images[0]
        assert (image.shape, image.dtype) == (expected.shape, expected.dtype)
        assert image.header == expected.header
        assert image.primary == expected.primary
        height = image.shape[0]
        np.testing.assert_array_equal(image.read(0, height), expected.read(0, height))
        np.testing.assert_array_equal(image.read(1, 3), expected.read(1, 3))


def test_each_byte_is_read_about_once(server, files, fetched):
    with open_inputs("s3://sky/image.fits", storage_options=server) as stack:
        for start in range(0, 600, 40):
            stack.images[0].read(start, start + 40)
    assert sum(fetched) < PIXELS.nbytes + 3 * READ_AHEAD
    fetched.clear()
    with open_inputs("s3://sky/image.fits", storage_options=server) as stack:
        stack.images[0].read(500, 510)
    assert sum(fetched) < 10 * 2000 + 3 * READ_AHEAD


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exposure.fits[SCI]", "tiles.fits.fz"])
def test_workers_open_the_address_for_themselves(server, files, tmp_path, name):
    run = {"n_classes": 2, "batch_size": 64, "window_shape": (30, 30), "stride": (30, 30)}
    run |= {"mask_bits": 4, "progress": False, "aggregate_method": "mean_var"}
    expected, (scores, n) = predict(
        model, f"{files}/{name}", **run, mask=f"{files}/exposure.fits[DQ]"
    )
    hduls, arrays = predict(
        model,
        f"s3://sky/{name}",
        **run,
        mask="s3://sky/exposure.fits[DQ]",
        storage_options=server,
        cpus=2,
        out_dir=tmp_path / "out",
    )
    np.testing.assert_array_equal(arrays[0], scores)
    np.testing.assert_array_equal(arrays[1], n)
    for hdul in [*hduls, *expected]:
        hdul.close()


def test_keys_are_kept_for_the_user_alone(server, files, tmp_path):
    with open_inputs("s3://sky/image.fits", storage_options=server) as stack:
        places = stack.store(tmp_path)
        assert "testing" not in str(places)
        (secret,) = tmp_path.iterdir()
        assert secret.stat().st_mode & 0o077 == 0
        with reopen(places) as other:
            assert other.images[0].identity() == stack.images[0].identity()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.fits", r"s3://sky/none\.fits cannot be read: .*storage_options="),
        ("exposure.fits", r"must hold one image, got 2: .*as in exposure\.fits\[1\]"),
        ("exposure.fits[ERR]", r"\[ERR\] names no image"),
        ("short.fits", "is truncated"),
        ("image.fits.gz", "is compressed as a whole"),
        ("text.fits", r"s3://sky/text\.fits cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_what_is_no_image(server, files, name, message):
    with pytest.raises(InputError, match=message):
        open_inputs(f"s3://sky/{name}", storage_options=server)


def test_other_file_systems(files):
    system = fsspec.filesystem("memory")
    system.pipe("/night/image.fits", (files / "image.fits").read_bytes())
    with open_inputs("memory://night/image.fits") as stack:
        np.testing.assert_array_equal(stack.images[0].read(0, 600)[..., 0], PIXELS)


def test_protocols_that_need_another_package():
    """gcsfs is in no extra; fsspec says what is missing."""
    with pytest.raises(InputError, match=r"gs://sky/\S+ cannot be read: ImportError: .*gcsfs"):
        open_inputs("gs://sky/image.fits[SCI]")


@pytest.mark.parametrize("name", ["out_dir", "out", "catalog"])
def test_results_and_tables_stay_on_this_machine(name, tmp_path, monkeypatch):
    """An address made a folder called "s3:"."""
    monkeypatch.chdir(tmp_path)
    options = {"n_classes": 2, "batch_size": 8, "window_shape": (5, 5), "progress": False}
    function, others = (
        (predict, {}) if name == "out_dir" else (predict_catalog, {"catalog": Table()})
    )
    arguments = {**others, name: "s3://sky/x.csv"}
    message = rf"{name} must be a path on this machine, got the address s3://sky/x\.csv"
    with pytest.raises(InputError, match=message):
        function(model, PIXELS, **arguments, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [None, 2])
def test_templates_of_addresses(server, files, tmp_path, workers):
    """Rows name files in the bucket; one is not there."""
    table = Table({"x": [3.0, 40.0, 5.0], "y": [4.0, 50.0, 6.0], "id": ["image", "image", "none"]})
    run = {"n_classes": 1, "batch_size": 8, "window_shape": (3, 3), "storage_options": server}
    run |= {} if workers is None else {"cpus": workers, "out": tmp_path / "out.fits"}
    with pytest.warns(MorpheusWarning, match="1 missing file"):
        found = predict_catalog(middle, "s3://sky/{id}.fits", table, progress=False, **run)
    assert found["status"].tolist() == ["ok", "ok", "missing file"]
    np.testing.assert_array_equal(found["class_0"][:2], PIXELS[[4, 50], [3, 40]])


def test_an_address_for_all_rows(server, files):
    table = Table({"x": [3.0, 40.0], "y": [4.0, 50.0]})
    found = predict_catalog(
        middle,
        "s3://sky/exposure.fits[SCI]",
        table,
        1,
        8,
        (3, 3),
        storage_options=server,
        progress=False,
    )
    np.testing.assert_array_equal(found["class_0"], PIXELS[[4, 50], [3, 40]])
