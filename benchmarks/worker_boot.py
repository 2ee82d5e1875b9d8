"""What a worker of the example application costs that has nothing to do.

The seconds from the start of its process to its first round, the memory that it has
then, and how much of a processor it takes. The floor is a process that imports Flask
and Flask-SQLAlchemy, makes an application with the same databases and connects to
them. The boots take turns, each in a new process, and the bytecode is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .measuring import compare
from .measuring import Subject
from .measuring import verdict
from .model_command import on_postgresql
from .model_command import postgresql

_ROUNDS = 9
_ROOT = Path(__file__).parent.parent
_SHOPS = ("hedgerow", "riverside")
_FLOOR = "Flask and Flask-SQLAlchemy"
_OURS = "flask ecotone run"
#: Seconds until a worker is taken for idle, and how long it is watched then.
_SETTLING = 2.0
_WATCHED = 5.0
_PLAIN = """
import os, pathlib, sys, time
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

def create_app():
    app = Flask("plain")
    app.config["SQLALCHEMY_BINDS"] = {
        key: os.environ[f"{key.upper()}_DATABASE_URL"] for key in sys.argv[2:]
    }
    SQLAlchemy(app)
    return app

app = create_app()
with app.app_context():
    for engine in app.extensions["sqlalchemy"].engines.values():
        if engine.dialect.name != "default":
            engine.connect().close()
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


#: Starts a process; its id, and the seconds until it gave a sign.
Process = Callable[[], AbstractContextManager[tuple[int, float]]]


@dataclass(frozen=True)
class Resting:
    """What a process takes that has nothing to do.

    :param boot: Seconds of a processor that its boot took.
    :param memory: MiB of resident memory.
    :param processor: The share of a processor, in percent.
    """

    boot: float
    memory: float
    processor: float


def _floor(sign: Path) -> list[str]:
    return ["-c", _PLAIN, str(sign), *_SHOPS]


def _worker(sign: Path) -> list[str]:
    run = ["-m", "flask", "--app", "example_app", "ecotone", "run", "notifications"]
    return [*run, "--health-file", str(sign)]


@contextmanager
def _running(
    command: Callable[[Path], list[str]], environment: Mapping[str, str]
) -> Iterator[tuple[int, float]]:
    """Run a process until it gives a sign; yield its id, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        sign = Path(folder) / "alive"
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command(sign)],
            cwd=_ROOT,
            env={**os.environ, **environment},
            stderr=subprocess.DEVNULL,
        )
        try:
            while not sign.exists():
                assert process.poll() is None, "The process has ended."
                time.sleep(0.002)
            yield process.pid, time.perf_counter() - started
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        urls = [f"sqlite:///{Path(folder) / shop}.sqlite" for shop in _SHOPS]
        _report("SQLite", urls)
    on_postgresql(_report_postgresql)


def _report_postgresql(url: str) -> None:
    with postgresql() as other:
        _report("PostgreSQL", [url, other])


def _report(title: str, urls: list[str]) -> None:
    environment = {
        f"{shop.upper()}_DATABASE_URL": url
        for shop, url in zip(_SHOPS, urls, strict=True)
    }
    processes: dict[str, Process] = {
        _FLOOR: lambda: _running(_floor, environment),
        _OURS: lambda: _running(_worker, environment),
    }
    subjects = {name: _booting(process) for name, process in processes.items()}
    for subject in subjects.values():
        subject(1)  # writes bytecode and makes tables
    found = compare(subjects, _FLOOR, rounds=_ROUNDS, count=1)
    resting = {name: _rest(process) for name, process in processes.items()}
    found.show(f"Boots on {title}")
    print(f"\n  {'':26}  {'boot':>7}  {'MiB':>7}  {'idle':>7}")
    for name, each in resting.items():
        print(
            f"  {name:26}  {each.boot:7.2f}  {each.memory:7.1f}  {each.processor:6.2f}%"
        )
    print("\n  boot: seconds of a processor; idle: share of one\n")
    idle = resting[_OURS]
    verdict(f"a worker's boot, {title}", found.median(_OURS), 1.2, "s")
    verdict(f"an idle worker, {title}", idle.memory, 75, "MiB")
    verdict(f"an idle worker, {title}", idle.processor, 2, "% of a processor")


def _booting(process: Process) -> Subject:
    def turn(number: int) -> float:
        with process() as (_, seconds):
            return seconds

    return turn


def _rest(process: Process) -> Resting:
    with process() as (number, _):
        boot = _processor_seconds(number)
        time.sleep(_SETTLING)
        before, started = _processor_seconds(number), time.perf_counter()
        time.sleep(_WATCHED)
        used = _processor_seconds(number) - before
        share = used / (time.perf_counter() - started) * 100
        return Resting(boot, _resident(number), share)


def _processor_seconds(process: int) -> float:
    text = Path(f"/proc/{process}/stat").read_text()
    # The name of the program may have spaces, and ends with the last parenthesis.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / t.cast(int, os.sysconf("SC_CLK_TCK"))


def _resident(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * t.cast(int, os.sysconf("SC_PAGE_SIZE")) / 1_048_576


if __name__ == "__main__":
    main()
