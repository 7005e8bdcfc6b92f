"""What pages and docstrings show, run from top to bottom as a reader would."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from conftest import require

#: A block of commands, its options left out.
BASH = re.compile(r"^\.\. code-block:: bash\n(?: +:.*\n)*((?:\n| +.*\n)+)", re.MULTILINE)
#: A block behind two colons at the end of a sentence.
LITERAL = re.compile(r"^(?!\.\.).*\w.*::\n\n((?: +.*\n|\n)+)", re.MULTILINE)
IMPORT = re.compile(r"^ *(?:import|from) +(\w+)", re.MULTILINE)
#: What parts of this package need.
NEEDS = {
    "quicklook": "matplotlib",
    "morpheus-core view": "matplotlib",
    "find_candidates": "scipy",
    "export_segments": "scipy",
    "morpheus-core objects": "scipy",
    "deblend_sources": "skimage",
    ".reg": "regions",
    'sink="zarr"': "zarr",
}
FLAGS = doctest.NORMALIZE_WHITESPACE


class PageParser(doctest.DocTestParser):
    """Finds blocks of commands among the examples, as calls of `bash`."""

    def parse(self, string, name="<string>"):
        return super().parse(BASH.sub(as_example, string), name)


def as_example(block):
    """Turn a block of commands, as `BASH` finds it, into a call."""
    return f">>> bash({dedent(block[1])!r})\n\n"


def bash(commands):
    """Run commands where the programs of this environment are found."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def literal_block(path, phrase):
    """Return the one block of a page, of those that are not run with it, that has a phrase."""
    blocks = [dedent(block) for block in LITERAL.findall(path.read_text(encoding="utf-8"))]
    (found,) = [block for block in blocks if phrase in block]
    return found


def has_examples(path):
    text = path.read_text(encoding="utf-8")
    return ">>> " in text or BASH.search(text) is not None


def require_packages(path):
    """Skip, or fail, where a package is missing that the examples of a file need."""
    examples = PageParser().get_examples(path.read_text(encoding="utf-8"))
    source = "".join(example.source for example in examples)
    for package in IMPORT.findall(source):
        require(package)
    for part, package in NEEDS.items():
        if part in source:
            require(package)


def run_page(path):
    """Run the examples and the commands of a page, in the current folder."""
    require_packages(path)
    outcome = doctest.testfile(
        str(path),
        module_relative=False,
        optionflags=FLAGS,
        parser=PageParser(),
        extraglobs={"bash": bash},
        encoding="utf-8",
    )
    assert outcome.attempted > 0
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples fail"
