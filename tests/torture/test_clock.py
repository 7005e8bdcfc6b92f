"""A clock that jumps, back and forth, by up to a day: results and order of events do not ask it."""

import time

import numpy as np
import pytest
from kinds_of_work import KINDS, Probe, assert_same

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("name", KINDS)
def test_a_clock_that_jumps(tmp_path, monkeypatch, name, number):
    kind, random, real = KINDS[name], np.random.default_rng(number), time.time
    folders = tmp_path / "right", tmp_path / "jumping"
    for folder in folders:
        folder.mkdir()
        kind.prepare(folder)
    expected = kind.run(Probe(folders[0] / "notes"), folders[0])
    monkeypatch.setattr(time, "time", lambda: real() + random.uniform(-86_400, 86_400))
    where = {"cpus": 2} if number % 4 == 0 else {}
    assert_same(kind.run(Probe(folders[1] / "notes"), folders[1], **where), expected)
