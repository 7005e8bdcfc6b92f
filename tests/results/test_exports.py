"""Outputs as plain images: the same numbers, for any program."""

import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require, require_program
from sky_headers import ROTATED, SIP, sky_header

from morpheus_core import InputError, OutputError, export_masks, export_planes, predict
from morpheus_core.results import finished
from morpheus_core.results.image_files import new_file

NAMES = ["point source", "disk", "sky"]
SHAPE = (33, 41)


@pytest.fixture
def run_in(tmp_path):
    """Run with any options, and return the directory and the arrays."""

    def run_in(name="out", sky=None, n_classes=3, **options):
        random = np.random.default_rng(1)
        fits.writeto(tmp_path / f"{name}.fits", random.random(SHAPE, dtype=np.float32), sky)
        mask = np.zeros(SHAPE, bool)
        mask[5:20, :17] = True
        weights = random.random(n_classes)
        options = {"aggregate_method": ["mean_var", "rank_vote"], "class_names": NAMES, **options}
        hduls, arrays = predict(
            lambda batch: np.abs(np.sin(batch[0] * 40 * weights)),
            tmp_path / f"{name}.fits",
            n_classes,
            64,
            (6, 7),
            stride=(3, 2),
            mask=mask,
            out_dir=tmp_path / name,
            progress=False,
            **options,
        )
        arrays = [array.astype(array.dtype.newbyteorder("=")) for array in arrays]
        for hdul in hduls:
            hdul.close()
        return tmp_path / name, arrays

    return run_in


