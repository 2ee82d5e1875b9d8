"""A mailroom: an application, and its workers in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

APPS = Path(__file__).parent.parent / "apps"
_PATIENCE = 60.0
_tick = threading.Event()


def until(condition: Callable[[], bool], patience: float = _PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        _tick.wait(0.02)


class Mailroom:
    """The application of this process, and workers in processes of their own."""

    def __init__(self, url: str, module: t.Any) -> None:
        self.url, self.module = url, module
        self.workers: list[subprocess.Popen[str]] = []

    def publish(self, *numbers: int, **options: t.Any) -> None:
        db = self.module.db
        with self.module.app.app_context():
            db.session.execute(sa.text("SELECT 1"))
            for number in numbers:
                event = self.module.LetterCame(number, **options)
                self.module.ecotone.event_bus.publish(event)
            db.session.commit()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flask", "--app", "mailroom", "ecotone"]
        worker = subprocess.Popen(
            [*command, "run", "letters", *arguments],
            cwd=APPS,
            env={
                **os.environ,
                "MAILROOM_DATABASE": self.url,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        return worker

    def finish(self, worker: subprocess.Popen[str]) -> str:
        _, said = worker.communicate(timeout=_PATIENCE)
        return said

    @property
    def source(self) -> t.Any:
        messaging = self.module.app.extensions["ecotone"].messaging
        return messaging.channels.get("letters").sources()[0]

    def numbers(self) -> list[int]:
        with self.module.app.app_context(), self.module.db.engine.connect() as one:
            return sorted(one.scalars(sa.select(self.module.Letter.number)))

    def parked(self) -> list[t.Any]:
        messaging = self.module.app.extensions["ecotone"].messaging
        return t.cast("list[t.Any]", messaging.dead_letters.list())
