import json
import multiprocessing
import time

import pytest

from morpheus_core.storage.locks import is_held
from morpheus_core.workspace import journal
from morpheus_core.workspace.journal import Entry, Journal, read_journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def nothing():
    """There is nothing to force to disk."""


def test_a_new_journal_has_no_entry(path):
    assert read_journal(path) is None
    with Journal(path, 2, nothing) as new:
        assert new.entry is None
    assert read_journal(path) is None


def test_entries_add_up_over_runs(path):
    with Journal(path, 2, nothing) as first:
        first.record(3, [1, 10])
        first.record(5)
    with Journal(path, 2, nothing) as second:
        assert second.entry == Entry(5, [1, 10])
        second.record(9, [2, 20])
    assert read_journal(path) == Entry(9, [3, 30])


def test_children_do_not_keep_the_lock(path):
    """They inherit the open file, and with it the lock."""
    with Journal(path, 1, nothing):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
    try:
        assert not is_held(path)
    finally:
        child.kill()
        child.join()


def test_a_line_that_was_cut_off_does_not_count(path):
    with Journal(path, 1, nothing) as first:
        first.record(3, [1])
    with path.open("a") as file:
        file.write('["written", 7, [2')
    assert read_journal(path) == Entry(3, [1])
    with Journal(path, 1, nothing) as second:
        second.record(4, [1])
    assert read_journal(path) == Entry(4, [2])


def test_after_a_restart_only_rows_count_that_were_on_disk(path, monkeypatch):
    synced = []
    with Journal(path, 1, lambda: synced.append(True)) as first:
        first.record(3, [1])
        monkeypatch.setattr(journal, "SYNC_INTERVAL", 0)
        first.record(4, [1])
        monkeypatch.setattr(journal, "SYNC_INTERVAL", 1e9)
        first.record(5, [1])
    assert synced == [True]
    assert read_journal(path) == Entry(5, [3])
    monkeypatch.setattr(journal, "boot_id", lambda: "another")
    assert read_journal(path) == Entry(4, [2])
    with Journal(path, 1, nothing) as second:
        second.record(6, [7])
    assert read_journal(path) == Entry(6, [9])


def test_where_restarts_cannot_be_told_only_rows_on_disk_count(path, monkeypatch):
    monkeypatch.setattr(journal, "boot_id", lambda: "")
    with Journal(path, 1, nothing) as first:
        first.record(3, [1])
    assert read_journal(path) is None


def hold(path, started):
    with Journal(path, 1, nothing) as held:
        started.set()
        time.sleep(0.5)
        held.record(8, [1])


def test_a_second_process_waits_for_the_first(path):
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Event()
    process = spawn.Process(target=hold, args=(path, started))
    process.start()
    started.wait()
    with Journal(path, 1, nothing) as second:
        assert second.entry == Entry(8, [1])
    process.join()


def test_lines_are_json(path):
    with Journal(path, 1, nothing) as first:
        first.record(3, [1])
    assert [json.loads(line)[0] for line in path.read_text().splitlines()] == ["boot", "written"]
