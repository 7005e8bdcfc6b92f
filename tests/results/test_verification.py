"""Outputs whose bytes have changed since they were computed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import morpheus_core as package
from morpheus_core import InputError, OutputError, export_masks, verify
from morpheus_core.cli import main

SHAPE = (70, 30)


def model(batch):
    (windows,) = batch
    return np.concatenate([windows, 1 - windows], axis=-1)


@pytest.fixture(scope="module", params=[False, True], ids=["direct", "apart"])
def computed(request, tmp_path_factory):
    """Two strips, which share rows 32 to 36."""
    folder = tmp_path_factory.mktemp("run")
    image = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    hduls, _ = package.predict(
        model,
        image,
        2,
        16,
        (8, 8),
        stride=(4, 4),
        out_dir=folder,
        strips=2,
        rows_apart=request.param,
        progress=False,
    )
    for hdul in hduls:
        hdul.close()
    return folder


@pytest.fixture
def run(computed, tmp_path):
    return Path(shutil.copytree(computed, tmp_path / "run"))


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def data_start(path):
    with fits.open(path) as hdul:
        return hdul[0].fileinfo()["datLoc"]


def test_what_was_not_touched_is_as_computed(run):
    assert verify(run) == []


@pytest.mark.parametrize("name", ["output", "n"])
@pytest.mark.parametrize("row", [0, 33, 36, 69], ids=["own", "shared", "after", "last"])
def test_rows_are_named(run, name, row):
    path = run / f"{name}.fits"
    row_bytes = fits.getdata(path).nbytes // SHAPE[0]
    flip(path, data_start(path) + row * row_bytes + 5)
    (found,) = verify(run)
    first, last = found.rows
    assert found.path == path
    assert first <= row <= last < first + 3
    assert str(found) == f"{path}: rows {first} to {last} are not what was computed"


@pytest.mark.parametrize("card", ["WINDOW", "CHECKSUM", "DATASUM", "ROWSUM3", "NAXIS1", "RUNID"])
def test_headers_are_compared(run, card):
    path = run / "n.fits"
    place = path.read_bytes().find(card.encode())
    assert place >= 0
    flip(path, place + 29)
    assert [found.path for found in verify(run)] == [path]


def test_what_fills_up_the_last_block_is_compared(run):
    path = run / "n.fits"
    flip(path, path.stat().st_size - 1)
    (found,) = verify(run)
    assert found.rows is None
    assert "the data are not what was computed" in str(found)


def test_files_that_end_too_early(run):
    path = run / "output.fits"
    with fits.open(path) as hdul:
        place, row_bytes = hdul[0].fileinfo()["datLoc"], hdul[0].data.nbytes // SHAPE[0]
    os.truncate(path, place + 40 * row_bytes)
    (found,) = verify(run)
    assert found.rows == (40, 69)
    assert "it is truncated" in str(found)
    os.truncate(path, 100)
    (found,) = verify(run)
    assert "the header at byte 0 cannot be read" in str(found)


def test_files_without_sums_are_no_outputs_of_ours(run):
    path = run / "n.fits"
    fits.writeto(path, fits.getdata(path), overwrite=True)
    assert "has no data sum" in str(verify(run)[0])


def test_folders_without_outputs(tmp_path):
    with pytest.raises(InputError, match=r"must hold the outputs of a run"):
        verify(tmp_path)


def test_exports_that_read_back_otherwise(run, monkeypatch):
    real = os.pwrite

    def torn(descriptor, data, offset):
        """Keep zeros where pixels were written, of 70 rows."""
        return real(descriptor, bytes(len(data)) if len(data) == 70 * 30 else data, offset)

    monkeypatch.setattr(os, "pwrite", torn)
    with pytest.raises(OutputError, match="what is read back is not what was written"):
        export_masks(run, run / "masks.fits", 0.0, bit_flags=True)
    assert not (run / "masks.fits").exists()
    assert not (run / "masks.fits.part").exists()


def test_on_the_command_line(run, capsys):
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: every byte is as it was computed\n"
    flip(run / "n.fits", data_start(run / "n.fits"))
    assert main(["verify", str(run)]) == 1
    assert f"{run / 'n.fits'}: rows 0 to 1 are not what was computed" in capsys.readouterr().err
