"""Masks of exposures as tile-compressed files."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

from morpheus_core import InputError, map_exposures
from morpheus_core.cli import main

IMAGE = np.random.default_rng(2).random((24, 30)).astype(np.float32)


def model(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def make():
    return model


@pytest.fixture
def exposure(tmp_path):
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0})
    hdus = [
        fits.PrimaryHDU(IMAGE, header),
        fits.ImageHDU(IMAGE[::-1], name="SCI"),
        fits.BinTableHDU(Table({"a": [1, 2]}), name="LOG"),
        fits.ImageHDU(np.zeros((2, 3, 4), np.int16), name="CUBE"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "night.fits", checksum=True)
    return tmp_path / "night.fits"


def mapped(exposure, sink, out_dir, **options):
    (outcome,) = map_exposures(
        model, exposure, 2, 8, (8, 8), (4, 4), out_dir=out_dir, progress=False, sink=sink, **options
    )
    assert outcome.error is None
    return outcome.output


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"thresholds": None},
        {"single_mask": True},
        pytest.param({"cpus": 1}, marks=pytest.mark.slow),
    ],
)
def test_masks_are_those_of_plain_files(exposure, tmp_path, options):
    plain = mapped(exposure, "fits", tmp_path / "plain", **options)
    path = mapped(exposure, "fits.fz", tmp_path / "packed", **options)
    assert path.name == "night.masks.fits.fz"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(plain, checksum=True) as wanted, fits.open(path, checksum=True) as found:
            assert found[0].data is None  # what is in tiles is an extension
            assert len(found) == len(wanted) + 1
            for one, other in zip(wanted, found[1:], strict=True):
                assert one.data.tobytes() == other.data.astype(one.data.dtype).tobytes()
                assert one.header.get("CRVAL1") == other.header.get("CRVAL1")
    assert [hdu[1] for hdu in fits.info(path, output=False)][3:] == ["LOG", "CUBE"]
    fitsio = require("fitsio")
    with fitsio.FITS(path) as hdus:
        np.testing.assert_array_equal(hdus[1].read(), fits.getdata(plain, 0).astype("=f4"))


def test_masks_are_never_stores(exposure, tmp_path):
    path = mapped(exposure, "fits.fz", tmp_path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"sink must be one of 'fits', 'fits.fz', got 'zarr'"):
        mapped(exposure, "zarr", tmp_path)
    assert path.read_bytes() == before


def test_on_the_command_line(exposure, tmp_path, capsys):
    arguments = ["map", str(exposure), "--model", f"{__name__}:make", "--n-classes", "2"]
    options = ["--window", "8", "--sink", "fits.fz", "--out-dir", str(tmp_path / "out")]
    assert main([*arguments, *options, "--no-progress"]) == 0
    assert f"-> {tmp_path / 'out' / 'night.masks.fits.fz'}" in capsys.readouterr().out
