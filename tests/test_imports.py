"""The engine's rooms stand in a row; a module imports from rooms before its own, never from later ones."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "emeval"
ROOMS = (
    "errors",
    "templates",
    "definitions",
    "library",
    "prices",
    "manifest",
    "gold",
    "comparability",
    "prepared",
    "published",
    "fetching",
    "models",
    "budget",
    "journal",
    "judging",
    "solvers",
    "tasks",
    "logs",
    "registry",
    "archives",
    "samples",
    "responses",
    "statistics",
    "cards",
    "reporting",
    "runs",
    "comparing",
    "importing",
    "exporting",
    "labelling",
    "calibrating",
    "gate",
    "planning",
    "stopping",
    "progress",
    "asking",
    "rejudging",
    "shards",
    "execution",
    "costing",
    "catalogue",
    "sweeping",
    "wide",
    "carding",
    "cues",
    "doctor",
    "cli",
)


def room(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> set[str]:
    """The modules of emeval that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            if node.module == "emeval":
                found |= {f"emeval.{alias.name}" for alias in node.names if alias.name != "__version__"}
            elif node.module:
                found.add(node.module)
    return {module for module in found if module.startswith("emeval.")}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_room_and_those_before_it(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    own = ROOMS.index(parts[0])
    later = {module for module in imports(path) if ROOMS.index(room(module)) > own}
    assert not later, f"{path.name} is in the room {ROOMS[own]!r} and imports from later ones"


def test_every_room_is_there() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set(ROOMS)
