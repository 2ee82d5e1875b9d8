"""Workers as processes that fire a schedule: their deaths, and outages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_ecotone.storage.tables import now_ms

from ..processes import APPS
from ..processes import end
from ..processes import load_app
from ..processes import PATIENCE
from ..processes import until


class Clockroom:
    """The application of this process, and workers in processes of their own."""

    def __init__(self, url: str, directory: Path, module: t.Any) -> None:
        self.module, self._directory = module, directory
        self._environment = {
            **os.environ,
            "CLOCKROOM_DATABASE": url,
            "CLOCKROOM_DIRECTORY": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.workers: list[subprocess.Popen[str]] = []

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        flask = [sys.executable, "-m", "flask", "--app", "clockroom", "ecotone"]
        worker = subprocess.Popen(
            [*flask, "run", "--scheduled", *options],
            cwd=APPS,
            env={**self._environment, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        return worker

    def stop(self, worker: subprocess.Popen[str]) -> str:
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=PATIENCE)
        return said

    @contextmanager
    def held_up(self) -> Iterator[tuple[int, int]]:
        """Hold up a firing in its middle; yield its process and its tick."""
        pipe = self._directory / "pipe"
        os.mkfifo(pipe)
        with open(pipe, "wb"):  # opened once a firing reads
            pipe.unlink()
            process, second = (self._directory / "fired_by").read_text().split()
            yield int(process), int(second)

    def seconds(self) -> list[int]:
        module = self.module
        with module.app.app_context(), module.db.engine.connect() as connection:
            return sorted(connection.scalars(sa.select(module.Stroke.second)))

    def now(self) -> int:
        """The seconds by the clock of the database."""
        module = self.module
        with module.app.app_context(), module.db.engine.connect() as connection:
            return int(connection.scalar(sa.select(now_ms())) or 0) // 1000

    def check_once_each(self) -> None:
        seconds = self.seconds()
        assert seconds == list(range(seconds[0], seconds[-1] + 1))


@pytest.fixture
def clockroom(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clockroom]:
    """A clockroom on SQLite, PostgreSQL and MariaDB in turn."""
    yield from _clockroom(database_url, tmp_path, monkeypatch)


@pytest.fixture
def postgres_clockroom(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clockroom]:
    """A clockroom on PostgreSQL."""
    yield from _clockroom(postgres_url, tmp_path, monkeypatch)


def _clockroom(
    url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clockroom]:
    monkeypatch.setenv("CLOCKROOM_DATABASE", url)
    monkeypatch.setenv("CLOCKROOM_DIRECTORY", str(directory))
    module = load_app("clockroom", monkeypatch)
    with module.app.app_context():
        module.db.create_all()
    room = Clockroom(url, directory, module)
    yield room
    end(room.workers)


def test_a_killed_worker_leaves_its_tick_to_another(clockroom: Clockroom) -> None:
    """What it did is rolled back; every tick is fired once, this one included."""
    workers = [clockroom.start() for _ in range(3)]
    until(lambda: bool(clockroom.seconds()))
    for _ in range(2):
        with clockroom.held_up() as (process, second):
            (killed,) = [each for each in workers if each.pid == process]
            killed.kill()
            killed.wait()
            assert second not in clockroom.seconds()
        workers.remove(killed)
        until(lambda tick=second: max(clockroom.seconds(), default=0) > tick)
        assert second in clockroom.seconds()
    said = clockroom.stop(workers[0])
    assert "failed" not in said.replace("0 failed", "")
    clockroom.check_once_each()


def test_a_lost_connection_leaves_the_tick_to_be_fired(
    postgres_clockroom: Clockroom,
) -> None:
    """The worker that fired it fires it again once the database is back."""
    clockroom = postgres_clockroom
    worker = clockroom.start()
    for _ in range(2):
        with clockroom.held_up() as (process, second):
            assert process == worker.pid
            with clockroom.module.app.app_context():
                with clockroom.module.db.engine.connect() as connection:
                    connection.execute(_TERMINATE)
        until(lambda tick=second: max(clockroom.seconds(), default=0) > tick)
        assert second in clockroom.seconds()
    said = clockroom.stop(worker)
    assert "is gone; trying again" in said
    assert "failed at its tick" not in said
    assert worker.returncode == 0
    clockroom.check_once_each()


_TERMINATE: t.Final = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_failure_stops_a_worker_that_is_to_stop(clockroom: Clockroom) -> None:
    """It is counted as one, and the exit code is 1; nothing of the work is left."""
    worker = clockroom.start("--stop-on-failure", CLOCKROOM_BROKEN="1")
    _, said = worker.communicate(timeout=PATIENCE)
    assert "'strike' failed at its tick" in said
    assert "no hammer" in said
    assert "Stopped (a message failed): 0 messages handled, 1 failed." in said
    assert worker.returncode == 1
    assert clockroom.seconds() == []


def test_ticks_follow_the_clock_of_the_database(clockroom: Clockroom) -> None:
    """Workers whose clocks are an hour off fire each tick once, when it is due."""
    began = clockroom.now()
    for hour in (-1, 1):
        worker = clockroom.start(CLOCKROOM_CLOCK=str(hour * 3600))
        goal = len(clockroom.seconds()) + 2
        until(lambda goal=goal: len(clockroom.seconds()) >= goal)
        assert "the clock is wrong" in clockroom.stop(worker)
    clockroom.check_once_each()
    assert began <= clockroom.seconds()[0]
    assert clockroom.seconds()[-1] <= clockroom.now()
