"""What compiling takes, beyond importing the modules with the handlers.

Beside it stands the least that a compiler does: look at each signature and resolve its
type hints. Every figure is the first compile of a new process.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import json
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import typing as t
from pathlib import Path

from flask import Flask

from flask_ecotone import Ecotone

from .measuring import verdict

_COUNTS = (10, 100, 1000)
_PACKAGE = "benchmark_handlers"
_PER_MODULE = 10
_ROUNDS = 7
_ROOT = Path(__file__).parent.parent

_IMPORTS = """\
from dataclasses import dataclass
from typing import Annotated
from flask_ecotone import Header, Message
from flask_ecotone import command_handler, event_handler, query_handler
"""
_SERVICE = """
class Mailer{number}:
    pass

class Service{number}:
    def __init__(self, mailer: Mailer{number}) -> None:
        self.mailer = mailer
"""
_MESSAGE = """
@dataclass(frozen=True)
class {name}:
    number: int
    text: str = ""
"""
#: Ten handlers of a module, as an application has them.
_HANDLERS = [
    ("command", "    @command_handler\n    def {do}(self, command: {cls}) -> int:"),
    ("command", "    @command_handler\n    def {do}(self, command: {cls}) -> int:"),
    ("query", '    @query_handler("{do}")\n    def {do}(self) -> int:'),
    ("event", "    @event_handler\n    def {do}(self, event: {cls}) -> None:"),
    ("event", "    @event_handler\n    def {do}(self, event: {cls}) -> None:"),
    ("command", "@command_handler\ndef {do}(command: {cls}) -> int:"),
    ("command", "@command_handler\ndef {do}(command: {cls}, message: Message) -> int:"),
    ("query", "@query_handler\ndef {do}(query: {cls}, mailer: Mailer{m}) -> int:"),
    (
        "event",
        "@event_handler\ndef {do}(\n    event: {cls},"
        ' user: Annotated[str | None, Header("user")] = None\n) -> None:',
    ),
    ("event", '@event_handler("event.{do}")\ndef {do}(event: {cls}) -> None:'),
]


def write_package(folder: Path, handlers: int) -> None:
    """Write modules with handlers, ten in each."""
    package = folder / _PACKAGE
    package.mkdir()
    (package / "__init__.py").touch()
    for number in range(handlers // _PER_MODULE):
        body, messages = [], []
        for index, (kind, code) in enumerate(_HANDLERS):
            cls, do = f"{kind.title()}{number}x{index}", f"{kind}_{number}_{index}"
            messages.append(_MESSAGE.format(name=cls))
            indent = "        " if code.startswith(" ") else "    "
            body.append(f"{code.format(do=do, cls=cls, m=number)}\n{indent}return 1\n")
        service = _SERVICE.format(number=number)
        text = "\n".join([_IMPORTS, *messages, service, *body])
        (package / f"module_{number}.py").write_text(text)


def compile_once(folder: str, *, traced: bool) -> dict[str, float]:
    """Import the modules, then compile them, and return what that took."""
    sys.path.insert(0, folder)
    package = importlib.import_module(_PACKAGE)
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{_PACKAGE}.{name}") for name in names]
    _warm_up()
    app = Flask(_PACKAGE)
    ecotone = Ecotone(app, packages=[_PACKAGE])
    gc.collect()
    with app.app_context():
        if traced:
            tracemalloc.start()
            system = ecotone.compile()
            gc.collect()
            return {"memory": tracemalloc.get_traced_memory()[0]}
        started = time.perf_counter()
        system = ecotone.compile()
        taken = time.perf_counter() - started
    functions = [each.marked.function for each in system.endpoints]
    assert len(functions) == len(modules) * _PER_MODULE
    started = time.perf_counter()
    for function in functions:
        inspect.signature(function)
        t.get_type_hints(function, include_extras=True)
    return {"compile": taken, "floor": time.perf_counter() - started}


def _warm_up() -> None:
    # What is the same for any number of handlers is in the figure for none.
    app = Flask("warm_up")
    with app.app_context():
        Ecotone(app, packages=[]).compile()


def _measure(folder: str, *options: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compile", "--once", folder, *options],
        cwd=_ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return t.cast("dict[str, float]", json.loads(done.stdout))


def main() -> None:
    """Print the figures."""
    print("\nCompiling handlers whose modules are imported\n")
    print(f"  {'handlers':>8}  {'ms':>8}  {'ms over':>8}  {'ratio':>6}  {'kB':>8}")
    with tempfile.TemporaryDirectory() as root:
        folders = {count: Path(root, str(count)) for count in _COUNTS}
        for count, folder in folders.items():
            folder.mkdir()
            write_package(folder, count)
            _measure(str(folder))  # writes the bytecode
        runs: dict[int, list[dict[str, float]]] = {count: [] for count in _COUNTS}
        for _ in range(_ROUNDS):
            for count, folder in folders.items():
                runs[count].append(_measure(str(folder)))
        for count, folder in folders.items():
            memory = _measure(str(folder), "--traced")["memory"]
            _show(count, runs[count], memory)
    print(f"\n  medians of {_ROUNDS} processes; 'over' and 'ratio': to signatures and")
    print("  type hints alone\n")
    slowest = statistics.median(run["compile"] for run in runs[_COUNTS[-1]]) * 1e3
    verdict(f"compiling {_COUNTS[-1]} handlers", slowest, 150, "ms")


def _show(count: int, runs: list[dict[str, float]], memory: float) -> None:
    taken = statistics.median(run["compile"] for run in runs) * 1e3
    over = statistics.median(run["compile"] - run["floor"] for run in runs) * 1e3
    ratio = statistics.median(run["compile"] / run["floor"] for run in runs)
    print(f"  {count:8}  {taken:8.1f}  {over:8.1f}  {ratio:6.1f}  {memory / 1e3:8,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--once", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once is None:
        main()
    else:
        print(json.dumps(compile_once(options.once, traced=options.traced)))