@pytest.mark.parametrize("rows", [1, 10, SHAPE[0]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_planes_hold_the_numbers_of_the_outputs(run_in, tmp_path, monkeypatch, dtype, rows):
    directory, (moments, votes, n) = run_in(output_dtype=dtype)
    monkeypatch.setattr(finished, "BLOCK_BYTES", rows * SHAPE[1] * 6 * 8)
    export_planes(directory, tmp_path / "planes.fits")
    with fits.open(tmp_path / "planes.fits", checksum=True) as file:
        file.verify("exception")
        for k, name in enumerate(["POINT_SOURCE", "DISK", "SKY"]):
            assert file[f"{name}_MEAN"].data.dtype == np.dtype(dtype).newbyteorder(">")
            np.testing.assert_array_equal(file[f"{name}_MEAN"].data, moments[..., k, 0])
            np.testing.assert_array_equal(file[f"{name}_VARIANCE"].data, moments[..., k, 1])
            np.testing.assert_array_equal(file[f"{name}_VOTE"].data, votes[..., k])
        np.testing.assert_array_equal(file["N"].data, n)
        assert (n == 0).sum() == 15 * 17
        for name, shares in (("MEAN", moments[..., 0]), ("VOTE", votes)):
            classes = file[f"CLASS_MAP_{name}"]
            assert classes.data.dtype == np.uint8
            expected = np.where(n > 0, shares.argmax(axis=-1), 255)
            np.testing.assert_array_equal(classes.data, expected)
            assert classes.header["NODATA"] == 255
            assert [classes.header[f"CLASS{k}"] for k in range(3)] == NAMES


def test_one_method_and_no_names(run_in, tmp_path):
    directory, _ = run_in(aggregate_method="rank_vote", class_names=None, fill_value=0)
    export_planes(directory, tmp_path / "planes.fits")
    with fits.open(tmp_path / "planes.fits") as file:
        names = ["PRIMARY", "CLASS_0_VOTE", "CLASS_1_VOTE", "CLASS_2_VOTE", "CLASS_MAP", "N"]
        assert [hdu.name for hdu in file] == names
        assert (file["CLASS_MAP"].data == 255).sum() == 15 * 17  # though the outputs are 0 there


@pytest.mark.slow
def test_more_classes_than_fit_a_byte(run_in, tmp_path):
    directory, (votes, n) = run_in(n_classes=300, aggregate_method="rank_vote", class_names=None)
    export_planes(directory, tmp_path / "planes.fits")
    with fits.open(tmp_path / "planes.fits") as file:
        expected = np.where(n > 0, votes.argmax(axis=-1), -1)
        assert expected.max() > 255
        np.testing.assert_array_equal(file["CLASS_MAP"].data, expected)


def test_names_that_are_the_same_without_blanks(run_in, tmp_path):
    directory, _ = run_in(class_names=["a b", "a-b", "c"], aggregate_method="rank_vote")
    export_masks(directory, tmp_path / "masks.fits")
    with fits.open(tmp_path / "masks.fits") as file:
        assert [hdu.name for hdu in file[1:]] == ["CLASS_0_A_B", "CLASS_1_A_B", "CLASS_2_C"]


def test_planes_lie_on_the_sky_with_distortion(run_in, tmp_path):
    source = sky_header(ROTATED)
    source.update(SIP)
    with pytest.warns(match="cannot be kept"):
        directory, _ = run_in(sky=source)
    export_planes(directory, tmp_path / "planes.fits")
    with fits.open(tmp_path / "planes.fits") as file:
        for hdu in file[1:]:
            np.testing.assert_allclose(
                WCS(hdu.header).all_pix2world([[3, 30]], 0),
                WCS(source).all_pix2world([[3, 30]], 0),
                rtol=0,
                atol=1e-9,
            )


@pytest.mark.parametrize("bit_flags", [True, False])
def test_scores_make_no_masks(tmp_path, bit_flags):
    hduls, _ = predict(
        lambda batch: 9 * batch[0] - 4, np.random.default_rng(1).random((9, 9)), 1, 4, (3, 3),
        aggregate_method="mean_var", out_dir=tmp_path / "x", progress=False,
    )  # fmt: skip
    for hdul in hduls:
        hdul.close()
    with pytest.raises(InputError, match=r"from 0 to 1, are needed, got means from"):
        export_masks(tmp_path / "x", tmp_path / "masks.fits", 0.5, bit_flags=bit_flags)
    assert not (tmp_path / "masks.fits").exists()


@pytest.mark.parametrize("method", ["mean_var", "rank_vote"])
@pytest.mark.parametrize(
    ("thresholds", "limits"),
    [
        (0.4, {0: 0.4, 1: 0.4, 2: 0.4}),
        ([0.2, 0.5, 0.1], {0: 0.2, 1: 0.5, 2: 0.1}),
        ({"sky": 0.3, "point source": 0.6}, {2: 0.3, 0: 0.6}),
    ],
)
def test_masks_and_flags(run_in, tmp_path, method, thresholds, limits):
    directory, (moments, votes, n) = run_in()
    shares = moments[..., 0] if method == "mean_var" else votes
    options = {"thresholds": thresholds, "aggregate_method": method}
    export_masks(directory, tmp_path / "masks.fits", **options)
    export_masks(directory, tmp_path / "flags.fits", **options, bit_flags=True)
    flags = fits.getdata(tmp_path / "flags.fits")
    assert flags.dtype == np.uint8
    header = fits.getheader(tmp_path / "flags.fits")
    with fits.open(tmp_path / "masks.fits") as file:
        assert len(file) == 1 + len(limits)
        for index, limit in limits.items():
            hdu = file[NAMES[index].replace(" ", "_")]
            expected = (shares[..., index] >= limit) & (n > 0)
            assert 0 < expected.sum() < expected.size
            assert hdu.data.dtype == np.uint8
            np.testing.assert_array_equal(hdu.data, expected)
            assert hdu.header["THRESH"] == limit
            np.testing.assert_array_equal((flags >> index) & 1, expected)
            assert header[f"BIT{index}"] == NAMES[index]


@pytest.mark.parametrize(("n_classes", "dtype"), [(8, "u1"), (9, ">i2"), (16, ">i4"), (63, ">i8")])
def test_flags_of_many_classes(run_in, tmp_path, n_classes, dtype):
    directory, (votes, n) = run_in(
        n_classes=n_classes, aggregate_method="rank_vote", class_names=None
    )
    export_masks(directory, tmp_path / "flags.fits", 0.01, bit_flags=True)
    flags = fits.getdata(tmp_path / "flags.fits")
    assert flags.dtype == dtype
    last = (votes[..., -1] >= 0.01) & (n > 0)
    assert last.any()
    np.testing.assert_array_equal(flags.astype(np.int64) >> (n_classes - 1) & 1, last)


def test_cfitsio_reads_the_same_numbers(run_in, tmp_path):
    fitsio = require("fitsio")
    directory, (moments, votes, n) = run_in(sky=sky_header())
    export_planes(directory, tmp_path / "planes.fits")
    export_masks(directory, tmp_path / "flags.fits", aggregate_method="rank_vote", bit_flags=True)
    np.testing.assert_array_equal(fitsio.read(directory / "output_mean_var.fits"), moments)
    np.testing.assert_array_equal(fitsio.read(directory / "output_rank_vote.fits"), votes)
    np.testing.assert_array_equal(fitsio.read(directory / "n.fits"), n)
    planes = str(tmp_path / "planes.fits")
    np.testing.assert_array_equal(fitsio.read(planes, ext="DISK_MEAN"), moments[..., 1, 0])
    flags = fitsio.read(str(tmp_path / "flags.fits"))
    np.testing.assert_array_equal(flags, fits.getdata(tmp_path / "flags.fits"))
    header = fitsio.read_header(planes, ext="CLASS_MAP_VOTE")
    assert header["CLASS0"] == "point source"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fitsverify_finds_nothing(run_in, tmp_path, dtype):
    fitsverify = require_program("fitsverify")
    sky = sky_header(ROTATED)
    sky.update({**SIP, "OBJECT": "M 31", "DATE-OBS": "2020-01-02T03:04:05", "EXPTIME": 20.0})
    names = ["a very long name of a class, " + 21 * "x", "disk", "sky"]
    with pytest.warns(match="cannot be kept"):
        directory, _ = run_in("x" * 100, sky=sky, output_dtype=dtype, class_names=names)
    export_planes(directory, tmp_path / "planes.fits")
    export_masks(directory, tmp_path / "masks.fits", aggregate_method="rank_vote")
    export_masks(directory, tmp_path / "flags.fits", aggregate_method="rank_vote", bit_flags=True)
    paths = [
        *directory.glob("*.fits"),
        *(tmp_path / f"{n}.fits" for n in ("planes", "masks", "flags")),
    ]
    run = subprocess.run([fitsverify, *paths], capture_output=True, text=True)
    assert run.stdout.count("found 0 warning(s) and 0 error(s)") == len(paths) == 6, run.stdout


def test_packing_without_loss(run_in, tmp_path):
    """As docs/fits.rst says; plain fpack rounds floats, below zero for one."""
    directory, _ = run_in(aggregate_method="mean_var")
    export_planes(directory, tmp_path / "planes.fits")
    export_masks(directory, tmp_path / "masks.fits")
    for name, options in (("planes", ["-g2", "-q", "0"]), ("masks", [])):
        path = tmp_path / f"{name}.fits"
        subprocess.run([require_program("fpack"), *options, path], check=True)
        with fits.open(path) as plain, fits.open(f"{path}.fz") as packed:
            images = [hdu for hdu in packed if hdu.shape]
            assert len(images) == sum(bool(hdu.shape) for hdu in plain)
            for hdu, other in zip((hdu for hdu in plain if hdu.shape), images, strict=True):
                np.testing.assert_array_equal(other.data, hdu.data)


@pytest.mark.parametrize("export", [export_planes, export_masks])
def test_existing_files_are_kept(run_in, tmp_path, export):
    directory, _ = run_in(aggregate_method="rank_vote")
    path = tmp_path / "exported.fits"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already; pass overwrite=True"):
        export(directory, path)
    assert path.read_text() == "precious"
    export(directory, path, overwrite=True)
    assert fits.getdata(path, 1).shape == SHAPE
    path.unlink()
    path.symlink_to(directory / "n.fits")
    with pytest.raises(OutputError, match="would replace the input"):
        export(directory, path, overwrite=True)


def test_nothing_is_left_of_an_export_that_fails(run_in, tmp_path, monkeypatch):
    directory, _ = run_in(aggregate_method="rank_vote")
    monkeypatch.setattr(finished.FinishedRun, "blocks", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_planes(directory, tmp_path / "planes.fits")
    assert not list(tmp_path.glob("planes*"))


def test_exports_that_are_going_on_are_not_disturbed(run_in, tmp_path):
    directory, _ = run_in(aggregate_method="rank_vote")
    part = tmp_path / "planes.fits.part"
    with new_file(part, overwrite=False):
        for overwrite, way_out in ((False, "pass overwrite=True"), (True, "wait for its end")):
            with pytest.raises(OutputError, match=f"in the way: it is being written.*{way_out}"):
                export_planes(directory, tmp_path / "planes.fits", overwrite=overwrite)
    assert part.exists()
    export_planes(directory, tmp_path / "planes.fits", overwrite=True)
    assert not part.exists()


def test_no_run_to_export(tmp_path):
    with pytest.raises(InputError, match="must hold the outputs of a run"):
        export_planes(tmp_path, tmp_path / "planes.fits")
    fits.writeto(tmp_path / "n.fits", np.ones((4, 5)))
    with pytest.raises(InputError, match="must hold the outputs of a run"):
        export_planes(tmp_path, tmp_path / "planes.fits")
    fits.writeto(tmp_path / "output.fits", np.ones((4, 6, 3)))
    with pytest.raises(InputError, match=r"output\.fits must be an output of predict, got shape"):
        export_planes(tmp_path, tmp_path / "planes.fits")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "aggregate_method must say which of mean_var and rank_vote"),
        ({"aggregate_method": "mean"}, "must be one of 'mean_var', 'rank_vote', got 'mean'"),
        ({"thresholds": [0.1, 0.2]}, "must be one number, or 3, one per class, got 2"),
        ({"thresholds": "half"}, "thresholds must be a number, got 'half'"),
        ({"thresholds": np.nan}, "thresholds must be finite"),
        ({"thresholds": {"bulge": 1}}, "must be of the classes point source, disk, sky, got"),
        ({"thresholds": {}}, "must be of the classes"),
        ({"bit_flags": 1}, "bit_flags must be True or False, got 1"),
    ],
)
def test_arguments_that_do_not_fit(run_in, tmp_path, options, message):
    directory, _ = run_in()
    if options and "aggregate_method" not in options:
        options = {**options, "aggregate_method": "mean_var"}
    with pytest.raises(InputError, match=message):
        export_masks(directory, tmp_path / "masks.fits", **options)
    assert not list(tmp_path.glob("masks*"))


