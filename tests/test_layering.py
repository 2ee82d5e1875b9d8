"""The rooms of the house and who may walk where, read from the imports.

The package is parsed, never imported. docs/architecture explains the layers; a new
room gets its place in ``LAYERS`` below and in the table there.
"""

from __future__ import annotations

import ast
import sys
import typing as t
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flask_ecotone"

#: Rooms by layer. A dotted name is a part of a room that stands on a layer of its own.
LAYERS: t.Final[dict[int, tuple[str, ...]]] = {
    0: ("errors", "message", "definitions", "signals", "reflection", "retries"),
    1: ("context", "console", "conversion", "decorators"),
    2: (
        "discovery",
        "services",
        "storage.apart",
        "storage.deduplication",
        "storage.failures",
        "storage.plans",
        "storage.protocols",
        "storage.tables",
        "storage.texts",
        "channels.protocols",
    ),
    3: ("handling", "tenancy", "storage", "channels"),
    4: ("modelling", "projecting"),
    5: ("system",),
    6: ("gateways", "consuming"),
    7: (
        "extension",
        "configuration",
        "databases",
        "declarations",
        "messaging",
        "state",
        "scanning",
        "globals",
        "threads",
        "cli",
        "testing",
        "dashboard",
    ),
}
LAYER_OF: t.Final = {room: layer for layer, rooms in LAYERS.items() for room in rooms}
DOOR: t.Final = 7

#: Rooms of these layers may import one another; elsewhere only lower layers are open.
OPEN_LAYERS: t.Final = frozenset({0, DOOR})

#: What layer 0 may import besides the standard library.
TRAVELLING: t.Final = frozenset({"blinker"})

#: Rooms that see the storage only through its protocols.
BEHIND_PROTOCOLS: t.Final = frozenset({"modelling", "projecting"})

FLASK: t.Final = ("flask", "flask_sqlalchemy", "svcs.flask")
#: May name ``flask_sqlalchemy`` in annotations, under ``TYPE_CHECKING``.
FLASK_SQLALCHEMY_TYPES: t.Final = frozenset({"storage", "tenancy"})
SQLALCHEMY: t.Final = frozenset({"storage", "tenancy", "channels"})

MAX_FILE_LINES: t.Final = 450
MAX_FUNCTION_LINES: t.Final = 60

