"""Dynamic channels whose messages lie in the database."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

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

    def flask(self, *arguments: str, code: int = 0) -> str:
        """Run a command of ``flask ecotone``."""
        result = self.app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == code, result.output
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


def test_dead_letters_are_filtered_by_the_channel_they_lay_in(depot: Depot) -> None:
    """One that is made of others is told from one that isn't there."""
    for name, parts in (("vans", "red, blue, green"), ("far", "green, gates")):
        said = depot.flask("deadletter", "list", "--channel", name, code=1)
        assert f"{name!r} has no messages of its own: it is made of {parts}." in said
    said = depot.flask("deadletter", "list", "--channel", "blu", code=1)
    assert "There is no channel 'blu'" in said and "Did you mean 'blue'?" in said
    assert "no dead letters" in depot.flask("deadletter", "list", "--channel", "red")


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


def test_each_channel_is_listed_once(depot: Depot) -> None:
    """By its own name, with what is made of it."""
    depot.send("load", 0, 1, 2)
    depot.send("route", 3, to="sea")
    rows = json.loads(depot.flask("list", "--channels", "--json"))
    found = {row["channel"]: (row["ready"], row["part_of"]) for row in rows}
    assert len(rows) == len(found)
    assert found == {
        "red": (2, ["vans", "routes"]),
        "blue": (1, ["vans", "routes"]),
        "green": (1, ["vans", "routes", "far"]),
        "east": (0, ["gates", "far"]),
        "west": (0, ["gates", "far"]),
    }
    listed = depot.flask("list", "--channels").splitlines()
    assert listed[0].split()[-2:] == ["Part", "of"]
    (red,) = [line for line in listed if line.startswith("red")]
    assert red.endswith("vans, routes")


def test_channels_that_only_a_dynamic_one_has_are_known(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Their tables are set up, in the database of a bind as well, and dead letters."""
    app = Flask("annexe")
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    app.config["SQLALCHEMY_BINDS"] = {"queues": f"sqlite:///{tmp_path / 'queues'}"}
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False
    db = SQLAlchemy(app)
    inner = DynamicChannel.round_robin("inner", [DatabaseChannel("far", bind="queues")])
    outer = DynamicChannel.by_header("outer", "to", {"far": inner})
    ecotone = Ecotone(app, packages=[], channels=[outer])

    @asynchronous("outer")
    @delayed_retry(0, max_attempts=0)
    @command_handler("carry", endpoint_id="carry")
    def carry(number: int) -> None:
        raise ValueError("no van")

    ecotone.register(carry)

    def flask(*arguments: str) -> str:
        result = app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == 0, result.output
        return str(result.output)

    status = json.loads(flask("database", "setup", "--initialize", "--json"))
    assert {row.get("bind") for row in status} == {None, "queues"}
    assert all(row["used"] and row["initialized"] for row in status)
    assert "far      yes" in flask("channel", "setup", "outer")
    with app.app_context():
        assert "ecotone_message" in db.metadatas["queues"].tables
        command_bus.send_with_routing("carry", 1, metadata={"to": "far"})
    flask("run", "outer", "--finish-when-no-messages")
    (parked,) = json.loads(flask("deadletter", "list", "--json"))
    assert (parked["channel"], parked["body"]) == ("far", "1")
    assert flask("deadletter", "replay-all") == "1 put back.\n"
    (row,) = json.loads(flask("list", "--channels", "--json"))
    assert (row["channel"], row["ready"], row["part_of"]) == ("far", 1, ["outer"])
