"""Masks of whole exposures: every image of every file, and the same HDUs."""

import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import require, require_program
from numpy.testing import assert_allclose, assert_array_equal
from sky_headers import ROTATED, SIP, TPV, sky_header

import morpheus_core as package
from morpheus_core import (
    InputError,
    ModelError,
    MorpheusError,
    OutputError,
    WorkerError,
    predict,
    update_maps,
)
from morpheus_core.cli import main
from morpheus_core.exposures.mapping import map_exposures

WINDOW, STRIDE, CROP = 400, 200, 100
TRAINED, EXPECTED, THRESHOLDS = (0.05, 0.95), (0.01, 0.9), (0.3, 0.6)


def brightness(batch):
    """Return two probabilities that do not add up to one."""
    pixels = np.clip(batch[0].astype("f8"), -50, 50)
    return np.concatenate([1 / (1 + np.exp(-pixels)), 1 / (1 + np.exp(pixels / 2 - 1))], -1)


def make_model():
    return brightness


#: A program that is killed while a model sees the second image.
KILLED = """
import os, signal, sys
import morpheus_core

def model(batch):
    model.calls += 1
    if model.calls == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return (batch[0] > 0).astype("f4")

model.calls = 0
morpheus_core.map_exposures(model, sys.argv[1], 1, 4, (8, 8), (4, 8), progress=False)
"""


def run(paths, **options):
    options = {"class_names": ["CR", "SKY"], "progress": False, **options}
    return map_exposures(brightness, paths, 2, 8, (8, 8), (4, 4), **options)


@pytest.fixture
def exposure(tmp_path):
    """A file of HDUs of all kinds; images are at 1 and 5."""
    random = np.random.default_rng(3)
    image = fits.ImageHDU(random.normal(size=(30, 41)).astype("f4"), sky_header(ROTATED), name="A")
    counts = fits.ImageHDU(random.integers(0, 6, (25, 33)).astype("u2"), name="A", ver=2)
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=random.random(500))])
    hdus = [fits.PrimaryHDU(), image, table, fits.ImageHDU(np.arange(9)), cube(random), counts]
    hdus[0].header["EXPTIME"] = 30.0
    hdus[0].header["GAIN"] = (1.5, "of the camera")
    fits.HDUList(hdus).writeto(tmp_path / "night.fits")
    return tmp_path / "night.fits"


def cube(random):
    return fits.ImageHDU(random.normal(size=(3, 20, 21)), name="CUBE")


def stored(path):
    """Return the bytes of each HDU."""
    content = path.read_bytes()
    with fits.open(path, memmap=False, disable_image_compression=True) as file:
        places = [hdu.fileinfo() for hdu in file]
    return [content[place["hdrLoc"] : place["datLoc"] + place["datSpan"]] for place in places]


class TestMaxiMask:
    """What MaxiMask does to exposures, with the published network of deepCR in place of its own.

    It prepares the whole image; of windows of 400 x 400 the central 200 x 200 count, and at the
    edge of the image all that reaches it; where windows meet that 200 does not divide, the last one
    overrides those before; and masks are 1 above a threshold.
    """

    @pytest.fixture
    def network(self, data, monkeypatch):
        require("torch")
        monkeypatch.syspath_prepend(data / "deepcr")
        from deepcr_callable import DeepCR

        return DeepCR("decam", "torch", two_class=True)

    @pytest.fixture
    def night(self, data, tmp_path):
        random = np.random.default_rng(8)
        (tmp_path / "night").mkdir()
        with fits.open(data / "fits" / "m13.fits") as file:
            sky = file[0].data.astype("f4")
        sky = np.pad(sky, [(0, 600 - sky.shape[0]), (0, 700 - sky.shape[1])], mode="wrap")
        first = sky + random.normal(0, 20, sky.shape).astype("f4")
        first[random.random(sky.shape) > 0.999] += 5000
        second = np.maximum(first[:400, :400], 0).astype("u2")
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(first, name="CCD1"), table(), cube(random)]
        hdus += [fits.ImageHDU(np.arange(5.0)), fits.ImageHDU(second, name="CCD2")]
        fits.HDUList(hdus).writeto(tmp_path / "night" / "a.fits")
        packed = fits.CompImageHDU(second.astype("i2"), name="CCD", compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "night" / "b.fits.fz")
        (tmp_path / "night" / "c.fits").write_bytes(b"SIMPLE  = nothing else" * 500)
        return tmp_path / "night"

    @pytest.mark.slow
    def test_masks_are_those_of_a_plain_loop(self, network, night, tmp_path, capsys):
        for name, values in (("trained", TRAINED), ("priors", EXPECTED), ("thresh", THRESHOLDS)):
            lines = [f"{c} {value}" for c, value in zip(("CR", "SKY"), values, strict=True)]
            (tmp_path / name).write_text("\n".join(lines[::-1]))
        (tmp_path / "deepcr_model.py").write_text(
            "import numpy as np\nfrom deepcr_callable import DeepCR\n"
            "def make():\n    return DeepCR('decam', 'torch', two_class=True)\n"
            "def normalize(image):\n    image = np.nan_to_num(image.astype('f4'))\n"
            "    return 1000 + 2 * (image - np.median(image))\n"
        )
        sys.path.insert(0, str(tmp_path))
        arguments = ["map", str(night), "--model", "deepcr_model:make", "--class-names", "CR"]
        arguments += ["SKY", "--prepare", "deepcr_model:normalize", "--window", "400", "--stride"]
        arguments += ["200", "--crop", "100", "--keep-border", "--batch-size", "1"]
        arguments += ["--priors", str(tmp_path / "priors"), "--threshold-rule", ">"]
        arguments += ["--trained-priors", str(tmp_path / "trained")]
        arguments += ["--thresholds", str(tmp_path / "thresh")]
        try:
            assert main(arguments) == 1
        finally:
            sys.path.remove(str(tmp_path))
        assert "c.fits: it cannot be read as FITS" in capsys.readouterr().err
        assert not (night / "c.masks.fits").exists()
        with fits.open(night / "a.fits") as file:
            first, second = (as_maximask_does(file[k].data, network) for k in (1, 5))
        compare(night / "a.fits", {1: first, 5: second})
        compare(night / "b.fits.fz", {1: second})  # the same pixels


