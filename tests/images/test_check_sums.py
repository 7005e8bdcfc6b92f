"""A byte that flipped since a file was written shows before the run."""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from morpheus_core import (
    InputError,
    MorpheusWarning,
    map_exposures,
    plan,
    predict,
    predict_catalog,
)
from morpheus_core.images.check_sums import check_sums, failed_cards_of
from morpheus_core.images.stack import open_inputs

PIXELS = np.random.default_rng(0).normal(100, 9, (40, 50)).astype("f4")


def model(batch):
    return np.concatenate([batch[0], 200 - batch[0]], axis=-1)


def write(path, kind):
    """Write an image with checksums in its last HDU."""
    hdu = fits.CompImageHDU(PIXELS) if kind == "tiles" else fits.ImageHDU(PIXELS.astype(kind))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(), hdu]).writeto(path, checksum=True)
    return path


def flip(path, where):
    """Change a byte of the data, or a comment of the header."""
    with fits.open(path, disable_image_compression=True) as file:
        place = file[2].fileinfo()
    content = bytearray(path.read_bytes())
    content[place["datLoc"] + 900 if where == "data" else place["hdrLoc"] + 60] ^= 1
    path.write_bytes(content)


KINDS = ["f4", "u1", "u2", "tiles"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_as_they_were_written(tmp_path, kind):
    with open_inputs(write(tmp_path / "a.fits", kind)) as stack:
        check_sums(stack.images, "error")


@pytest.mark.parametrize(
    ("where", "card"), [("data", "DATASUM and CHECKSUM"), ("header", "CHECKSUM")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_that_flipped(tmp_path, kind, where, card):
    flip(write(tmp_path / "a.fits", kind), where)
    with open_inputs(tmp_path / "a.fits") as stack:
        assert failed_cards_of(stack.images[0], "warn") == card
        with pytest.raises(InputError, match=rf"a\.fits is not what its {card} was made of"):
            check_sums(stack.images, "error")
        with pytest.warns(MorpheusWarning, match=rf"a\.fits is not what its {card} was made of"):
            check_sums(stack.images, "warn")
        check_sums(stack.images, "ignore")


def test_files_without_checksums_or_without_files(tmp_path):
    fits.writeto(tmp_path / "a.fits", PIXELS)
    with open_inputs([tmp_path / "a.fits", PIXELS]) as stack:
        check_sums(stack.images, "error")


def test_a_last_block_that_is_not_filled_up(tmp_path):
    path = write(tmp_path / "a.fits", "f4")
    path.write_bytes(path.read_bytes()[: -(-PIXELS.nbytes % 2880)])
    with open_inputs(path) as stack:
        check_sums(stack.images, "error")


def test_files_that_are_compressed_as_a_whole(tmp_path):
    path = write(tmp_path / "a.fits", "f4")
    flip(path, "data")
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    with open_inputs(tmp_path / "a.fits.gz") as stack, pytest.raises(InputError, match="DATASUM"):
        check_sums(stack.images, "error")


def test_masks_and_every_way_to_open_images(tmp_path):
    flip(write(tmp_path / "a.fits", "u1"), "data")
    options = {"n_classes": 2, "batch_size": 8, "window_shape": (10, 10), "progress": False}
    for function, inputs in (
        (predict, {"model_inputs": tmp_path / "a.fits"}),
        (plan, {"model_inputs": tmp_path / "a.fits"}),
        (predict, {"model_inputs": PIXELS, "mask": tmp_path / "a.fits"}),
    ):
        with pytest.raises(InputError, match="DATASUM"):
            function(model, **inputs, **options, check_sums="error")
    with pytest.warns(MorpheusWarning, match="DATASUM"):
        predict(model, tmp_path / "a.fits", **options)
    (outcome,) = map_exposures(model, tmp_path / "a.fits", **options, check_sums="error")
    assert "DATASUM" in str(outcome.error)
    with pytest.raises(InputError, match="check_sums must be one of"):
        predict(model, PIXELS, **options, check_sums="no")


@pytest.mark.parametrize("source", ["a.fits[2]", "{name}.fits[2]"])
def test_catalogues(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    flip(write(tmp_path / "a.fits", "f4"), "data")
    write(tmp_path / "b.fits", "f4")
    table = Table({"x": [9.0, 9.0], "y": [7.0, 7.0], "name": ["a", "b"]})

    def ask(check):
        def middle(batch):
            return batch[0][:, 1, 1]

        options = {"check_sums": check, "progress": False}
        return predict_catalog(middle, source, table, 1, 8, (3, 3), **options)["status"].tolist()

    assert ask("ignore") == ["ok", "ok"]
    with pytest.warns(MorpheusWarning, match=r"a\.fits\[2\] is not what its DATASUM"):
        assert ask("warn") == ["ok", "ok"]
    if source.startswith("a"):
        with pytest.raises(InputError, match=r"a\.fits\[2\] is not what its DATASUM"):
            ask("error")
    else:
        with pytest.warns(MorpheusWarning, match="1 unreadable file"):
            assert ask("error") == ["unreadable file", "ok"]
