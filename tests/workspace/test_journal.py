import multiprocessing
import time
from pathlib import Path

import pytest

from morpheus_core.storage.locks import is_held
from morpheus_core.workspace import journal
from morpheus_core.workspace.journal import Entry, Segment, attempt_path, read_journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def nothing():
    """There is nothing to force to disk."""


def opened(path, attempt, n_sums=1, sync=nothing):
    """Open the journal of a strip whose first row is 0."""
    return journal.Journal(path, f"run-{attempt}", 0, n_sums, sync)


def read(path):
    """Return how far the strip is, and its sums."""
    entry = read_journal(path, "run")
    return entry and entry[:2]


def test_a_new_journal_has_no_entry(path):
    assert read(path) is None
    with opened(path, "a", 2) as new:
        assert new.entry is None
    assert read(path) is None


def test_entries_add_up_over_runs(path):
    with opened(path, "a", 2) as first:
        first.record(3, [1, 10])
        first.record(5, [0, 0])
    with opened(path, "b", 2) as second:
        assert second.entry == Entry(5, [1, 10], [Segment("run-a", 0, 5)])
        second.record(9, [2, 20])
    segments = [Segment("run-a", 0, 5), Segment("run-b", 5, 9)]
    assert read_journal(path, "run") == Entry(9, [3, 30], segments)


def test_no_record_has_two_writers(path):
    with opened(path, "a") as first:
        first.record(3, [1])
    before = attempt_path(path, "run-a").read_bytes()
    with opened(path, "b") as second:
        second.record(4, [1])
    assert attempt_path(path, "run-a").read_bytes() == before
    assert path.read_bytes() == b""


def test_records_of_other_runs_do_not_count(path):
    with journal.Journal(path, "earlier-a", 0, 1, nothing) as late:
        late.record(7, [1])
    assert read(path) is None


def test_what_a_lost_attempt_goes_on_to_write_does_not_count_twice(path, monkeypatch):
    """Its machine is only thought dead, and locks hold within a machine."""
    monkeypatch.setattr("morpheus_core.storage.locks.lock", lambda descriptor: None)
    with opened(path, "a") as lost:
        lost.record(3, [1])
        with opened(path, "b") as second:
            lost.record(6, [100])
            second.record(9, [20])
    segments = [Segment("run-a", 0, 3), Segment("run-b", 3, 9)]
    assert read_journal(path, "run") == Entry(9, [21], segments)


def test_children_do_not_keep_the_lock(path):
    """They inherit the open file, and with it the lock."""
    with opened(path, "a"):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
    try:
        assert not is_held(path)
    finally:
        child.kill()
        child.join()


def test_a_line_that_was_cut_off_does_not_count(path):
    with opened(path, "a") as first:
        first.record(3, [1])
    with attempt_path(path, "run-a").open("a") as file:
        file.write('["written", 7, [2')
    assert read(path) == (3, [1])
    with opened(path, "b") as second:
        second.record(4, [1])
    assert read(path) == (4, [2])


def test_after_a_restart_only_rows_count_that_were_on_disk(path, monkeypatch):
    synced = []
    with opened(path, "a", sync=lambda: synced.append(True)) as first:
        first.record(3, [1])
        monkeypatch.setattr(journal, "SYNC_INTERVAL", 0)
        first.record(4, [1])
        monkeypatch.setattr(journal, "SYNC_INTERVAL", 1e9)
        first.record(5, [1])
    assert synced == [True]
    assert read(path) == (5, [3])
    monkeypatch.setattr(journal, "boot_id", lambda: "another")
    assert read(path) == (4, [2])
    with opened(path, "b") as second:
        second.record(6, [7])
    assert read(path) == (6, [9])


def test_rows_are_forced_to_disk_every_ten_seconds(path, monkeypatch):
    clock, synced = [100.0], []
    monkeypatch.setattr(journal.time, "monotonic", lambda: clock[0])
    with opened(path, "a", sync=lambda: synced.append(clock[0])) as first:
        for row, clock[0] in enumerate((109.0, 110.0, 110.5, 120.5, 120.75), start=1):
            first.record(row, [1])
    assert synced == [110.5, 120.75]


def test_where_restarts_cannot_be_told_only_rows_on_disk_count(path, monkeypatch):
    monkeypatch.setattr(journal, "boot_id", lambda: "")
    with opened(path, "a") as first:
        first.record(3, [1])
    assert read(path) is None


def hold(path, started):
    with opened(path, "a") as held:
        started.set()
        time.sleep(0.5)
        held.record(8, [1])


def test_a_second_process_waits_for_the_first(path):
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Event()
    process = spawn.Process(target=hold, args=(path, started))
    process.start()
    started.wait()
    with opened(path, "b") as second:
        assert second.entry == Entry(8, [1], [Segment("run-a", 0, 8)])
    process.join()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_file_is_left_open(path):
    before = open_files()
    with opened(path, "a") as first:
        assert open_files() == before + 2
        first.record(3, [1])
    assert open_files() == before
    with pytest.raises(FileExistsError):
        opened(path, "a")  # no attempt has a name twice
    assert open_files() == before
