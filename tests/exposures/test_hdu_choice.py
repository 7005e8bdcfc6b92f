"""Which HDUs of exposures masks are made of, and which mark their bad pixels."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, MorpheusWarning, map_exposures
from morpheus_core.cli import main

SHAPE = (20, 24)


def model(batch):
    return (batch[0] > 0).astype(np.float32)


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A file of two detectors, each with variance and flags, and a table."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        flags = np.zeros(SHAPE, np.uint16)
        flags[version, :] = 1
        flags[:, version] |= 4
        science = fits.ImageHDU(random.normal(size=SHAPE).astype(np.float32), name="SCI")
        variance = fits.ImageHDU(np.ones(SHAPE, np.float32), name="VAR")
        quality = fits.ImageHDU(flags, name="DQ")
        for hdu in (science, variance, quality):
            hdu.ver = version
        hdus += [science, variance, quality]
    hdus.append(fits.BinTableHDU(name="WCSCORR"))
    fits.HDUList(hdus).writeto("night.fits")
    return tmp_path


def run(**options):
    (outcome,) = map_exposures(
        model, "night.fits", 1, 8, (8, 8), progress=False, class_names=["star"], **options
    )
    if outcome.error is not None:
        raise outcome.error
    return outcome.output


def names_in(path):
    with fits.open(path) as hdus:
        return [(hdu.name, hdu.ver) for hdu in hdus]


PRIMARY, TABLE = ("PRIMARY", 1), ("WCSCORR", 1)
SCIENCE = [("SCI", 1), ("SCI", 2)]


@pytest.mark.parametrize(
    ("hdus", "expected"),
    [
        ("SCI", SCIENCE),
        ("sci", SCIENCE),
        ("S*", SCIENCE),
        (["SCI,2"], SCIENCE[1:]),
        (1, SCIENCE[:1]),
        (["1", "4"], SCIENCE),
        (["SCI", "VAR,1"], [SCIENCE[0], ("VAR", 1), SCIENCE[1]]),
    ],
)
def test_hdus_that_are_meant(night, hdus, expected):
    assert names_in(run(hdus=hdus)) == [PRIMARY, *expected, TABLE]


def test_masks_are_those_of_the_image_alone(night):
    with fits.open(run(hdus="SCI")) as made, fits.open("night.fits") as read:
        for version in (1, 2):
            alone = fits.getdata(run(hdus=f"SCI,{version}", overwrite=True), 1)
            np.testing.assert_array_equal(made["SCI", version].data, alone)
        assert made[-1].columns.names == read[-1].columns.names


def test_nothing_stands_before_an_image_that_begins_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = np.zeros(SHAPE, np.float32)
    hdus = [fits.PrimaryHDU(image), fits.BinTableHDU(name="T"), fits.ImageHDU(image, name="SCI")]
    fits.HDUList(hdus).writeto("night.fits")
    path = run(hdus="SCI")
    assert names_in(path) == [("SCI", 1)]
    fits.open(path).close()


@pytest.mark.parametrize("bits", [None, 4, "1"])
def test_flags_of_the_same_version_mark_bad_pixels(night, bits):
    with fits.open(run(hdus="SCI", mask="dq", mask_bits=bits, thresholds=None)) as made:
        for version in (1, 2):
            good = np.isfinite(made["SCI", version].data[0])
            expected = np.ones(SHAPE, bool)
            if bits != 4:
                expected[version, :] = False
            if bits != "1":
                expected[:, version] = False
            np.testing.assert_array_equal(good, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"hdus": "ERR"},
            r"hdus must name images .*, got ERR, which .* has: \[0\] PRIMARY",
        ),
        ({"hdus": ["SCI", "WCSCORR"]}, "hdus must name images of two dimensions, got WCSCORR"),
        ({"hdus": []}, r"hdus must be a number or a name of an HDU, as 1, SCI or CCD\*, got \[\]"),
        ({"hdus": True}, "hdus must be a number or a name"),
        ({"hdus": -1}, "hdus must be a number or a name"),
        ({"mask": ["DQ"]}, "mask must be one HDU, got"),
        ({"mask_bits": 1}, "mask_bits needs mask, which says where flags are, got 1"),
        (
            {"hdus": "SCI", "mask": "BPM"},
            r"got BPM: \[1\] SCI \(20, 24\) has no \[BPM,1\] beside it, only",
        ),
        ({"hdus": "SCI", "mask": "WCSCORR"}, "mask must name an image beside each"),
        ({"hdus": "SCI", "mask": "VAR", "mask_bits": 1}, "mask_bits needs a mask of integers"),
    ],
)
def test_what_is_refused(night, options, message):
    with pytest.raises(InputError, match=message):
        run(**options)


def test_resume_needs_the_same_choice(night):
    def ends(batch):
        raise KeyboardInterrupt

    common = (1, 8, (8, 8), (1, 1), None, "out")
    with pytest.raises(KeyboardInterrupt):
        map_exposures(ends, "night.fits", *common, progress=False, hdus="SCI")
    with pytest.raises(InputError, match="hdus"):
        map_exposures(model, "night.fits", *common, progress=False, hdus="VAR", resume=True)


def test_the_command_chooses_as_well(night, monkeypatch):
    source = "from test_hdu_choice import model\ndef make(): return model\n"
    (night / "hdu_network.py").write_text(source)
    monkeypatch.syspath_prepend(str(night))
    words = ["--hdu", "SCI,1", "VAR", "--mask", "DQ", "--mask-bits", "4", "--cpus", "1"]
    model_words = ["--model", "hdu_network:make", "--n-classes", "1", "--window", "8"]
    assert main(["map", "night.fits", *words, *model_words, "--out-dir", "out"]) == 0
    assert names_in("out/night.masks.fits")[1:-1] == [("SCI", 1), ("VAR", 1), ("VAR", 2)]


def test_a_bar_shows_the_windows_of_each_image(night, capsys):
    map_exposures(model, "night.fits", 1, 8, (8, 8), hdus="SCI", class_names=["star"])
    said = capsys.readouterr().err
    assert "images" in said
    assert "0/221 [" in said
    assert "windows" in said


@pytest.mark.filterwarnings("default:.* files have no masks")
def test_failures_are_told_of_where_nobody_hears_of_each(night):
    arguments = (model, "night.fits", 1, 8, (8, 8))
    options = {"progress": False, "hdus": "ERR"}
    with pytest.warns(MorpheusWarning, match=r"1 of 1 files .* is night.fits: hdus must name"):
        map_exposures(*arguments, **options)
    outcomes = []
    map_exposures(*arguments, **options, on_file=outcomes.append)
    assert len(outcomes) == 1
