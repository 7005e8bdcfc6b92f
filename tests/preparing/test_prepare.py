"""``prepare=``: what is done to whole images before windows are cut of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from morpheus_core import InputError, map_exposures, plan, predict, preparing
from morpheus_core.cli import main
from morpheus_core.images.image import ArrayImage
from morpheus_core.images.preparing_steps import ImageRows
from morpheus_core.pipeline.descriptions import model_name

IMAGE = np.random.default_rng(4).normal(200, 9, (83, 61)).astype(np.float32)
OTHER = np.random.default_rng(5).integers(0, 60000, IMAGE.shape).astype(np.uint16)
READY = [
    preparing.MeshBackground(box=16),
    preparing.MeshBackground(box=(20, 9), smoothing=1, divide=False),
    preparing.GlobalMedian(),
    preparing.GlobalMedian(divide=False),
    preparing.Percentiles(5, 90),
    preparing.Percentiles(clip=False),
]


def first_image(batch):
    """Return the pixels themselves, so that results tell what the model has seen."""
    return batch[0][..., 0].astype(np.float32)  # of which sums are exact


def run(inputs, prepare, **options):
    settings = {
        "stride": (5, 4), "aggregate_method": "mean_var", "progress": False,
        "output_dtype": "float64", "on_nan": "ignore", **options,
    }  # fmt: skip
    model = settings.pop("model", first_image)
    hdus, arrays = predict(model, inputs, 1, 8, (10, 9), prepare=prepare, **settings)
    copied = [np.array(array) for array in arrays]
    headers = [hdul[0].header.copy() for hdul in hdus]
    for hdul in hdus:
        hdul.close()
    return copied, headers


def seen(inputs, prepare, **options):
    return run(inputs, prepare, **options)[0][0][..., 0, 0]


@dataclass(frozen=True)
class ByMean:
    """Subtracts the mean of the whole image, and the number of the row."""

    factor: float = 1.0

    def fit(self, rows):
        count, total = 0, 0.0
        for block in rows:
            assert block.flags.c_contiguous
            assert block.dtype.isnative
            assert block.shape[1:] == rows.shape[1:]
            count, total = count + block.size, total + block.sum(dtype=np.float64)
        assert count == np.prod(rows.shape)
        return total / count

    def apply(self, rows, first_row, state):
        numbers = np.arange(first_row, first_row + len(rows)).reshape(-1, 1, 1)
        return self.factor * (rows - state) - numbers


def by_mean(image):
    """Do the same with a whole image."""
    return image - image.mean(dtype=np.float64) - np.arange(len(image)).reshape(-1, 1)


BY_MEAN = by_mean(IMAGE).astype(np.float32)


@pytest.mark.parametrize("prepare", [ByMean(), by_mean])
def test_model_sees_prepared_pixels(prepare):
    np.testing.assert_allclose(seen(IMAGE, prepare), BY_MEAN, rtol=0, atol=1e-10)


def test_arrays_of_the_user_stay_as_they_are():
    def spoils(image):
        image[:] = 0
        return image

    class Spoils(ByMean):
        def apply(self, rows, first_row, state):
            rows[:] = 0
            return rows

    image = IMAGE.copy()
    for prepare in (spoils, Spoils()):
        assert (seen(image, prepare) == 0).all()
        assert_array_equal(image, IMAGE)


@pytest.fixture(params=[*READY, ByMean(), by_mean], ids=model_name)
def prepare(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    """An image that is big-endian, and larger than one block of rows."""
    fits.writeto(tmp_path / "image.fits", IMAGE, fits.Header({"OBJECT": "M 13"}))
    return tmp_path / "image.fits"


class TestSameBytes:
    def test_strips(self, prepare, path, tmp_path):
        alone = run(IMAGE, prepare)[0]
        strips = run(path, prepare, strips=4, out_dir=tmp_path / "out")[0]
        for one, other in zip(alone, strips, strict=True):
            assert_array_equal(one, other)

    def test_executors(self, prepare, path, tmp_path):
        with ThreadPoolExecutor(2) as executor:
            several = run(path, prepare, executor=executor, strips=3, out_dir=tmp_path / "out")[0]
        assert_array_equal(several[0], run(IMAGE, prepare)[0][0])

    def test_blocks_of_whatever_height(self, prepare, monkeypatch):
        expected = seen(IMAGE, prepare)
        monkeypatch.setattr("morpheus_core.images.preparing_steps.BLOCK_BYTES", 1000)
        np.testing.assert_allclose(seen(IMAGE, prepare), expected, rtol=0, atol=1e-9)
        monkeypatch.setattr("morpheus_core.pipeline.slabs.SlabReader._READ_BYTES", 1)
        np.testing.assert_allclose(seen(IMAGE, prepare), expected, rtol=0, atol=1e-9)

    @pytest.mark.slow
    def test_workers(self, prepare, path, tmp_path):
        workers = run([path, OTHER], [prepare, None], cpus=2, out_dir=tmp_path / "out")[0]
        for one, other in zip(run([IMAGE, OTHER], [prepare, None])[0], workers, strict=True):
            assert_array_equal(one, other)


class TestResume:
    def interrupted(self, inputs, prepare, out_dir):
        def fails(batch):
            fails.calls += 1
            if fails.calls == 8:
                raise RuntimeError("enough")
            return first_image(batch)

        fails.calls = 0
        with pytest.raises(RuntimeError, match="enough") as caught:
            run(inputs, prepare, model=fails, out_dir=out_dir)
        assert any("resume=True" in note for note in caught.value.__notes__)

    def test_gives_the_same(self, prepare, path, tmp_path):
        self.interrupted(path, prepare, tmp_path / "out")
        resumed = run(path, prepare, resume=True, out_dir=tmp_path / "out")[0]
        for one, other in zip(run(path, prepare)[0], resumed, strict=True):
            assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            (preparing.GlobalMedian(), None, r"GlobalMedian\(divide=True\) .* is not prepared"),
            (None, ByMean(), "was not prepared, is prepared by .*ByMean"),
            (preparing.Percentiles(1), preparing.Percentiles(2), r"low=1.* is prepared .*low=2"),
            (ByMean(1), ByMean(2), "ByMean"),
            (by_mean, lambda image: image, "was prepared by .*by_mean .* is prepared by .*lambda"),
        ],
    )
    def test_refuses_another_preparation(self, path, tmp_path, before, after, message):
        self.interrupted(path, before, tmp_path / "out")
        with pytest.raises(InputError, match=rf"model_inputs\[0\] .*{message}"):
            run(path, after, resume=True, out_dir=tmp_path / "out")

    def test_refuses_another_state(self, path, tmp_path):
        class Chance(ByMean):
            def fit(self, rows):
                return next(chances)

        chances = iter([1.0, 2.0])
        self.interrupted(path, Chance(), tmp_path / "out")
        with pytest.raises(InputError, match="Chance"):
            run(path, Chance(), resume=True, out_dir=tmp_path / "out")


def test_several_inputs_have_a_step_each_or_one_for_all():
    def second_image(batch):
        return batch[1][..., 0].astype(np.float64)

    alone = seen(OTHER, preparing.GlobalMedian())
    for prepare in (preparing.GlobalMedian(), [None, preparing.GlobalMedian()]):
        assert_array_equal(seen([IMAGE, OTHER], prepare, model=second_image), alone)
    left = seen([IMAGE, OTHER], [preparing.GlobalMedian(), None], model=second_image)
    assert_array_equal(left, seen(OTHER, None))


def test_bands_and_functions_of_cubes():
    cube = np.stack([IMAGE, 3 * IMAGE, OTHER], axis=-1)

    def last_band(batch):
        return batch[0][..., -1].astype(np.float64)

    alone = seen(OTHER, preparing.MeshBackground(16))
    together = seen(cube, preparing.MeshBackground(16), model=last_band)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    shapes = []

    def function(image):
        shapes.append(image.shape)
        return image

    seen(cube, function)
    seen(np.moveaxis(cube, -1, 0), function, bands="first")
    seen(IMAGE, function)
    assert shapes == [cube.shape, cube.shape, IMAGE.shape]


def test_masks_are_of_the_image_as_it_was_given(tmp_path):
    mask = np.zeros(IMAGE.shape, np.uint8)
    mask[20:30, 5:50] = 1
    mean, n = run(IMAGE, by_mean, mask=mask)[0]
    assert (n[mask == 1] == 0).all()
    assert np.isnan(mean[mask == 1]).all()
    np.testing.assert_allclose(mean[mask == 0][..., 0, 0], BY_MEAN[mask == 0], atol=1e-10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", READY, ids=model_name)
def test_pixels_that_are_not_finite_count_for_nothing(step, value):
    image = IMAGE.copy()
    image[30:34, 11:15] = value
    with np.errstate(invalid="ignore"):
        bad = seen(image, step)
    good = seen(np.where(np.isfinite(image), image, 200), step)
    clear = np.ones(IMAGE.shape, bool)
    clear[30:34, 11:15] = False
    assert np.isfinite(bad[clear]).all()
    assert abs(bad[clear] - good[clear]).max() < (0.6 if getattr(step, "divide", True) else 5)
    clips = getattr(step, "clip", False) is True and np.isinf(value)
    assert np.isfinite(bad[~clear]).all() == clips


def test_blank_windows_are_those_of_prepared_pixels():
    image = np.full(IMAGE.shape, np.nan, np.float32)
    shown = seen(image, np.nan_to_num, skip_blank=True)
    assert (shown == 0).all()


def test_headers_and_records_name_the_step_and_the_file(path, tmp_path):
    _, (header, _) = run(path, READY[0], out_dir=tmp_path / "out")
    assert header["PREPARE0"].startswith("MeshBackground(box=16, clip=3.0")
    assert header["INPUT0"] == "image.fits"
    assert header["OBJECT"] == "M 13"
    _, (header, _) = run([path, IMAGE], [None, by_mean], out_dir=tmp_path / "second")
    assert "PREPARE0" not in header
    assert header["PREPARE1"].endswith("by_mean")


def test_what_cannot_be_used_is_refused_before_the_image_is_read(tmp_path):
    class Counted:
        shape, dtype, read = IMAGE.shape, IMAGE.dtype, 0

        def __getitem__(self, rows):
            Counted.read += 1
            return IMAGE[rows]

    (tmp_path / "output.fits").touch()
    with pytest.raises(OSError, match="exists"):
        run(Counted(), ByMean(), out_dir=tmp_path)
    assert Counted.read == 1  # its first row, as of any image that is sliced lazily
    for prepare, message in (
        (3, r"must have methods fit\(rows\) and apply"),
        ("median", "got 'median'; morpheus_core.preparing has some"),
        (preparing.GlobalMedian, r"call it, prepare=GlobalMedian\(\)"),
        ([ByMean(), ByMean()], "each of the 1 images, got 2"),
    ):
        with pytest.raises(InputError, match=message):
            run(Counted(), prepare)
        with pytest.raises(InputError, match=message):
            plan(first_image, Counted(), 1, 8, (10, 9), prepare=prepare)
    assert Counted.read == 1


class Broken(ByMean):
    """Returns whatever its maker wants."""

    def __init__(self, apply, fit=lambda rows: 0):
        object.__setattr__(self, "applied", apply)
        object.__setattr__(self, "fit", fit)

    def apply(self, rows, first_row, state):
        return self.applied(rows)


def fails(_):
    raise KeyError("no such star")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (fails, "prepare=.*fails failed on .*: KeyError: 'no such star'"),
        (Broken(fails), "Broken failed on .*KeyError"),
        (Broken(None, fails), "Broken failed on .*KeyError"),
        (lambda image: image[:-1], r"must return the shape that it is given, \(83, 61\), got"),
        (Broken(lambda rows: rows[..., 0]), r"apply of .* must return the shape"),
        (lambda image: image.astype(complex), "real numbers"),
        (lambda image: np.ma.masked_less(image, 0), "plain arrays, got a masked one"),
        (Broken(lambda rows: rows - rows.mean()), "another row 1 .* must be found by fit"),
    ],
)
def test_steps_that_do_not_work(prepare, message):
    with pytest.raises(InputError, match=message):
        seen(IMAGE, prepare)


def test_steps_that_change_the_dtype_on_the_way():
    step = Broken(lambda rows: rows.astype(np.float64) if len(rows) > 40 else rows)
    with pytest.raises(InputError, match="must return the same dtype for all rows"):
        seen(IMAGE, step)


def test_steps_that_cannot_be_sent_are_refused_before_anything_is_made(tmp_path):
    waiting = (number for number in range(3))  # no generator can be pickled
    step = Broken(lambda rows: rows + next(waiting))
    with pytest.raises(InputError, match=r"the step of prepare=.*Broken cannot be pickled"):
        run(IMAGE, step, cpus=2, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_plan_says_what_preparing_takes(path, tmp_path):
    options = {"stride": (5, 4), "out_dir": tmp_path / "out", "aggregate_method": "mean_var"}
    forecast = plan(first_image, path, 1, 8, (10, 9), prepare=by_mean, **options)
    assert forecast.prepared_bytes == IMAGE.size * 8
    assert "preparing 39.6 KiB kept, once" in str(forecast)
    stepped = plan(first_image, path, 1, 8, (10, 9), prepare=ByMean(), **options)
    assert stepped.prepared_bytes == 0
    assert stepped.preparing_seconds > 0
    plain = plan(first_image, path, 1, 8, (10, 9), **options)
    assert plain.preparing_seconds == 0
    assert "preparing" not in str(plain)


class TestExposures:
    @pytest.fixture
    def night(self, tmp_path):
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(IMAGE), fits.ImageHDU(OTHER[:40])]
        fits.HDUList(hdus).writeto(tmp_path / "night.fits")
        return tmp_path / "night.fits"

    def masks(self, night, prepare, **options):
        options = {"out_dir": night.parent / "out", "progress": False, **options}
        (outcome,) = map_exposures(
            above_zero, night, 1, 8, (10, 9), (5, 4), prepare=prepare, thresholds=0.5,
            on_nan="ignore", **options,
        )  # fmt: skip
        if outcome.error is not None:
            raise outcome.error
        with fits.open(outcome.output) as file:
            return [hdu.data.copy() for hdu in file[1:]], file[1].header

    def test_each_image_is_prepared_by_itself(self, night):
        masks, header = self.masks(night, preparing.GlobalMedian())
        for mask, image in zip(masks, (IMAGE, OTHER[:40]), strict=True):
            expected = seen(image, preparing.GlobalMedian(), model=above_zero) >= 0.5
            assert_array_equal(mask[0], expected)
            assert 0.3 < mask.mean() < 0.7
        assert header["PREPARE0"] == "GlobalMedian(divide=True)"
        assert header["INPUT0"] == "night.fits[1]"

    @pytest.mark.slow
    @pytest.mark.parametrize("prepare", [preparing.MeshBackground(16), by_mean], ids=model_name)
    def test_workers_write_the_same(self, night, prepare):
        alone, _ = self.masks(night, prepare)
        workers, _ = self.masks(night, prepare, cpus=2, out_dir=night.parent / "two")
        for one, other in zip(alone, workers, strict=True):
            assert_array_equal(one, other)

    def test_what_a_step_raises_is_in_the_outcome(self, night):
        with pytest.raises(InputError, match=r"night.fits\[1\].*: prepare=.*fails failed"):
            self.masks(night, fails)

    def test_refuses_what_is_no_step(self, night):
        with pytest.raises(InputError, match="must have methods fit"):
            map_exposures(above_zero, night, 1, 8, (10, 9), (5, 4), prepare="median")

    def test_resume_refuses_another_step(self, night):
        with pytest.raises(InputError, match="failed"):
            self.masks(night, fails)
        with pytest.raises(InputError, match="other prepare"):
            self.masks(night, preparing.GlobalMedian(), resume=True)


def above_zero(batch):
    return (batch[0][..., 0] > 0).astype(np.float64)


class TestCommandLine:
    @pytest.fixture
    def words(self, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("steps_of_tests.py").write_text(
            "import numpy as np\n\ndef make():\n    return lambda batch: batch[0][..., 0]\n\n"
            "def half(image):\n    return image / 2\n\n"
            "class Half:\n    def fit(self, rows):\n        return None\n\n"
            "    def apply(self, rows, first_row, state):\n        return rows / 2\n"
        )
        words = ["predict", "image.fits", "--model", "steps_of_tests:make", "--n-classes", "1"]
        words += ["--window", "10", "9", "--stride", "5", "4", "--aggregate", "mean_var"]
        return [*words, "--output-dtype", "float64", "--out-dir", "out", "--no-progress"]

    @pytest.mark.parametrize(
        ("named", "step"),
        [
            ("mesh", preparing.MeshBackground()),
            ("mesh 16", preparing.MeshBackground(16)),
            ("median", preparing.GlobalMedian()),
            ("percentiles", preparing.Percentiles()),
            ("percentiles 0.5 99.5", preparing.Percentiles(0.5, 99.5)),
            ("steps_of_tests:half", lambda image: image / 2),
            ("steps_of_tests:Half", lambda image: image / 2),
        ],
    )
    def test_steps_by_name(self, words, named, step):
        assert main([*words, "--prepare", *named.split()]) == 0
        assert_array_equal(fits.getdata("out/output.fits")[..., 0, 0], seen(IMAGE, step))
        record = json.loads(Path("out/run.json").read_text())
        assert record["arguments"]["--prepare"] == named.split()
        assert list(record["inputs"]) == ["image.fits"]

    @pytest.mark.parametrize(
        ("named", "message"),
        [
            ("mode", "--prepare must be mesh box, median, percentiles low high or module:name"),
            ("percentiles 1", "got percentiles 1"),
            ("mesh wide", "must have numbers behind its name, got wide"),
            ("steps_of_tests:none", "cannot be used: AttributeError"),
            ("percentiles 9 1", "percentages in order"),
        ],
    )
    def test_other_names_are_refused(self, words, capsys, named, message):
        assert main([*words, "--prepare", *named.split()]) == 1
        assert message in capsys.readouterr().err
        assert not Path("out").exists()


@settings(max_examples=20)
@given(st.integers(1, 90), st.integers(1, 70), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_rows_have_the_same_bits_whatever_rows_they_come_with(height, width, split, seed):
    image = np.random.default_rng(seed).normal(50, 5, (height, width, 2))
    step = preparing.MeshBackground(box=13)
    state = step.fit(ImageRows(ArrayImage(image, "image")))
    whole = step.apply(image.copy(), 0, state)
    pieces = [(first, image[first : first + split]) for first in range(0, height, split)]
    parts = [step.apply(piece.copy(), first, state) for first, piece in pieces]
    assert_array_equal(np.concatenate(parts), whole)
