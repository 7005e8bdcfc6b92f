"""Runs on disk in this process: interrupted, resumed, in each other's way."""

import fcntl
import logging
import os
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import morpheus_core as package
from morpheus_core import InputError, ModelError, OutputError
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.journal import read_journal
from morpheus_core.workspace.stitch import Seam

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)
OPTIONS = {
    "n_classes": 2,
    "batch_size": 9,
    "window_shape": (10, 8),
    "stride": (2, 3),
    "aggregate_method": ["mean_var", "rank_vote"],
    "progress": False,
}
NAMES = ["n.fits", "output_mean_var.fits", "output_rank_vote.fits"]


class Model:
    """Scores with a twist in each call's sums, so that other batches would give other bytes."""

    def __init__(self, fail_after=None, error=RuntimeError, factor=1.0):
        self.windows = 0
        self.fail_after, self.error, self.factor = fail_after, error, factor

    def __call__(self, batch):
        if self.fail_after is not None and self.windows >= self.fail_after:
            raise self.error("stopped here")
        (windows,) = batch
        self.windows += len(windows)
        score = windows * np.float32(self.factor) + windows.sum() / np.float32(1e4)
        return np.concatenate([score, 1 - score], axis=-1)


def predict(model, out_dir, inputs=IMAGE, **options):
    hduls, arrays = package.predict(model, inputs, out_dir=out_dir, **{**OPTIONS, **options})
    for hdul in hduls:
        hdul.close()
    return arrays


