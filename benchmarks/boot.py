"""What a boot takes that finds a manifest, beside one that scans.

A boot is from the factory of the application to its compiled system. The process, Flask
and Flask-Ecotone were there before. The boots take turns, each in a new process.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from flask import Flask

from flask_ecotone import Ecotone

from .measuring import verdict

_PACKAGE = "benchmark_shop"
_MODULES = 200
_PER_MODULE = 5
_ROUNDS = 9
#: In this order the second writes what the third finds.
_KINDS = ("scan", "scan, write", "manifest")
_ROOT = Path(__file__).parent.parent

_FACTORY = """\
from flask import Flask
from flask_ecotone import Ecotone

ecotone = Ecotone()

def create_app():
    app = Flask(__name__)
    app.config["ECOTONE_ENVIRONMENT"] = "production"
    ecotone.init_app(app)
    return app
"""
_IMPORTS = """\
from dataclasses import dataclass
from flask_ecotone import command_handler, event_handler, query_handler
"""
_MESSAGE = """
@dataclass(frozen=True)
class Message{index}:
    number: int
"""
#: Five handlers of a module.
_HANDLERS = """
@command_handler
def do_0(command: Message0) -> int:
    return command.number

@command_handler("do.{number}")
def do_1(command: Message1) -> int:
    return command.number

@query_handler
def ask_2(query: Message2) -> int:
    return query.number

@event_handler
def hear_3(event: Message3) -> None: ...

@event_handler
def hear_4(event: Message4) -> None: ...
"""


def write_package(folder: Path) -> None:
    """Write an application with many modules, five handlers in each."""
    package = folder / _PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text(_FACTORY)
    messages = [_MESSAGE.format(index=index) for index in range(_PER_MODULE)]
    for number in range(_MODULES):
        handlers = _HANDLERS.format(number=number)
        text = "".join([_IMPORTS, *messages, handlers])
        (package / f"module_{number}.py").write_text(text)


def boot_once(folder: str) -> dict[str, float]:
    """Boot, then send one command, and return what that took."""
    sys.path.insert(0, folder)
    package = importlib.import_module(_PACKAGE)
    _warm_up()
    gc.collect()
    started = time.perf_counter()
    app = package.create_app()
    with app.app_context():
        package.ecotone.compile()
        booted = time.perf_counter()
        bus = package.ecotone.command_bus
        assert bus.send_with_routing(f"do.{_MODULES // 2}", {"number": 7}) == 7
        ended = time.perf_counter()
    imported = sum(name.startswith(f"{_PACKAGE}.") for name in sys.modules)
    return {
        "boot": booted - started,
        "first": ended - started,
        "imported": imported,
    }


def _warm_up() -> None:
    # What is the same for any number of handlers is in neither figure.
    app = Flask("warm_up")
    with app.app_context():
        Ecotone(app, packages=[]).compile()


def _measure(folder: Path, kind: str) -> dict[str, float]:
    if kind == "scan, write":
        shutil.rmtree(folder / "instance", ignore_errors=True)
    is_cached = str(kind != "scan")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.boot", "--once", str(folder)],
        cwd=_ROOT,
        env={**os.environ, "ECOTONE_CACHE_CONFIGURATION": is_cached},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = t.cast("dict[str, float]", json.loads(done.stdout))
    assert found["imported"] == (1 if kind == "manifest" else _MODULES)
    return found


def main() -> None:
    """Print the figures."""
    count = _MODULES * _PER_MODULE
    print(f"\nBooting {count} handlers in {_MODULES} modules\n")
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        write_package(folder)
        _measure(folder, "scan")  # writes the bytecode
        for _ in range(_ROUNDS):
            for kind in _KINDS:
                runs[kind].append(_measure(folder, kind))
    print(f"  {'':11}  {'ms':>8}  {'ms to the first reply':>21}")
    for name, found in runs.items():
        boot, first = (_median(found, key) * 1e3 for key in ("boot", "first"))
        print(f"  {name:11}  {boot:8.1f}  {first:21.1f}")
    print(f"\n  medians of {_ROUNDS} processes, with the bytecode of the modules\n")
    pairs = zip(runs["scan"], runs["manifest"], strict=True)
    share = statistics.median(warm["first"] / cold["first"] for cold, warm in pairs)
    verdict("a boot with a manifest, of one that scans", share * 100, 20, "%")


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--once", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once is None:
        main()
    else:
        print(json.dumps(boot_once(options.once)))
