"""What README and docstrings show is what happens."""

import doctest
import importlib
from pathlib import Path

import pytest
from conftest import require

ROOT = Path(__file__).parent.parent
PAGES = [
    "README",
    "docs/errors",
    "docs/fits",
    "docs/migration",
    "docs/performance",
    "docs/running",
]


@pytest.mark.parametrize("page", PAGES)
def test_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the examples write files
    outcome = doctest.testfile(
        str(ROOT / f"{page}.rst"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.attempted > 5
    assert outcome.failed == 0


@pytest.mark.parametrize(
    "name", ["morpheus_core", "catalog", "update_maps", "planning", "exposure_files"]
)
def test_docstrings(name):
    outcome = doctest.testmod(importlib.import_module(f"morpheus_core.{name}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_docstring_of_quicklook(tmp_path, monkeypatch):
    require("matplotlib")
    monkeypatch.chdir(tmp_path)
    test_docstrings("pictures")
    assert (tmp_path / "look.png").exists()


def test_docstring_of_find_candidates():
    require("scipy")
    test_docstrings("candidates")
