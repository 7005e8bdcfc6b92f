"""Where rows and sums lie in the files of strips, who may read these, and what tells files."""

import numpy as np
import pytest

import morpheus_core as package
from morpheus_core import InputError
from morpheus_core.fits.blocks import ImageUnit
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.job import Job
from morpheus_core.results.outputs import Product
from morpheus_core.windows.grid import Strip, WindowGrid
from morpheus_core.workspace import strip
from morpheus_core.workspace.fingerprints import change_of, refuse_other_run, state_of
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.journal import Entry, Segment
from morpheus_core.workspace.rows import RowsLayout, files_of
from morpheus_core.workspace.stitch import Seam, SeamFile, SeamLayout, seam_bytes

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)


class Model:
    """The mean of a window; stops after so many batches."""

    def __init__(self, batches):
        self.batches = batches

    def __call__(self, batch):
        if self.batches == 0:
            raise RuntimeError("stopped here")
        self.batches -= 1
        return batch[0].mean(axis=(1, 2))


def predict(out_dir, batches, resume=False, **options):
    hduls, _ = package.predict(
        Model(batches),
        IMAGE,
        1,
        9,
        (10, 8),
        stride=(2, 3),
        aggregate_method="mean_var",
        strips=3,
        out_dir=out_dir,
        progress=False,
        resume=resume,
        rows_apart=True,
        **options,
    )
    for hdul in hduls:
        hdul.close()


def test_rows_lie_product_after_product():
    units = [
        ImageUnit((60, 30), np.dtype(np.float32)),
        ImageUnit((60, 30, 2), np.dtype(np.int16)),
        ImageUnit((60, 30), np.dtype(np.uint8)),
    ]
    layout = RowsLayout([Product(str(unit.shape), unit) for unit in units], range(9, 19))
    # The first row of each, 9, is behind ten rows of each of those before it.
    firsts = [start + 9 * unit.row_bytes for start, unit in zip(layout.starts, units, strict=True)]
    assert firsts == [0, 10 * 120, 10 * 120 + 10 * 120]


def test_files_of_attempts_that_wrote_none_of_the_rows_are_not_opened(tmp_path):
    """They may be on another machine, and not be seen yet."""
    layout = RowsLayout([], range(9, 19))
    segments = [Segment("a", 0, 3), Segment("b", 3, 9), Segment("c", 9, 12), Segment("d", 12, 40)]
    for name in "cd":
        (tmp_path / f"rows.{name}").touch()
    segments.append(Segment("e", 40, 44))
    found = [rows for _, rows in files_of(tmp_path / "rows", layout, Entry(44, [], segments))]
    assert found == [range(9, 12), range(12, 19)]


@pytest.fixture
def job():
    return Job(
        WindowGrid((60, 30), (10, 8), (2, 3), "cover", None, 1),
        2,
        9,
        np.ones((10, 8)),
        tuple(AGGREGATION_METHODS),
        "omit",
        np.nan,
    )


def test_seams_hold_the_rows_that_others_touch(job):
    """The windows of the strip begin at rows 18 to 34, those beside it at 16 and at 36."""
    middle = Strip(9, 18)
    layout = SeamLayout(job, middle)
    assert [row for row in range(60) if layout.holds(row)] == [*range(18, 26), *range(36, 44)]
    assert layout.stop == 44
    # Two planes of mean and variance and one of votes, for two classes; and the count.
    assert layout.row_bytes == 8 * (3 * 30 * 2 + 30)
    places = [layout.offset(row) for row in (18, 25, 36, 43)]
    assert places == [place * layout.row_bytes for place in (0, 7, 8, 15)]
    assert seam_bytes(job, middle) == 16 * layout.row_bytes
    assert SeamLayout(job, Strip(0, 9)).offset(18) == 0


def test_a_seam_knows_whether_it_is_whole(tmp_path, job):
    layout = SeamLayout(job, Strip(9, 18))
    random = np.random.default_rng(4)
    blocks = [random.random((n, 2, 30, 2)) for n in (2, 1)] + [random.random((2, 30))]
    with SeamFile(tmp_path / "seam.a", layout) as file:
        total = file.write(18, blocks)
    for wrong in (0, -1, 1):
        entry = Entry(20, [5, total + wrong], [Segment("a", 18, 20)])
        with Seam(tmp_path / "seam", layout, entry) as seam:
            assert seam.is_whole == (total + wrong == 0)
            for row in (18, 19):
                sums = layout.split(row, seam.read(row))
                for planes, block in zip(sums.planes, blocks[:2], strict=True):
                    np.testing.assert_array_equal(planes[:, 0], block[:, row - 18])
                np.testing.assert_array_equal(sums.counted[0], blocks[2][row - 18])
            assert seam.is_whole == (wrong == 0)


def test_what_is_known_of_a_file(tmp_path):
    path = tmp_path / "file"
    assert state_of(path) == (-1, -1)
    assert state_of(tmp_path / "\0") == (-1, -1)
    path.write_bytes(b"12345")
    assert state_of(path) == (5, path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (1, 2, "x (2 in place of 1)"),
        ("a" * 38, 2, f'x (2 in place of "{"a" * 38}")'),
        ("a" * 39, 2, "x"),
        (2, "a" * 39, "x"),
    ],
)
def test_values_are_shown_if_both_are_short(before, now, text):
    assert change_of("x", before, now) == text


@pytest.mark.parametrize("stored", [1, 3])
def test_another_run_is_one_of_smaller_or_larger_values(tmp_path, stored):
    path = tmp_path / "0" / "run.json"
    path.parent.mkdir()
    path.write_text(f'{{"a": {stored}, "b": 5}}')
    refuse_other_run(path, {"a": stored, "b": 5})
    with pytest.raises(InputError, match=rf"other a \(2 in place of {stored}\); give those"):
        refuse_other_run(path, {"a": 2, "b": 5})


def test_files_of_strips_are_their_owners_alone(tmp_path):
    with pytest.raises(package.ModelError):
        predict(tmp_path, 12)
    folder = Workspace(tmp_path).folder(0)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("journal", "rows", "seam"):
        paths = list(folder.glob(f"{name}*"))
        assert paths
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


@pytest.mark.parametrize("names", ["abc", "cba"])
def test_what_earlier_attempts_wrote_is_forced_to_disk_too(tmp_path, monkeypatch, names):
    """Their machines may never have done so, whatever the names of attempts are."""
    synced, attempts = [], []

    def new_attempt(run):
        attempts.append(f"{run}-{names[attempts_at]}")
        return attempts[-1]

    monkeypatch.setattr(strip, "new_attempt", new_attempt)
    monkeypatch.setattr(strip, "sync_file", lambda path: synced.append(path.name))
    for attempts_at in range(3):
        synced.clear()
        with pytest.raises(package.ModelError):
            predict(tmp_path, 6, resume=attempts_at > 0)
        kinds = ("seam", "rows")
        assert synced == [f"{kind}.{name}" for name in attempts[:-1] for kind in kinds]
