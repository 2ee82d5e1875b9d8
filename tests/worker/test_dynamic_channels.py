"""Dynamic channels whose messages lie in the database."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import Message
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels import DynamicChannel


class Depot:
    """An application whose parcels go through dynamic channels."""

    def __init__(self, url: str) -> None:
        self.app = app = Flask("depot")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        SQLAlchemy(app)
        #: The numbers of parcels that fail.
        self.broken: set[int] = set()
        self.closed: set[str] = set()
        self.seen: list[Message] = []

        def handler(name: str, *channels: str) -> t.Any:
            @asynchronous(channels)
            @delayed_retry(0, max_attempts=1)
            @command_handler(name, endpoint_id=name)
            def carry(number: int, message: Message) -> None:
                if number in self.broken:
                    raise ValueError("no van")
                self.seen.append(message)

            return carry

        gates = DynamicChannel.throttled(
            "gates",
            [DatabaseChannel("east"), DatabaseChannel("west")],
            lambda name: name not in self.closed,
        )
        vans = DynamicChannel.round_robin(
            "vans", [DatabaseChannel("red"), DatabaseChannel("blue"), "green"]
        )
        routes = DynamicChannel.by_header("routes", "to", {"sea": vans}, "green")
        self.ecotone = Ecotone(
            packages=[],
            channels=[
                vans,
                gates,
                routes,
                DatabaseChannel("green"),
                CombinedChannel("far", ["green", "gates"]),
            ],
        )
        self.ecotone.register(
            handler("load", "vans"),
            handler("pass", "gates"),
            handler("route", "routes"),
            handler("send", "far"),
        )
        self.ecotone.init_app(app)

    def send(self, key: str, *numbers: int, **headers: t.Any) -> None:
        with self.app.app_context():
            for number in numbers:
                command_bus.send_with_routing(key, number, metadata=headers)

    def flask(self, *arguments: str) -> str:
        """Run a command of ``flask ecotone``."""
        result = self.app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == 0, result.output
        return str(result.output)

    def work(self, *names: str) -> list[int]:
        """Let a worker empty channels, and return the numbers that it handled."""
        self.seen.clear()
        self.flask("run", *names, "--finish-when-no-messages")
        return sorted(message.payload for message in self.seen)


@pytest.fixture
def depot(database_url: str) -> Depot:
    """A depot on SQLite, PostgreSQL and MariaDB in turn."""
    return Depot(database_url)


@pytest.mark.parametrize(
    ("key", "name", "headers"),
    [
        ("load", "vans", {}),
        ("pass", "gates", {}),
        ("route", "routes", {"to": "sea"}),
    ],
)
def test_a_dead_letter_goes_back_to_where_it_came_from(
    depot: Depot, key: str, name: str, headers: dict[str, str]
) -> None:
    """Also if only the dynamic channel knows that channel."""
    depot.broken = {0, 1, 2}
    depot.send(key, 0, 1, 2, 3, **headers)
    assert depot.work(name) == [3]
    depot.broken.clear()
    assert depot.flask("deadletter", "replay-all") == "3 put back.\n"
    assert depot.work(name) == [0, 1, 2]
    assert "no dead letters" in depot.flask("deadletter", "list")


def test_one_worker_empties_all_of_them(depot: Depot) -> None:
    """Those that are its own, and those that the application has as well."""
    depot.send("load", 0, 1, 2)
    depot.send("route", 3, to="land")
    assert depot.work("vans") == [0, 1, 2, 3]
    depot.send("load", 4, 5, 6)
    depot.send("pass", 7)
    assert depot.work("--all") == [4, 5, 6, 7]


def test_what_is_closed_waits(depot: Depot) -> None:
    """In its channel, until the function says so."""
    depot.closed = {"west"}
    depot.send("pass", 0, 1)
    assert depot.work("gates") == [0]
    depot.closed.clear()
    again = Depot(depot.app.config["SQLALCHEMY_DATABASE_URI"])
    assert again.work("gates") == [1]


def test_a_chain_may_end_in_a_dynamic_channel(depot: Depot) -> None:
    """The worker of the first channel hands on, and that of the dynamic one handles."""
    depot.send("send", 0, 1)
    assert depot.work("green") == []
    assert depot.work("gates") == [0, 1]
