"""Cut-outs that people have already: a file for each row, or all of them in one array."""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from conftest import require

from morpheus_core import InputError, MorpheusWarning, predict_catalog
from morpheus_core.cli import main
from morpheus_core.images.cutout_arrays import mapped

Pillow = require("PIL.Image")
COUNT, HEIGHT, WIDTH = 7, 12, 16
PICTURES = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
IDS = [587727178986356823 + number for number in range(COUNT)]
SUMS = PICTURES.astype(float).sum(axis=(1, 2))


def sums(batch):
    """Score a window by the sums over its pixels."""
    return batch[0].astype(np.float64).sum(axis=(1, 2))


def ask(inputs, catalog=None, window_shape=None, **options):
    """Return the answers of a catalogue."""
    table = predict_catalog(
        sums, inputs, catalog, 3, 3, window_shape, **{"progress": False, **options}
    )
    return table, np.stack([table[f"class_{k}"] for k in range(3)], axis=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder of pictures, and of what is none."""
    folder = tmp_path_factory.mktemp("galaxies")
    for name, pixels in zip(IDS, PICTURES, strict=True):
        Pillow.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "labels.csv").write_text("OBJID\n1\n")
    (folder / ".hidden.png").write_bytes(b"of a file manager")
    return folder


@pytest.mark.parametrize("form", ["folder", "text", "pattern", "files"])
def test_a_row_for_each_file(folder, form):
    files = [folder / f"{name}.png" for name in IDS]
    forms = {"folder": folder, "text": str(folder), "pattern": f"{folder}/*.png", "files": files}
    table, found = ask(forms[form])
    assert table["OBJID"].tolist() == IDS
    np.testing.assert_array_equal(found, SUMS)
    assert set(table["status"]) == {"ok"}
    assert table.meta["WINDOW"] == f"{HEIGHT} x {WIDTH}"
    assert [key for key in table.meta if key.startswith("INPUT")] == ["INPUT0"]


def test_rows_are_called_as_files_below_their_folder(tmp_path):
    for name in ("a/007.png", "b/007.png", "b/x.y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Pillow.fromarray(PICTURES[0]).save(tmp_path / name)
    table, _ = ask(f"{tmp_path}/**/*.png")
    assert table["OBJID"].tolist() == ["a/007", "b/007", "b/x.y"]
    table, _ = ask([tmp_path / "a/007.png"], ids=[17])
    assert table["OBJID"].tolist() == [17]
    shutil.copy(tmp_path / "a/007.png", tmp_path / "a/007.jpg")
    with pytest.raises(
        InputError, match=r"called differently, got .*007.jpg and .*007.png; .*ids="
    ):
        ask(tmp_path / "a")


def test_fits_files_are_cut_outs_as_well(tmp_path):
    for number, pixels in enumerate(PICTURES[:3, ..., 0]):
        fits.writeto(tmp_path / f"{number}.fits.gz", pixels)
    table = predict_catalog(sums, tmp_path, None, 1, 2, progress=False)
    assert table["OBJID"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(table["class_0"], SUMS[:3, 0])


def test_templates_name_pictures(folder):
    """Positions on the sky that the catalogue has are no positions in a picture."""
    catalog = Table(
        {"OBJID": IDS[::-1], **dict.fromkeys(("ra", "dec", "x", "y"), np.full(COUNT, 1.0))}
    )
    table, found = ask(f"{folder}/{{OBJID}}.png", catalog, (HEIGHT, WIDTH))
    assert table["OBJID"].tolist() == IDS[::-1]
    np.testing.assert_array_equal(found, SUMS[::-1])
    _, found = ask(f"{folder}/{{OBJID}}.png", catalog, (3, 3), x="x", y="y")
    np.testing.assert_array_equal(found, PICTURES[::-1, :3, :3].sum(axis=(1, 2)))


@pytest.mark.parametrize(("window", "first"), [((6, 8), (3, 4)), ((5, 7), (3, 4))])
def test_the_middle_is_cropped(folder, tmp_path, window, first):
    """As astropy's Cutout2D has it around (height - 1) / 2 and (width - 1) / 2."""
    rows, columns = (slice(one, one + n) for one, n in zip(first, window, strict=True))
    expected = PICTURES[:, rows, columns].sum(axis=(1, 2))
    np.save(tmp_path / "a.npy", PICTURES)
    for inputs in (folder, tmp_path / "a.npy"):
        _, found = ask(inputs, None, window, resize="crop")
        np.testing.assert_array_equal(found, expected)


def test_pixels_are_averaged_over_areas(folder, tmp_path):
    means = PICTURES.reshape(COUNT, 6, 2, 8, 2, 3).mean(axis=(2, 4))
    np.save(tmp_path / "a.npy", PICTURES)
    for inputs in (folder, tmp_path / "a.npy", PICTURES):
        table, found = ask(inputs, None, (6, 8), resize="area")
        np.testing.assert_array_equal(found, np.rint(means).sum(axis=(1, 2)))
        assert table.meta["RESIZE"] == "area"
    with pytest.raises(InputError, match=r"of the shape of the window, \(6, 6\), got \(12, 16\)"):
        ask(folder, None, (6, 6), resize="area")


@pytest.mark.parametrize("form", ["files", "array"])
def test_another_size_is_refused_before_any_work(folder, form):
    def model(_):
        raise AssertionError("it was called")

    inputs = folder if form == "files" else PICTURES
    with pytest.raises(InputError, match=r"size of the window, \(6, 6\), got \(12, 16\) .*crop"):
        predict_catalog(model, inputs, None, 3, 2, (6, 6), progress=False)


def test_odd_ones_among_them_have_a_status(tmp_path):
    for name, pixels in {
        "0": PICTURES[0], "1": PICTURES[1, :, 1:], "2": PICTURES[2, ..., 0], "4": PICTURES[4],
    }.items():  # fmt: skip
        Pillow.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "0.png").read_bytes()[:300])
    with pytest.warns(MorpheusWarning, match="3 of 5 rows have no result"):
        table, found = ask(tmp_path)
    statuses = ["ok", "other size", "other bands", "unreadable file", "ok"]
    assert table["status"].tolist() == statuses
    np.testing.assert_array_equal(found[[0, 4]], SUMS[[0, 4]])


