"""``flask ecotone channel``, and channels and schedules in ``list``."""

from __future__ import annotations

import datetime
import json

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import before
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import scheduled
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels import DynamicChannel
from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.storage.tables import FEATURES
from flask_ecotone.storage.tables import missing


@asynchronous("orders")
@command_handler("place", endpoint_id="place")
def place() -> None: ...


@asynchronous("orders")
@delayed(60_000)
@command_handler("remind", endpoint_id="remind")
def remind() -> None: ...


@asynchronous("mails")
@event_handler("news")
def tell() -> None: ...


@command_handler("at once")
def at_once() -> None: ...


class Mall:
    """An application with channels of several kinds."""

    def __init__(self, url: str, second: str | None = None) -> None:
        self.app = Flask("mall")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        extensions = []
        if second is not None:
            self.app.config["SQLALCHEMY_BINDS"] = {"a": url, "b": second}
            extensions = [MultiTenantConfiguration("tenant", {"a": "a", "b": "b"})]
        self.db = SQLAlchemy(self.app)
        self.ecotone = Ecotone(
            packages=[],
            channels=[
                DatabaseChannel("orders"),
                DatabaseChannel("mails"),
                InMemoryChannel("notes"),
                DynamicChannel.round_robin("all", ["orders", "mails"]),
                CombinedChannel("way", ["orders", "mails"]),
            ],
            extensions=extensions,
        )
        self.ecotone.register(place, remind)
        self.ecotone.init_app(self.app)

    def run(self, *arguments: str, code: int = 0) -> str:
        runner = self.app.test_cli_runner()
        result = runner.invoke(args=["ecotone", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    def send(self, **headers: str) -> None:
        with self.app.app_context():
            for name in ("place", "place", "remind"):
                self.ecotone.command_bus.send_with_routing(name, metadata=headers)


def test_setup_says_what_is_there(database_url: str) -> None:
    """Nothing is created without --initialize, and that may be said again."""
    mall = Mall(database_url)
    said = mall.run("channel", "setup").splitlines()
    assert [line.split() for line in said[1:]] == [
        ["orders", "no"],
        ["mails", "no"],
        ["notes", "-"],
    ]
    with mall.app.app_context():
        assert missing(mall.db.engine) == list(FEATURES)
    for _ in range(2):
        assert "orders   yes" in mall.run("channel", "setup", "orders", "--initialize")
    assert json.loads(mall.run("channel", "setup", "mails", "notes", "--json")) == [
        {"channel": "mails", "initialized": True},
        {"channel": "notes", "initialized": None},
    ]
    assert json.loads(mall.run("channel", "setup", "all", "--json")) == [
        {"channel": "orders", "initialized": True},
        {"channel": "mails", "initialized": True},
    ]


def test_delete_removes_the_messages_of_one_channel(database_url: str) -> None:
    """With --force only; delayed messages too, and other channels are left alone."""
    mall = Mall(database_url)
    assert "nothing to delete" in mall.run("channel", "delete", "orders")
    mall.send()
    said = mall.run("channel", "delete", "orders", "mails")
    assert "orders   -       3" in said
    assert "Would be deleted (use --force to confirm)." in said
    said = mall.run("channel", "delete", "mails", "--force")
    assert "mails    -       0" in said
    said = mall.run("channel", "delete", "orders", "--force")
    assert "orders   -       3" in said
    assert said.endswith("Deleted.\n")
    assert "orders   -       0" in mall.run("channel", "delete", "orders")


def test_delete_of_a_dynamic_channel_names_its_channels_once(database_url: str) -> None:
    """It says so before there are tables as well."""
    mall = Mall(database_url)
    assert "nothing to delete" in mall.run("channel", "delete", "all")
    mall.send()
    said = mall.run("channel", "delete", "all", "orders")
    assert [line.split() for line in said.splitlines()[1:3]] == [
        ["orders", "-", "3"],
        ["mails", "-", "0"],
    ]


def test_delete_concerns_the_databases_of_all_tenants(
    sqlite_url: str,
) -> None:
    """Each of them has a line."""
    mall = Mall(sqlite_url, sqlite_url + "2")
    mall.run("channel", "setup", "--initialize")
    mall.send(tenant="b")
    said = mall.run("channel", "delete", "orders", "--force")
    assert [line.split() for line in said.splitlines()[1:3]] == [
        ["orders", "a", "0"],
        ["orders", "b", "3"],
    ]


@pytest.mark.parametrize("command", ["setup", "delete"])
def test_unknown_channels_are_named(sqlite_url: str, command: str) -> None:
    """With what was probably meant; deleting needs a name."""
    mall = Mall(sqlite_url)
    said = mall.run("channel", command, "ordres", code=1)
    assert "There is no channel 'ordres'. Did you mean 'orders'?" in said
    mall.run("channel", "delete", code=2)


def test_list_has_schedules_as_json(sqlite_url: str) -> None:
    """With the keys of endpoints, and the next run in ISO 8601."""
    mall = Mall(sqlite_url)

    @scheduled(cron="0 6 * * *", timezone="Europe/Warsaw", endpoint_id="daily")
    def daily() -> None: ...

    @before(pointcut=daily)
    def check() -> None: ...

    mall.ecotone.register(daily, check)
    *endpoints, found = json.loads(mall.run("list", "--json"))
    assert {*found} == {*endpoints[0], "next_run"}
    assert (found["endpoint_id"], found["kind"]) == ("daily", "scheduled")
    assert found["message"] == "0 6 * * * (Europe/Warsaw)"
    assert __file__ in found["location"]
    assert len(found["interceptors"]) == 1
    next_run = datetime.datetime.fromisoformat(found["next_run"])
    assert next_run.utcoffset() == datetime.timedelta(0)
    assert next_run.hour in (4, 5)


@pytest.mark.parametrize(
    "command", [("channel", "delete"), ("channel", "setup"), ("run",)]
)
def test_a_combined_channel_is_told_from_an_unknown_one(
    sqlite_url: str, command: tuple[str, ...]
) -> None:
    """Its channels are what has messages, and workers."""
    said = Mall(sqlite_url).run(*command, "way", code=1)
    assert "it is the way through orders, mails. Name those." in said


def test_channels_whose_table_is_missing_have_a_line_each(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It says how to make the table, and has no SQL."""
    mall = Mall(database_url)
    said = mall.run("list", "--channels").splitlines()
    assert said[1].split() == ["orders", *"-----", "all,", "way"]
    assert len(caplog.messages) == len(caplog.text.splitlines()) == 2
    assert "flask ecotone channel setup --initialize" in caplog.messages[0]
    assert "SELECT" not in caplog.text


def test_check_warns_of_endpoint_ids_that_nobody_gave(sqlite_url: str) -> None:
    """Of handlers whose messages wait in a channel; it is no failure."""
    mall = Mall(sqlite_url)
    mall.ecotone.register(tell, at_once)
    result = mall.app.test_cli_runner().invoke(args=["ecotone", "check"])
    assert result.exit_code == 0
    (warning,) = [n for n in result.output.splitlines() if n.startswith("Warning")]
    assert f"{__name__}.tell ({__file__}:" in warning
    assert "has no endpoint_id" in warning
    assert "4 endpoints, no errors." in result.output


def test_check_warns_of_asynchronous_handlers_that_run_at_once() -> None:
    """As they do in an application without channels; it is no failure."""
    app = Flask("mall")
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False
    ecotone = Ecotone(packages=[])
    ecotone.register(place, at_once)
    ecotone.init_app(app)
    result = app.test_cli_runner().invoke(args=["ecotone", "check"])
    assert result.exit_code == 0
    (warning,) = [n for n in result.output.splitlines() if n.startswith("Warning")]
    assert f"{__name__}.place ({__file__}:" in warning
    assert "runs at once: the application has no channels" in warning
    assert "channels=[DatabaseChannel('orders')]" in warning
    assert "2 endpoints, no errors." in result.output


def test_check_finds_a_channel_that_is_not_there(sqlite_url: str) -> None:
    """With the handler, and what was probably meant."""

    @asynchronous("mail")
    @command_handler("write", endpoint_id="write")
    def write() -> None: ...

    mall = Mall(sqlite_url)
    mall.ecotone.register(write)
    result = mall.app.test_cli_runner().invoke(args=["ecotone", "check"])
    assert result.exit_code == 1
    assert "Registered asynchronous endpoint 'write'" in result.output
    assert "configuration for 'mail' was not provided. Did you mean 'mails'?" in (
        result.output
    )
