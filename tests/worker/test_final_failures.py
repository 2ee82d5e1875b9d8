"""What becomes of messages whose retries are used up."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import typing as t

import pytest
from flask import Flask

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import ErrorHandler
from flask_ecotone import event_bus
from flask_ecotone import FailedMessage
from flask_ecotone import internal_handler
from flask_ecotone import RetryTemplate
from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.errors import ConfigurationError

from ..processes import APPS
from .shop import OrderWasPlaced
from .shop import Shop

PARKS: t.Final = "dead_letter"
NAMES = ["dead_letter", "resend", "release", "ignore", "stop"]


def failing(url: str, on_exhausted: str, **options: str) -> Shop:
    """A shop where the only order can't be packed."""
    shop = Shop(url, lease=1, on_exhausted=on_exhausted, **options)
    shop.errors["pack"] = ValueError("no box")
    with shop.app.app_context():
        event_bus.publish(OrderWasPlaced(1))
    return shop


def test_dead_letter_parks(database_url: str) -> None:
    """The message is among the dead letters, and its channel is empty."""
    shop = failing(database_url, "dead_letter")
    assert shop.work().failed == 3
    assert shop.messaging.dead_letters.count() == 1
    assert shop.source().status().ready == shop.source().status().delayed == 0


def test_resend_comes_back_later_each_time(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes behind the others, with a delay that grows, and is lost never."""
    shop = failing(database_url, "resend")
    with caplog.at_level(logging.ERROR):
        assert shop.work().failed == 3
    assert "comes back in 4.0 s: ValueError: no box" in caplog.text
    status = shop.source().status()
    assert (status.ready, status.delayed) == (0, 1)
    assert 2 < (shop.source().next_due() or 0) <= 4
    assert shop.messaging.dead_letters.count() == 0


@pytest.mark.parametrize("mode", ["message", "batch"])
def test_release_keeps_the_place(database_url: str, mode: str) -> None:
    """What comes after it waits, the worker pauses, and once it succeeds all pass."""
    shop = failing(database_url, "release", transaction=mode)
    shop.work()
    with shop.app.app_context():
        event_bus.publish(OrderWasPlaced(2))
    shop.seen.clear()
    assert shop.work().failed == 1
    assert [(name, m.payload.number) for name, m in shop.seen] == [("pack", 1)]
    assert shop.source().status().ready == 3
    shop.errors.clear()
    shop.seen.clear()
    assert shop.work().handled == 3
    assert sorted((name, m.payload.number) for name, m in shop.seen) == [
        ("mail", 2),
        ("pack", 1),
        ("pack", 2),
    ]
    assert shop.source().status().ready == 0


def test_a_released_message_does_not_keep_the_worker_busy(sqlite_url: str) -> None:
    """The channel is left alone for a while; other channels aren't."""
    shop = failing(sqlite_url, "release")
    outcome = shop.work()
    assert outcome.reason == "no messages"
    assert outcome.failed == 3
    assert shop.source().status().ready == 1


def test_ignore_says_so_as_an_error(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is removed, and the log has its id and what it failed with."""
    shop = failing(database_url, "ignore")
    with caplog.at_level(logging.ERROR):
        assert shop.work().failed == 3
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    id = shop.seen[-1][1].headers.message_id
    assert record.getMessage() == (
        f"The message {id} for pack (channel orders) failed for good and was removed:"
        " ValueError: no box"
    )
    assert shop.messaging.dead_letters.count() == 0
    assert shop.source().status().ready == shop.source().status().delayed == 0


@pytest.mark.parametrize("mode", ["message", "batch"])
def test_stop_ends_the_worker(database_url: str, mode: str) -> None:
    """The message keeps its place, and the outcome says why the worker stopped."""
    shop = failing(database_url, "stop", transaction=mode)
    outcome = shop.work()
    assert (outcome.failed, outcome.is_broken_off) == (3, True)
    assert outcome.reason == "a message failed for good"
    status = shop.source().status()
    assert (status.ready, status.in_flight) == (1, 0)


@pytest.mark.parametrize("on_exhausted", NAMES)
def test_a_worker_process_says_how_it_ended(sqlite_url: str, on_exhausted: str) -> None:
    """Only a worker that a message stops has exit code 1."""
    environment = {
        **os.environ,
        "MAILROOM_DATABASE": sqlite_url,
        "ECOTONE_ON_EXHAUSTED": on_exhausted,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    flask = [sys.executable, "-m", "flask", "--app", "mailroom_torn"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*flask, *arguments],
            cwd=APPS,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert run("send-torn").returncode == 0
    worker = run("ecotone", "run", "letters", "--finish-when-no-messages")
    assert worker.returncode == (on_exhausted == "stop"), worker.stderr
    assert "1 failed" in worker.stderr


def test_an_explicit_target_comes_first(sqlite_url: str) -> None:
    """What a handler says of dead letters counts, whatever its channel does."""
    app, told = Flask("house"), list[str]()
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False

    @asynchronous("a")
    @delayed_retry(0, max_attempts=1, dead_letter="failures")
    @command_handler("fail", endpoint_id="fail")
    def fail() -> None:
        raise ValueError("no luck")

    @internal_handler("failures")
    def note(failed: FailedMessage) -> None:
        told.append(f"{failed.attempts} {failed.error_message}")
        if len(told) > 1:
            raise KeyError("no ink")

    ecotone = Ecotone(packages=[], channels=[InMemoryChannel("a", on_exhausted="stop")])
    ecotone.register(fail, note)
    ecotone.init_app(app)
    assert work(app, ecotone).reason == "no messages"
    assert told == ["2 no luck"]
    # An error channel that fails itself leaves the message to the channel.
    outcome = work(app, ecotone)
    assert (outcome.reason, len(told)) == ("a message failed for good", 2)
    assert app.extensions["ecotone"].messaging.describe()[0]["ready"] == 1


def work(app: Flask, ecotone: Ecotone) -> Outcome:
    with app.app_context():
        ecotone.command_bus.send_with_routing("fail")
    messaging = app.extensions["ecotone"].messaging
    limits = Limits(finishes_when_empty=True)
    return t.cast(Outcome, messaging.worker(["a"], limits=limits).run())


@pytest.mark.parametrize(
    ("config", "lost"), [({}, 0), ({"ECOTONE_ON_EXHAUSTED": "ignore"}, 1)]
)
def test_without_dead_letters_messages_are_sent_again(
    config: dict[str, str], lost: int
) -> None:
    """That is the default there, and the application may say otherwise."""
    app = Flask("house")
    app.config.update(config, ECOTONE_CACHE_CONFIGURATION=False)

    @asynchronous("a")
    @command_handler("fail", endpoint_id="fail")
    def fail() -> None:
        raise ValueError("no luck")

    ecotone = Ecotone(
        packages=[],
        channels=[InMemoryChannel("a")],
        extensions=[ErrorHandler(retry=RetryTemplate(max_attempts=0))],
    )
    ecotone.register(fail)
    ecotone.init_app(app)
    assert work(app, ecotone).failed == 1
    assert app.extensions["ecotone"].messaging.describe()[0]["delayed"] == 1 - lost


def test_wrong_names_are_refused() -> None:
    """With what was probably meant; dead letters take a database."""
    with pytest.raises(ConfigurationError, match="'orders' is 'resent'. Did you mean"):
        DatabaseChannel("orders", on_exhausted=t.cast(t.Any, "resent"))
    plain, parking = InMemoryChannel("a"), InMemoryChannel("a", on_exhausted=PARKS)
    for channel, config, said in (
        (plain, "ignor", "ECOTONE_ON_EXHAUSTED is 'ignor'. Did you mean 'ignore'"),
        (plain, PARKS, "ECOTONE_ON_EXHAUSTED is 'dead_letter'"),
        (parking, None, "on_exhausted of the channel 'a' is 'dead_letter'"),
    ):
        app = Flask("house")
        app.config["ECOTONE_ON_EXHAUSTED"] = config
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        ecotone = Ecotone(app, packages=[], channels=[channel])
        with app.app_context(), pytest.raises(ConfigurationError, match=said):
            ecotone.compile()
