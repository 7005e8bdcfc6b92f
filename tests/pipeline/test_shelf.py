"""Sums and results of wide images may lie in files; what comes out does not tell."""

import errno
import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from morpheus_core import plan, predict
from morpheus_core.pipeline import shelf

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")


@pytest.fixture
def small_shelves(monkeypatch, tmp_path):
    """Let everything lie in files of a folder that are given back after every few pixels."""
    tmp_path.joinpath("shelf").mkdir()
    monkeypatch.setattr(shelf, "LEAST_BYTES", 0)
    monkeypatch.setattr(shelf, "MOST_OF_MEMORY", 0.0)
    monkeypatch.setattr(shelf, "TOUCHED_BYTES", 0)
    monkeypatch.setattr(shelf, "is_memory", lambda path: False)
    monkeypatch.setattr(shelf, "folder", lambda: str(tmp_path / "shelf"))
    return tmp_path / "shelf"


def model(batch):
    return np.concatenate([batch[0], 1 - batch[0], np.sqrt(batch[0])], axis=-1)


def run(out_dir, window=12, stride=5, **options):
    image = np.random.default_rng(0).random((40, 60), np.float32)
    hduls, outputs = predict(
        model,
        image,
        3,
        4,
        (window, window),
        stride=(stride, stride),
        aggregate_method=["mean_var", "rank_vote"],
        out_dir=out_dir,
        progress=False,
        **options,
    )
    found = [np.array(output) for output in outputs]
    for hdul in hduls:
        hdul.close()
    return found


@pytest.mark.parametrize(
    ("window", "stride", "options"),
    [
        (12, 5, {}),
        (12, 5, {"nan_policy": "omit", "padding": "reflect"}),
        (12, 6, {"strips": 2}),
        (30, 15, {"mask": np.eye(40, 60)}),
    ],
)
@pytest.mark.parametrize("collects", [False, True])
def test_bytes_are_those_of_sums_in_memory(
    tmp_path, monkeypatch, request, window, stride, options, collects
):
    if collects:
        monkeypatch.setattr("morpheus_core.pipeline.strip.COLLECTED_VALUES", 0)
        monkeypatch.setattr("morpheus_core.pipeline.ring.COLLECTED_BATCH", 0)
        monkeypatch.setattr("morpheus_core.pipeline.aggregators.RankVote.collected_row", 0)
    expected = run(tmp_path / "memory", window, stride, **options)
    request.getfixturevalue("small_shelves")
    made = []
    map_of = shelf.map_of
    monkeypatch.setattr(shelf, "map_of", lambda size: made.append(size) or map_of(size))
    found = run(tmp_path / "files", window, stride, **options)
    assert made
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def resident_bytes_of_files():
    """Return what this process has of files in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) << 10


@linux_only
def test_memory_is_given_back(small_shelves, monkeypatch):
    monkeypatch.setattr(shelf, "TOUCHED_BYTES", 1 << 20)
    rows, width = 64, 1 << 15
    planes = shelf.Shelf([((rows, width), np.float64)], rows * width, True)
    (array,) = planes.arrays
    resident = []
    for row in range(rows):
        array[row] = row
        planes.touched(width)
        resident.append(resident_bytes_of_files())
    assert max(resident) - resident[0] < array.nbytes / 2
    assert (array == np.arange(rows)[:, np.newaxis]).all()
    assert list(small_shelves.iterdir()) == []  # the file has no name


def test_a_full_disk_leaves_them_in_memory(small_shelves, monkeypatch, caplog):
    def full(descriptor, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shelf, "allocate", full)
    planes = shelf.Shelf([((4, 5), np.float64)], 20, True)
    planes.arrays[0][...] = 1
    assert "160 bytes stay in memory" in caplog.text
    assert "No space left" in caplog.text


def test_what_is_shelved(monkeypatch):
    monkeypatch.setattr(shelf, "is_memory", lambda path: False)
    monkeypatch.setattr(shelf, "memory_of_machine", lambda: 10 << 30)
    least = 5 << 29
    assert shelf.is_shelved(least)
    assert not shelf.is_shelved(least - 1)
    monkeypatch.setattr(shelf, "memory_of_machine", lambda: 1 << 30)
    assert shelf.is_shelved(1 << 30)
    assert not shelf.is_shelved((1 << 30) - 1)
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    assert not shelf.is_shelved(1 << 30)


@linux_only
def test_a_folder_in_memory_is_none_for_them(monkeypatch):
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no folder in memory")
    assert shelf.is_memory("/dev/shm")
    assert not shelf.is_memory("/proc")
    monkeypatch.setattr(shelf, "folder", lambda: "/dev/shm")
    monkeypatch.setattr(shelf, "memory_of_machine", lambda: 1)
    assert not shelf.is_shelved(1 << 40)


@linux_only
@pytest.mark.parametrize("optional", [[], ["shared:2"], ["shared:2", "master:1"]])
@pytest.mark.parametrize(
    ("kind", "found"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("-", False)]
)
def test_mounts_may_have_any_number_of_optional_fields(
    monkeypatch, tmp_path, optional, kind, found
):
    """The kind of a file system is behind a lone hyphen: see proc_pid_mountinfo(5)."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = [
        ["36", "35", number, "/", "/tmp", "rw,noatime", *optional, "-", kind, "none", "rw"],
        ["37", "35", "0:0", "/", "/shm", "rw", *optional, "-", "tmpfs", "none", "rw"],
    ]
    text = "".join(" ".join(line) + "\n" for line in lines)
    monkeypatch.setattr(Path, "read_text", lambda path, errors: text)
    assert shelf.is_memory(str(tmp_path)) == found


@linux_only
def test_memory_of_the_machine():
    total = Path("/proc/meminfo").read_text().split()[1]
    assert 0 < shelf.memory_of_machine() <= int(total) * 1024 * 1.2


def test_plan_knows(small_shelves, tmp_path):
    arguments = (model, np.zeros((40, 60)), 3, 4, (12, 12))
    options = {"stride": (5, 5), "aggregate_method": "mean_var"}
    found = plan(*arguments, **options, out_dir=tmp_path / "out")
    planes, results = 12 * 60 * 3 * 2 * 8, 12 * 60 * (3 * 2 + 1) * 4
    assert found.shelved_bytes == planes + results
    assert any(line.startswith("sums") for line in str(found).splitlines())
    assert plan(*arguments, **options).shelved_bytes == planes


def test_plan_is_silent_about_sums_in_memory():
    found = plan(model, np.zeros((40, 60)), 3, 4, (12, 12), stride=(5, 5))
    assert found.shelved_bytes == 0
    assert not any(line.startswith("sums") for line in str(found).splitlines())
