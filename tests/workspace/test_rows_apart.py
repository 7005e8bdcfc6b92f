"""Strips whose rows are in files of their own until all are finished."""

import os
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import morpheus_core as package
from morpheus_core import InputError, MorpheusWarning, OutputError, verify
from morpheus_core.parallel.executors import Engine, engine_of
from morpheus_core.storage import names
from morpheus_core.workspace import completion
from morpheus_core.workspace.folders import Workspace

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)
OPTIONS = {
    "n_classes": 2,
    "batch_size": 9,
    "window_shape": (10, 8),
    "stride": (2, 3),
    "aggregate_method": ["mean_var", "rank_vote"],
    "progress": False,
    "strips": 3,
}


class Model:
    """Two classes; stops after so many windows."""

    def __init__(self, fail_after=None):
        self.windows, self.fail_after = 0, fail_after

    def __call__(self, batch):
        if self.fail_after is not None and self.windows >= self.fail_after:
            raise RuntimeError("stopped here")
        (windows,) = batch
        self.windows += len(windows)
        return np.concatenate([windows, 1 - windows], axis=-1)


def predict(out_dir, model=None, **options):
    hduls, _ = package.predict(
        model or Model(), IMAGE, out_dir=out_dir, **{**OPTIONS, "rows_apart": True, **options}
    )
    for hdul in hduls:
        hdul.close()
    return {path.name: fits.getdata(path).tobytes() for path in Path(out_dir).iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What strips give that write straight into outputs."""
    return predict(tmp_path_factory.mktemp("direct"), rows_apart=False)


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(names, "PATIENCE", 0)


def test_the_bytes_are_the_same(tmp_path, expected):
    assert predict(tmp_path) == expected
    assert verify(tmp_path) == []


@pytest.mark.parametrize("after", [40, 100, 150, 220])
def test_runs_go_on(tmp_path, expected, after):
    with pytest.raises(package.ModelError):
        predict(tmp_path, Model(after))
    assert not list(tmp_path.glob("*.part"))
    assert predict(tmp_path, resume=True) == expected


def test_attempts_without_end(tmp_path, expected):
    """Each goes on behind the rows of those before it."""
    for _ in range(30):
        try:
            found = predict(tmp_path, Model(80), resume=True)
        except package.ModelError:
            continue
        break
    assert found == expected


@pytest.mark.parametrize("kind", ["rows", "seam"])
@pytest.mark.parametrize("change", ["flip", "cut"])
def test_strips_that_are_damaged_are_run_again(
    tmp_path, expected, monkeypatch, patience, kind, change
):
    real = completion.Completion.run
    model = Model()

    def damaged(self):
        monkeypatch.setattr(completion.Completion, "run", real)
        (path,) = self.workspace.folder(1).glob(f"{kind}.*")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if change == "flip" else content[:-8])
        return self.run()

    monkeypatch.setattr(completion.Completion, "run", damaged)
    with pytest.warns(MorpheusWarning, match=r"1 strips does not read back .*\(window rows 9 to"):
        assert predict(tmp_path, model) == expected
    assert 1.2 * 234 < model.windows < 1.5 * 234


def test_strips_that_are_damaged_again(tmp_path, monkeypatch, patience):
    monkeypatch.setattr(completion.Completion, "run", lambda self: [1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MorpheusWarning)
        with pytest.raises(OutputError, match=r"of 1 strips does not read back as .* twice"):
            predict(tmp_path)


@pytest.mark.parametrize("times", [1, 2])
def test_outputs_that_read_back_otherwise(tmp_path, expected, monkeypatch, times):
    """They are written again, once; then nothing has its name, and the strips are kept."""
    real, left = completion.differences, [times]

    def differences(path, anew):
        if left[0] and path.name.startswith("n."):
            left[0] -= 1
            return iter([package.Difference(path, (0, 1), "rows 0 to 1 differ")])
        return real(path, anew)

    monkeypatch.setattr(completion, "differences", differences)
    if times == 1:
        assert predict(tmp_path) == expected
        return
    with pytest.raises(OutputError, match=r"what is read back is not what was written: .*n.fits"):
        predict(tmp_path)
    assert not list(tmp_path.glob("*.fits"))
    model = Model()
    assert predict(tmp_path, model, resume=True) == expected
    assert model.windows == 0


def test_copies_of_what_a_machine_remembers(tmp_path, expected, monkeypatch, caplog):
    """A first copy has zeros in place of rows that the server has."""
    real, copied = os.copy_file_range, []

    def copy(source, descriptor, size, start, place):
        copied.append(place)
        if len(copied) == 1:
            return os.pwrite(descriptor, bytes(size), place)
        return real(source, descriptor, size, start, place)

    monkeypatch.setattr(os, "copy_file_range", copy)
    assert predict(tmp_path) == expected
    assert "the outputs are written again" in caplog.text


def test_what_another_machine_began_to_stitch_is_made_anew(tmp_path, expected, monkeypatch):
    real = completion.stitch
    monkeypatch.setattr(completion, "stitch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path)
    monkeypatch.setattr(completion, "stitch", real)
    part = tmp_path / "n.fits.part"
    before = part.open("rb")  # its number is not given to another file meanwhile
    with before:
        assert predict(tmp_path, resume=True) == expected
        assert not os.path.samestat(os.fstat(before.fileno()), (tmp_path / "n.fits").stat())


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_run_of_one_machine_does_not_go_on_on_several(tmp_path):
    with pytest.raises(package.ModelError):
        predict(tmp_path, Model(100), rows_apart=False)
    with pytest.raises(InputError, match="several machines must not do"):
        predict(tmp_path, resume=True)


def test_files_of_strips_are_left_by_none(tmp_path):
    with pytest.raises(package.ModelError):
        predict(tmp_path, Model(100))
    folder = Workspace(tmp_path).folder(0)
    assert [path for path in folder.iterdir() if path.name.startswith("rows.")]
    predict(tmp_path, resume=True)
    assert not folder.exists()


def test_disks_that_are_too_small_for_both(tmp_path, monkeypatch):
    usage = package.results.outputs.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "morpheus_core.results.outputs.shutil.disk_usage", lambda path: usage._replace(free=100_000)
    )
    with pytest.raises(
        OutputError, match=r"needs 0.00 GiB, for the outputs and for rows of strips"
    ):
        predict(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shared", [True, False])
def test_the_file_system_decides(tmp_path, monkeypatch, shared):
    asked = []
    monkeypatch.setattr(
        "morpheus_core.run.is_shared", lambda folder: asked.append(folder) or shared
    )
    with pytest.raises(package.ModelError):
        predict(tmp_path, Model(100), rows_apart=None)
    assert asked == [tmp_path]
    assert Workspace(tmp_path).load().apart == shared


def test_executors_of_this_machine():
    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        assert engine_of(threads).is_here
        assert engine_of(processes).is_here

    class Anywhere:
        def submit(self, function, argument):
            """Run it who knows where."""

    assert not Engine(Anywhere()).is_here
