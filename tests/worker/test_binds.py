"""Channels in another database than that of the application."""

from __future__ import annotations

import json
import logging
import threading
import typing as t

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone.channels import Capability
from flask_ecotone.channels.listening import Listeners
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import missing

from ..processes import until
from .warehouse import Count
from .warehouse import Order
from .warehouse import Pack
from .warehouse import Return
from .warehouse import Ship
from .warehouse import Warehouse
from .warehouse import WasOrdered
from .warehouse import WasPacked

#: What removes a message: with notes on PostgreSQL, alone elsewhere.
REMOVAL = "DELETE FROM ecotone_message"


@pytest.fixture
def warehouse(database_url: str, second_database_url: str) -> Warehouse:
    """A warehouse on two databases of each kind in turn."""
    return Warehouse(database_url, second_database_url)


def test_messages_lie_in_the_database_of_the_bind(warehouse: Warehouse) -> None:
    """They are sent there, handled from there, and gone."""
    warehouse.send(Order("tea"))
    assert (warehouse.queued(), warehouse.queued(None)) == (["pick"], [])
    assert warehouse.work().handled == 1
    assert warehouse.book() == ["order tea", "pick tea"]
    assert warehouse.queued() == []


def test_a_command_that_fails_sends_nothing(warehouse: Warehouse) -> None:
    """Neither what it wrote nor what it published is there."""
    warehouse.act = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        warehouse.send(Order("tea"))
    assert (warehouse.book(), warehouse.queued()) == ([], [])


def test_a_savepoint_that_is_given_up_takes_its_messages_along(
    warehouse: Warehouse,
) -> None:
    """Those around it are sent, in a view without a command as well."""
    bus, session = warehouse.ecotone, warehouse.db.session
    with warehouse.app.app_context():
        warehouse.write("view")
        bus.event_bus.publish(WasOrdered("tea"))
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            bus.event_bus.publish(WasOrdered("milk"))
            _ = 1 / 0
        with session.begin_nested():
            bus.event_bus.publish(WasOrdered("honey"))
        assert warehouse.queued() == []
        session.commit()
        bus.event_bus.publish(WasOrdered("coffee"))
        bus.event_bus.publish(WasOrdered("salt"))
        warehouse.write("view")
        bus.event_bus.publish(WasOrdered("sugar"))
        session.rollback()
    assert warehouse.work().handled == 4
    picked = ["pick tea", "pick honey", "pick coffee", "pick salt"]
    assert warehouse.book() == ["view", *picked]


def test_work_is_not_committed_if_its_messages_cannot_be_sent(
    warehouse: Warehouse,
) -> None:
    """A database of messages that doesn't take them keeps commands from succeeding."""
    warehouse.send(Order("tea"))
    warehouse.work()
    with warehouse.engines["queues"].begin() as connection:
        connection.execute(sa.text("DROP TABLE ecotone_message"))
    with pytest.raises(sa.exc.DBAPIError, match="ecotone_message"):
        warehouse.send(Order("milk"))
    assert warehouse.book() == ["order tea", "pick tea"]


def test_messages_are_not_sent_if_the_work_cannot_be_committed(
    warehouse: Warehouse,
) -> None:
    """The commit itself may fail, when the messages are prepared."""

    class Full(Exception):
        pass

    def refuse(connection: t.Any) -> None:
        raise Full

    sa.event.listen(warehouse.engines[None], "commit", refuse)
    with pytest.raises(Full):
        warehouse.send(Order("tea"))
    sa.event.remove(warehouse.engines[None], "commit", refuse)
    assert (warehouse.book(), warehouse.queued()) == ([], [])
    warehouse.send(Order("milk"))
    assert (warehouse.book(), warehouse.queued()) == (["order milk"], ["pick"])


def test_what_a_batch_sends_is_sent_with_it(warehouse: Warehouse) -> None:
    """Messages handled in one transaction send theirs once it is committed."""
    warehouse.send(*[Pack(str(number)) for number in range(5)])
    assert warehouse.work("batched").handled == 5
    assert warehouse.queued() == ["pick"] * 5
    assert warehouse.work().handled == 5
    assert len(warehouse.book()) == 10


def test_a_batch_is_not_committed_if_its_messages_cannot_be_sent(
    warehouse: Warehouse,
) -> None:
    """Then nothing of it has happened, and its messages come back."""
    warehouse.send(Order("tea"))
    warehouse.work()
    warehouse.send(Pack("1"), Pack("2"))
    with warehouse.engines["queues"].begin() as connection:
        connection.execute(sa.text("ALTER TABLE ecotone_message RENAME TO elsewhere"))
    warehouse.work("batched")
    before = ["order tea", "pick tea"]
    assert warehouse.book() == before
    with warehouse.engines["queues"].begin() as connection:
        connection.execute(sa.text("ALTER TABLE elsewhere RENAME TO ecotone_message"))
    warehouse.let_time_pass()
    assert warehouse.work("batched").handled == 2
    assert sorted(warehouse.book()) == [*before[:1], "pack 1", "pack 2", *before[1:]]
    assert warehouse.queued() == ["pick"] * 2