def data_bytes(directory):
    """Return what is in the data units, and check the checksums."""
    contents = {}
    for path in sorted(Path(directory).iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(path, checksum=True) as hdul:
                contents[path.name] = hdul[0].data.tobytes()
    return contents


def headers(directory):
    varying = {"DATE", "RUNID", "CHECKSUM"}
    return {
        path.name: [
            tuple(card) for card in fits.getheader(path).cards if card.keyword not in varying
        ]
        for path in sorted(Path(directory).iterdir())
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run gives that is not interrupted."""
    directory = tmp_path_factory.mktemp("whole")
    model = Model()
    predict(model, directory)
    return directory, model.windows


def interrupt(out_dir, after, error=RuntimeError, **options):
    kind = ModelError if issubclass(error, Exception) else error
    with pytest.raises(kind) as caught:
        predict(Model(after, error), out_dir, **options)
    return caught.value


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [9, 40, 100, 180])
def test_resuming_gives_the_same_files(tmp_path, whole, after, error):
    directory, all_windows = whole
    interrupted = interrupt(tmp_path, after, error)
    assert "resume=True continues from there" in interrupted.__notes__[0]
    model = Model()
    predict(model, tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(directory)
    assert headers(tmp_path) == headers(directory)
    window_height, group, first_batch = 10 // 2 + 1, 1, 1
    per_row = 9
    assert model.windows <= all_windows - after + (window_height + group + first_batch) * per_row


def test_interrupted_again_and_again(tmp_path, whole):
    directory, _ = whole
    interrupt(tmp_path, 20)
    for _ in range(3):
        interrupt(tmp_path, 80, resume=True)
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(directory)


def test_a_run_that_finished_no_row_leaves_nothing(tmp_path):
    interrupt(tmp_path / "out", 0)
    assert list((tmp_path / "out").iterdir()) == []


def test_resuming_where_nothing_was_begun_begins(tmp_path, whole):
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


def test_what_is_left_of_a_run_is_in_the_way_of_another(tmp_path):
    interrupt(tmp_path, 100)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for options in ({}, {"overwrite": True}):
        with pytest.raises(
            OutputError, match=r"place of .*n\.fits\.part and 1 more, .*resume=True"
        ):
            predict(Model(), tmp_path, **options)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_unfinished_run_is_named_before_the_outputs_it_was_to_replace(tmp_path):
    predict(Model(), tmp_path)
    interrupt(tmp_path, 100, overwrite=True)
    with pytest.raises(OutputError, match=r"needs the place of .*resume=True to"):
        predict(Model(), tmp_path)


def test_folders_of_others_are_in_the_way_and_stay(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "thesis.tex").write_text("precious")
    for resume in (True, False):
        with pytest.raises(OutputError, match=r"needs the place of .*/0, which"):
            predict(Model(), tmp_path, resume=resume)
    assert [path.name for path in tmp_path.rglob("*")] == ["0", "thesis.tex"]


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"stride": (2, 2)}, r"stride was \[2, 3\], is \[2, 2\]"),
        ({"batch_size": 8}, "batch_size was 9, is 8"),
        ({"aggregate_method": "mean_var"}, "aggregate_method was"),
        ({"fill_value": 0.0}, "fill_value was nan, is 0.0"),
        ({"update_map": np.ones((10, 8)) / 2}, "update_map was"),
        ({"inputs": IMAGE + 1}, r"model_inputs\[0\] has other pixels"),
        ({"inputs": [IMAGE, IMAGE]}, "it has 1 inputs, not 2"),
    ],
)
def test_resuming_something_else_is_refused(tmp_path, options, difference):
    interrupt(tmp_path, 100)
    with pytest.raises(InputError, match=difference):
        predict(Model(), tmp_path, **{"resume": True, **options})


def test_resuming_with_another_version_is_refused(tmp_path, monkeypatch):
    interrupt(tmp_path, 100)
    monkeypatch.setattr("morpheus_core.workspace.plan.__version__", "99")
    with pytest.raises(InputError, match=r"begun by version .*, this is 99"):
        predict(Model(), tmp_path, resume=True)


def test_resuming_with_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "image.fits"
    fits.writeto(path, IMAGE)
    interrupt(tmp_path / "out", 100, inputs=path)
    os.utime(path, (1, 1))
    with pytest.raises(InputError, match=r"image\.fits, which was written to after"):
        predict(Model(), tmp_path / "out", inputs=path, resume=True)


def test_resuming_with_another_model_is_refused(tmp_path, whole):
    interrupt(tmp_path, 100)
    with pytest.raises(ModelError, match="does not predict what it did"):
        predict(Model(factor=1.1), tmp_path, resume=True)
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


@pytest.mark.parametrize(
    "where", ["allocate_files", "Run._complete", "publish_as", "Workspace.remove"]
)
def test_a_run_killed_outside_of_its_strips(tmp_path, whole, monkeypatch, where):
    """An exception that nothing cleans up after is as good as a kill."""
    target = f"morpheus_core.run.{where}"
    with monkeypatch.context() as patch:
        patch.setattr("morpheus_core.run.Workspace.discard", lambda *_: None)
        patch.setattr(target, lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            predict(Model(), tmp_path)
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


def test_a_run_killed_between_the_renames(tmp_path, whole, monkeypatch):
    replace = Path.replace

    def killed(self, target):
        if self.name == "output_mean_var.fits.part":
            raise SystemExit
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(SystemExit):
            predict(Model(), tmp_path)
    assert (tmp_path / "n.fits").exists()
    assert not (tmp_path / "output_mean_var.fits").exists()
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


@pytest.mark.parametrize("resume", [True, False])
def test_one_process_at_a_time(tmp_path, resume):
    if resume:
        interrupt(tmp_path, 100)
    with (
        Workspace(tmp_path).lock(),
        pytest.raises(OutputError, match="another process is running in"),
    ):
        predict(Model(), tmp_path, resume=resume)


def test_a_lock_that_was_just_removed_is_taken_anew(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def remove_first(file, operation):
        if not removed:
            removed.append(True)
            (tmp_path / ".morpheus_core.lock").unlink()
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with Workspace(tmp_path).lock(), pytest.raises(OutputError), Workspace(tmp_path).lock():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("boot", ["", "another each time"])
def test_where_restarts_cannot_be_told(tmp_path, whole, monkeypatch, boot):
    boots = iter(range(10**6))
    monkeypatch.setattr(
        "morpheus_core.workspace.journal.boot_id", lambda: boot and f"{next(boots)}"
    )
    monkeypatch.setattr("morpheus_core.workspace.journal.SYNC_INTERVAL", 0)
    interrupt(tmp_path, 100)
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


def test_a_file_system_without_locks(tmp_path, whole, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    predict(Model(), tmp_path)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


def test_a_model_that_changes_the_working_directory(tmp_path, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    class Wanderer(Model):
        def __call__(self, batch):
            os.chdir(tmp_path / "elsewhere")
            return super().__call__(batch)

    predict(Wanderer(), "out")
    assert data_bytes(tmp_path / "out") == data_bytes(whole[0])


def test_files_of_another_run_are_not_stitched(tmp_path):
    interrupt(tmp_path / "a", 100)
    interrupt(tmp_path / "b", 100)
    shutil.copy(tmp_path / "b" / "n.fits.part", tmp_path / "a" / "n.fits.part")
    with pytest.raises(OutputError, match="is not the file that this run has made"):
        predict(Model(), tmp_path / "a", resume=True)
    shutil.copy(tmp_path / "b" / "0" / "job.json", tmp_path / "a" / "0" / "job.json")
    with pytest.raises(OutputError, match="/0 is of another run than"):
        predict(Model(), tmp_path / "a", resume=True)


def test_a_plan_that_cannot_be_read(tmp_path):
    interrupt(tmp_path, 100)
    (tmp_path / "0" / "run.json").write_text("")
    with pytest.raises(OutputError, match="damaged or of another version"):
        predict(Model(), tmp_path, resume=True)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match=r"out_dir must be a folder, got the file .*out"):
        predict(Model(), tmp_path / "out")


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(OutputError, match="No space left"):
        predict(Model(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_waits_until_the_new_files_are_complete(tmp_path):
    predict(Model(), tmp_path)
    before = data_bytes(tmp_path)
    interrupt(tmp_path, 100, overwrite=True)
    finished = {path.name: path.read_bytes() for path in tmp_path.glob("*.fits")}
    assert sorted(finished) == NAMES
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == before


def test_a_finished_run_is_not_resumed(tmp_path):
    predict(Model(), tmp_path)
    with pytest.raises(OutputError, match=r"nothing to resume in .*: its outputs are complete"):
        predict(Model(), tmp_path, resume=True)


@pytest.mark.parametrize("count", range(1, 12))
def test_a_run_killed_while_its_folders_are_removed(tmp_path, whole, monkeypatch, count):
    """After each of the removals in turn."""
    unlink, left = Path.unlink, [count]

    def killed(self, missing_ok=False):
        unlink(self, missing_ok=missing_ok)
        left[0] -= self.parent.name == "0"
        if left[0] == 0:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        patch.setattr("morpheus_core.run.Workspace.discard", lambda *_: None)
        with suppress(SystemExit):  # or it was finished before
            predict(Model(), tmp_path)
    if Workspace(tmp_path).holds_a_run() or not (tmp_path / NAMES[1]).exists():
        predict(Model(), tmp_path, resume=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    assert data_bytes_of(tmp_path, NAMES) == data_bytes_of(whole[0], NAMES)


def data_bytes_of(directory, names):
    return {name: fits.getdata(directory / name).tobytes() for name in names}


@pytest.mark.parametrize("count", range(1, 10))
def test_a_run_killed_while_it_is_given_up(tmp_path, whole, monkeypatch, count):
    """A model that fails at once gives its run up; a kill may come after each removal."""
    unlink, left = Path.unlink, [count]

    def killed(self, missing_ok=False):
        unlink(self, missing_ok=missing_ok)
        left[0] -= 1
        if left[0] == 0:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises((SystemExit, ModelError)):
            predict(Model(fail_after=0), tmp_path)
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


def test_outputs_of_other_methods_are_not_left_beside_new_ones(tmp_path):
    predict(Model(), tmp_path, aggregate_method="mean_var")
    with pytest.raises(OutputError, match=r"output\.fits is of a run with another"):
        predict(Model(), tmp_path, overwrite=True)


def test_a_disk_that_fills_up_stops_the_run_so_that_it_can_go_on(tmp_path, whole, monkeypatch):
    pwrite, written = os.pwrite, []

    def fills_up(descriptor, data, offset):
        written.append(len(data))
        if sum(written) > 20_000:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fills_up)
        patch.setattr("morpheus_core.pipeline.ring.RowRing._BLOCK_VALUES", 1)
        with pytest.raises(OutputError, match="No space left"):
            predict(Model(), tmp_path)
    predict(Model(), tmp_path, resume=True)
    assert data_bytes(tmp_path) == data_bytes(whole[0])


def test_the_log_says_what_is_done(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "morpheus_core"):
        predict(Model(), tmp_path)
    assert f"234 of 234 windows in 1 strips, into {tmp_path}" in caplog.text


def test_more_strips_than_files_may_be_open(tmp_path, monkeypatch):
    """One window row in each of 26 strips: five of them, 10 / 2, meet in a row."""
    opened, most = set(), [0]

    class Counted(Seam):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.add(self)
            most.append(len(opened))

        def close(self):
            opened.remove(self)
            super().close()

    monkeypatch.setattr("morpheus_core.workspace.completion.Seam", Counted)
    predict(Model(), tmp_path, strips=26)
    assert len(most) == 27
    assert max(most) == 5
    assert not opened


def test_a_strip_that_fails_forces_its_rows_to_disk(tmp_path, monkeypatch):
    interrupt(tmp_path, 100)
    monkeypatch.setattr("morpheus_core.workspace.journal.boot_id", lambda: "another machine")
    workspace = Workspace(tmp_path)
    assert read_journal(workspace.journal_path(0), workspace.load().run) is not None


def test_what_a_late_strip_has_left_is_not_in_the_way(tmp_path, whole):
    interrupt(tmp_path, 180, strips=2)
    (journal,) = Workspace(tmp_path).folder(0).glob("journal.*")
    rows = journal.read_text()
    shutil.rmtree(tmp_path)
    for index in (0, 1):
        folder = Workspace(tmp_path).folder(index)
        folder.mkdir(parents=True)
        for name in ("session", "progress", journal.name, "seam.late", "rows.late", ".nfs0"):
            (folder / name).write_text(rows)
    predict(Model(), tmp_path, strips=2)
    assert data_bytes(tmp_path) == data_bytes(whole[0])
