import doctest
from pathlib import Path

README = Path(__file__).parent.parent / "README.rst"


def test_readme_examples_print_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the examples write files
    outcome = doctest.testfile(
        str(README),
        module_relative=False,
        optionflags=doctest.NORMALIZE_WHITESPACE,
    )
    assert outcome.attempted > 10
    assert outcome.failed == 0
