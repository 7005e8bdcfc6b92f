"""Runs of catalogues that are interrupted, resumed, and done by other processes."""

import contextlib
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table
from astropy.wcs import WCS
from numpy.testing import assert_array_equal

from morpheus_core import (
    InputError,
    ModelError,
    MorpheusWarning,
    OutputError,
    WorkerError,
    predict_catalog,
)
from morpheus_core.catalogs.records import RecordFile, bring_together, read_records, record_type
from morpheus_core.catalogs.tables import write_table
from morpheus_core.catalogs.work import blocks_of
from morpheus_core.storage.locks import is_held

IMAGE = np.random.default_rng(1).normal(size=(300, 200)).astype("f4")
CATALOG = Table(np.random.default_rng(2).uniform(5, 190, (500, 2)), names=["x", "y"])
ARGUMENTS = (CATALOG, 1, 16, (5, 6))
DTYPE = record_type([("values", "float32", (2,))])


def total(batch):
    return batch[0].sum(axis=(1, 2), dtype="f8")


def first(batch):
    return batch[0][:, 0, 0, 0]


class Stopping:
    """Sums windows; fails once at a call, and counts the windows it has seen."""

    def __init__(self, calls):
        self.calls, self.windows = calls, 0

    def __call__(self, batch):
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        self.windows += len(batch[0])
        return total(batch)


class Flagged:
    """Fails after some batches as long as there is a flag."""

    def __init__(self, flag):
        self.flag, self.calls = flag, 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls > 2 and self.flag.exists():
            raise ValueError("there is a flag")
        return total(batch)


@pytest.fixture
def path(tmp_path):
    fits.writeto(tmp_path / "image.fits", IMAGE)
    return tmp_path / "image.fits"


@pytest.fixture
def expected():
    return np.array(run(IMAGE)["class_0"])


def run(image, model=total, **options):
    return predict_catalog(model, image, *ARGUMENTS, progress=False, **options)


def interrupted(path, calls=9, **options):
    """Interrupt a run after some calls of the model."""
    with pytest.raises(KeyboardInterrupt) as caught:
        run(path, Stopping(calls), out=path.with_name("out.csv"), **options)
    return caught.value


def test_the_order_of_rows_does_not_matter(expected):
    order = np.random.default_rng(3).permutation(len(CATALOG))
    table = predict_catalog(total, IMAGE, CATALOG[order], *ARGUMENTS[1:], progress=False)
    assert_array_equal(table["class_0"], expected[order])


def test_children_do_not_keep_the_records(tmp_path):
    with RecordFile(tmp_path / "records", DTYPE):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
    try:
        assert not is_held(tmp_path / "records")
    finally:
        child.kill()
        child.join()


def test_workers_share_no_set_of_images():
    rows = np.zeros(20, [("set", np.int64)])
    rows["set"] = np.sort(np.arange(20) % 7)
    blocks = blocks_of(rows, 3)
    assert len(blocks) == 3
    sets = [{*block["set"].tolist()} for block in blocks]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 7


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        ("array", 1),
        pytest.param("file", 3, marks=pytest.mark.slow),
    ],
)
def test_workers_give_what_one_process_gives(path, expected, kind, n, caplog):
    out = path.with_name("out.csv")
    table = run(path if kind == "file" else IMAGE, cpus=n, out=out)
    assert_array_equal(table["class_0"], expected)
    assert_array_equal(Table.read(out)["class_0"].astype("f4"), expected)
    assert {file.name for file in path.parent.iterdir()} == {"image.fits", "out.csv"}
    assert not caplog.records


@pytest.mark.slow
def test_workers_share_files_of_each_row(tmp_path):
    for number in range(6):
        fits.writeto(tmp_path / f"{number}.fits", np.full((20, 20), number, "f4"))
    catalog = Table({"number": np.arange(40) % 7, "x": np.full(40, 9), "y": np.full(40, 9)})
    with pytest.warns(MorpheusWarning, match="5 missing file"):
        table = predict_catalog(
            total, str(tmp_path / "{number}.fits"), catalog, 1, 4, (1, 1), cpus=2,
            work_dir=tmp_path / "work", progress=False,
        )  # fmt: skip
    assert_array_equal(
        table["class_0"], np.where(catalog["number"] == 6, np.nan, catalog["number"])
    )
    assert not (tmp_path / "work").exists()


