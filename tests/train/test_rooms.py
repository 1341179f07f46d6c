"""The rooms of the trainer import each other in one direction: a room only those below it."""

import ast
from pathlib import Path

import fastclip.train

PACKAGE = Path(fastclip.train.__file__).parent
# From the bottom to the top.
ROOMS = ["memory", "weights", "settings", "step", "log", "checkpoints", "run", "planning"]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def rooms_of(path):
    """The rooms from which a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {n.split(".")[2] for n in names if n.startswith("fastclip.train.")}
    return found


def test_every_module_is_in_a_room():
    assert {path.relative_to(PACKAGE).parts[0] for path in MODULES} == set(ROOMS)
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_modules_import_only_their_own_or_a_lower_room():
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts[0]
        for room in rooms_of(path):
            assert ROOMS.index(room) <= ROOMS.index(own), f"{path} imports from {room}"
