"""Arrays of ASDF files, as Roman and JWST have them."""

import numpy as np
import pytest
from conftest import require

from morpheus_core import InputError, predict
from morpheus_core.images.stack import open_inputs, reopen

asdf = require("asdf")
ImageModel = require("roman_datamodels.datamodels").ImageModel

PIXELS = np.arange(40 * 30, dtype=">f4").reshape(40, 30)
FLAGS = (PIXELS % 7 == 0).astype("u4") * 4


def model(batch):
    return np.concatenate([batch[0], 600 - batch[0]], axis=-1)


def save(path, tree, **options):
    asdf.AsdfFile(tree).write_to(path, **options)
    return path


@pytest.fixture
def image(tmp_path):
    tree = {"roman": {"data": PIXELS, "dq": FLAGS, "axis": np.arange(4)}, "name": "field"}
    return save(tmp_path / "image.asdf", tree)


def test_rows_of_an_array(image):
    with open_inputs(f"{image}[roman.data]") as stack:
        assert stack.shape == (40, 30)
        assert stack.images[0].dtype == np.float32
        assert stack.paths == [image]
        np.testing.assert_array_equal(stack.images[0].read(3, 9)[..., 0], PIXELS[3:9])


def test_the_only_image_needs_no_name(tmp_path):
    path = save(tmp_path / "one.asdf", {"deep": {"data": PIXELS}, "axis": np.arange(4)})
    with open_inputs(path) as stack:
        np.testing.assert_array_equal(stack.images[0].read(0, 40)[..., 0], PIXELS)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", r"must hold one image, got \[roman\.data\] \(40, 30\), \[roman\.dq\] .*in brackets"),
        ("[roman.err]", r"\[roman\.err\] names no image of .*holds \[roman\.data\]"),
        ("[roman.axis]", r"\[roman\.axis\] names no image"),
    ],
)
def test_names_that_are_no_image(image, key, message):
    with pytest.raises(InputError, match=message):
        open_inputs(f"{image}{key}")


@pytest.mark.slow
def test_workers_open_the_file_and_flags_are_a_mask(image, tmp_path):
    run = {"n_classes": 2, "batch_size": 8, "window_shape": (6, 6), "stride": (3, 3)}
    run |= {"mask": f"{image}[roman.dq]", "mask_bits": 4, "progress": False}
    _, (expected, n) = predict(model, f"{image}[roman.data]", **run)
    np.testing.assert_array_equal(n == 0, FLAGS > 0)
    hduls, (votes, _) = predict(
        model, f"{image}[roman.data]", **run, cpus=2, out_dir=tmp_path / "out"
    )
    np.testing.assert_array_equal(votes, expected)
    for hdul in hduls:
        hdul.close()


@pytest.mark.parametrize("packing", ["zlib", "lz4"])
def test_compressed_blocks_are_unpacked_once(tmp_path, monkeypatch, packing):
    """Files of Roman are compressed by lz4."""
    path = save(tmp_path / "packed.asdf", {"data": PIXELS}, all_array_compression=packing)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with open_inputs(path) as stack:
        np.testing.assert_array_equal(stack.images[0].read(3, 9)[..., 0], PIXELS[3:9])
        assert len(list(scratch.iterdir())) == 1
        with reopen(stack.store(tmp_path)) as other:  # as workers do
            np.testing.assert_array_equal(other.images[0].read(0, 40)[..., 0], PIXELS)
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


def test_masked_arrays_are_refused(tmp_path):
    path = save(tmp_path / "masked.asdf", {"data": np.ma.array(PIXELS, mask=PIXELS > 9)})
    with pytest.raises(InputError, match="gives masked arrays"):
        open_inputs(f"{path}[data]")


@pytest.mark.parametrize("content", [b"", b"#ASDF 1.0.0\nrubbish", b"no ASDF at all"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "broken.asdf").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.asdf cannot be read as ASDF"):
        open_inputs(tmp_path / "broken.asdf")
    with pytest.raises(InputError, match=r"no such file"):
        open_inputs(tmp_path / "none.asdf")


def test_arrays_of_an_open_file_and_of_a_closed_one(image):
    with asdf.open(image) as file:
        array = file["roman"]["data"]
        with open_inputs(array) as stack:
            np.testing.assert_array_equal(stack.images[0].read(3, 9)[..., 0], PIXELS[3:9])
    with asdf.open(image) as file:
        array = file["roman"]["data"]
    with pytest.raises(InputError, match="cannot be read"):
        open_inputs(array)


def test_images_of_roman(tmp_path):
    made = ImageModel.create_fake_data(shape=(40, 30))
    made.data[:] = PIXELS
    made.save(tmp_path / "l2.asdf")
    with open_inputs(f"{tmp_path}/l2.asdf[roman.data]", mask=f"{tmp_path}/l2.asdf[roman.dq]") as s:
        np.testing.assert_array_equal(s.images[0].read(0, 40)[..., 0], PIXELS)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"II*\x00", "a TIFF image; call it .tif"),
        (b"\x89PNG\r\n", "a PNG image; call it .png"),
        (b"XISF0100", r"a PixInsight image; read it .*, and pass the array"),
        (b"\x93NUMPY", "numpy.load"),
        (b"\x89HDF", "h5py"),
    ],
)
def test_files_of_other_formats_say_what_they_are(tmp_path, content, kind):
    (tmp_path / "image.fits").write_bytes(content.ljust(5000, b"\0"))
    with pytest.raises(InputError, match=f"name of a file must say what it is, .*{kind}"):
        open_inputs(tmp_path / "image.fits")