def test_a_worker_that_dies_before_it_removes_a_message(warehouse: Warehouse) -> None:
    """The work is committed, the message comes back, and nothing is done twice."""
    warehouse.send(Order("tea"))
    warehouse.work_and_die("queues", REMOVAL)
    assert warehouse.book() == ["order tea", "pick tea"]
    assert warehouse.queued() == ["pick"]
    warehouse.let_time_pass()
    warehouse.work()
    assert warehouse.book() == ["order tea", "pick tea"]
    assert warehouse.queued() == []
    assert warehouse.parked() == []


def test_a_worker_that_dies_before_its_work_is_committed(warehouse: Warehouse) -> None:
    """The message comes back and is handled."""
    warehouse.send(Order("tea"))
    warehouse.work_and_die(None, "INSERT INTO entry")
    assert warehouse.book() == ["order tea"]
    warehouse.let_time_pass()
    warehouse.work()
    assert warehouse.book() == ["order tea", "pick tea"]


def test_a_handler_without_transaction_is_noted_with_its_message(
    warehouse: Warehouse,
) -> None:
    """What is sent twice is handled once; the note is where the messages are."""
    warehouse.send(Count("tea"), Count("tea"), id="count-1")
    warehouse.work()
    warehouse.send(Count("tea"), id="count-1")
    warehouse.work()
    counted = warehouse.book()
    assert "count tea" in counted and len(counted) <= 2
    with warehouse.engines["queues"].connect() as connection:
        assert list(connection.scalars(sa.select(handled.c.key))) == ["count-1"]


def test_a_dead_letter_is_kept_with_the_work_and_comes_back(
    warehouse: Warehouse,
) -> None:
    """It is among those of the application, and is replayed to its own database."""
    warehouse.send(Order("tea"))
    warehouse.act = lambda: 1 / 0
    for _ in range(2):
        warehouse.work()
        warehouse.let_time_pass()
    assert warehouse.queued() == []
    (parked,) = warehouse.parked()
    assert (parked["channel"], parked["attempts"]) == ("parcels", 2)
    warehouse.act = lambda: None
    warehouse.command("deadletter", "replay", str(parked["id"]))
    assert (warehouse.queued(), warehouse.queued(None)) == (["pick"], [])
    warehouse.work()
    assert warehouse.book() == ["order tea", "pick tea"]
    assert warehouse.parked() == []


def test_an_outbox_in_front_loses_nothing(warehouse: Warehouse) -> None:
    """Messages wait in the outbox until they are in the other database."""
    warehouse.send(Ship("tea"))
    assert (warehouse.queued(None), warehouse.queued()) == (["ship"], [])
    warehouse.work_and_die(None, REMOVAL)
    assert warehouse.queued(None) == ["ship"]
    warehouse.let_time_pass()
    warehouse.work("near")
    # Those that were sent before the worker died are there as well.
    assert (warehouse.queued(None), set(warehouse.queued())) == ([], {"ship"})
    warehouse.work()
    assert (warehouse.book(), warehouse.queued()) == (["ship tea"], [])


def test_a_dynamic_channel_may_have_channels_of_both_databases(
    warehouse: Warehouse,
) -> None:
    """Each message is sent as its own channel sends it."""
    ecotone, session = warehouse.ecotone, warehouse.db.session
    with warehouse.app.app_context():
        warehouse.write("view")
        for number in range(4):
            ecotone.event_bus.publish(WasPacked(str(number)))
        session.rollback()
        assert (warehouse.queued(None), warehouse.queued()) == ([], [])
        warehouse.write("view")
        for number in range(4):
            ecotone.event_bus.publish(WasPacked(str(number)))
        session.commit()
    assert (warehouse.queued(None), warehouse.queued()) == (
        ["label"] * 2,
        ["label"] * 2,
    )
    assert warehouse.work("either").handled == 4
    assert sorted(warehouse.book()) == [*(f"label {n}" for n in range(4)), "view"]


def test_tenants_share_the_channel(
    database_url: str, second_database_url: str, new_database: t.Callable[[], str]
) -> None:
    """Each message is handled, and kept when it failed, where its tenant is."""
    binds = {"bind_a": database_url, "bind_b": new_database()}
    configuration = MultiTenantConfiguration("tenant", {"a": "bind_a", "b": "bind_b"})
    warehouse = Warehouse(
        None, second_database_url, extensions=[configuration], **binds
    )
    warehouse.command("database", "setup", "--all-tenants")
    warehouse.send(Order("tea"), tenant="a")
    warehouse.send(Order("milk"), tenant="b")
    assert warehouse.queued() == ["pick", "pick"]
    assert [warehouse.queued(bind) for bind in binds] == [[], []]
    assert [
        s.tenant for s in warehouse.messaging.channels.get("parcels").sources()
    ] == [None]
    assert warehouse.work().handled == 2
    assert warehouse.book("bind_a") == ["order tea", "pick tea"]
    assert warehouse.book("bind_b") == ["order milk", "pick milk"]
    warehouse.send(Order("salt"), tenant="b")
    warehouse.act = lambda: 1 / 0
    for _ in range(2):
        warehouse.work()
        warehouse.let_time_pass()
    assert warehouse.parked("--tenant", "a") == []
    (parked,) = warehouse.parked("--tenant", "b")
    warehouse.act = lambda: None
    warehouse.command("deadletter", "replay", "--tenant", "b", str(parked["id"]))
    warehouse.work()
    assert warehouse.book("bind_b")[-1] == "pick salt"
    warehouse.send(Return("tea"), tenant="a")
    warehouse.send(Return("milk"), tenant="b")
    warehouse.work()
    assert [warehouse.queued(bind) for bind in binds] == [["return"], ["return"]]
    warehouse.work("near")
    assert warehouse.book("bind_a")[-1] == "return tea"
    assert warehouse.book("bind_b")[-1] == "return milk"


