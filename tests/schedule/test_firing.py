"""Who fires a tick, and what becomes of those that fail or were missed."""

from __future__ import annotations

import datetime
import gc
import logging
import threading
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_ecotone import FailedMessage
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import poller
from flask_ecotone import scheduled
from flask_ecotone import without_transaction
from flask_ecotone.errors import ConcurrencyError
from flask_ecotone.message import DUE_AT
from flask_ecotone.storage.tables import ticks
from flask_ecotone.storage.ticks import DatabaseTicks

from ..services import engines
from .office import at_once
from .office import Office
from .office import run_due

HOUR = datetime.timedelta(hours=1)
OFTEN = datetime.timedelta(milliseconds=50)


def hourly(office: Office, **options: t.Any) -> t.Any:
    """A schedule that writes down the hours it was fired for."""

    @scheduled(every=HOUR, endpoint_id="hourly", **options)
    def work(message: Message) -> None:
        office.add(f"{message.headers[DUE_AT]:%d %H}")

    return work


@pytest.mark.parametrize("is_transactional", [True, False])
def test_a_tick_is_fired_once(database_url: str, is_transactional: bool) -> None:
    """Eight workers at the same time fire each of five ticks once."""
    office = Office(database_url)
    work = hourly(office)
    if not is_transactional:

        @without_transaction
        @scheduled(every=HOUR, endpoint_id="hourly")
        def work(message: Message) -> None:
            office.add(f"{message.headers[DUE_AT]:%d %H}")
            office.db.session.commit()

    office.open(work)
    workers = [office.worker() for _ in range(8)]
    assert at_once(workers) == 0
    for _ in range(5):
        office.pass_time(hours=1)
        assert at_once(workers) == 1
        # Those that found another one busy look again.
        office.now += datetime.timedelta(seconds=1)
        assert at_once(workers) == 0
    assert office.texts() == [f"05 {hour}" for hour in range(13, 18)]


