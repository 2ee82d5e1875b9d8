"""Where failed messages go that name no error channel."""

from __future__ import annotations

import typing as t

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
from flask_ecotone import ErrorHandler
from flask_ecotone import FailedMessage
from flask_ecotone import Header
from flask_ecotone import internal_handler
from flask_ecotone import RetryTemplate
from flask_ecotone.consuming import Limits
from flask_ecotone.errors import ConfigurationError


class Office:
    """An application whose asynchronous handlers fail after they wrote something."""

    def __init__(
        self,
        url: str,
        default: str | None,
        *extensions: t.Any,
        of_channel: str | None = None,
    ) -> None:
        self.app = app = Flask("office")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_DEFAULT_ERROR_CHANNEL"] = default
        self.db = db = SQLAlchemy(app)
        #: What the error channels were told.
        self.told: list[tuple[str, FailedMessage, str]] = []

        class Note(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(50))

        @asynchronous("desk")
        @command_handler("file", endpoint_id="file")
        def file(payload: str) -> None:
            db.session.add(Note(text=payload))
            db.session.flush()
            raise ValueError("no folder")

        @asynchronous("desk")
        @delayed_retry(0, max_attempts=1)
        @command_handler("stamp", endpoint_id="stamp")
        def stamp(payload: str) -> None:
            raise ValueError("no stamp")

        @asynchronous("desk")
        @error_channel("own")
        @command_handler("shred", endpoint_id="shred")
        def shred(payload: str) -> None:
            raise ValueError("no shredder")

        def tell(name: str) -> t.Any:
            def told(
                failed: FailedMessage, user: t.Annotated[str, Header("user")]
            ) -> None:
                self.told.append((name, failed, user))
                db.session.add(Note(text=f"{failed.endpoint_id} failed"))

            return told

        failures = internal_handler("failures")(tell("failures"))
        later = internal_handler("later", endpoint_id="later")(tell("later"))
        later = asynchronous("reports")(later)
        own = internal_handler("own", endpoint_id="own")(tell("own"))
        channels = [
            DatabaseChannel("desk", error_channel=of_channel),
            DatabaseChannel("reports"),
        ]
        self.ecotone = Ecotone(packages=[], channels=channels, extensions=extensions)
        self.ecotone.register(file, stamp, shred, failures, own, later)
        self.note = Note

    def open(self) -> Office:
        """Compile the system."""
        self.ecotone.init_app(self.app)
        with self.app.app_context():
            self.db.create_all()
            self.ecotone.compile()
        return self

    @property
    def messaging(self) -> t.Any:
        """The channels and workers of the application."""
        return self.app.extensions["ecotone"].messaging

    def send(self, *keys: str) -> None:
        """Send a command to each key, and let a worker empty the channel."""
        with self.app.app_context():
            for key in keys:
                command_bus.send_with_routing(key, "A", metadata={"user": "ann"})
        self.work("desk")

    def work(self, channel: str) -> None:
        """Let a worker empty a channel."""
        self.messaging.worker([channel], limits=Limits(finishes_when_empty=True)).run()

    def notes(self) -> list[str]:
        """What is stored, read on a connection of its own."""
        with self.app.app_context(), self.db.engine.connect() as connection:
            return list(connection.scalars(sa.select(self.note.text)))

    @property
    def left(self) -> int:
        """How many messages are left in the channel."""
        (source,) = self.messaging.channels.get("desk").sources()
        status = source.status()
        return t.cast(int, status.ready + status.in_flight + status.delayed)


def test_the_default_error_channel_is_told(database_url: str) -> None:
    """Of a failing asynchronous handler, with what it was about (C-18).

    What it wrote is rolled back, its message is gone, and a handler that names a
    channel of its own keeps to that.
    """
    office = Office(database_url, "failures").open()
    office.send("file", "shred")

    (name, failed, user), (other, shredded, _) = office.told
    assert (name, other, user) == ("failures", "own", "ann")
    assert (failed.endpoint_id, failed.channel) == ("file", "desk")
    assert (failed.error_class, failed.error_message) == ("ValueError", "no folder")
    assert "no folder" in failed.traceback
    assert failed.body == b"A"
    assert shredded.error_message == "no shredder"
    assert office.notes() == ["file failed", "shred failed"]
    assert office.left == 0
    assert office.messaging.dead_letters.count() == 0


