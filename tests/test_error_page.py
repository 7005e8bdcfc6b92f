"""What docs/errors.rst quotes is what the package says, and it leaves nothing out."""

import ast
import re
from pathlib import Path

import pytest

import morpheus_core
from morpheus_core import errors

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "errors.rst").read_text()
CLASSES = [
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception)
]
#: Classes of their own, by which rows are told apart.
OF_ROWS = (
    "MissingFileError",
    "NoSkyPositionError",
    "OtherScaleError",
    "OtherOrientationError",
    "TooSmallError",
    "OtherSizeError",
    "OtherBandsError",
)
#: What a template must say of its own to be quoted; the rest is what another error said.
LEAST_WORDS = 3


def template(node):
    """Return a string of the source, with "…" for the values in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    return "…"


def is_raised(node):
    """Say whether a call makes one of the package's errors, or warns."""
    name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    return bool(name in (*CLASSES, "warn", *OF_ROWS) and node.args)


def nodes_of_the_package():
    for path in sorted(Path(morpheus_core.__file__).parent.rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text()))


def squeezed(text):
    return " ".join(text.split())


NODES = list(nodes_of_the_package())
STRINGS = {
    squeezed(template(node))
    for node in NODES
    if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp))
}
MESSAGES = {squeezed(template(node.args[0])) for node in NODES if is_raised(node)}
QUOTES = [
    squeezed(quote) for quote in re.findall(r"^\| ``(.+?)``$", PAGE, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_described(name):
    assert re.search(rf"^   \* - ``{name}``$", PAGE, re.MULTILINE)


def test_what_is_quoted_is_said():
    assert [quote for quote in QUOTES if not any(quote in string for string in STRINGS)] == []


def test_what_is_said_is_quoted():
    telling = {message for message in MESSAGES if len(re.findall(r"\w+", message)) >= LEAST_WORDS}
    assert len(telling) > 200
    unexplained = [message for message in telling if not any(quote in message for quote in QUOTES)]
    assert sorted(unexplained) == []