#: Imports of our own modules inside functions: (importer, imported) -> reason.
LATE_IMPORTS: t.Final[dict[tuple[str, str], str]] = {}
MAX_LATE_IMPORTS: t.Final = 5


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, as an absolute dotted name."""

    name: str
    line: int
    is_for_typing: bool
    is_late: bool

    def is_of(self, *packages: str) -> bool:
        return any(_is_within(self.name, package) for package in packages)


class ImportReader(ast.NodeVisitor):
    """Collect the imports of one module and where they stand."""

    def __init__(self, module: str, is_package: bool) -> None:
        self.imports: list[Import] = []
        self._package = module if is_package else module.rpartition(".")[0]
        self._is_for_typing = False
        self._is_late = False

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = node.module or ""

        if node.level:
            parents = self._package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            source = ".".join([*parents, *([source] if source else [])])

        for alias in node.names:
            self._add(source if alias.name == "*" else f"{source}.{alias.name}", node)

    def visit_If(self, node: ast.If) -> None:
        earlier = self._is_for_typing
        self._is_for_typing = earlier or _is_type_checking(node.test)

        for statement in node.body:
            self.visit(statement)

        self._is_for_typing = earlier

        for statement in node.orelse:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        earlier = self._is_late
        self._is_late = True
        self.generic_visit(node)
        self._is_late = earlier

    visit_AsyncFunctionDef = visit_FunctionDef

    def _add(self, name: str, node: ast.stmt) -> None:
        self.imports.append(
            Import(name, node.lineno, self._is_for_typing, self._is_late)
        )


class Module:
    """A module as its source tells."""

    def __init__(self, path: Path, package: Path) -> None:
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        is_package = parts[-1] == "__init__"

        if is_package:
            parts.pop()

        self.name = ".".join(parts)
        self.inner_name = ".".join(parts[1:])
        self.path = path.relative_to(package.parent)
        self.source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source, str(path))
        reader = ImportReader(self.name, is_package)
        reader.visit(self.tree)
        self.imports = reader.imports

    @property
    def room(self) -> str:
        return self.inner_name.partition(".")[0]

    @cached_property
    def layer(self) -> int:
        return layer_of(self.inner_name)


class House:
    """All modules of the package, and the rules they are held against."""

    def __init__(
        self,
        package: Path,
        late_imports: t.Mapping[tuple[str, str], str] = LATE_IMPORTS,
    ) -> None:
        modules = [Module(path, package) for path in sorted(package.rglob("*.py"))]
        self.package = package.name
        self.modules = {module.name: module for module in modules}
        self.late_imports = late_imports

    def unknown_rooms(self) -> t.Iterator[str]:
        """Find modules that have no layer."""
        for module in self.modules.values():
            if module.room and module.room not in LAYER_OF:
                yield (
                    f"{module.path}: the room {module.room!r} has no layer. Add it to"
                    " LAYERS in tests/test_layering.py and to the table in"
                    " docs/architecture."
                )

    def wrong_layers(self) -> t.Iterator[str]:
        """Find imports of a room that the importer must not know."""
        for module, item, target in self._inner_imports():
            if not _may_import(module, target):
                yield (
                    f"{module.path}:{item.line}: {module.inner_name} (layer"
                    f" {module.layer}) imports {target.inner_name or self.package}"
                    f" (layer {target.layer})"
                )
            elif module.room in BEHIND_PROTOCOLS and target.room == "storage":
                if target.layer != LAYER_OF["storage.protocols"]:
                    yield (
                        f"{module.path}:{item.line}: {module.inner_name} imports"
                        f" {target.inner_name}; only storage.protocols is open to it"
                    )

    def wrong_libraries(self) -> t.Iterator[str]:
        """Find third-party imports in rooms that must work without them."""
        for module in self.modules.values():
            for item in module.imports:
                if item.is_of(self.package) or module.layer == DOOR:
                    continue

                if reason := _why_closed(module, item):
                    yield f"{module.path}:{item.line}: imports {item.name}; {reason}"

    def cycles(self) -> t.Iterator[str]:
        """Find modules that import each other."""
        graph: dict[str, set[str]] = {name: set() for name in self.modules}

        for module, item, target in self._inner_imports():
            if not item.is_late and target is not module:
                graph[module.name].add(target.name)

        for cycle in find_cycles(graph):
            yield f"import cycle: {', '.join(sorted(cycle))}"

    def sizes(self) -> t.Iterator[str]:
        """Find files and functions that want a wall."""
        for module in self.modules.values():
            lines = module.source.splitlines()

            if len(lines) > MAX_FILE_LINES:
                yield f"{module.path}: {len(lines)} lines, {MAX_FILE_LINES} are allowed"

            for node in ast.walk(module.tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    count = count_code_lines(node, lines)

                    if count > MAX_FUNCTION_LINES:
                        yield (
                            f"{module.path}:{node.lineno}: {node.name} has {count}"
                            f" lines, {MAX_FUNCTION_LINES} are allowed"
                        )

    def late_import_problems(self) -> t.Iterator[str]:
        """Find own imports inside functions that nobody gave a reason for."""
        found = {
            (module.inner_name, target.inner_name): f"{module.path}:{item.line}"
            for module, item, target in self._inner_imports()
            if item.is_late
        }

        for pair, place in found.items():
            if not self.late_imports.get(pair):
                yield (
                    f"{place}: imports {pair[1]} inside a function. Move it to the top"
                    " or give the reason in LATE_IMPORTS in tests/test_layering.py."
                )

        for pair in self.late_imports.keys() - found.keys():
            yield f"LATE_IMPORTS lists {pair}, which is not in the code any more"

        if len(found) > MAX_LATE_IMPORTS:
            yield f"{len(found)} imports inside functions, at most {MAX_LATE_IMPORTS}"

    def _inner_imports(self) -> t.Iterator[tuple[Module, Import, Module]]:
        for module in self.modules.values():
            for item in module.imports:
                if item.is_of(self.package):
                    yield module, item, self._module_of(item.name)

    def _module_of(self, name: str) -> Module:
        while name not in self.modules:
            name = name.rpartition(".")[0]

        return self.modules[name]


def layer_of(inner_name: str) -> int:
    """The layer of a module; the package itself and unknown rooms are at the door."""
    while inner_name not in LAYER_OF and "." in inner_name:
        inner_name = inner_name.rpartition(".")[0]

    return LAYER_OF.get(inner_name, DOOR)


def _may_import(module: Module, target: Module) -> bool:
    if target.layer < module.layer:
        return True

    is_neighbour = module.room == target.room or module.layer in OPEN_LAYERS
    return target.layer == module.layer and is_neighbour


def _why_closed(module: Module, item: Import) -> str | None:
    if item.is_of(*FLASK):
        is_type = item.is_for_typing and item.is_of("flask_sqlalchemy")

        if not (is_type and module.room in FLASK_SQLALCHEMY_TYPES):
            return f"Flask stays at the door (layer {DOOR})"
    elif item.is_of("sqlalchemy") and module.room not in SQLALCHEMY:
        return f"only {', '.join(sorted(SQLALCHEMY))} and the door know the database"

    top = item.name.partition(".")[0]

    if module.layer == 0 and top not in sys.stdlib_module_names | TRAVELLING:
        return "what travels needs the standard library and blinker only"

    return None


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_type_checking(test: ast.expr) -> bool:
    if isinstance(test, ast.Attribute):
        return test.attr == "TYPE_CHECKING"

    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def count_code_lines(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: t.Sequence[str]
) -> int:
    """Count the lines of a function without docstring, comments and blank lines."""
    numbers = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))

    if ast.get_docstring(node, clean=False) is not None:
        docstring = node.body[0]
        last = docstring.end_lineno or docstring.lineno
        numbers -= set(range(docstring.lineno, last + 1))

    texts = (lines[number - 1].strip() for number in numbers)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def find_cycles(graph: t.Mapping[str, t.Collection[str]]) -> list[set[str]]:
    """Find the strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)

        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])

        if low[node] == index[node]:
            start = stack.index(node)
            component = set(stack[start:])
            del stack[start:]

            if len(component) > 1:
                cycles.append(component)

    for node in graph:
        if node not in index:
            visit(node)

    return cycles