def test_the_default_error_channel_is_told_after_the_retries(sqlite_url: str) -> None:
    """Of a handler that says when it is tried again, and not where it goes then."""
    office = Office(sqlite_url, "failures").open()
    office.send("stamp")

    ((name, failed, _),) = office.told
    assert (name, failed.endpoint_id, failed.attempts) == ("failures", "stamp", 2)
    assert office.left == 0


@pytest.mark.parametrize("default", ["errorChannel", None, "dead_letter"])
def test_a_failed_message_is_parked(database_url: str, default: str | None) -> None:
    """An error handler of the channel's name does with it as it says."""
    handler = ErrorHandler("errorChannel", retry=RetryTemplate(max_attempts=0))
    office = Office(database_url, default, handler).open()
    office.send("file")

    (parked,) = office.messaging.dead_letters.list()
    assert (parked.endpoint_id, parked.error_message) == ("file", "no folder")
    assert office.told == [] and office.notes() == [] and office.left == 0


def test_an_asynchronous_error_channel_is_told_over_its_channel(
    database_url: str,
) -> None:
    """In one transaction with the removal of the message."""
    office = Office(database_url, "later").open()
    office.send("file")
    assert (office.told, office.notes(), office.left) == ([], [], 0)

    office.work("reports")
    ((name, failed, user),) = office.told
    assert (name, failed.endpoint_id, user) == ("later", "file", "ann")
    assert (failed.error_message, failed.body) == ("no folder", b"A")
    assert office.notes() == ["file failed"]


@pytest.mark.parametrize("default", ["errorChannel", "nullChannel", None])
def test_a_channel_has_an_error_channel_of_its_own(
    sqlite_url: str, default: str | None
) -> None:
    """For all that comes from it, unless a handler names another one."""
    office = Office(sqlite_url, default, of_channel="failures").open()
    office.send("file", "stamp", "shred")

    assert [(name, failed.endpoint_id) for name, failed, _ in office.told] == [
        ("failures", "file"),
        ("own", "shred"),
        ("failures", "stamp"),
    ]
    assert office.left == 0
    assert office.messaging.dead_letters.count() == 0


def test_an_error_channel_of_a_channel_may_have_retries(sqlite_url: str) -> None:
    """Those of the error handler with its name; what is misspelt is found at once."""
    handler = ErrorHandler("patient", retry=RetryTemplate(0, max_attempts=2))
    other = ErrorHandler("other", retry=RetryTemplate(0, max_attempts=7))
    office = Office(sqlite_url, "other", handler, other, of_channel="patient").open()
    office.send("file")
    (parked,) = office.messaging.dead_letters.list()
    assert parked.attempts == 3

    with pytest.raises(
        ConfigurationError, match="'desk' names .* 'patience'.*'patient'"
    ):
        Office(sqlite_url, "other", handler, other, of_channel="patience").open()


def test_the_null_channel_gives_messages_up(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has what was lost."""
    office = Office(sqlite_url, "nullChannel").open()
    office.send("file")

    said = "for file (channel desk) failed and was given up: ValueError: no folder"
    assert said in caplog.text
    assert office.left == 0
    assert office.messaging.dead_letters.count() == 0


def test_an_error_channel_that_is_not_there(sqlite_url: str) -> None:
    """It is found when the system is compiled, with what was probably meant."""
    office = Office(sqlite_url, "failure")

    for _ in range(2):
        with pytest.raises(ConfigurationError) as raised:
            office.open() if not office.app.extensions.get("ecotone") else None
            with office.app.app_context():
                office.ecotone.compile()
        assert "ECOTONE_DEFAULT_ERROR_CHANNEL names the error channel 'failure'" in str(
            raised.value
        )