@pytest.mark.parametrize("bands", ["last", "first"])
@pytest.mark.parametrize("form", ["array", "npy", "npz", "packed", "fortran"])
def test_arrays_of_cut_outs(tmp_path, bands, form):
    array = PICTURES if bands == "last" else np.moveaxis(PICTURES, -1, 1).copy()
    inputs = tmp_path / "a.npz"
    if form == "array":
        inputs = array
    elif form == "npy":
        inputs = tmp_path / "a.npy"
        np.save(inputs, array)
    elif form == "packed":
        np.savez_compressed(inputs, images=array)
    else:
        stored = np.asfortranarray(array) if form == "fortran" else array
        np.savez(inputs, labels=np.arange(COUNT), images=stored)
        inputs = f"{inputs}[images]"
    table, found = ask(inputs, bands=bands)
    assert table["OBJID"].tolist() == list(range(COUNT))
    np.testing.assert_array_equal(found, SUMS)
    catalog = Table({"name": list("abcdefg"), "ra": range(COUNT), "dec": range(COUNT)})
    table, found = ask(inputs, catalog, (HEIGHT, WIDTH), bands=bands)
    assert table["name"].tolist() == list("abcdefg")
    np.testing.assert_array_equal(found, SUMS)


def test_arrays_are_mapped_where_they_can_be(tmp_path):
    np.save(tmp_path / "a.npy", PICTURES)
    np.savez(tmp_path / "b.npz", images=PICTURES)
    np.savez_compressed(tmp_path / "c.npz", images=PICTURES)
    kinds = {"a.npy": np.memmap, "b.npz": np.memmap, "c.npz": np.ndarray}
    for name, kind in kinds.items():
        array = mapped(tmp_path / name, None)
        assert type(array) is kind
        np.testing.assert_array_equal(array, PICTURES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": PICTURES[0], "catalog": None}, "without a catalogue each file is a row"),
        ({"inputs": "{OBJID}.png", "catalog": None}, "a template needs a catalogue"),
        (
            {"inputs": "nothing/*.jpg", "catalog": None},
            "there must be images, .* none in .*nothing",
        ),
        ({"x": "x"}, "windows of cut-outs lie in their middle"),
        ({"ids": [1, 2]}, "ids must be one for each of 7 cut-outs"),
        ({"catalog": Table({"a": [1, 2]})}, "a cut-out for each of 2 rows, got 7"),
        ({"catalog": Table({"a": range(7)}), "ids": range(7)}, "ids are for cut-outs without"),
        ({"inputs": [PICTURES, "a.fits"]}, "must all be arrays of cut-outs, or none"),
        ({"window_shape": (20, 20), "resize": "crop"}, "windows must lie within cut-outs"),
        ({"resize": "zoom"}, "resize must be one of"),
        (
            {"inputs": PICTURES[0], "catalog": Table({"x": [5], "y": [5]}), "resize": "area"},
            "resize is for cut-outs whose middle",
        ),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    options = {"inputs": PICTURES, "catalog": None, "window_shape": (HEIGHT, WIDTH), **change}
    with pytest.raises(InputError, match=message):
        ask(**options)


def test_arrays_of_other_axes_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", PICTURES[..., 0])
    with pytest.raises(InputError, match=r"got \(7, 12, 16\) .*np.newaxis\] has one band"):
        ask(tmp_path / "flat.npy")
    np.savez(tmp_path / "two.npz", a=PICTURES, b=PICTURES)
    with pytest.raises(InputError, match=r"brackets must name one, got \[a\], \[b\]"):
        ask(tmp_path / "two.npz")
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as an array"):
        ask(tmp_path / "bad.npy")


@pytest.mark.parametrize("form", ["files", "array"])
def test_a_run_that_was_interrupted_goes_on(folder, tmp_path, form):
    inputs, out = folder, tmp_path / "votes.csv"
    if form == "array":
        inputs = tmp_path / "a.npy"
        np.save(inputs, PICTURES)
    calls = []

    def failing(batch):
        calls.append(len(batch[0]))
        if len(calls) == 2:
            raise RuntimeError("stop")
        return sums(batch)

    options = {"progress": False, "prefetch": 0, "out": out}
    with pytest.raises(Exception, match="stop"):
        predict_catalog(failing, inputs, None, 3, 3, **options)
    table = predict_catalog(failing, inputs, None, 3, 3, resume=True, **options)
    assert sum(calls[2:]) - 3 == COUNT - 3 or sum(calls[2:]) == COUNT  # with the witness's batch
    np.testing.assert_array_equal(table["class_1"], SUMS[:, 1])
    assert out.read_text().startswith(f"OBJID,class_0,class_1,class_2,status\n{table['OBJID'][0]},")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["files", "array", "memory"])