def test_outputs_of_two_runs_are_not_mixed(run_in, tmp_path):
    one, _ = run_in("one", aggregate_method="rank_vote")
    other, _ = run_in("other", aggregate_method="rank_vote")
    (one / "n.fits").replace(other / "n.fits")
    with pytest.raises(InputError, match="must be of one run, got RUNID="):
        export_planes(other, tmp_path / "planes.fits")


def test_files_that_appear_meanwhile_are_kept(run_in, tmp_path, monkeypatch):
    directory, _ = run_in(aggregate_method="rank_vote")
    path, blocks = tmp_path / "planes.fits", finished.FinishedRun.blocks

    def appearing(self):
        path.write_text("precious")
        return blocks(self)

    monkeypatch.setattr(finished.FinishedRun, "blocks", appearing)
    with pytest.raises(OutputError, match="has appeared during the run"):
        export_planes(directory, path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_damaged_outputs(run_in, tmp_path, content):
    directory, _ = run_in(aggregate_method="rank_vote")
    output = directory / "output.fits"
    output.write_bytes(output.read_bytes()[:9000] if content is None else content)
    with pytest.raises(InputError, match=r"(cannot be read as FITS|is damaged at row)"):
        export_planes(directory, tmp_path / "planes.fits")
    assert not list(tmp_path.glob("planes*"))


def test_outputs_of_two_dimensions_are_not_outputs(tmp_path):
    for name in ("n", "output"):
        fits.writeto(tmp_path / f"{name}.fits", np.ones((4, 5)))
    with pytest.raises(InputError, match="must be an output of predict, got shape"):
        export_planes(tmp_path, tmp_path / "planes.fits")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("planes.fits.gz", r"an export is not compressed; its name must not end in \.gz"),
        ("out/output_mean_var.fits", "is the name of an output of predict"),
        ("out/n.fits.part", "is the name of an output of predict"),
    ],
)
def test_names_that_promise_something_else(run_in, tmp_path, name, message):
    directory, _ = run_in(aggregate_method="rank_vote")
    with pytest.raises(OutputError, match=message):
        export_planes(directory, tmp_path / name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0", "1", "2"], ["CLASS_0_0", "CLASS_1_1", "CLASS_2_2"]),
        (["class map", "n", "x"], ["CLASS_0_CLASS_MAP", "CLASS_1_N", "CLASS_2_X"]),
    ],
)
def test_names_that_would_be_taken_for_something_else(run_in, tmp_path, names, expected):
    directory, _ = run_in(class_names=names, aggregate_method="rank_vote")
    export_masks(directory, tmp_path / "masks.fits")
    with fits.open(tmp_path / "masks.fits") as file:
        assert [hdu.name for hdu in file[1:]] == expected


