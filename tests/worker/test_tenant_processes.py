"""Workers of tenants as processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import typing as t
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ..processes import APPS
from ..processes import end
from ..processes import load_app
from .town import until

COUNT = 150


class Parishes:
    """The application of this process, and workers in processes of their own."""

    def __init__(self, urls: dict[str | None, str], module: t.Any) -> None:
        self.urls, self.module = urls, module
        self.workers: list[subprocess.Popen[str]] = []

    def publish(self, tenant: str, *numbers: int) -> None:
        with self.module.app.app_context():
            for number in numbers:
                event = self.module.LetterCame(number)
                self.module.ecotone.event_bus.publish(event, {"tenant": tenant})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flask", "--app", "parishes", "ecotone"]
        worker = subprocess.Popen(
            [*command, "run", "letters", *arguments],
            cwd=APPS,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        return worker

    def numbers(self, tenant: str) -> list[int]:
        engine = sa.create_engine(self.urls[f"bind_{tenant}"], poolclass=NullPool)
        with engine.connect() as connection:
            query = sa.select(self.module.Letter.number)
            return sorted(connection.scalars(query))

    def in_flight(self) -> int:
        rows = self.module.app.extensions["ecotone"].messaging.describe()
        return sum(row["in_flight"] for row in rows)


@pytest.fixture
def parishes(
    urls: dict[str | None, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Parishes]:
    """Two parishes on files, and on two servers."""
    monkeypatch.setenv("PARISH_A", urls["bind_a"])
    monkeypatch.setenv("PARISH_B", urls["bind_b"])
    module = load_app("parishes", monkeypatch)
    with module.app.app_context():
        module.ecotone.setup_database()
        module.ecotone.compile()
    found = Parishes(urls, module)
    yield found
    end(found.workers)


def test_every_effect_happens_once_for_its_tenant(parishes: Parishes) -> None:
    """Whichever of two workers is killed, and whenever."""
    parishes.publish("a", *range(COUNT))
    parishes.publish("b", *range(1000, 1000 + COUNT))
    chance = random.Random(7)

    def count() -> int:
        return len(parishes.numbers("a")) + len(parishes.numbers("b"))

    parishes.start("--threads", "2")
    for _ in range(3):
        worker = parishes.start()
        wanted = min(2 * COUNT, count() + chance.randrange(1, 40))
        until(lambda goal=wanted: count() >= goal)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    until(lambda: count() >= 2 * COUNT)
    until(lambda: parishes.in_flight() == 0)
    assert parishes.numbers("a") == list(range(COUNT))
    assert parishes.numbers("b") == list(range(1000, 1000 + COUNT))
    first = parishes.workers[0]
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert "Stopped (asked to stop)" in said


def test_an_idle_worker_hears_of_every_tenant(parishes: Parishes) -> None:
    """Whether its database tells of messages or is asked now and then."""
    parishes.start()
    for number, tenant in enumerate("abab"):
        parishes.publish(tenant, number)
        until(lambda n=number, t=tenant: n in parishes.numbers(t))
    assert (parishes.numbers("a"), parishes.numbers("b")) == ([0, 2], [1, 3])