def test_commands_know_the_database_of_the_bind(
    sqlite_url: str, postgres_url: str
) -> None:
    """It is set up, its messages are listed and deleted, and old notes removed."""
    warehouse = Warehouse(sqlite_url, postgres_url)
    queues = warehouse.engines["queues"]
    assert not missing(queues), "db.create_all() makes our tables there, too"
    warehouse.command("database", "delete", "--force")
    assert len(missing(queues)) == len(missing(warehouse.engines[None])) == 4
    shown = warehouse.command("database", "setup", "--initialize")
    assert not missing(queues) and not missing(warehouse.engines[None])
    assert "bind queues" in shown and "default" in shown
    warehouse.send(Order("tea"), Order("milk"))
    listed = json.loads(warehouse.command("list", "--channels", "--json"))
    assert {row["channel"]: row["ready"] for row in listed}["parcels"] == 2
    assert "2" in warehouse.command("channel", "delete", "parcels", "--force")
    assert warehouse.queued() == []
    warehouse.send(Count("tea"))
    warehouse.work()
    said = warehouse.command(
        "deduplication", "remove-expired-messages", "--older-than", "0s"
    )
    assert "bind queues: 1 removed." in said


def test_a_channel_is_set_up_by_itself(database_url: str, sqlite_url: str) -> None:
    """The first message makes the tables, or 'channel setup' does."""
    warehouse = Warehouse(sqlite_url, database_url)
    queues = warehouse.engines["queues"]
    warehouse.command("database", "delete", "--force")
    assert len(missing(queues)) == 4
    warehouse.command("channel", "setup", "parcels", "--initialize")
    assert not missing(queues)
    warehouse.command("database", "delete", "--force")
    warehouse.send(Order("tea"))
    assert not missing(queues)
    assert warehouse.work().handled == 1


def test_a_worker_is_woken_by_the_database_of_the_bind(
    sqlite_url: str, postgres_url: str
) -> None:
    """PostgreSQL tells of messages, whatever the application's own database is."""
    warehouse = Warehouse(sqlite_url, postgres_url)
    sources = warehouse.messaging.channels.get("parcels").sources()
    woken = threading.Event()
    listeners = Listeners(["parcels"], woken.set, logging.getLogger(__name__))
    try:
        assert listeners.follow(sources)
        until(woken.is_set)  # it listens
        woken.clear()
        warehouse.send(Order("tea"))
        until(woken.is_set)
    finally:
        listeners.close()


def test_what_such_a_channel_can_do(warehouse: Warehouse) -> None:
    """All that others can, but for sending in the transaction."""
    bound = warehouse.messaging.channels.get("parcels").capabilities
    near = warehouse.messaging.channels.get("near").capabilities
    assert near & ~bound == Capability.TRANSACTIONAL


def _app(channel: DatabaseChannel) -> Ecotone:
    app = Flask("warehouse")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["SQLALCHEMY_BINDS"] = {"queues": "sqlite://", "reports": "sqlite://"}
    SQLAlchemy(app)
    ecotone = Ecotone(app, packages=[], channels=[channel])
    with app.app_context():
        ecotone.compile()
    return ecotone


def test_an_unknown_bind_is_refused() -> None:
    """The error names the channel, what is meant, and what there is."""
    with pytest.raises(ConfigurationError) as caught:
        _app(DatabaseChannel("parcels", bind="queue"))
    said = str(caught.value)
    assert "DatabaseChannel('parcels')" in said
    assert "no bind 'queue'. Did you mean 'queues'?" in said
    assert "'queues', 'reports'" in said


def test_batches_in_another_database_are_refused() -> None:
    """A message can't be removed there in the transaction of its handler."""
    with pytest.raises(ConfigurationError, match=r"bind='queues'.*transaction='batch'"):
        DatabaseChannel("parcels", bind="queues", transaction="batch")


@pytest.mark.parametrize("bind", [None, "default"])
def test_the_default_bind_is_the_database_of_the_session(
    sqlite_url: str, bind: str | None
) -> None:
    """It is a channel like any other, batches included."""
    channel = DatabaseChannel("parcels", bind=bind, transaction="batch")
    ecotone = _app(channel)
    assert ecotone is not None
    assert channel.bind_key is None
