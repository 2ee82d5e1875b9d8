"""``flask ecotone run`` and ``list`` with schedules."""

from __future__ import annotations

import datetime

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import InMemoryChannel
from flask_ecotone import Message
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import scheduled
from flask_ecotone import with_tenant_resolver
from flask_ecotone.message import DUE_AT

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
    assert "Firing often when due." in result.output
    assert "handled message limit" in result.output
    assert set(office.texts()) == {"often"}
    command = ["ecotone", "run", "--scheduled", "--execution-time-limit", "10000"]
    result = runner.invoke(args=[*command, "--handled-message-limit", "4"])
    assert result.exit_code == 0, result.output
    assert set(office.texts()) == {"often", "other"}


def test_a_schedule_that_is_not_there_is_refused(sqlite_url: str) -> None:
    """With the one that was probably meant."""
    office = Office(sqlite_url)

    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None: ...

    office.open(often)
    result = office.app.test_cli_runner().invoke(args=["ecotone", "run", "oftne"])
    assert result.exit_code == 1
    assert "There is no channel 'oftne'" in result.output
    assert "Did you mean 'often'? There are often." in result.output


def test_schedules_of_an_application_that_has_none_are_refused(
    sqlite_url: str,
) -> None:
    """There is nothing for the worker to do, and that isn't about tenants."""
    office = Office(sqlite_url)
    office.ecotone = Ecotone(packages=[], channels=[InMemoryChannel("orders")])
    office.open()
    run = office.app.test_cli_runner().invoke
    result = run(args=["ecotone", "run", "--scheduled"])
    assert result.exit_code == 1
    assert "There are no schedules to run. Mark a function" in result.output


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


def test_cron_fires_what_became_due_since_the_last_run(database_url: str) -> None:
    """The first run begins; each further one fires once, and ends by itself."""
    office = Office(database_url)

    @scheduled(every=OFTEN, endpoint_id="often", initial_delay=3_600_000)
    def often(message: Message) -> None:
        office.add(message.headers[DUE_AT].isoformat())

    office.open(often)
    runner = office.app.test_cli_runner()
    fired: list[list[str]] = []
    while not fired or len(fired[-1]) < 3:
        result = runner.invoke(args=["ecotone", "run", "--all", "--cron"])
        assert result.exit_code == 0, result.output
        assert "Stopped (no messages)" in result.output
        fired.append(office.texts())
    assert fired[0] == []
    assert len(fired[-1]) == len(set(fired[-1]))


def test_cron_takes_a_database() -> None:
    """Without one nothing says what became due."""
    app = Flask("office")
    app.config["ECOTONE_CACHE_CONFIGURATION"] = False

    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None: ...

    ecotone = Ecotone(packages=[])
    ecotone.register(often)
    ecotone.init_app(app)
    result = app.test_cli_runner().invoke(args=["ecotone", "run", "often", "--cron"])
    assert result.exit_code == 1
    assert "only a database keeps when that was" in result.output


def test_a_cron_expression_says_when_to_work(sqlite_url: str) -> None:
    """Until then nothing is fired, whatever is due, and limits count meanwhile."""
    office = Office(sqlite_url)

    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None:
        office.add("often")

    office.open(often)
    runner = office.app.test_cli_runner()
    command = ["ecotone", "run", "often", "--execution-time-limit", "400", "--cron"]
    result = runner.invoke(args=[*command, "0 0 29 2 *"])
    assert result.exit_code == 0, result.output
    assert "Stopped (execution time limit): 0 messages" in result.output
    assert office.texts() == []


def test_a_wrong_cron_expression_is_wrong_usage(sqlite_url: str) -> None:
    """The error says what is wrong, also if a name was taken for an expression."""
    office = Office(sqlite_url)

    @scheduled(every=OFTEN, endpoint_id="often")
    def often() -> None: ...

    office.open(often)
    runner = office.app.test_cli_runner()
    for expression in ("often", "* * * *", "61 * * * *"):
        command = ["ecotone", "run", "--scheduled", "--cron", expression]
        result = runner.invoke(args=command)
        assert result.exit_code == 2, result.output
        assert "--cron" in result.output
