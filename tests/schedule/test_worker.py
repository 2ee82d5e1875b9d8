"""``flask ecotone run`` and ``list`` with schedules."""

from __future__ import annotations

import datetime

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import scheduled
from flask_ecotone import with_tenant_resolver

from .office import Office

OFTEN = datetime.timedelta(milliseconds=50)


def test_a_worker_runs_schedules(database_url: str) -> None:
    """An application without channels has a worker for its schedules."""
    office = Office(database_url)

    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None:
        office.add("often")

    @scheduled(every=OFTEN, endpoint_id="other")
    def other() -> None:
        office.add("other")

    office.open(often, other)
    runner = office.app.test_cli_runner()
    command = ["ecotone", "run", "often", "--execution-time-limit", "10000"]
    result = runner.invoke(args=[*command, "--handled-message-limit", "2"])
    assert result.exit_code == 0, result.output
    assert "Running often." in result.output
    assert "handled message limit" in result.output
    assert set(office.texts()) == {"often"}
    command = ["ecotone", "run", "--scheduled", "--execution-time-limit", "10000"]
    result = runner.invoke(args=[*command, "--handled-message-limit", "4"])
    assert result.exit_code == 0, result.output
    assert set(office.texts()) == {"often", "other"}


def test_a_worker_without_a_database() -> None:
    """Schedules run in an application that has none."""
    app, seen = Flask("office"), []
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False

    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None:
        seen.append(1)

    ecotone = Ecotone(packages=[])
    ecotone.register(often)
    ecotone.init_app(app)
    command = ["ecotone", "run", "--all", "--handled-message-limit", "2"]
    result = app.test_cli_runner().invoke(args=command)
    assert result.exit_code == 0, result.output
    assert len(seen) >= 2


def test_list_shows_the_next_runs(sqlite_url: str) -> None:
    """Each schedule has a line with its time and its next run."""
    office = Office(sqlite_url)

    @scheduled(cron="0 6 * * *", timezone="Europe/Warsaw", endpoint_id="daily")
    def daily() -> None: ...

    office.open(daily)
    result = office.app.test_cli_runner().invoke(args=["ecotone", "list"])
    assert result.exit_code == 0, result.output
    assert "daily" in result.output
    assert "0 6 * * * (Europe/Warsaw)" in result.output
    assert "+00:00" in result.output


def test_unknown_names_are_refused(sqlite_url: str) -> None:
    """A name that is neither a channel nor a schedule is an error."""
    office = Office(sqlite_url)

    @scheduled(cron="0 6 * * *", endpoint_id="daily")
    def daily() -> None: ...

    office.open(daily)
    result = office.app.test_cli_runner().invoke(args=["ecotone", "run", "dayly"])
    assert result.exit_code != 0


def test_tenants_have_ticks_of_their_own_database(sqlite_url: str) -> None:
    """The resolver says whose database a schedule works in."""
    app = Flask("office")
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False
    app.config["SQLALCHEMY_BINDS"] = {"a": sqlite_url, "b": sqlite_url + "2"}
    db, seen = SQLAlchemy(app), []

    @with_tenant_resolver(lambda: "tenant_b")
    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None:
        seen.append(str(db.session.connection().engine.url))

    tenants = MultiTenantConfiguration("tenant", {"tenant_a": "a", "tenant_b": "b"})
    ecotone = Ecotone(packages=[], extensions=[tenants])
    ecotone.register(often)
    ecotone.init_app(app)
    command = ["ecotone", "run", "often", "--handled-message-limit", "1"]
    result = app.test_cli_runner().invoke(
        args=[*command, "--execution-time-limit", "10000"]
    )
    assert result.exit_code == 0, result.output
    assert seen == [sqlite_url + "2"]
