"""Limits of a worker process with several threads."""

from __future__ import annotations

import datetime
import threading
import typing as t

import pytest
from flask import Flask

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import InMemoryChannel
from flask_ecotone import scheduled
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.consuming import Stopping

from ..processes import until
from .mailroom import Mailroom


@pytest.mark.parametrize("finishes", [[], ["--finish-when-no-messages"]])
def test_all_threads_together_keep_the_limit(
    mailroom: Mailroom, finishes: list[str]
) -> None:
    """Not one message more is handled, and the others are free."""
    mailroom.publish(*range(40))
    limit = ["--handled-message-limit", "6", "--threads", "6"]
    said = mailroom.finish(mailroom.start(*limit, *finishes))
    assert "Stopped (handled message limit): 6 messages handled, 0 failed." in said
    assert mailroom.count() == 6
    status = mailroom.source.status()
    assert (status.ready, status.in_flight) == (34, 0)


class Watched(Stopping):
    """Tells that its worker has nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.is_idle = False

    def wait(self, seconds: float) -> bool:
        """Wait, and tell."""
        self.is_idle = True
        return super().wait(seconds)


class Bakery:
    """An application whose second worker begins while the first one handles."""

    def __init__(self) -> None:
        self.app = app = Flask("bakery")
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.outcome, self.limits = Outcome(), Limits(handled=1)
        self.baked: list[str] = []
        self.second = Watched()

        def bake(what: str) -> None:
            self.baked.append(what)
            if len(self.baked) == 1:
                # Another thread of the process looks what there is to do.
                thread = threading.Thread(target=self.work, args=[self.second])
                thread.start()
                until(lambda: self.second.is_idle or not thread.is_alive())
                self.threads = [thread]

        @asynchronous("loaves")
        @command_handler("bake", endpoint_id="bake")
        def bake_loaf(number: int) -> None:
            bake(f"loaf {number}")

        @scheduled(every=datetime.timedelta(milliseconds=1), endpoint_id="roll")
        def bake_roll() -> None:
            bake("roll")

        self.ecotone = Ecotone(packages=[], channels=[InMemoryChannel("loaves")])
        self.ecotone.register(bake_loaf, bake_roll)
        self.ecotone.init_app(app)
        with app.app_context():
            for number in range(5):
                command_bus.send_with_routing("bake", number)
        self.schedules: t.Any = None

    def work(self, stopping: Stopping | None = None) -> None:
        """Run a worker, as one thread of a process does."""
        self.app.extensions["ecotone"].messaging.worker(
            ["loaves"],
            limits=self.limits,
            outcome=self.outcome,
            stopping=stopping or Stopping(),
            schedules=self.schedules,
        ).run()


def test_what_another_thread_is_at_counts() -> None:
    """A thread takes nothing while others may still reach the limit."""
    bakery = Bakery()
    bakery.work()
    bakery.threads[0].join()
    assert bakery.baked == ["loaf 0"]
    assert bakery.outcome.handled == 1


def test_a_schedule_counts_as_a_message() -> None:
    """It isn't fired while the last message is handled."""
    bakery = Bakery()
    bakery.schedules = bakery.app.extensions["ecotone"].schedules
    bakery.work()
    bakery.threads[0].join()
    assert len(bakery.baked) == 1
    assert bakery.outcome.handled == 1