RULES: t.Final = {
    "rooms": House.unknown_rooms,
    "layers": House.wrong_layers,
    "libraries": House.wrong_libraries,
    "cycles": House.cycles,
    "sizes": House.sizes,
    "late-imports": House.late_import_problems,
}


@pytest.fixture(scope="module")
def house() -> House:
    """The package of this checkout."""
    return House(PACKAGE)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_house_keeps_the_rule(
    house: House, rule: t.Callable[[House], t.Iterator[str]]
) -> None:
    """Every module of the package keeps the architecture's rules."""
    assert house.modules, f"there is no package in {PACKAGE}"
    problems = list(rule(house))

    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_late_imports_name_their_reason() -> None:
    """The list of imports inside functions is short and explained."""
    assert len(LATE_IMPORTS) <= MAX_LATE_IMPORTS
    assert all(reason.strip() for reason in LATE_IMPORTS.values())


def build(folder: Path, files: t.Mapping[str, str]) -> Path:
    """Write a tiny package and return its folder."""
    package = folder / "flask_ecotone"

    for name, source in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")

    return package


def problems_in(house: House) -> dict[str, list[str]]:
    """All problems by the name of the rule, without the rules that hold."""
    found = {name: list(rule(house)) for name, rule in RULES.items()}
    return {name: problems for name, problems in found.items() if problems}


TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


def test_lawful_house_has_no_problems(tmp_path: Path) -> None:
    """Imports of lower layers, of the own room and at the door are all allowed."""
    package = build(
        tmp_path,
        {
            "__init__.py": "from .extension import Ecotone as Ecotone\n",
            "errors.py": "class EcotoneError(Exception): ...\n",
            "message.py": "import blinker\nfrom .errors import EcotoneError\n",
            "storage/__init__.py": "from .protocols import Repository as Repository\n",
            "storage/protocols.py": "from ..message import Message\n",
            "storage/models.py": (
                f"import sqlalchemy\nfrom . import protocols\n"
                f"{TYPES}from flask_sqlalchemy import SQLAlchemy\n"
            ),
            "modelling/aggregates.py": "from ..storage.protocols import Repository\n",
            "system/__init__.py": "from flask_ecotone.modelling import aggregates\n",
            "extension.py": "import flask\nfrom . import globals\nfrom . import system",
            "globals.py": "from flask import current_app\nimport sqlalchemy\n",
        },
    )
    assert problems_in(House(package)) == {}


