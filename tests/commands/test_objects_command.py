"""``morpheus-core objects`` labels what a finished run holds."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

from morpheus_core import predict
from morpheus_core.cli import main

WANTED = ["--class-name", "blob", "--threshold", "0.5"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to stand in, with a finished run."""
    require("scipy")
    monkeypatch.chdir(tmp_path)
    image = np.zeros((30, 40), np.float32)
    image[5:10, 6:12], image[20:22, 30] = 1, 1
    hduls, _ = predict(
        lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1), image, 2, 16, (5, 5),
        class_names=["blob", "sky"], aggregate_method="mean_var", out_dir="out", progress=False,
    )  # fmt: skip
    for hdul in hduls:
        hdul.close()
    return tmp_path


def test_labels_and_their_table(folder, capsys):
    command = ["objects", "out", "labels.fits", *WANTED, "--min-area", "3", "--table", "blobs.csv"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == ["labels.fits  1 objects", "blobs.csv"]
    labels = fits.getdata("labels.fits")
    assert (labels.max(), labels.sum()) == (1, 30)
    assert Table.read("blobs.csv")["area"].tolist() == [30]
    assert main(command) == 1
    assert "exists already; pass --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_no_objects_are_explained(folder, capsys):
    assert main(["objects", "out", "labels.fits", *WANTED, "--min-area", "99"]) == 0
    said = "labels.fits  0 objects; the highest value of blob is 1\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "blobs.doc"], "must end in one of"),
        (["--table", "out/n.fits"], "exists already; pass --overwrite"),
        (["--connectivity", "4", "--class-name", "lens"], "must be one of 'blob', 'sky'"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(folder, capsys, options, message):
    assert main(["objects", "out", "labels.fits", *WANTED, *options]) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "labels.fits").exists()
