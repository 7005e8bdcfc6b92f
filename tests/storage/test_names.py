"""Names that another machine has made."""

import logging

import pytest

from morpheus_core.storage import names
from morpheus_core.storage.names import comes_true, look_anew, names_in


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(names, "time", clock := Clock())
    return clock


def test_looking_leaves_nothing(tmp_path):
    (tmp_path / "a").touch()
    assert names_in(tmp_path) == {"a"}
    look_anew(tmp_path / "none")
    assert names_in(tmp_path / "none") == set()


@pytest.mark.parametrize(("after", "told"), [(0, False), (1, False), (30, True)])
def test_what_comes_late_is_waited_for(clock, tmp_path, caplog, after, told):
    with caplog.at_level(logging.WARNING, "morpheus_core"):
        assert comes_true(lambda: clock.now >= after, "the end", tmp_path)
    assert after <= clock.now <= after + names.PAUSES[1]
    assert ("waiting until this machine sees the end" in caplog.text) == told


def test_what_never_comes_is_given_up(clock, tmp_path):
    assert not comes_true(lambda: False, "the end", tmp_path)
    assert clock.now == pytest.approx(names.PATIENCE, abs=2 * names.PAUSES[1])