def test_a_failed_firing_is_not_repeated(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it wrote is rolled back, the failure logged, and the next tick fired."""
    office = Office(database_url)
    seen: list[int] = []

    @scheduled(every=HOUR, endpoint_id="hourly")
    def work() -> None:
        seen.append(1)
        office.add("work")
        if len(seen) == 1:
            raise ValueError("no paper")

    office.open(work)
    worker = office.worker()
    run_due(worker)
    office.pass_time(hours=1)
    with caplog.at_level(logging.ERROR):
        run_due(worker)
    assert "'hourly' failed" in caplog.text
    assert "no paper" in caplog.text
    office.pass_time(minutes=1)
    assert run_due(worker) == run_due(office.worker()) == 0
    assert (len(seen), office.texts()) == (1, [])
    office.pass_time(hours=1)
    assert run_due(worker) == 1
    assert office.texts() == ["work"]


@pytest.mark.parametrize("is_transactional", [True, False])
def test_a_failed_tick_is_fired_by_one_worker(
    database_url: str, is_transactional: bool
) -> None:
    """Eight workers at the same time don't repeat what one of them failed at."""
    office = Office(database_url)
    seen: list[str] = []

    @scheduled(every=HOUR, endpoint_id="hourly")
    def work(message: Message) -> None:
        seen.append(f"{message.headers[DUE_AT]:%d %H}")
        office.add("work")
        raise ValueError("no paper")

    office.open(work if is_transactional else without_transaction(work))
    workers = [office.worker() for _ in range(8)]
    at_once(workers)
    for _ in range(5):
        office.pass_time(hours=1)
        assert at_once(workers) == 1
        office.now += datetime.timedelta(seconds=1)
        assert at_once(workers) == 0
    assert seen == [f"05 {hour}" for hour in range(13, 18)]
    assert office.texts() == []


@pytest.mark.parametrize("is_transactional", [True, False])
@pytest.mark.parametrize(("failures", "attempts"), [(2, 3), (9, 3)])
def test_a_handler_may_ask_for_retries(
    database_url: str, is_transactional: bool, failures: int, attempts: int
) -> None:
    """A firing has as many attempts as its marker says, and is one success or failure.

    :param failures: How many attempts fail.
    """
    office = Office(database_url)
    seen: list[int] = []

    @instant_retry(2)
    @scheduled(every=HOUR, endpoint_id="hourly")
    def work() -> None:
        seen.append(1)
        office.add("work")
        if len(seen) <= failures:
            raise ValueError("no paper")
        office.db.session.commit()

    office.open(work if is_transactional else without_transaction(work))
    worker, other = office.worker(), office.worker()
    at_once([worker, other])
    office.pass_time(hours=1)
    assert list(worker.firings()) == [failures < attempts]
    office.pass_time(minutes=1)
    assert at_once([worker, other]) == 0
    assert len(seen) == attempts
    assert office.texts() == (["work"] if failures < attempts else [])


@pytest.mark.parametrize("is_transactional", [True, False])
def test_a_tick_keeps_its_worker_while_it_is_tried_again(
    database_url: str, is_transactional: bool
) -> None:
    """Another one that looks between two attempts finds nothing to do."""
    office = Office(database_url)
    firing: list[int] = []

    @instant_retry(2)
    @scheduled(every=HOUR, endpoint_id="hourly")
    def work() -> None:
        firing.append(threading.get_ident())
        office.add("work")
        if len(firing) <= 2:
            raise ValueError("no paper")
        office.db.session.commit()

    office.open(work if is_transactional else without_transaction(work))
    worker, other = office.worker(), office.worker()
    at_once([worker, other])
    office.pass_time(hours=1)
    me, looks = threading.get_ident(), list[int]()
    with office.app.app_context():
        engine = office.db.engine

    @sa.event.listens_for(engine, "checkin")
    def let_another_one_look(*_: t.Any) -> None:
        # This worker has just given back a connection, and whatever it had locked.
        if firing and threading.get_ident() == me and not looks:
            looks.append(at_once([other]))

    assert list(worker.firings()) == [True]
    assert looks == [0]
    assert set(firing) == {me}
    assert office.texts() == ["work"]


def test_a_lost_race_is_fired_again(sqlite_url: str) -> None:
    """As with messages: up to three times, without being asked to."""
    office = Office(sqlite_url)
    seen: list[int] = []

    @scheduled(every=HOUR, endpoint_id="hourly")
    def work() -> None:
        seen.append(1)
        if len(seen) < 4:
            raise ConcurrencyError("changed by somebody else")
        office.add("work")

    office.open(work)
    worker = office.worker()
    run_due(worker)
    office.pass_time(hours=1)
    assert list(worker.firings()) == [True]
    assert (len(seen), office.texts()) == (4, ["work"])


def test_the_default_error_channel_is_told(sqlite_url: str) -> None:
    """Of schedules whose poller says nothing, and the failure is logged as well."""
    office = Office(sqlite_url)
    office.app.config["ECOTONE_DEFAULT_ERROR_CHANNEL"] = "failures"

    @scheduled(every=OFTEN, endpoint_id="often")
    def work() -> None:
        raise ValueError("no paper")

    @internal_handler("failures")
    def note(failed: FailedMessage) -> None:
        office.add(f"{failed.endpoint_id}: {failed.error_message}")

    office.open(work, note)
    runner = office.app.test_cli_runner()
    command = ["ecotone", "run", "--scheduled", "--stop-on-failure"]
    result = runner.invoke(args=command)
    assert result.exit_code == 1, result.output
    assert "0 messages handled, 1 failed" in result.output
    assert office.texts() == ["often: no paper"]


def test_a_worker_that_dies_gives_the_tick_back(database_url: str) -> None:
    """Another worker fires what was rolled back with the one that died."""
    office = Office(database_url)
    seen: list[int] = []

    class Killed(BaseException):
        pass

    @scheduled(every=HOUR, endpoint_id="hourly")
    def work() -> None:
        seen.append(1)
        office.add("work")
        if len(seen) == 1:
            raise Killed

    office.open(work)
    first, second = office.worker(), office.worker()
    at_once([first, second])
    office.pass_time(hours=1)
    with pytest.raises(Killed):
        run_due(first)
    assert office.texts() == []
    assert run_due(second) == 1
    assert office.texts() == ["work"]


def test_an_error_channel_is_told(database_url: str) -> None:
    """The failure goes to the handler that the poller names, which may store it."""
    office = Office(database_url)

    @poller(error_channel="failures")
    @scheduled(every=HOUR, endpoint_id="hourly")
    def work() -> None:
        raise ValueError("no paper")

    @internal_handler("failures")
    def note(failed: FailedMessage) -> None:
        office.add(f"{failed.endpoint_id}: {failed.error_message}")

    office.open(work, note)
    worker = office.worker()
    run_due(worker)
    office.pass_time(hours=1)
    run_due(worker)
    assert office.texts() == ["hourly: no paper"]


@pytest.mark.parametrize(
    ("misfire", "hours"),
    [("skip", []), ("once", ["05 18"]), ("all", [f"05 {h}" for h in range(14, 19)])],
)
def test_missed_ticks(sqlite_url: str, misfire: t.Any, hours: list[str]) -> None:
    """A worker that comes back after five hours does as the schedule says."""
    office = Office(sqlite_url)
    office.open(hourly(office, misfire=misfire))
    worker = office.worker()
    run_due(worker)
    office.pass_time(hours=1)
    run_due(worker)
    office.pass_time(hours=5, minutes=5)
    later = office.worker()
    while run_due(later):
        pass
    assert office.texts() == ["05 13", *hours]
    office.pass_time(hours=1)
    run_due(later)
    assert office.texts() == ["05 13", *hours, "05 19"]


def test_a_restart_loses_no_tick(sqlite_url: str) -> None:
    """A tick that falls between two workers is fired, if it is a moment ago."""
    office = Office(sqlite_url)
    office.open(hourly(office))
    worker = office.worker()
    run_due(worker)
    office.pass_time(hours=1)
    run_due(worker)
    office.pass_time(hours=1, seconds=20)
    assert run_due(office.worker()) == 1


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
def test_a_new_schedule_makes_up_for_nothing(sqlite_url: str, misfire: t.Any) -> None:
    """What never ran has missed nothing."""
    office = Office(sqlite_url)
    office.open(hourly(office, misfire=misfire))
    office.pass_time(minutes=1)
    assert run_due(office.worker()) == 0


def test_a_busy_worker_does_not_catch_up_in_a_burst(sqlite_url: str) -> None:
    """After a long message only the latest tick is fired."""
    office = Office(sqlite_url)
    office.open(hourly(office))
    worker = office.worker()
    run_due(worker)
    office.pass_time(hours=4)
    assert (run_due(worker), run_due(worker)) == (1, 0)
    assert office.texts() == ["05 16"]


def test_the_first_firing_can_wait(sqlite_url: str) -> None:
    """Nothing is fired before the initial delay is over; the poller's counts."""
    office = Office(sqlite_url)
    delay = datetime.timedelta(hours=2, minutes=30)
    office.open(poller(initial_delay=delay)(hourly(office)))
    worker = office.worker()
    for _ in range(3):
        run_due(worker)
        office.pass_time(hours=1)
    run_due(worker)
    assert office.texts() == ["05 15"]


def test_next_due_tells_how_long_to_wait(sqlite_url: str) -> None:
    """The wait is that of the schedule that comes first."""
    office = Office(sqlite_url)

    @scheduled(cron="10 * * * *")
    def other() -> None:
        pass

    office.open(hourly(office), other)
    worker = office.worker()
    run_due(worker)
    assert worker.next_due() == 600
    assert worker.next_runs()["hourly"] == office.now + HOUR


def test_old_ticks_are_forgotten(sqlite_url: str) -> None:
    """A week later they are deleted in passing."""
    office = Office(sqlite_url)
    office.open(hourly(office))
    worker = office.worker()
    run_due(worker)
    for _ in range(3):
        office.pass_time(days=5)
        run_due(worker)
    with office.app.app_context(), office.db.engine.connect() as connection:
        kept = connection.scalars(sa.select(ticks.c.due_at).where(ticks.c.due_at > 0))
        assert len(kept.all()) == 2


def test_the_database_of_a_new_tenant_is_prepared(tmp_path: Path) -> None:
    """Its engine may lie where one was that is gone."""
    current: list[sa.Engine] = []
    shared = DatabaseTicks(lambda: t.cast(t.Any, None), lambda: current[0], list)
    addresses: list[int] = []
    while len(set(addresses)) == len(addresses) < 1000:
        url = f"sqlite:///{tmp_path / f'tenant-{len(addresses)}.sqlite'}"
        current.append(sa.create_engine(url))
        addresses.append(id(current[0]))
        shared.prepare("hourly")
        with current[0].connect() as connection:
            assert sa.inspect(connection).has_table(ticks.name)
        del connection
        engines.dispose(current)
        current.clear()
        gc.collect()
