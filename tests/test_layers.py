"""A module imports from lower layers and its own package only; imports inside functions count.

The design's layers, with three steps inside them: rooms of one line below do not know each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "understudy"
LAYERS = (
    ("errors", "ragged"),  # under everything: whoever fails says so in one tree; rows of different lengths
    ("passages",),  # a kind of answer
    ("answers", "extras", "files", "records", "tags", "wording"),
    ("encoding",),  # writes its vocabulary files
    ("features",),  # students name the layers that it captures
    ("signals",),  # names what features.py captures
    ("data", "objectives", "report", "runtime", "statistics", "students", "targets"),
    ("baselines", "endpoints"),  # a task names the baselines that fit it; a teacher may be an endpoint
    ("tasks", "teachers"),
    ("evaluation", "export", "generation", "training"),
    ("pipeline",),
    ("search", "serve"),
    ("cli",),
    ("__init__", "__main__"),
)
LAYER = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def rooms_imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from understudy import data` imports a room, `from understudy import __version__` a light name
            whole = node.module == "understudy"
            names = (
                [f"understudy.{a.name}" for a in node.names if a.name != "__version__"]
                if whole
                else [node.module or ""]
            )
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "understudy":
                yield rest.partition(".")[0] or "__init__"


def forbidden(path: Path, text: str) -> list[str]:
    me = room_of(path)
    return sorted({room for room in rooms_imported(ast.parse(text)) if room != me and LAYER[room] >= LAYER[me]})


def test_every_room_has_a_layer() -> None:
    rooms = {room_of(path) for path in SOURCE.rglob("*.py")}
    assert len(rooms) > 15
    assert rooms - LAYER.keys() == set()


def test_no_room_knows_a_higher_one_or_its_neighbour() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 60
    found = {str(path.relative_to(SOURCE)): forbidden(path, path.read_text(encoding="utf-8")) for path in files}
    assert {name: rooms for name, rooms in found.items() if rooms} == {}


@pytest.mark.parametrize(
    ("room", "text", "wrong"),
    [
        ("report", "from understudy.statistics import wilson", ["statistics"]),
        ("training", "def f():\n    import understudy.evaluation.verdict", ["evaluation"]),
        ("data", "from understudy import tasks, __version__", ["tasks"]),
        ("records", "import understudy", ["__init__"]),
        ("tasks", "from understudy.data import load\nfrom understudy.tasks.text import x", []),
    ],
)
def test_the_walk_finds_what_it_must(room: str, text: str, wrong: list[str]) -> None:
    assert forbidden(SOURCE / room / "module.py", text) == wrong


def test_nobody_imports_by_dots() -> None:
    relative = [
        str(path)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