def test_a_lone_mask_is_an_extension_as_well(run_in, tmp_path):
    directory, _ = run_in(aggregate_method="rank_vote")
    export_masks(directory, tmp_path / "masks.fits", {"disk": 0.5})
    with fits.open(tmp_path / "masks.fits") as file:
        assert [hdu.name for hdu in file] == ["PRIMARY", "DISK"]


def test_outputs_may_be_annotated(run_in, tmp_path):
    directory, _ = run_in(aggregate_method="rank_vote")
    fits.setval(directory / "output.fits", "OBSERVER", value="me")
    export_planes(directory, tmp_path / "planes.fits")


@pytest.mark.parametrize("threshold", [np.float32(0.5), np.array(0.5)])
def test_numbers_of_numpy_as_thresholds(run_in, tmp_path, threshold):
    directory, _ = run_in(aggregate_method="rank_vote")
    export_masks(directory, tmp_path / "masks.fits", threshold)
    assert fits.getval(tmp_path / "masks.fits", "THRESH", 1) == 0.5


def cards_on_disk(path):
    """Return the keywords of each header as they are on disk; astropy shows more than that."""
    with fits.open(path) as file:
        places = [hdu.fileinfo() for hdu in file]
    raw = path.read_bytes()
    return [
        [raw[k : k + 8].decode().strip() for k in range(place["hdrLoc"], place["datLoc"], 80)]
        for place in places
    ]


