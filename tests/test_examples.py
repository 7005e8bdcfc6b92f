"""What README, pages and docstrings show is what happens."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
from shown_examples import FLAGS, has_examples, require_packages, run_page

import morpheus_core

ROOT = Path(__file__).parent.parent
GALLERY = ROOT / "docs" / "gallery"  # made of examples/, which are run when it is made
NEEDS_NETWORKS = ROOT / "docs" / "models.rst"  # tested where those are, in test_exported_networks
PAGES = [
    path
    for path in [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
    if has_examples(path) and GALLERY not in path.parents and path != NEEDS_NETWORKS
]
MODULES = [path for path in sorted((ROOT / "morpheus_core").rglob("*.py")) if has_examples(path)]

#: Their examples begin with fresh interpreters, or are runs of some size.
SLOW = {
    ROOT / "docs" / name
    for name in ("api/command_line.rst", "choosing.rst", "parallel.rst", "running.rst")
}

#: Readers see a warning of this package; it ends no example.
pytestmark = pytest.mark.filterwarnings("default::morpheus_core.MorpheusWarning")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples write files


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path in SLOW else []) for path in PAGES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_page(path):
    run_page(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings(path):
    require_packages(path)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    outcome = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(
    "module",
    [morpheus_core, morpheus_core.adapters, morpheus_core.columns, morpheus_core.packages],
)
def test_reference_has_every_public_name(module):
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.rst"))
    documented = set(re.findall(r"^\.\. (?:auto\w+|data):: ([\w.]+)", pages, re.MULTILINE))
    documented |= {name.removeprefix("morpheus_core.") for name in documented}
    assert documented >= set(module.__all__) - {"__version__"}


def test_commands_are_run_in_page_order(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(
        ">>> from pathlib import Path\n>>> Path('one').touch()\n\n"
        ".. code-block:: bash\n   :caption: A copy\n\n   cp one two\n\n   rm one\n\n"
        "Then:\n\n>>> Path('one').exists(), Path('two').exists()\n(False, True)\n"
    )
    run_page(page)


def test_commands_that_fail_are_noticed(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(".. code-block:: bash\n\n   false\n   true\n")
    with pytest.raises(AssertionError, match="1 of 1 examples fail"):
        run_page(page)
