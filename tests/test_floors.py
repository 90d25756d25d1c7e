"""The house stays as docs/en/architecture.md draws it: imports go down the floors, and never in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "ppcls_ext"
#: From the ground up; modules on one floor may import each other, but not in a circle.
FLOORS = [
    ("utils", "version"),
    ("registry",),
    ("plugin", "checkout", "data", "losses", "metrics", "optim"),
    ("arch",),
    ("weights",),
    ("factory",),
    ("config",),
    ("engine",),
    ("analysis",),
    ("workflow",),
    ("", "cli", "__main__"),  # "" is ppcls_ext/__init__.py, which offers the package's public names
    ("tools",),
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: Path = ROOT) -> dict:
    """Map the dotted name of each module of the package and of tools/ to its file."""
    found = {}
    for folder in (PACKAGE, "tools"):
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """Return the room of a module: the package's first level below its top."""
    top, *rest = module.split(".")
    return top if top != PACKAGE else (rest[0] if rest else "")


def imports_of(module: str, path: Path, known: dict) -> set:
    """Return the modules that ``path`` imports anywhere: at its top, in functions, or for type checking alone."""
    found = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            # `from package import module` depends on the module; `from module import name` on the module itself.
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
        found.update(name for name in names if name in known and name != module)
    return found


def arrows(root: Path = ROOT) -> dict:
    """Map each module to the modules that it imports."""
    known = modules(root)
    return {module: imports_of(module, path, known) for module, path in known.items()}


def climbing(graph: dict) -> list:
    """Return the imports that go up, as sentences."""
    return sorted(
        f"{module} (floor {FLOOR_OF[room_of(module)]}) imports {target} (floor {FLOOR_OF[room_of(target)]})"
        for module, targets in graph.items()
        for target in targets
        if FLOOR_OF[room_of(target)] > FLOOR_OF[room_of(module)]
    )


def circles(graph: dict) -> list:
    """Return the groups of modules that import each other in a circle (strongly connected components)."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in graph[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            component = []
            while module not in component:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for module in graph:
        if module not in index:
            visit(module)
    return sorted(found)


def rooms_graph(graph: dict) -> dict:
    """Return the imports between rooms."""
    joined = {}
    for module, targets in graph.items():
        rooms = {room_of(target) for target in targets} - {room_of(module)}
        joined.setdefault(room_of(module), set()).update(rooms)
    return joined


def test_every_room_has_a_floor():
    assert {room_of(module) for module in modules()} - set(FLOOR_OF) == set()


def test_imports_go_down():
    assert climbing(arrows()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(arrows()) == []


def test_no_rooms_import_each_other_in_a_circle():
    assert circles(rooms_graph(arrows())) == []


def test_no_file_is_longer_than_500_lines():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules().values()}
    assert {path: length for path, length in lengths.items() if length > 500} == {}


@pytest.mark.parametrize(
    "file, text, up, round_",
    [
        ("utils/a.py", "from ppcls_ext.data import b", 1, 0),
        ("utils/a.py", "def f():\n    import ppcls_ext.engine.c", 1, 0),
        ("data/a.py", "from ppcls_ext.utils import a\nfrom ppcls_ext.data.b import x", 0, 0),
        ("data/a.py", "from .b import x\nif TYPE_CHECKING:\n    from ppcls_ext.data import d", 0, 1),
    ],
)
def test_the_rules_find_what_they_forbid(tmp_path, file, text, up, round_):
    files = {"utils/a.py": "", "data/b.py": "", "data/d.py": "import ppcls_ext.data.a", "engine/c.py": "", file: text}
    for name, content in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(content)
    graph = arrows(tmp_path)
    assert (len(climbing(graph)), len(circles(graph))) == (up, round_)