def test_files_of_several_images_say_so_in_their_first_header(run_in, tmp_path):
    directory, _ = run_in(aggregate_method="rank_vote")
    export_planes(directory, tmp_path / "planes.fits")
    export_masks(directory, tmp_path / "masks.fits")
    for name in ("planes", "masks"):
        first, *others = cards_on_disk(tmp_path / f"{name}.fits")
        assert first[:4] == ["SIMPLE", "BITPIX", "NAXIS", "EXTEND"]
        assert not any("EXTEND" in header for header in others)
    assert "EXTEND" not in cards_on_disk(directory / "n.fits")[0]


def test_one_file_per_plane(run_in, tmp_path):
    directory, _ = run_in()
    export_planes(directory, tmp_path / "planes.fits")
    for overwrite in (False, True):
        export_planes(directory, tmp_path / "planes", files="one per plane", overwrite=overwrite)
    with fits.open(tmp_path / "planes.fits") as file:
        names = {f"{hdu.name}.fits" for hdu in file[1:]}
        assert {path.name for path in (tmp_path / "planes").iterdir()} == names
        for hdu in file[1:]:
            with fits.open(tmp_path / "planes" / f"{hdu.name}.fits", checksum=True) as single:
                assert len(single) == 1
                np.testing.assert_array_equal(single[0].data, hdu.data)
                assert single[0].header["RUNID"] == hdu.header["RUNID"]
    with pytest.raises(OutputError, match="exists already; pass overwrite=True"):
        export_planes(directory, tmp_path / "planes", files="one per plane")
    with pytest.raises(OutputError, match="exists already; pass overwrite=True"):
        export_planes(directory, tmp_path / "planes.fits", files="one per plane")


def test_nothing_is_left_of_planes_that_fail(run_in, tmp_path, monkeypatch):
    directory, _ = run_in(aggregate_method="rank_vote")
    monkeypatch.setattr(finished.FinishedRun, "blocks", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_planes(directory, tmp_path / "planes", files="one per plane")
    assert not list((tmp_path / "planes").iterdir())


@pytest.mark.parametrize(
    ("n_classes", "dtype"), [(3, "u1"), (254, "u1"), (255, ">i2"), (300, ">i2")]
)
def test_classes_that_count_from_one(run_in, tmp_path, n_classes, dtype):
    directory, (votes, n) = run_in(
        n_classes=n_classes, aggregate_method="rank_vote", class_names=None
    )
    export_planes(directory, tmp_path / "planes.fits", first_label=1)
    with fits.open(tmp_path / "planes.fits") as file:
        classes = file["CLASS_MAP"]
        assert classes.data.dtype == dtype
        expected = np.where(n > 0, votes.argmax(axis=-1) + 1, 0)
        np.testing.assert_array_equal(classes.data, expected)
        assert (classes.header["NODATA"], classes.header["CLASS1"]) == (0, "class_0")
        assert classes.header[f"CLASS{n_classes}"] == f"class_{n_classes - 1}"
        assert "CLASS0" not in classes.header


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_label": 2}, "first_label must be 0 or 1, got 2"),
        ({"first_label": True}, "first_label must be 0 or 1, got True"),
        ({"files": "many"}, "files must be one of 'one', 'one per plane', got 'many'"),
    ],
)
def test_planes_that_cannot_be_had(run_in, tmp_path, options, message):
    directory, _ = run_in(aggregate_method="rank_vote")
    with pytest.raises(InputError, match=message):
        export_planes(directory, tmp_path / "planes.fits", **options)