def compare(path, expected):
    masks = path.with_name(f"{path.name[0]}.masks.fits")
    with fits.open(path) as source, fits.open(masks, checksum=True) as file:
        assert [hdu.name for hdu in file] == [hdu.name for hdu in source]
        for k, (before, after) in enumerate(zip(source, file, strict=True)):
            if k not in expected:
                assert stored(masks)[k] == stored(path)[k]
                continue
            assert after.data.dtype == np.uint8
            assert after.data.shape == (2, *before.data.shape)
            assert after.header["PREPARE0"] == "deepcr_model.normalize"
            alone = ~overriding(before.data.shape)
            for plane, threshold in enumerate(THRESHOLDS):
                probabilities = expected[k][..., plane]
                clear = alone & (abs(probabilities - threshold) > 3e-6)
                assert clear[alone].mean() > 0.999
                assert 0 < after.data[plane].mean() < 1
                assert_array_equal(after.data[plane][clear], (probabilities > threshold)[clear])


def starts(length):
    """Return where windows begin along an axis, the last one at the end."""
    whole = list(range(0, length - WINDOW + 1, STRIDE))
    return whole if whole[-1] == length - WINDOW else [*whole, length - WINDOW]


def reach(start, length):
    """Return which pixels a window decides along an axis."""
    first = start if start == 0 else start + CROP
    last = start + WINDOW
    return slice(first, last if last == length else last - CROP)


def overriding(shape):
    """Return where windows meet that 200 does not divide: the last one overrides those before."""
    bands = []
    for length in shape:
        reached = np.zeros(length, int)
        for start in starts(length):
            reached[reach(start, length)] += 1
        bands.append(reached > 1)
    return bands[0][:, np.newaxis] | bands[1]


def as_maximask_does(image, network):
    """Run the windows one by one, and put them together."""
    image = np.nan_to_num(image.astype("f4"))
    image = 1000 + 2 * (image - np.median(image))
    answer = np.full((*image.shape, 2), np.nan, np.float32)
    trained, expected = np.array(TRAINED), np.array(EXPECTED)
    factor = trained / (1 - trained) * (1 - expected) / expected
    for row in starts(image.shape[0]):
        for column in starts(image.shape[1]):
            window = image[np.newaxis, row : row + WINDOW, column : column + WINDOW, np.newaxis]
            p = network([window])[0]
            rows, columns = reach(row, image.shape[0]), reach(column, image.shape[1])
            some = np.s_[
                rows.start - row : rows.stop - row, columns.start - column : columns.stop - column
            ]
            answer[rows, columns] = (p / (p + factor * (1 - p)))[some]
    assert np.isfinite(answer).all()
    return answer


def table():
    return fits.BinTableHDU.from_columns([fits.Column("x", "J", array=np.arange(7))], name="T")