def header(shift=0):
    """Return world coordinates in which the middle of the image is at (10, 20)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (10, 20)
    wcs.wcs.cdelt, wcs.wcs.crpix = (-1e-4, 1e-4), (100 + shift, 150)
    return wcs.to_header()


class TestWorkersKnowTheWorldCoordinates:
    """Those of the image as it was passed; its copy has none, and its file may have others."""

    catalog = Table({"ra": [10.0, 10.001, 10.002], "dec": [20.0, 20.004, 19.99]})

    def check(self, image, tmp_path):
        one, several = (
            predict_catalog(first, image, self.catalog, 1, 4, (5, 6), progress=False, **options)
            for options in ({}, {"cpus": 2, "work_dir": tmp_path / "work"})
        )
        assert [*one["status"]] == ["ok"] * 3
        assert_array_equal(several["class_0"], one["class_0"])

    @pytest.mark.slow
    def test_of_images_in_memory(self, tmp_path):
        self.check(NDData(IMAGE, wcs=WCS(header())), tmp_path)

    @pytest.mark.slow
    def test_of_bands_that_are_the_last_axis(self, tmp_path):
        cards = WCS(header()).sub([0, 1, 2]).to_header()
        self.check(fits.ImageHDU(np.stack([IMAGE, -IMAGE], axis=-1), cards), tmp_path)

    @pytest.mark.parametrize("loaded", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_of_headers_that_were_changed(self, tmp_path, loaded):
        fits.writeto(tmp_path / "image.fits", IMAGE, header())
        with fits.open(tmp_path / "image.fits") as hdus:
            assert not loaded or hdus[0].data is not None
            hdus[0].header["CRPIX1"] += 7
            self.check(hdus[0], tmp_path)


class TestInterruptedRuns:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({}, {"cpus": 2}),
            pytest.param({"cpus": 2}, {}, marks=pytest.mark.slow),
        ],
    )
    def test_go_on(self, path, expected, first, second):
        if first:
            with pytest.raises(WorkerError, match="KeyboardInterrupt"):
                run(path, Stopping(9), out=path.with_name("out.csv"), **first)
        else:
            interrupted(path)
        table = run(path, out=path.with_name("out.csv"), resume=True, **second)
        assert_array_equal(table["class_0"], expected)
        assert not path.with_name("out.csv.morpheus").exists()

    def test_lose_no_finished_row(self, path, expected):
        note = interrupted(path, 9).__notes__[0]
        assert "resume=True continues" in note
        model = Stopping(-1)
        table = run(path, model, out=path.with_name("out.csv"), resume=True)
        assert_array_equal(table["class_0"], expected)
        assert model.windows == 500 - 9 * 16 + 16  # once more the first batch, to know the model

    def test_survive_a_kill(self, path, expected):
        code = """if True:
            import sys, time
            from test_catalog_runs import predict_catalog, total, ARGUMENTS
            calls = []
            def slow(batch):
                calls.append(1)
                time.sleep(0.05 if len(calls) < 11 else 600)
                return total(batch)
            predict_catalog(slow, sys.argv[1], *ARGUMENTS, out=sys.argv[2], progress=False)
        """
        out = path.with_name("out.csv")
        records = path.with_name("out.csv.morpheus") / "0" / "records"
        search = os.pathsep.join([os.environ.get("PYTHONPATH", ""), os.path.dirname(__file__)])  # noqa: PTH120
        process = subprocess.Popen(
            [sys.executable, "-c", code, path, out], env={**os.environ, "PYTHONPATH": search}
        )
        deadline = time.monotonic() + 60
        while not (records.exists() and records.stat().st_size > 500):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
        model = Stopping(-1)
        assert_array_equal(run(path, model, out=out, resume=True)["class_0"], expected)
        assert model.windows < 500

    def test_are_not_begun_anew_by_accident(self, path):
        interrupted(path)
        with pytest.raises(OutputError, match="a new run needs the place of"):
            run(path, out=path.with_name("out.csv"))

    def test_that_were_killed_at_their_very_beginning(self, path, expected):
        folder = path.parent / "work" / "0"
        folder.mkdir(parents=True)
        (folder / "files.npy").touch()
        assert_array_equal(run(path, work_dir=folder.parent)["class_0"], expected)
        assert not folder.parent.exists()

    @pytest.mark.parametrize("number", [1, 7])
    def test_folders_with_a_number_are_in_the_way(self, path, number):
        """Records of another run would be taken for those of this one, and files lost."""
        folder = path.parent / "work" / str(number)
        folder.mkdir(parents=True)
        (folder / "mine.txt").write_text("precious")
        for resume in (False, True):
            with pytest.raises(OutputError, match=f"needs the place of .* it holds {number};"):
                run(path, work_dir=folder.parent, resume=resume)
        assert (folder / "mine.txt").read_text() == "precious"

    def test_leave_folders_alone_that_are_not_theirs(self, path, tmp_path):
        work = tmp_path / "work"
        (work / "2021").mkdir(parents=True)
        (work / "7").mkdir()
        (work / "7" / "log").write_text("mine")
        run(path, work_dir=work)
        assert (work / "7" / "log").read_text() == "mine"
        assert (work / "2021").is_dir()
        assert not (work / "0").exists()

    def test_leave_folders_alone_that_appear_meanwhile(self, path):
        """A worker would write there, and the folder be removed at the end."""
        interrupted(path)
        work = path.with_name("out.csv.morpheus")
        (work / "1").mkdir()
        (work / "1" / "mine.txt").write_text("precious")
        with pytest.raises(OutputError, match="it holds 1;"):
            run(path, out=path.with_name("out.csv"), resume=True, cpus=2)
        assert (work / "1" / "mine.txt").read_text() == "precious"

    def test_are_held_until_the_table_is_written(self, path, monkeypatch):
        out = path.with_name("out.csv")
        messages = []

        def write(*arguments):
            with pytest.raises(OutputError, match="another process is running") as caught:
                run(path, work_dir=path.with_name("out.csv.morpheus"), resume=True)
            messages.append(str(caught.value))
            write_table(*arguments)

        monkeypatch.setattr("morpheus_core.catalogs.prediction.write_table", write)
        run(path, out=out)
        assert len(messages) == 1
        assert {file.name for file in path.parent.iterdir()} == {"image.fits", "out.csv"}

    def test_need_the_same_model(self, path):
        interrupted(path)
        with pytest.raises(ModelError, match="does not predict what it did"):
            run(path, lambda batch: 2 * total(batch), out=path.with_name("out.csv"), resume=True)

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ({"edges": "skip"}, r'edges \("skip" in place of "shift"\)'),
            (
                {"columns": ["entropy"]},
                r'columns \(\["entropy"\] in place of \["class_0"\]\), derived',
            ),
            ({"output_dtype": "float64"}, r'output_dtype \("float64" in place of "float32"\)'),
        ],
    )
    def test_need_the_same_arguments(self, path, options, names):
        interrupted(path)
        with pytest.raises(InputError, match=f"got other {names}; give those"):
            run(path, out=path.with_name("out.csv"), resume=True, **options)

    def test_need_the_same_inputs_and_catalogue(self, path):
        interrupted(path)
        out = path.with_name("out.csv")
        with pytest.raises(InputError, match="got other catalog"):
            predict_catalog(total, path, CATALOG[1:], 1, 16, (5, 6), out=out, resume=True)
        os.utime(path, (1, 1))
        with pytest.raises(InputError, match="got other model_inputs"):
            run(path, out=out, resume=True)

    def test_need_the_same_world_coordinates(self, tmp_path):
        arguments = (Table({"ra": [10.0] * 3, "dec": [20.0] * 3}), 1, 1, (5, 6))
        options = {"work_dir": tmp_path / "work", "progress": False}
        with pytest.raises(KeyboardInterrupt):
            predict_catalog(Stopping(1), fits.ImageHDU(IMAGE, header()), *arguments, **options)
        other = fits.ImageHDU(IMAGE, header(shift=1))
        with pytest.raises(InputError, match="got other world_coordinates;"):
            predict_catalog(total, other, *arguments, **options, resume=True)

    def test_try_missing_files_again(self, tmp_path):
        catalog = Table({"n": [0, 1], "x": [4, 4], "y": [4, 4]})
        arguments = (str(tmp_path / "{n}.fits"), catalog, 1, 1, (3, 3))
        options = {"work_dir": tmp_path / "work", "progress": False}
        fits.writeto(tmp_path / "1.fits", IMAGE)
        with pytest.raises(KeyboardInterrupt):
            predict_catalog(Stopping(0), *arguments, **options)
        fits.writeto(tmp_path / "0.fits", IMAGE)
        table = predict_catalog(total, *arguments, **options, resume=True)
        assert [*table["status"]] == ["ok", "ok"]

    def test_try_again_what_could_not_be_read(self, tmp_path):
        """For a time, as where the disk was full on which it was unpacked."""
        for number in (0, 1):
            fits.writeto(tmp_path / f"{number}.fits", IMAGE)
        path = tmp_path / "0.fits"
        whole, state = path.read_bytes(), path.stat()
        path.write_bytes(bytes(len(whole)))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        arguments = (str(tmp_path / "{n}.fits"), Table({"n": [0, 1], "x": [4] * 2, "y": [4] * 2}))
        options = {"work_dir": tmp_path / "work", "progress": False}
        with pytest.raises(KeyboardInterrupt):
            predict_catalog(Stopping(0), *arguments, 1, 1, (3, 3), **options)
        path.write_bytes(whole)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        table = predict_catalog(total, *arguments, 1, 1, (3, 3), **options, resume=True)
        assert [*table["status"]] == ["ok", "ok"]

    @pytest.mark.parametrize("cpus", [None, 2])
    def test_answer_again_where_files_have_changed(self, tmp_path, cpus, caplog):
        for number in range(4):
            fits.writeto(tmp_path / f"{number}.fits", np.full((9, 9), number, "f4"))
        catalog = Table({"n": np.arange(4), "x": [4] * 4, "y": [4] * 4})
        arguments = (str(tmp_path / "{n}.fits"), catalog, 1, 1, (1, 1))
        options = {"work_dir": tmp_path / "work", "progress": False}
        with pytest.raises(KeyboardInterrupt):
            predict_catalog(Stopping(3), *arguments, **options)
        fits.writeto(tmp_path / "1.fits", np.full((19, 9), 41, "f4"), overwrite=True)
        model = Stopping(-1)
        with pytest.raises(KeyboardInterrupt):  # after the row whose file has changed
            predict_catalog(Stopping(2), *arguments, **options, resume=True)
        assert "rows run again, since their files have changed: 1" in caplog.text
        table = predict_catalog(model, *arguments, **options, resume=True, cpus=cpus)
        assert [*table["class_0"]] == [0, 41, 2, 3]
        if cpus is None:
            assert model.windows == 2  # the first, to know the model, and one more

    def test_keep_rows_whose_files_are_away(self, tmp_path):
        frames = tmp_path / "frames"
        frames.mkdir()
        for number in range(4):
            fits.writeto(frames / f"{number}.fits", np.full((9, 9), number, "f4"))
        catalog = Table({"n": np.arange(4), "x": [4] * 4, "y": [4] * 4})
        arguments = (str(frames / "{n}.fits"), catalog, 1, 1, (1, 1))
        options = {"work_dir": tmp_path / "work", "progress": False}
        with pytest.raises(KeyboardInterrupt):
            predict_catalog(Stopping(3), *arguments, **options)
        (frames / "1.fits").unlink()
        table = predict_catalog(Stopping(-1), *arguments, **options, resume=True)
        assert [*table["class_0"]] == [0, 1, 2, 3]

    @pytest.mark.slow
    def test_do_not_tell_the_errors_of_the_run_before(self, tmp_path, path, caplog):
        flag = tmp_path / "flag"
        flag.touch()
        options = {"work_dir": tmp_path / "work", "cpus": 2}
        with pytest.raises(WorkerError, match="there is a flag"):
            run(path, Flagged(flag), **options)
        flag.unlink()
        run(path, Flagged(flag), **options, resume=True)
        assert "Traceback" not in caplog.text

    @pytest.mark.slow
    def test_count_the_second_try_in_whichever_folder_it_is(self, tmp_path):
        for number in (0, 1, 3):
            fits.writeto(tmp_path / f"{number}.fits", np.full((9, 9), number, "f4"))

        def model(batch):
            if batch[0].max() == 3 and not (tmp_path / "2.fits").exists():
                time.sleep(2)  # the other worker ends meanwhile
                raise ValueError("now")
            return total(batch)

        catalog = Table({"n": np.arange(4), "x": [4] * 4, "y": [4] * 4})
        arguments = (model, str(tmp_path / "{n}.fits"), catalog, 1, 1, (1, 1))
        options = {"work_dir": tmp_path / "work", "progress": False}
        with pytest.raises(WorkerError, match="now"):
            predict_catalog(*arguments, **options, cpus=2)
        fits.writeto(tmp_path / "2.fits", np.full((9, 9), 2, "f4"))
        table = predict_catalog(*arguments, **options, resume=True)
        assert [*table["class_0"]] == [0, 1, 2, 3]

    def test_go_on_where_writing_was_interrupted(self, path, expected, monkeypatch):
        def write(table, path, **options):
            path.write_text("half a")
            raise KeyboardInterrupt

        out = path.with_name("out.csv")
        with monkeypatch.context() as patched:
            patched.setattr(
                "morpheus_core.catalogs.places.refuse_unwritable", lambda *arguments: None
            )
            patched.setattr(Table, "write", write)
            with pytest.raises(KeyboardInterrupt):
                run(path, out=out)
        assert {file.name for file in path.parent.iterdir()} == {"image.fits", "out.csv.morpheus"}
        model = Stopping(-1)
        assert_array_equal(run(path, model, out=out, resume=True)["class_0"], expected)
        assert model.windows == 0

    @pytest.mark.parametrize("call", ["fsync", "write", "ftruncate", "replace"])
    def test_go_on_after_errors_of_the_disk(self, path, expected, monkeypatch, call):
        out = path.with_name("out.csv")

        def failing(*arguments, **options):
            raise OSError(errno.EIO, "the disk is broken")

        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            with pytest.raises(OutputError, match="the disk is broken"):
                run(path, out=out)
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                assert "out.csv" not in str(descriptor.readlink())
        assert_array_equal(run(path, out=out, resume=True)["class_0"], expected)

    def test_that_finished_nothing_leave_nothing(self, path):
        interrupted(path, calls=0)
        assert [file.name for file in path.parent.iterdir()] == ["image.fits"]


def test_workers_that_fail_say_why(path, expected):
    def model(batch):
        raise ValueError("no such layer")

    with pytest.raises(WorkerError, match=r"(?s)rows of the catalogue failed: .*no such layer"):
        run(path, model, out=path.with_name("out.csv"), cpus=2)
    with pytest.raises(ModelError, match="cannot be sent"):
        run(path, partial(next, (n for n in ())), out=path.with_name("b.csv"), cpus=2)
    assert not list(path.parent.glob("b.csv*"))
    assert_array_equal(run(path, out=path.with_name("out.csv"))["class_0"], expected)


def rows_in(path):
    return [row for records in read_records(path, DTYPE) for row in records["row"]]


@pytest.fixture
def records():
    records = np.zeros(5, DTYPE)
    records["row"] = np.arange(5)
    return records


def test_a_block_that_was_cut_short_ends_what_is_read(tmp_path, records):
    path = tmp_path / "records"
    with RecordFile(path, DTYPE) as file:
        file.append(records[:2])
        file.append(records[2:])
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-3] + b"abc", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert rows_in(path) == [0, 1]
    for more in (bytes(99), b"\xff" * 99, whole[:5]):
        path.write_bytes(whole + more)
        assert rows_in(path) == [0, 1, 2, 3, 4]
    with RecordFile(path, DTYPE) as file:
        file.append(records[:1])
    assert rows_in(path) == [0, 1, 2, 3, 4, 0]


def test_records_are_brought_together(tmp_path, records):
    paths = [tmp_path / name for name in ("0", "1", "2")]
    for path, part in zip(paths, (records[:2], records[2:]), strict=False):
        with RecordFile(path, DTYPE) as file:
            file.append(part)
    bring_together(paths, DTYPE, lambda records: records["row"] > 2)
    assert rows_in(paths[0]) == [3, 4]
    assert [*tmp_path.iterdir()] == paths[:1]