@pytest.mark.parametrize(
    ("files", "rule", "part"),
    [
        ({"cellar.py": ""}, "rooms", "'cellar' has no layer. Add it to LAYERS"),
        ({"cellar/wine.py": ""}, "rooms", "'cellar' has no layer"),
        ({"message.py": "from .system import x"}, "layers", "message (layer 0)"),
        ({"message.py": "from . import x"}, "layers", "imports flask_ecotone"),
        ({"message.py": f"{TYPES}from .system import x"}, "layers", "message.py:3"),
        ({"message.py": "import flask_ecotone.system"}, "layers", "system (layer 5)"),
        ({"handling/a.py": "from ..tenancy import x"}, "layers", "handling.a"),
        (
            {"storage/protocols.py": "from .models import x"},
            "layers",
            "storage.protocols (layer 2) imports storage.models (layer 3)",
        ),
        (
            {"modelling/a.py": "from ..storage.models import x"},
            "layers",
            "only storage.protocols is open to it",
        ),
        ({"handling/a.py": "import flask"}, "libraries", "Flask stays at the door"),
        ({"services.py": "from svcs import flask"}, "libraries", "Flask stays"),
        ({"storage/a.py": "import flask_sqlalchemy"}, "libraries", "Flask stays"),
        ({"storage/a.py": f"{TYPES}import flask"}, "libraries", "Flask stays"),
        (
            {"handling/a.py": f"{TYPES}from sqlalchemy.orm import Session"},
            "libraries",
            "know the database",
        ),
        ({"message.py": "import msgspec"}, "libraries", "what travels needs"),
        (
            {"handling/a.py": "from . import b", "handling/b.py": "from .a import x"},
            "cycles",
            "flask_ecotone.handling.a, flask_ecotone.handling.b",
        ),
        (
            {
                "handling/a.py": f"{TYPES}from .b import x",
                "handling/b.py": "from .c import x",
                "handling/c.py": "from .a import x",
            },
            "cycles",
            "handling.a, flask_ecotone.handling.b, flask_ecotone.handling.c",
        ),
        ({"errors.py": "x = 1\n" * 451}, "sizes", "451 lines, 450 are allowed"),
        (
            {"errors.py": "def f():\n    '''Doc.'''\n" + "    x = 1\n" * 60},
            "sizes",
            "f has 61 lines, 60 are allowed",
        ),
        (
            {"errors.py": "", "message.py": "def f():\n    from .errors import x\n"},
            "late-imports",
            "message.py:2: imports errors inside a function",
        ),
    ],
)
def test_violation_is_caught(
    tmp_path: Path, files: dict[str, str], rule: str, part: str
) -> None:
    """Each rule names the place that breaks it, and no other rule complains."""
    rooms = {"system.py": "", "tenancy/__init__.py": "", "storage/models.py": ""}
    problems = problems_in(House(build(tmp_path, {**rooms, **files})))

    assert list(problems) == [rule]
    assert part in "\n".join(problems[rule])


def test_docstrings_comments_and_blank_lines_are_free(tmp_path: Path) -> None:
    """Explaining a function never makes it too long."""
    source = "def f():\n    '''Doc.\n" + "\n" * 30 + "    '''\n"
    source += "    # why\n\n" * 30 + "    x = 1\n" * 59
    assert problems_in(House(build(tmp_path, {"errors.py": source}))) == {}


def test_listed_late_import_is_allowed(tmp_path: Path) -> None:
    """An import inside a function passes with a reason, and a stale entry does not."""
    source = "def f():\n    from .errors import x\n"
    package = build(tmp_path, {"errors.py": "", "message.py": source})
    listed = {("message", "errors"): "heavy and rarely needed"}
    stale = {("message", "signals"): "was needed once"}

    assert problems_in(House(package, listed)) == {}
    (problem,) = problems_in(House(package, {**listed, **stale}))["late-imports"]
    assert "not in the code any more" in problem


def test_late_imports_are_limited(tmp_path: Path) -> None:
    """Reasons do not help beyond the limit."""
    names = ["errors", "message", "definitions", "signals", "context", "decorators"]
    lines = [f"    from . import {name}\n" for name in names]
    files = {f"{name}.py": "" for name in names}
    files["discovery.py"] = "def f():\n" + "".join(lines)
    listed = {("discovery", name): "a test" for name in names}

    problems = problems_in(House(build(tmp_path, files), listed))
    assert problems == {"late-imports": ["6 imports inside functions, at most 5"]}