class TestMasks:
    def test_other_hdus_are_copied_byte_for_byte(self, exposure):
        (outcome,) = run(exposure)
        for k in (0, 2, 3, 4):
            assert stored(outcome.output)[k] == stored(exposure)[k]

    def test_names_sky_and_observation_are_kept(self, exposure):
        (outcome,) = run(exposure)
        with fits.open(exposure) as source, fits.open(outcome.output) as file:
            assert [(hdu.name, hdu.ver) for hdu in file] == [(h.name, h.ver) for h in source]
            header = file[1].header
            sky = [WCS(h).celestial.wcs_pix2world([[3, 20]], 0) for h in (header, source[1].header)]
            assert_allclose(*sky, rtol=0, atol=1e-10)
            assert (header["EXPTIME"], header["INPUT0"]) == (30.0, "night.fits[1]")
            assert "WCSAXES" not in file[5].header

    def test_headers_name_classes_thresholds_and_priors(self, exposure):
        (outcome,) = run(
            exposure, trained_priors=[0.1, 0.9], priors=[0.2, 0.7], thresholds=[0.3, 0.6]
        )
        header = fits.getheader(outcome.output, 5)
        assert [header[f"CLASS{k}"] for k in (0, 1)] == ["CR", "SKY"]
        assert [header[f"THRESH{k}"] for k in (0, 1)] == [0.3, 0.6]
        assert [header[f"TRAIN{k}"] for k in (0, 1)] == [0.1, 0.9]
        assert [header[f"PRIOR{k}"] for k in (0, 1)] == [0.2, 0.7]
        assert header["MODEL"].endswith(".brightness")

    @pytest.mark.parametrize("options", [{}, {"single_mask": True}, {"thresholds": None}])
    @pytest.mark.parametrize("hdu", ["", "[5]"])
    def test_fitsverify_finds_nothing(self, exposure, options, hdu):
        program = require_program("fitsverify")
        (outcome,) = run(f"{exposure}{hdu}", **options)
        said = subprocess.run([program, outcome.output], capture_output=True, text=True)
        assert "0 warning(s) and 0 error(s)" in said.stdout, said.stdout

    def test_wanted_classes_as_planes_and_as_bits(self, exposure, tmp_path):
        probabilities = fits.getdata(run(exposure, thresholds=None)[0].output, 1)
        assert probabilities.dtype == np.dtype(">f4")
        options = {"thresholds": [0.4, 0.6], "out_dir": tmp_path / "new" / "folder"}
        (planes,) = run(exposure, classes=["SKY"], **options)
        with fits.open(planes.output) as file:
            assert_array_equal(file[1].data, probabilities[1:] > 0.6)
            assert (file[1].header["CLASS0"], "CLASS1" in file[1].header) == ("SKY", False)
        (flags,) = run(exposure, single_mask=True, overwrite=True, **options)
        with fits.open(flags.output) as file:
            assert file[1].data.dtype == np.uint8
            expected = (probabilities[0] > 0.4) + 2 * (probabilities[1] > 0.6)
            assert_array_equal(file[1].data, expected)
            assert [file[1].header[f"BIT{k}"] for k in (0, 1)] == ["CR", "SKY"]

    @pytest.mark.parametrize(("n_classes", "kind"), [(8, "u1"), (9, ">i2"), (16, ">i4")])
    def test_flags_of_many_classes(self, exposure, n_classes, kind):
        map_exposures(
            lambda batch: np.repeat(batch[0] > 0, n_classes, axis=-1),
            f"{exposure}[1]",
            n_classes,
            8,
            (8, 8),
            (8, 8),
            single_mask=True,
            progress=False,
        )
        flags = fits.getdata(exposure.with_name("night.masks1.fits"))
        assert flags.dtype == np.dtype(kind)
        assert set(np.unique(flags)) <= {0, 2**n_classes - 1}

    @pytest.mark.parametrize("single_mask", [True, False])
    @pytest.mark.parametrize(("options", "enough"), [({}, 1), ({"threshold_rule": ">"}, 0)])
    def test_a_probability_at_the_threshold(self, exposure, single_mask, options, enough):
        (outcome,) = map_exposures(
            lambda batch: np.full(batch[0].shape, 0.5), f"{exposure}[1]", 1, 8, (8, 8), (4, 4),
            single_mask=single_mask, progress=False, **options,
        )  # fmt: skip
        masks, header = fits.getdata(outcome.output, header=True)
        assert (masks == enough).all()
        rule = options.get("threshold_rule", ">=")
        assert header.comments["THRESH0"] == f"the mask is 1 where p {rule} this"

    def test_a_lone_image_has_nothing_to_inherit_from(self, exposure):
        fits.setval(exposure, "INHERIT", value=True, ext=1)
        assert fits.getval(run(exposure)[0].output, "INHERIT", 1) is True
        assert "INHERIT" not in fits.getheader(run(f"{exposure}[1]")[0].output)

    def test_the_last_block_is_filled_up(self, exposure):
        fits.append(exposure, np.ones(9), fits.Header({"EXTNAME": "LAST"}))
        whole = stored(exposure)[6]
        exposure.write_bytes(exposure.read_bytes()[:-2000])
        (outcome,) = run(exposure)
        assert outcome.output.stat().st_size % 2880 == 0
        assert stored(outcome.output)[6] == whole

    @pytest.mark.parametrize("value", [b"A", b"'A"])
    def test_names_that_are_not_as_they_should_be(self, exposure, value):
        content = exposure.read_bytes()
        first = content.index(b"EXTNAME")
        card = (b"EXTNAME = " + value).ljust(80)
        exposure.write_bytes(content[:first] + card + content[first + 80 :])
        (outcome,) = run(exposure)
        assert fits.getval(outcome.output, "EXTNAME", 1) == value.decode()

    def test_pixels_without_a_result_are_in_no_mask(self, exposure):
        centre = update_maps.centre_crop((8, 8), 2)
        with pytest.warns(match="reached by no window"):
            run(exposure, thresholds=0, update_map=centre)
        masks = fits.getdata(exposure.with_name("night.masks.fits"), 1)
        assert not masks[:, :2].any()
        assert masks[:, 2:-2, 2:-2].all()

    @pytest.mark.parametrize("distortion", [SIP, TPV])
    def test_a_distorted_sky(self, tmp_path, distortion):
        header = sky_header(ROTATED)
        header.update(distortion)
        path = tmp_path / "a.fits"
        fits.writeto(path, np.zeros((30, 40), "f4"), header)
        run(path, single_mask=True)
        pixels = [[3, 20], [39, 1]]
        exact = WCS(header).all_pix2world(pixels, 0)
        written = WCS(fits.getheader(tmp_path / "a.masks.fits"))
        assert_allclose(written.all_pix2world(pixels, 0), exact, rtol=0, atol=1e-9)
        with pytest.warns(match="linear sky position"):
            run(path, overwrite=True)
        planes = WCS(fits.getheader(tmp_path / "a.masks.fits"))
        assert planes.celestial.naxis == 2
        assert_allclose(planes.celestial.wcs_pix2world(pixels, 0), exact, rtol=0, atol=1e-5)

    def test_workers_write_the_same(self, exposure, tmp_path):
        run(exposure)
        (outcome,) = run(exposure, cpus=2, out_dir=tmp_path / "two")
        for hdu in (1, 5):
            alone = fits.getdata(exposure.with_name("night.masks.fits"), hdu)
            assert_array_equal(fits.getdata(outcome.output, hdu), alone)

    @pytest.mark.slow
    def test_factories_with_priors_in_workers(self, exposure, tmp_path):
        options = {"priors": [0.1, 0.8], "trained_priors": [0.5, 0.5], "thresholds": None}
        run(f"{exposure}[1]", **options)
        (outcome,) = map_exposures(
            f"{__name__}:make_model", f"{exposure}[1]", 2, 8, (8, 8), (4, 4), cpus=1,
            out_dir=tmp_path / "worker", progress=False, **options,
        )  # fmt: skip
        expected = fits.getdata(exposure.with_name("night.masks1.fits"))
        assert_array_equal(fits.getdata(outcome.output), expected)

    def test_a_model_is_made_once(self, exposure, monkeypatch):
        made = []
        monkeypatch.setattr(f"{__name__}.make_model", lambda: made.append(1) or brightness)
        map_exposures(f"{__name__}:make_model", exposure, 2, 8, (8, 8), (4, 4), progress=False)
        assert made == [1]

    def test_images_smaller_than_the_window_need_padding(self, exposure):
        fits.append(exposure, np.ones((5, 6), "f4"))
        (outcome,) = run(exposure)
        assert isinstance(outcome.error, InputError)
        assert "padding" in str(outcome.error)
        (outcome,) = run(exposure, padding="reflect")
        assert fits.getdata(outcome.output, 6).shape == (2, 5, 6)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "hdu", "output"),
        [
            ("x.fits", "", "x.masks.fits"),
            ("x.FIT", "", "x.masks.fits"),
            ("x.y.fts", "[1]", "x.y.masks1.fits"),
            ("x.fits", "[a,2]", "x.masksA_2.fits"),
            ("x.img", "", "x.img.masks.fits"),
        ],
    )
    def test_names(self, exposure, name, hdu, output):
        path = exposure.rename(exposure.with_name(name))
        (outcome,) = run(f"{path}{hdu}")
        assert outcome.output == exposure.with_name(output)
        with fits.open(outcome.output) as file:
            assert len(file) == (1 if hdu else 6)

    def test_a_single_hdu(self, exposure):
        run(exposure)
        (outcome,) = run(f"{exposure}[5]")
        with fits.open(outcome.output) as file:
            assert outcome.output.name == "night.masks5.fits"
            expected = fits.getdata(exposure.with_name("night.masks.fits"), 5)
            assert_array_equal(file[0].data, expected)
            assert (file[0].header["EXTNAME"], file[0].header["EXTVER"]) == ("A", 2)

    @pytest.mark.parametrize("suffix", ["fz", "gz"])
    def test_compressed_files(self, data, tmp_path, suffix):
        source = data / "fits" / "m13.fits"
        path = tmp_path / f"m13.fits.{suffix}"
        if suffix == "fz":
            path.write_bytes((data / "fits" / "m13_rice.fits").read_bytes())
        else:
            header = fits.getheader(source)
            del header["CHECKSUM"], header["DATASUM"]  # of another file
            fits.writeto(path, fits.getdata(source), header)
        (outcome,) = run(path)
        run(source, out_dir=tmp_path / "plain")
        assert outcome.output.name == "m13.masks.fits"
        with fits.open(outcome.output) as file:
            image = file[1 if suffix == "fz" else 0]
            assert_array_equal(image.data, fits.getdata(tmp_path / "plain" / "m13.masks.fits"))
            assert image.header["INPUT0"].startswith(path.name)
            assert "EXTNAME" not in image.header
            assert "ZIMAGE" not in image.header

    def test_a_directory(self, exposure, tmp_path):
        for name in (
            "sub/deep/b.FTS",
            ".hidden/c.fits",
            "d.masks.fits",
            "d.masks3.fits.gz",
            "e.txt",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(exposure.read_bytes())
        outcomes = run(tmp_path, out_dir=tmp_path / "out")
        assert {outcome.output.relative_to(tmp_path / "out") for outcome in outcomes} == {
            Path("night.masks.fits"),
            Path("sub/deep/b.masks.fits"),
        }
        again = run(tmp_path, overwrite=True)
        assert len(again) == 2  # no masks of masks

    def test_names_that_only_look_like_those_of_masks(self, exposure):
        exposure.rename(exposure.with_name("survey.maskset.fits"))
        assert [one.output.name for one in run(exposure.parent)] == ["survey.maskset.masks.fits"]

    def test_a_file_that_is_called_like_an_hdu(self, exposure):
        (exposure.parent / "night.fits[1]").write_bytes(b"not this one")
        (outcome,) = run(exposure)
        assert fits.getdata(outcome.output, 1).shape == (2, 30, 41)

    def test_links_to_directories_are_not_followed(self, exposure, tmp_path):
        (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
        assert [one.source for one in run(tmp_path)] == [str(exposure)]

    def test_masks_that_are_a_link_to_themselves(self, exposure, tmp_path):
        (tmp_path / "a.fits").write_bytes(exposure.read_bytes())
        (tmp_path / "a.masks.fits").symlink_to("a.masks.fits")
        last = run([tmp_path / "a.fits", exposure])[-1]
        assert (last.source, last.error) == (str(exposure), None)

    def test_a_file_is_done_once_and_its_hdus_are_told_apart(self, exposure, tmp_path):
        link = tmp_path / "link" / "night.fits"
        link.parent.mkdir()
        link.symlink_to(exposure)
        out_dir = tmp_path / "out"
        assert [one.error for one in run([exposure, link], out_dir=out_dir)] == [None]
        first, second = run([f"{link}[A,2]", f"{exposure}[A_2]"], out_dir=out_dir)
        assert "are those of" in str(first.error)
        assert second.output == out_dir / "night.masksA_2.fits"

    def test_directories_that_cannot_be_read(self, exposure, tmp_path, monkeypatch):
        (tmp_path / "secret").mkdir()
        scandir = os.scandir

        def refusing(path):
            if str(path).endswith("secret"):
                raise PermissionError("Permission denied: 'secret'")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)
        refused, done = run([tmp_path, exposure])
        assert "cannot be accessed: Permission denied: 'secret'" in str(refused.error)
        assert done.error is None

    def test_what_cannot_be_done_is_said_and_the_rest_is_done(self, exposure, tmp_path):
        (tmp_path / "empty").mkdir()
        packed = tmp_path / "night.fits.fz"
        packed.write_bytes(exposure.read_bytes())
        fits.HDUList([fits.PrimaryHDU(), table()]).writeto(tmp_path / "table.fits")
        (tmp_path / "cut.fits").write_bytes(exposure.read_bytes()[:-2000])
        (tmp_path / "more.fits").write_bytes(exposure.read_bytes() + stored(exposure)[1][:900])
        expected = {
            tmp_path / "none.fits": "no such file",
            tmp_path / f"{300 * 'x'}.fits": "cannot be accessed",
            tmp_path / "empty": "must hold FITS files",
            tmp_path / "night.masks.fits": "name is that of masks",
            packed: "are those of .*night.fits",
            tmp_path / "table.fits": "an image of two dimensions",
            tmp_path / "cut.fits": "truncated",
            tmp_path / "more.fits": "follows HDU 5 cannot be read",
            f"{exposure}[4]": "must be an image of two dimensions",
            f"{exposure}[77]": "must be an image of two dimensions",
            f"{exposure}[B]": "must be an image of two dimensions",
        }
        (tmp_path / "night.masks.fits").touch()
        seen = []
        outcomes = run([exposure, exposure, *expected], overwrite=True, on_file=seen.append)
        assert outcomes == seen
        assert [one.source for one in outcomes if one.error is None] == [str(exposure)]
        errors = {one.source: one.error for one in outcomes if one.error is not None}
        assert errors.keys() == {str(path) for path in expected}
        for path, message in expected.items():
            with pytest.raises(InputError, match=message):
                raise errors[str(path)]

    def test_nothing_is_replaced_unless_asked_for(self, exposure):
        run(exposure)
        before = exposure.with_name("night.masks.fits").read_bytes()
        (outcome,) = run(exposure, single_mask=True)
        assert isinstance(outcome.error, OutputError)
        assert exposure.with_name("night.masks.fits").read_bytes() == before
        (outcome,) = run(exposure, single_mask=True, overwrite=True)
        assert fits.getdata(outcome.output, 1).ndim == 2

    def test_what_a_killed_run_left(self, exposure):
        command = [sys.executable, "-c", KILLED, str(exposure)]
        environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
        assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
        left = sorted(path.name for path in exposure.parent.iterdir())
        assert left == [".morpheus-map", "night.fits"]
        assert run(exposure)[0].error is None
        left = sorted(path.name for path in exposure.parent.iterdir())
        assert left == ["night.fits", "night.masks.fits"]

    def test_an_exposure_is_never_replaced(self, exposure):
        exposure.with_name("night.masks.fits").hardlink_to(exposure)
        before = exposure.read_bytes()
        (outcome,) = run(exposure, overwrite=True)
        with pytest.raises(OutputError, match="would replace the input"):
            raise outcome.error
        assert exposure.read_bytes() == before

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_an_interrupted_file_leaves_nothing(self, exposure, error):
        calls = []

        def model(batch):
            calls.append(None)
            if len(calls) == 20:  # in the second image
                raise error
            return brightness(batch)

        def run():
            return map_exposures(model, exposure, 2, 4, (8, 8), (4, 8), progress=False)

        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                run()
        else:
            assert isinstance(run()[0].error, ModelError)
        assert [path.name for path in exposure.parent.iterdir()] == ["night.fits"]


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"padding": "wrap"}, "padding must be one of"),
            ({"class_names": ["CR"]}, "class_names must be 2 strings"),
            ({"classes": ["DCL"]}, "classes must be some of CR, SKY"),
            ({"classes": []}, "classes must be some of CR, SKY"),
            ({"priors": [0.1, 0.2]}, "need each other"),
            ({"priors": [0.1, 0.2], "trained_priors": [0.1]}, "must be 2, one per class"),
            ({"priors": [0.1, 1.0], "trained_priors": [0.1, 0.2]}, "> 0 and < 1"),
            ({"thresholds": [0.1, 0.2, 0.3]}, "thresholds must be"),
            ({"thresholds": 50}, "thresholds must be >= 0 and <= 1, got 50"),
            ({"thresholds": [0.5, -0.1]}, "thresholds must be >= 0 and <= 1"),
            ({"priors": 0.1, "trained_priors": 0.5}, "must be 2, one per class, got 0.1"),
            ({"on_file": 3}, "on_file must be callable, got 3"),
            ({"thresholds": None, "single_mask": True}, "needs thresholds"),
            ({"threshold_rule": "<"}, "threshold_rule must be one of '>=', '>', got '<'"),
            ({"overwrite": "yes"}, "overwrite must be True or False"),
            ({"cpus": 1, "gpus": [0]}, "not both"),
        ],
    )
    def test_are_refused_before_any_work(self, exposure, options, message):
        with pytest.raises(InputError, match=message):
            run(exposure, **options)
        assert [path.name for path in exposure.parent.iterdir()] == ["night.fits"]

    @pytest.mark.parametrize("paths", [None, [], [3], b"a.fits", [b"a.fits"]])
    def test_paths_are_paths(self, paths):
        with pytest.raises(InputError, match="paths must be a path, or a list of at least one"):
            run(paths)


