"""What workers say of failures doesn't repeat what messages say."""

from __future__ import annotations

import dataclasses
import typing as t
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import error_channel
from flask_ecotone import FailedMessage
from flask_ecotone import internal_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone.consuming import Limits

from .town import envelope
from .town import Send
from .town import Town

_SECRET = "my illness"
_ONE = {"a": "bind_a"}


class Practice:
    """What is told to it can't be stored, and shouldn't be in logs.

    :param swallows: Whether handlers swallow that, and go on with the session.
    """

    def __init__(self, url: str, *, swallows: bool = False, **options: t.Any) -> None:
        self.app = app = Flask("practice")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        db = SQLAlchemy(app)

        class Record(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(100))
            doctor: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(100))

        #: What a handler of its own saw of the error.
        self.seen: list[str] = []

        def store(text: str) -> None:
            db.session.add(Record(text=text))
            if swallows:
                with suppress(sa.exc.IntegrityError):
                    db.session.flush()
                db.session.execute(sa.text("SELECT 1"))
            db.session.flush()

        @asynchronous("practice")
        @delayed_retry(0, max_attempts=1)
        @command_handler("tell", endpoint_id="tell")
        def tell(text: str) -> None:
            store(text)

        @asynchronous("practice")
        @error_channel("nullChannel")
        @command_handler("whisper", endpoint_id="whisper")
        def whisper(text: str) -> None:
            store(text)

        @asynchronous("practice")
        @error_channel("complaints")
        @command_handler("shout", endpoint_id="shout")
        def shout(text: str) -> None:
            store(text)

        @internal_handler("complaints")
        def complain(failed: FailedMessage) -> None:
            self.seen.append(failed.error_message)
            store(_SECRET)

        ecotone = Ecotone(
            packages=[], channels=[DatabaseChannel("practice", **options)]
        )
        ecotone.register(tell, whisper, shout, complain)
        ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            ecotone.compile()

    @property
    def messaging(self) -> t.Any:
        """The channels and workers of the application."""
        return self.app.extensions["ecotone"].messaging


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("transaction", ["message", "batch"])
def test_logs_of_workers_have_no_values_of_statements(
    database_url: str,
    transaction: str,
    swallows: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither those of retries, nor of what is parked or given up, nor tracebacks."""
    practice = Practice(database_url, swallows=swallows, transaction=transaction)
    with practice.app.app_context():
        for name in ("tell", "whisper", "shout"):
            command_bus.send_with_routing(name, _SECRET)
    limits = Limits(finishes_when_empty=True)
    with caplog.at_level("DEBUG", practice.app.logger.name):
        practice.messaging.worker(["practice"], limits=limits).run()
    said = [record.getMessage() for record in caplog.records]
    for each in ("is tried again", "was parked", "was given up", "failed as well"):
        assert any(each in message for message in said)
    assert "parameters hidden" in caplog.text or swallows
    assert f"'{_SECRET}'" not in caplog.text
    assert not any(_SECRET in message for message in said)
    # Who handles the failure, or looks at the dead letter, sees all of it.
    assert _SECRET in practice.seen[0]
    letters = practice.messaging.dead_letters.list()
    assert len(letters) == 2
    assert all(_SECRET in letter.error_message for letter in letters)


def test_logs_of_failures_name_the_tenant_of_the_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That of the header: tenants may share a database, or a channel in memory."""
    urls: dict[str | None, str] = {
        key: f"sqlite:///{tmp_path / key}.sqlite" for key in ("bind_a", "bind_b")
    }
    binds = {"a": "bind_a", "sharing": "bind_a", "b": "bind_b"}
    town = Town(urls, MultiTenantConfiguration("tenant", binds))

    def fail() -> None:
        raise ValueError("no ink")

    town.acts.update(Ann=fail, Bea=fail, Sue=fail)
    town.baptise("sharing", "Ann")
    town.baptise("b", "Bea")
    with town.app.app_context():
        town.ecotone.command_bus.send(Send("Sue"), {"tenant": "b"})
    with caplog.at_level("WARNING", town.app.logger.name):
        town.work("letters", "outbox", "carrier")
    said = [record.getMessage() for record in caplog.records]
    for where in (
        "for write (channel letters, tenant sharing) failed",
        "for write (channel letters, tenant b) failed",
        "for send (channel carrier, tenant b) failed",
    ):
        told = [message for message in said if where in message]
        ways = [any(end in each for each in told) for end in ("tried again", "parked")]
        assert ways == [True, "carrier" not in where], said
    (letter,) = town.messaging.dead_letters.list(tenant="b")
    name = f"The message {letter.message_id} for write"
    assert sum(message.startswith(name) for message in said) == 2


def test_what_a_log_calls_a_message_begins_no_other_line(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who writes into the channel, or sends a tenant, doesn't write the log."""
    town = Town({"bind_a": sqlite_url}, MultiTenantConfiguration("tenant", _ONE))
    bad = dataclasses.replace(
        envelope("1\nCRITICAL", tenant="x\nCRITICAL"), endpoint_id="gone\nCRITICAL"
    )
    town.insert("a", "letters", bad)
    with caplog.at_level("WARNING", town.app.logger.name):
        town.work()
    (message,) = {
        record.getMessage().partition(" failed")[0] for record in caplog.records
    }
    assert message == (
        r"The message 1\nCRITICAL for gone\nCRITICAL"
        r" (channel letters, tenant x\nCRITICAL)"
    )
