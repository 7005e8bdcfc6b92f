"""Strips as jobs of their own, and what makes outputs of them."""

import json
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

import morpheus_core as package
from morpheus_core import InputError, ModelError, OutputError, cli, job_arrays, run_strip, stitch
from morpheus_core.workspace.completion import Completion
from morpheus_core.workspace.folders import Workspace

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)
MASK = np.zeros(IMAGE.shape, bool)
MASK[:31] = True
OPTIONS = {
    "n_classes": 2,
    "batch_size": 9,
    "window_shape": (10, 8),
    "stride": (2, 3),
    "aggregate_method": ["mean_var", "rank_vote"],
    "progress": False,
    "strips": 3,
}
#: What differs between two runs.
VARYING = {"DATE", "RUNID", "CHECKSUM"}


class Model:
    """Two classes; stops after so many windows, and counts them in a file."""

    def __init__(self, record, stop_at=None):
        self.record, self.stop_at = record, stop_at

    def __call__(self, batch):
        (windows,) = batch
        seen = json.loads(self.record.read_text()) if self.record.exists() else 0
        if seen == self.stop_at:
            self.record.write_text("0")
            raise RuntimeError("stopped here")
        self.record.write_text(json.dumps(seen + len(windows)))
        return np.concatenate([windows, 1 - windows], axis=-1)


def model_of_a_factory():
    return lambda batch: np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def begin(out_dir, model, inputs=IMAGE, **options):
    return package.predict(
        model, inputs, out_dir=out_dir, begin_only=True, **{**OPTIONS, **options}
    )


def finish(out_dir):
    for index in range(len(Workspace(out_dir).load().strips)):
        run_strip(out_dir, index, progress=False)
    return stitch(out_dir)


def contents(results):
    """Return the data of outputs, and their cards, and close them."""
    hduls, _ = results
    found = {}
    for hdul in hduls:
        path = hdul.filename()
        hdul.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(path, checksum=True) as hdul:
                cards = [tuple(c) for c in hdul[0].header.cards if c.keyword not in VARYING]
                found[path.rpartition("/")[2]] = hdul[0].data.tobytes(), cards
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": MASK},
        {"skip_blank": True},
        {"rows_apart": False},
        {"class_names": ["star", "sky"], "output_dtype": "float64"},
    ],
)
def test_files_are_those_of_one_process(tmp_path, options):
    record = tmp_path / "record"
    assert begin(tmp_path / "jobs", Model(record), **options) == ([], [])
    found = contents(finish(tmp_path / "jobs"))
    whole = package.predict(
        Model(record), IMAGE, out_dir=tmp_path / "whole", **{**OPTIONS, **options}
    )
    assert found == contents(whole)
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == sorted(found)


@pytest.mark.parametrize("kind", ["path", "HDU", "NDData"])
def test_headers_and_models_of_factories(tmp_path, kind):
    header = fits.Header({"CRVAL1": 10.0, "CRVAL2": -5.0, "CRPIX1": 3.0, "CRPIX2": 4.0})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1e-4, "CDELT2": 1e-4})
    fits.writeto(tmp_path / "image.fits", IMAGE, header)
    image = {
        "path": tmp_path / "image.fits",
        "HDU": fits.ImageHDU(IMAGE, header),
        "NDData": CCDData(IMAGE, wcs=WCS(header), unit="adu"),
    }[kind]
    model = f"{__name__}:{model_of_a_factory.__name__}"
    begin(tmp_path / "jobs", model, image)
    whole = package.predict(model, image, out_dir=tmp_path / "whole", **OPTIONS)
    assert contents(finish(tmp_path / "jobs")) == contents(whole)


def test_jobs_that_were_ended_go_on(tmp_path):
    """The middle strip has 90 windows; it stops after 72, again and again."""
    record, whole = tmp_path / "record", tmp_path / "whole"
    begin(tmp_path / "jobs", Model(record, stop_at=72))
    ends = 0
    for index in range(3):
        for _ in range(5):
            record.unlink(missing_ok=True)
            try:
                run_strip(tmp_path / "jobs", index, progress=False)
            except ModelError:
                ends += 1
            else:
                break
    assert ends == 2
    expected = package.predict(Model(whole), IMAGE, out_dir=tmp_path / "w", **OPTIONS)
    found, expected = contents(stitch(tmp_path / "jobs")), contents(expected)
    assert {name: data for name, (data, _) in found.items()} == {
        name: data for name, (data, _) in expected.items()
    }


def test_what_is_finished_is_not_run_again(tmp_path):
    record = tmp_path / "record"
    begin(tmp_path, Model(record))
    run_strip(tmp_path, 1, progress=False)
    record.unlink()
    run_strip(tmp_path, 1, progress=False)
    assert not record.exists()


def test_others_may_take_the_run_up(tmp_path):
    record = tmp_path / "record"
    begin(tmp_path / "jobs", Model(record))
    run_strip(tmp_path / "jobs", 0, progress=False)
    begin(tmp_path / "jobs", Model(record), resume=True)
    with pytest.raises(InputError, match="stride was"):
        begin(tmp_path / "jobs", Model(record), resume=True, stride=(3, 3))
    hduls, _ = package.predict(
        Model(record), IMAGE, out_dir=tmp_path / "jobs", resume=True, **OPTIONS
    )
    for hdul in hduls:
        hdul.close()
    with pytest.raises(OutputError, match="there is no run in"):
        stitch(tmp_path / "jobs")


