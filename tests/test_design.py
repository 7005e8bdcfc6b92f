"""The order of folders that the documentation gives is the one that imports follow."""

import ast
import re
from pathlib import Path

import morpheus_core

PACKAGE = Path(morpheus_core.__file__).parent
DESIGN = PACKAGE.parent / "docs" / "design.rst"
#: The package's own front, which imports from every room.
FRONT = {"__init__", "__main__"}


def table():
    """Return the rooms of each line of the table, in order."""
    lines = re.findall(r"^   \* - (``.+)$", DESIGN.read_text(), re.MULTILINE)
    return [
        [name.removesuffix("/").removesuffix(".py") for name in re.findall("``(.+?)``", line)]
        for line in lines
    ]


def rooms_imported(path):
    """Yield the rooms from which a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "morpheus_core":
                yield rest.partition(".")[0]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_table_names_every_room():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - FRONT
    assert sorted(rooms) == sorted(room for line in table() for room in line)


def test_no_room_imports_from_one_below_it():
    order = {room: number for number, line in enumerate(table()) for room in line}
    wrong = [
        f"{path.relative_to(PACKAGE)} imports from {room}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if room_of(path) not in FRONT
        for room in rooms_imported(path)
        if order.get(room, len(order)) > order[room_of(path)]
    ]
    assert wrong == []


def test_root_holds_few_modules():
    assert len(list(PACKAGE.glob("*.py"))) <= 14