class TestCommand:
    ARGUMENTS = ("--model", f"{__name__}:make_model", "--class-names", "CR", "SKY", "--window")
    ARGUMENTS += ("8", "8", "--stride", "4", "4")

    def test_a_bad_file_is_named_at_the_end(self, exposure, capsys):
        bad = exposure.with_name("bad.fits")
        bad.write_bytes(b"nothing")
        assert main(["map", str(bad), str(exposure), *self.ARGUMENTS, "--single-mask"]) == 1
        assert fits.getdata(exposure.with_name("night.masks.fits"), 1).ndim == 2
        said = capsys.readouterr()
        assert "1 of 2 files have no masks" in said.err
        assert "bad.fits: it cannot be read as FITS" in said.err
        assert "Traceback" not in said.err
        assert said.out.splitlines()[0].endswith("bad.fits -> failed")
        assert main(["map", str(bad), *self.ARGUMENTS, "-v"]) == 1
        assert "Traceback" in capsys.readouterr().err

    @pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
    def test_names_that_a_terminal_cannot_write(self, exposure, monkeypatch, encoding):
        path = exposure.rename(exposure.with_name(os.fsdecode(b"n\xe9ght.fits")))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        assert main(["map", str(path), *self.ARGUMENTS]) == 0
        said = sys.stdout.buffer.getvalue().decode("ascii")
        assert said.endswith("n\\udce9ght.masks.fits\n")

    def test_files_of_classes(self, exposure):
        for name, lines in {
            "classes": "SKY 1\n\n# not wanted\nCR 0",
            "priors": "CR 0.1 # rare\nSKY 0.8",
            "trained": "SKY 0.5\nCR\t0.5",
            "thresholds": "SKY .25\nCR 1e-1",
        }.items():
            (exposure.parent / name).write_text(lines)
        options = [f"--{name}={exposure.parent / name}" for name in ("classes", "priors")]
        options += [f"--trained-priors={exposure.parent / 'trained'}", "--padding=edge"]
        options += [f"--thresholds={exposure.parent / 'thresholds'}", "--crop=2"]
        assert main(["map", str(exposure), *self.ARGUMENTS, *options]) == 0
        (expected,) = run(
            exposure,
            classes=["SKY"],
            priors=[0.1, 0.8],
            trained_priors=[0.5, 0.5],
            thresholds=[0.1, 0.25],
            padding="edge",
            update_map=update_maps.centre_crop((8, 8), 2),
            out_dir=exposure.parent / "expected",
        )
        header = fits.getheader(exposure.with_name("night.masks.fits"), 1)
        assert (header["CLASS0"], header["PRIOR0"], header["THRESH0"]) == ("SKY", 0.8, 0.25)
        assert_array_equal(
            fits.getdata(exposure.with_name("night.masks.fits"), 1),
            fits.getdata(expected.output, 1),
        )

    @pytest.mark.parametrize(
        ("option", "lines", "message"),
        [
            (
                "priors",
                "CR 0.1\n\nSKY 1.0",
                "line 3: a prior must be > 0 and < 1, got 1.0",
            ),
            ("priors", "CR 0.1\nBG 0.2", "file.txt, line 2: the class must be of CR, SKY, got BG"),
            ("priors", "CR 0.1\nCR 0.2", "file.txt, line 2: CR must be given once"),
            ("priors", "# all\nCR 0,1", "file.txt, line 2: the value must be a number, got 0,1"),
            (
                "thresholds",
                "CR nan",
                "line 1: a threshold must be >= 0 and <= 1, got nan",
            ),
            ("thresholds", "CR 0.3", "file.txt must give every class, got none of SKY"),
            ("classes", "CR yes", "file.txt, line 1: the value must be 0 or 1, got yes"),
            ("classes", "CR 1 2", "file.txt, line 1: a line must be a class and its value"),
            ("classes", "CR 0\nSKY 0", "file.txt must want at least one class"),
            ("classes", None, "file.txt cannot be read as a text file"),
        ],
    )
    def test_mistakes_in_files_of_classes(self, exposure, option, lines, message, capsys):
        path = exposure.with_name("file.txt")
        if lines is not None:
            path.write_text(lines)
        assert main(["map", str(exposure), *self.ARGUMENTS, f"--{option}", str(path)]) == 1
        assert message in capsys.readouterr().err
        assert not exposure.with_name("night.masks.fits").exists()

    def test_a_model_that_is_no_factory(self, exposure, capsys):
        arguments = ["map", str(exposure), "--model", "weights.h5", *self.ARGUMENTS[2:]]
        assert main(arguments) == 1
        assert "package.module:factory" in capsys.readouterr().err

    def test_help_has_an_example(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main(["map", "--help"])
        assert "morpheus-core map night1 --model" in capsys.readouterr().out


def test_scores_that_are_no_probabilities_make_no_masks(exposure):
    (outcome,) = map_exposures(
        lambda batch: np.concatenate([batch[0]] * 2, -1), exposure, 2, 8, (9, 9)
    )
    assert isinstance(outcome.error, ModelError)
    assert "probabilities, from 0 to 1, are needed, got means from" in str(outcome.error)
    assert not list(exposure.parent.glob("*.masks*"))


def test_a_directory_has_no_hdus(exposure):
    (outcome,) = map_exposures(brightness, f"{exposure.parent}[1]", 2, 8, (9, 9))
    assert "a directory has no HDUs" in str(outcome.error)


def bright(batch):
    return np.concatenate([batch[0] > 0, batch[0] <= 0], -1).astype("f4")


def dark(batch):
    return 1 - bright(batch)


class Stopping:
    """A model that is interrupted by Ctrl-C at the image whose first pixel is marked."""

    def __init__(self, flag, model=bright):
        self.flag, self.model = flag, model

    def __call__(self, batch):
        if self.flag.exists() and (batch[0] > 90).any():
            raise KeyboardInterrupt
        return self.model(batch)


class TestResume:
    @pytest.fixture
    def night(self, tmp_path):
        """Four files, of which the third is marked."""
        (tmp_path / "night").mkdir()
        random = np.random.default_rng(5)
        for name in "abcd":
            image = random.normal(size=(20, 20)).astype("f4")
            if name == "c":
                image[0, 0] = 99
            fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(
                tmp_path / "night" / f"{name}.fits"
            )
        (tmp_path / "flag").touch()
        return tmp_path / "night"

    @pytest.fixture
    def masks(self, night):
        return night.with_name("masks")

    def run(self, night, masks, model=bright, **options):
        options = {"out_dir": masks, "progress": False, **options}
        return map_exposures(model, night, 2, 8, (8, 8), (4, 4), **options)

    def interrupt(self, night, masks, model=bright, **options):
        with pytest.raises(KeyboardInterrupt) as caught:
            self.run(night, masks, Stopping(night.with_name("flag"), model), **options)
        night.with_name("flag").unlink()
        return "".join(caught.value.__notes__)

    def test_goes_on_behind_what_is_finished(self, night, masks):
        self.run(night, night.with_name("whole"))
        assert "resume=True continues" in self.interrupt(night, masks)
        names = sorted(path.name for path in masks.iterdir())
        assert names == [".morpheus-map", "a.masks.fits", "b.masks.fits"]
        before = (masks / "a.masks.fits").stat().st_mtime_ns
        seen = []
        outcomes = self.run(night, masks, resume=True, on_file=seen.append)
        assert [outcome.error for outcome in outcomes] == [None] * 4
        assert len(seen) == 4
        assert (masks / "a.masks.fits").stat().st_mtime_ns == before
        assert sorted(path.name[0] for path in masks.iterdir()) == ["a", "b", "c", "d"]
        for path in masks.iterdir():
            whole = fits.getdata(night.with_name("whole") / path.name)
            assert_array_equal(fits.getdata(path), whole)

    def test_a_file_that_has_changed_is_done_again(self, night, masks):
        self.interrupt(night, masks)
        before = (masks / "a.masks.fits").read_bytes()
        with fits.open(night / "a.fits", mode="update") as file:
            file[1].data *= -1
        assert [outcome.error for outcome in self.run(night, masks, resume=True)] == [None] * 4
        assert (masks / "a.masks.fits").read_bytes() != before

    @pytest.mark.parametrize("change", ["move", "touch"])
    def test_masks_that_are_not_as_they_were_written(self, night, masks, change):
        """They are made again if they are away, and never replaced."""
        self.interrupt(night, masks)
        path = masks / "a.masks.fits"
        if change == "move":
            before = fits.getdata(path)
            path.unlink()
        else:
            os.utime(path, (1, 1))
        first, *others = self.run(night, masks, resume=True)
        assert [outcome.error for outcome in others] == [None] * 3
        if change == "move":
            assert_array_equal(fits.getdata(path), before)
        else:
            with pytest.raises(OutputError, match="exists already"):
                raise first.error

    def test_failed_files_are_tried_again(self, night, masks):
        whole = (night / "b.fits").read_bytes()
        (night / "b.fits").write_bytes(whole[:-2000])
        errors = [outcome.error is None for outcome in self.run(night, masks)]
        assert errors == [True, False, True, True]
        (night / "b.fits").write_bytes(whole)
        assert [outcome.error for outcome in self.run(night, masks, resume=True)] == [None] * 4
        assert not (masks / ".morpheus-map").exists()

    def test_other_arguments_are_refused(self, night, masks):
        self.interrupt(night, masks)
        with pytest.raises(InputError, match="other stride"):
            map_exposures(bright, night, 2, 8, (8, 8), (8, 8), out_dir=masks, resume=True)
        with pytest.raises(OutputError, match="holds a run that was interrupted"):
            self.run(night, masks)

    @pytest.mark.parametrize("workers", [{}, {"cpus": 1}])
    def test_another_model_is_refused(self, night, masks, workers):
        self.interrupt(night, masks)
        with pytest.raises(MorpheusError, match="does not predict what it did"):
            self.run(night, masks, dark, resume=True, **workers)

    def test_needs_a_place(self, night):
        with pytest.raises(InputError, match="resume=True needs out_dir or work_dir"):
            self.run(night, None, resume=True)

    @pytest.mark.parametrize("name", ["precious.txt", "run/deep.txt"])
    def test_folders_of_others_stay(self, night, masks, tmp_path, name):
        path = tmp_path / "work" / "0" / name
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        with pytest.raises(OutputError, match="which is not of one"):
            self.run(night, masks, work_dir=tmp_path / "work")
        assert path.read_text() == "mine"

    def test_what_is_written_meanwhile_gets_no_masks(self, night, masks):
        def model(batch):
            if (batch[0] > 90).any():
                os.utime(night / "c.fits", (1, 1))
            return bright(batch)

        outcome = self.run(night, masks, model)[2]
        with pytest.raises(InputError, match="was written to while its masks were made"):
            raise outcome.error
        assert not (masks / "c.masks.fits").exists()


def test_names_that_differ_in_a_sign(tmp_path):
    for name in ("J12+10.fits", "J12-10.fits"):
        fits.writeto(tmp_path / name, np.ones((9, 9), "f4"))
    with ThreadPoolExecutor(1) as executor:
        outcomes = map_exposures(
            bright, tmp_path, 2, 8, (8, 8), out_dir=tmp_path / "out", executor=executor,
            progress=False,
        )  # fmt: skip
    assert [outcome.error for outcome in outcomes] == [None, None]


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_run(exposure, tmp_path):
    class Unloadable:
        def __setstate__(self, state):
            if os.getpid() != parent:
                raise RuntimeError("no such GPU")

        def __getstate__(self):
            return {"some": "state"}

        def __call__(self, batch):
            return bright(batch)

    parent = os.getpid()
    with pytest.raises(WorkerError, match="no such GPU"):
        map_exposures(
            Unloadable(), [exposure, f"{exposure}[1]"], 2, 8, (8, 8), (4, 4), cpus=2,
            out_dir=tmp_path / "out", progress=False,
        )  # fmt: skip


class TestProducts:
    @pytest.fixture
    def night(self, tmp_path):
        pixels = np.random.default_rng(3).random((40, 50), dtype=np.float32)
        hdus = [
            fits.PrimaryHDU(),
            fits.ImageHDU(pixels, name="SCI"),
            fits.BinTableHDU(name="LOG"),
            fits.ImageHDU(pixels[::-1]),
        ]
        fits.HDUList(hdus).writeto(tmp_path / "a.fits")
        return tmp_path

    def write(self, night, products, **options):
        def model(batch):
            return np.concatenate([batch[0], 1 - batch[0]], axis=-1)

        (outcome,) = map_exposures(
            model, night / "a.fits", 2, 8, (10, 10), stride=(5, 5), class_names=["star", "sky"],
            products=products, progress=False, **options,
        )  # fmt: skip
        if outcome.error is not None:
            raise outcome.error
        return model, outcome.output

    @pytest.mark.parametrize("dtype", ["float32", "uint8"])
    def test_take_the_place_of_images(self, night, dtype):
        wanted = ["class_map", "bits", "top", "n"]
        model, path = self.write(night, wanted, product_dtype=dtype)
        names = ["CLASS_MAP", "FLAGS", "TOP", "N"]
        with fits.open(path, checksum=True) as hdus, fits.open(night / "a.fits") as images:
            of_first = [f"SCI_{name}" for name in names]
            assert [hdu.name for hdu in hdus] == ["PRIMARY", *of_first, "LOG", *names]
            for index, places in ((1, range(1, 5)), (3, range(6, 10))):
                hduls, _ = predict(
                    model, np.array(images[index].data), 2, 8, (10, 10), stride=(5, 5),
                    aggregate_method="mean_var", products=wanted, product_dtype=dtype,
                    out_dir=night / f"run{index}", progress=False,
                )  # fmt: skip
                for place, hdu in zip(places, hduls[0][1:], strict=True):
                    np.testing.assert_array_equal(hdus[place].data, hdu.data)
                    assert hdus[place].header["PRODUCT"] == hdu.header["PRODUCT"]
                hduls[0].close()
            assert hdus["SCI_CLASS_MAP"].data.dtype == np.uint8
            assert hdus["SCI_CLASS_MAP"].header["CLASS0"] == "star"

    def test_of_a_single_hdu(self, night):
        path = map_exposures(
            lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1),
            f"{night / 'a.fits'}[SCI]", 2, 8, (10, 10), stride=(5, 5),
            products=["class_map", "mean"], progress=False,
        )[0].output  # fmt: skip
        names = ["SCI_CLASS_MAP", "SCI_CLASS_0_MEAN", "SCI_CLASS_1_MEAN"]
        with fits.open(path, checksum=True) as hdus:
            assert [hdu.name for hdu in hdus] == names

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"single_mask": True}, "products take the place of masks"),
            ({"classes": ["star"]}, "products take the place of masks"),
            ({"products": ["votes"]}, "needs aggregate_method='rank_vote'"),
        ],
    )
    def test_what_does_not_go_together(self, night, options, message):
        with pytest.raises(InputError, match=message):
            self.write(night, **{"products": ["top"], **options})