def test_strips_that_are_missing_are_named(tmp_path):
    begin(tmp_path, Model(tmp_path / "record"), strips=6)
    run_strip(tmp_path, 1, progress=False)
    with pytest.raises(OutputError, match=r"5 strips of .* not finished: 0, 2, 3 and 2 more; run"):
        stitch(tmp_path)


def test_strips_of_shared_file_systems_are_waited_for(tmp_path, monkeypatch):
    begin(tmp_path, Model(tmp_path / "record"))
    for index in (0, 1):
        run_strip(tmp_path, index, progress=False)
    monkeypatch.setattr(job_arrays, "is_shared", lambda folder: True)

    def comes_true(condition, what, folder):
        assert not condition()
        run_strip(tmp_path, 2, progress=False)
        return condition()

    monkeypatch.setattr(job_arrays, "comes_true", comes_true)
    assert contents(stitch(tmp_path))


def test_damaged_strips_are_named_and_run_again(tmp_path, monkeypatch):
    begin(tmp_path / "jobs", Model(tmp_path / "record"))
    for index in range(3):
        run_strip(tmp_path / "jobs", index, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(Completion, "run", lambda self: [1])
        with pytest.raises(OutputError, match="of strips 1 does not read back"):
            stitch(tmp_path / "jobs")
    with pytest.raises(OutputError, match=r"1 strips of .* are not finished: 1;"):
        stitch(tmp_path / "jobs")
    assert contents(finish(tmp_path / "jobs"))


def test_stitching_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    begin(tmp_path, Model(tmp_path / "record"))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job_arrays, "hand_over", interrupt)
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path)
    run_strip(tmp_path, 0, progress=False)  # which has nothing to do
    assert len(contents(stitch(tmp_path))) == 3


@pytest.mark.parametrize("name", ["cpus", "gpus", "executor"])
def test_workers_are_refused(tmp_path, name):
    value = {"cpus": 2, "gpus": [], "executor": None}[name]
    if name == "executor":
        value = type("Executor", (), {"submit": lambda *_: None})()
    with pytest.raises(InputError, match=f"takes no {name}|gpus must"):
        begin(tmp_path, Model(tmp_path / "record"), **{name: value})
    assert not list(tmp_path.iterdir())


def test_runs_in_memory_are_refused(tmp_path):
    options = {**OPTIONS, "strips": None}
    with pytest.raises(InputError, match="begin_only=True needs out_dir"):
        package.predict(Model(tmp_path), IMAGE, begin_only=True, **options)


@pytest.mark.parametrize(
    ("strip", "message"),
    [(3, "must be less than 3, .* got 3"), (-1, "must be a whole number >= 0")],
)
def test_strips_that_there_are_not(tmp_path, strip, message):
    begin(tmp_path, Model(tmp_path / "record"))
    with pytest.raises(InputError, match=message):
        run_strip(tmp_path, strip)


@pytest.mark.parametrize("fail", [run_strip, lambda directory, _: stitch(directory)])
def test_there_must_be_a_run(tmp_path, fail):
    with pytest.raises(OutputError, match="there is no run in"):
        fail(tmp_path, 0)
    with pytest.raises(ModelError):  # which has stored nothing for others
        package.predict(Model(tmp_path / "r", 90), IMAGE, out_dir=tmp_path, **OPTIONS)
    with pytest.raises(OutputError, match="there is no run in"):
        fail(tmp_path, 0)


def test_other_versions_are_refused(tmp_path):
    begin(tmp_path, Model(tmp_path / "record"))
    path = tmp_path / "0" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": "0.1"}))
    with pytest.raises(InputError, match=r"begun by version 0\.1"):
        run_strip(tmp_path, 0)


def test_nothing_is_left_where_inputs_cannot_be_stored(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Workspace, "store_inputs", fail)
    with pytest.raises(OutputError, match="No space left"):
        begin(tmp_path / "jobs", Model(tmp_path / "record"))
    assert not list((tmp_path / "jobs").iterdir())


def test_commands(tmp_path, capsys, monkeypatch):
    (tmp_path / "bright.py").write_text("def make():\n    return lambda batch: batch[0]\n")
    fits.writeto(tmp_path / "image.fits", IMAGE)
    monkeypatch.chdir(tmp_path)
    line = "predict image.fits --model bright:make --n-classes 1 --window 10 --out-dir results "
    line += "--strips 2 --aggregate mean_var --stride 5 --batch-size 5 --begin-only"
    assert cli.main([*line.split(), "--planes", "planes.fits"]) == 1
    assert "--begin-only makes no results" in capsys.readouterr().err
    assert cli.main(line.split()) == 0
    assert capsys.readouterr().out == "2\n"
    for strip in "01":
        assert cli.main(["run-strip", "results", "--strip", strip, "--no-progress"]) == 0
    assert cli.main(["stitch", "results"]) == 0
    assert "results/n.fits  N  (60, 30)" in capsys.readouterr().out
