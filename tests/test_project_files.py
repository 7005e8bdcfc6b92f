"""What lies around the code: workflows, citation, targets of make, and how pages say to install."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import require

ROOT = Path(__file__).parent.parent
THIS = Path(__file__).name
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
CALLERS_OF_MAKE = [*WORKFLOWS, ROOT / ".travis.yml", ROOT / ".ci" / "run"]
TARGET = re.compile(r"^(?:\s*- |\s*\w+: |\s*)(?:run: )?make ([\w./-]+)", re.MULTILINE)


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
        ("travis", [ROOT / ".travis.yml"]),
        ("readthedocs", [ROOT / ".readthedocs.yaml"]),
    ],
)
def test_files_for_services_are_well_formed(schema, files):
    require("check_jsonschema")
    assert files
    options = ["--default-filetype", "yaml", "--builtin-schema", f"vendor.{schema}"]
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *options, *files],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_workflow_with_a_fault_is_noticed(tmp_path):
    workflow = tmp_path / "tests.yml"
    workflow.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs_on:"))
    with pytest.raises(AssertionError, match="runs_on"):
        test_files_for_services_are_well_formed("github-workflows", [workflow])


@pytest.mark.parametrize("path", CALLERS_OF_MAKE, ids=relative)
def test_every_service_calls_targets_that_are_there(path):
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    called = set(TARGET.findall(path.read_text()))
    assert called
    assert called <= set(re.findall(r"^([\w./-]+):(?!=)", makefile, re.MULTILINE))


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    told = re.findall(r'@echo "make (\S+)', makefile)
    assert sorted(told) == sorted(set(phony.split()) - {"help"})


def test_what_speaks_of_missing_packages_is_tested_without_them():
    shown = subprocess.run(
        ["make", "--just-print", "PYTHON=:", "test-minimal"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    left_out = [ROOT / path for path in re.findall(r"--ignore=(\S+)", shown.stdout)]
    assert left_out
    assert [path for path in left_out if not path.exists()] == []
    files = [
        file for path in left_out for file in ([path] if path.is_file() else path.rglob("*.py"))
    ]
    absence = re.compile(r"MissingPackageError|find_spec|pip install [\"'.]|kernels\.plain")
    assert [file for file in files if absence.search(file.read_text()) and file.name != THIS] == []


def test_every_python_that_is_promised_is_tested():
    promised = [
        name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)
    ]
    assert PROJECT["requires-python"] == f">={promised[0]}"
    versions = ", ".join(f'"{version}"' for version in promised)
    assert f"python: [{versions}]" in (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    listed = "".join(f'  - "{version}"\n' for version in promised)
    assert f"python:\n{listed}" in (ROOT / ".travis.yml").read_text()


def test_oldest_versions_are_those_of_pyproject():
    said = subprocess.run(
        [sys.executable, ROOT / ".ci" / "oldest.py"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    least = [requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]]
    assert said[: len(least)] == least
    assert not any(">" in requirement or "pytest" in requirement for requirement in said)


def texts_of_readers():
    """Return what tells people how to install: pages, and messages and docstrings of the code."""
    pages = [ROOT / name for name in ("README.rst", "CONTRIBUTING.rst")]
    for folder, pattern in [("docs", "*.rst"), ("docs", "*.ipynb"), ("morpheus_core", "*.py")]:
        pages += (ROOT / folder).rglob(pattern)
    return [*pages, *(ROOT / "examples").iterdir()]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('pip install "morpheus-core[fast,plot]"', True),
        ("pip install morpheus_core", True),
        ("pip install 'morpheus-core[dask]'", True),
        ('pip install ".[fast,plot]"', False),
        ("pip install '.[dask]' in the clone of morpheus_core", False),
        ('pip install "./morpheus_core[fast]" jupyterlab  # morpheus_core is the clone', False),
        ("old/bin/pip install morpheus-core==0.1.13", False),
    ],
)
def test_what_installs_from_pypi(line, wrong):
    assert installs_from_pypi(line) is wrong


def installs_from_pypi(line):
    """Whether a line installs from PyPI, where all releases before 1.0 are another program."""
    _, _, wanted = line.partition("pip install")
    packages = re.findall(r"(?<![\w/])morpheus[-_]core(?!==)", re.split(r"  #| in the ", wanted)[0])
    return bool(packages)


def test_pages_install_from_the_clone():
    lines = [
        f"{relative(path)}: {line}"
        for path in texts_of_readers()
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert any("pip install" in line for line in lines)
    assert not [line for line in lines if "pip install" in line and installs_from_pypi(line)]
