"""A tenant whose database is gone is no concern of the others."""

from __future__ import annotations

import datetime
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import scheduled
from flask_ecotone import with_tenant_resolver

from ..services import DatabaseServer
from ..services import MARIADB
from ..services import POSTGRESQL
from .town import A
from .town import B
from .town import BINDS
from .town import envelope
from .town import Town
from .town import until

OFTEN = datetime.timedelta(milliseconds=50)


@pytest.fixture
def halved(tmp_path: Path) -> Town:
    """A town of which the database of the tenant a isn't there."""
    urls: dict[str | None, str] = {
        "bind_a": f"sqlite:///{tmp_path / 'folder' / 'a.sqlite'}",
        "bind_b": f"sqlite:///{tmp_path / 'b.sqlite'}",
    }
    town = Town(urls, creates=False)
    town.create("bind_b")
    return town


def test_others_are_handled_while_a_database_is_gone(
    halved: Town, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the tenant; when its database is there its messages are, too."""
    with halved.working():
        halved.baptise("b", "Bea", "Bob")
        until(lambda: len(halved.handled()) == 2)
        until(lambda: caplog.text.count("is gone") >= 2)
        halved.baptise("b", "Ben")
        until(lambda: len(halved.handled()) == 3)
        (tmp_path / "folder").mkdir()
        halved.create("bind_a")
        halved.baptise("a", "Ann")
        until(lambda: ("a", "Ann") in halved.handled())
    lines = [r.getMessage() for r in caplog.records if "is gone" in r.getMessage()]
    assert {line.partition(";")[0] for line in lines} == {
        "The database of the tenant `a` is gone"
    }
    assert "is back" not in caplog.text  # a level below warnings


@pytest.mark.parametrize("server", [POSTGRESQL, MARIADB], ids=lambda each: each.name)
def test_a_database_that_is_dropped_stops_nobody_else(
    server: DatabaseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker finds the one that is created in its place."""
    with server.database() as url:
        name = t.cast(str, sa.make_url(url).database)
        urls: dict[str | None, str] = {
            "bind_a": url,
            "bind_b": f"sqlite:///{tmp_path / 'b.sqlite'}",
        }
        town = Town(urls)
        town.baptise("a", "Ann")
        with town.working():
            until(lambda: town.handled() == [("a", "Ann")])
            server.drop(name)
            until(lambda: "The database of the tenant `a` " in caplog.text)
            town.baptise("b", "Bea", "Bob")
            until(lambda: {"letter Bea", "letter Bob"} <= {*town.book("bind_b")})
            server.create(name)
            town.create("bind_a")
            town.insert("a", "letters", envelope("new", tenant="a"))
            until(lambda: town.book("bind_a") == ["letter Ann"])


def test_a_handler_that_loses_its_database_gives_the_message_back(
    town: Town,
) -> None:
    """That is no attempt, and the other tenant's messages are handled meanwhile."""
    outages = iter([True, True])

    def lose() -> None:
        if next(outages, False):
            error = Exception("disk I/O error")
            raise sa_exc.OperationalError("SELECT 1", {}, error)

    town.baptise("a", "Ann")
    town.acts["Ann"] = lose
    with town.working():
        until(lambda: len(town.handled()) == 1)
        town.baptise("b", "Bea")
        until(lambda: town.book("bind_a") == ["baptism Ann", "letter Ann"])
        until(lambda: town.book("bind_b") == ["baptism Bea", "letter Bea"])
    assert town.handled().count(("a", "Ann")) == 3
    assert town.messaging.dead_letters.count(tenant="a") == 0


def test_a_drain_does_not_end_before_everybody_was_asked(halved: Town) -> None:
    """Of a database that can't be reached nobody knows whether it is empty."""
    halved.baptise("b", "Bea")
    outcome = halved.work(execution_time=1.0)
    assert (outcome.handled, outcome.reason) == (1, "execution time limit")


def test_a_tenant_that_is_configured_wrongly_is_named(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """The bind of one that a function names later may be missing."""
    binds = {**BINDS, "c": "bind_c"}
    configuration = MultiTenantConfiguration("tenant", binds.get, names=lambda: binds)
    other = Town(town.urls, configuration)
    other.baptise("b", "Bea")
    outcome = other.work(execution_time=1.0)
    assert outcome.handled == 1
    assert "The database of the tenant `c` can't be worked with" in caplog.text
    assert "bind 'bind_c', which is not configured" in caplog.text


def test_list_shows_the_others(halved: Town) -> None:
    """The tenant whose channel can't be read has no numbers."""
    halved.baptise("b", "Bea")
    command = ["ecotone", "list", "--channels"]
    result = halved.app.test_cli_runner().invoke(args=command)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    letters = {row[1]: row[2:5] for row in rows if row and row[0] == "letters"}
    assert letters == {"a": ["-", "-", "-"], "b": ["1", "0", "0"]}


def test_schedules_of_others_run_while_a_database_is_gone(tmp_path: Path) -> None:
    """Also if it is the one whose clock they go by."""
    app = Flask("town")
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False
    app.config["SQLALCHEMY_BINDS"] = {
        "bind_a": f"sqlite:///{tmp_path / 'folder' / 'a.sqlite'}",
        "bind_b": f"sqlite:///{tmp_path / 'b.sqlite'}",
    }
    db, seen = SQLAlchemy(app), []

    @with_tenant_resolver(lambda: A["tenant"])
    @scheduled(every=OFTEN, endpoint_id="first")
    def first() -> None:
        db.session.connection()
        seen.append("a")

    @with_tenant_resolver(lambda: B["tenant"])
    @scheduled(every=OFTEN, endpoint_id="second")
    def second() -> None:
        db.session.connection()
        seen.append("b")

    configuration = MultiTenantConfiguration("tenant", BINDS)
    ecotone = Ecotone(packages=[], extensions=[configuration])
    ecotone.register(first, second)
    ecotone.init_app(app)
    command = ["ecotone", "run", "--scheduled", "--handled-message-limit", "2"]
    command += ["--execution-time-limit", "60000"]
    result = app.test_cli_runner().invoke(args=command)
    assert result.exit_code == 0, result.output
    assert "handled message limit" in result.output
    assert set(seen) == {"b"}


def test_a_schedule_without_tenant_stops_nobody(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told each time; messages are handled, and so are other schedules."""
    app, seen = Flask("other"), []
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False
    app.config["SQLALCHEMY_BINDS"] = dict(town.urls)
    db = SQLAlchemy(app)

    @scheduled(every=OFTEN, endpoint_id="nobody's")
    def nobodys() -> None:
        seen.append("nobody")

    @with_tenant_resolver(lambda: B["tenant"])
    @scheduled(every=OFTEN, endpoint_id="somebody's")
    def somebodys() -> None:
        db.session.connection()
        seen.append("b")

    configuration = MultiTenantConfiguration("tenant", BINDS)
    ecotone = Ecotone(packages=[], extensions=[configuration])
    ecotone.register(nobodys, somebodys)
    ecotone.init_app(app)
    command = ["ecotone", "run", "--scheduled", "--handled-message-limit", "2"]
    command += ["--execution-time-limit", "60000"]
    result = app.test_cli_runner().invoke(args=command)
    assert result.exit_code == 0, result.output
    assert set(seen) == {"b"}
    assert 'The tenant of the schedule "nobody\'s" is not known' in caplog.text
    assert "Please add `tenant` header metadata" in caplog.text