def test_workers_share_them(folder, tmp_path, form):
    np.save(tmp_path / "a.npy", PICTURES)
    inputs = {"files": folder, "array": tmp_path / "a.npy", "memory": PICTURES}[form]
    _, found = ask(inputs, None, (6, 8), resize="area", cpus=2, out=tmp_path / "out.csv")
    _, expected = ask(inputs, None, (6, 8), resize="area")
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Write a model that the command line can load."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_of_sums.py").write_text(
        "def make():\n    return lambda batch: batch[0].sum(axis=(1, 2), dtype=float)\n"
    )
    return ["--model", "zoo_of_sums:make", "--class-names", "r", "g", "b", "--no-progress"]


def test_one_command_makes_a_table_of_a_folder(folder, network, tmp_path):
    assert main(["catalog", str(folder), *network, "--out", "votes.csv"]) == 0
    votes = Table.read("votes.csv")
    assert votes["OBJID"].tolist() == IDS
    np.testing.assert_array_equal(votes["g"], SUMS[:, 1])
    record = json.loads((tmp_path / "votes.csv.run.json").read_text())
    assert record["arguments"]["--catalog"] is None


def test_one_picture_is_answered_on_the_screen(folder, network, capsys):
    picture = str(folder / f"{IDS[2]}.png")
    assert main(["catalog", picture, *network, "--id", "17"]) == 0
    red, green, blue = SUMS[2]
    assert capsys.readouterr().out.splitlines() == [
        "OBJID,r,g,b,status", f"17,{red},{green},{blue},ok",
    ]  # fmt: skip
