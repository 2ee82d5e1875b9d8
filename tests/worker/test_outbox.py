"""Publishing is part of the transaction of the publisher."""

from __future__ import annotations

import logging
import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import event_bus

from .shop import OrderWasPlaced
from .shop import PlaceOrder
from .shop import Ring
from .shop import Shop


def ready(shop: Shop, channel: str = "orders") -> int:
    return shop.source(channel).status().ready


def test_a_command_sends_with_its_commit(shop: Shop) -> None:
    """Each asynchronous handler gets a copy of its own."""
    with shop.app.app_context():
        command_bus.send(PlaceOrder(1))
    assert ready(shop) == 2
    assert shop.effects() == [("order", 1)]


def test_a_failed_command_sends_nothing(shop: Shop) -> None:
    """After a rollback neither rows nor messages are left."""
    with shop.app.app_context(), pytest.raises(ValueError, match="out of stock"):
        command_bus.send(PlaceOrder(1, fails=True))
    assert ready(shop) == 0
    assert shop.effects() == []


def test_a_command_after_a_failed_one_sends_its_own_messages_only(shop: Shop) -> None:
    """What the failed one had staged on the session is forgotten."""
    with shop.app.app_context():
        with pytest.raises(ValueError, match="out of stock"):
            command_bus.send(PlaceOrder(1, fails=True))
        command_bus.send(PlaceOrder(2))
    assert ready(shop) == 2


def test_a_view_publishes_in_its_own_transaction(shop: Shop) -> None:
    """Messages are committed, or rolled back, with what the view wrote."""
    db, effect = shop.db, shop.effect

    @shop.app.get("/<int:number>/<end>")
    def view(number: int, end: str) -> str:
        db.session.add(effect(name="view", number=number))
        event_bus.publish(OrderWasPlaced(number))
        getattr(db.session, end)()
        return ""

    client = shop.app.test_client()
    client.get("/1/rollback")
    assert (ready(shop), shop.effects()) == (0, [])
    client.get("/2/commit")
    assert (ready(shop), shop.effects()) == (2, [("view", 2)])


def test_a_view_without_transaction_publishes_at_once(shop: Shop) -> None:
    """There is nothing to wait for."""
    with shop.app.app_context():
        event_bus.publish(OrderWasPlaced(1))
        assert ready(shop) == 2


def test_a_message_alone_is_a_transaction_of_one_statement(shop: Shop) -> None:
    """The session has no part in it; PostgreSQL is not even told to begin."""
    with shop.app.app_context():
        engine, seen = shop.db.engine, []
        command_bus.send_with_routing("ring", Ring("once"))

        def note(connection: sa.Connection, *args: t.Any) -> None:
            driver = t.cast(t.Any, connection.connection.dbapi_connection)
            seen.append((args[1].split()[0], getattr(driver, "autocommit", None)))

        sa.event.listen(engine, "before_cursor_execute", note)
        command_bus.send_with_routing("ring", Ring("twice"))
        sa.event.remove(engine, "before_cursor_execute", note)
        assert not shop.db.session().in_transaction()
    assert ready(shop, "bell") == 2
    assert [word for word, _ in seen if word == "INSERT"] == ["INSERT"]
    if engine.dialect.name == "postgresql":
        assert seen == [("INSERT", True)]


def test_a_message_alone_joins_the_transaction_that_the_session_joins(
    shop: Shop,
) -> None:
    """A test suite that rolls back what each test did takes it along."""
    with shop.app.app_context():
        engines, engine = shop.db.engines, shop.db.engine
        with engine.connect() as connection:
            around = connection.begin()
            engines[None] = t.cast(t.Any, connection)
            try:
                command_bus.send_with_routing("ring", Ring("never"))
            finally:
                engines[None] = engine
            around.rollback()
        assert ready(shop, "bell") == 0
        command_bus.send_with_routing("ring", Ring("once"))
    assert ready(shop, "bell") == 1


def test_a_rolled_back_savepoint_takes_its_messages_along(shop: Shop) -> None:
    """What was sent before and after it is sent."""
    with shop.app.app_context():
        db = shop.db
        db.session.add(shop.effect(name="view", number=0))
        event_bus.publish(OrderWasPlaced(1))
        with pytest.raises(KeyError), db.session.begin_nested():
            event_bus.publish(OrderWasPlaced(2))
            raise KeyError
        with db.session.begin_nested():
            event_bus.publish(OrderWasPlaced(3))
        event_bus.publish(OrderWasPlaced(4))
        db.session.commit()
    shop.work()
    assert [n for name, n in shop.effects() if name == "mail"] == [1, 3, 4]


def test_messages_are_handled_in_the_order_they_were_sent(shop: Shop) -> None:
    """Savepoints don't change it."""
    with shop.app.app_context():
        shop.db.session.add(shop.effect(name="view", number=0))
        event_bus.publish(OrderWasPlaced(1))
        with shop.db.session.begin_nested():
            event_bus.publish(OrderWasPlaced(2))
        event_bus.publish(OrderWasPlaced(3))
        shop.db.session.commit()
    shop.work()
    order = [m.payload.number for name, m in shop.seen if name == "mail"]
    assert order == [1, 2, 3]


def test_what_a_view_forgets_to_commit_is_reported(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is dropped without a word."""
    with shop.app.app_context(), caplog.at_level(logging.WARNING):
        shop.db.session.add(shop.effect(name="view", number=1))
        event_bus.publish(OrderWasPlaced(1))
    assert ready(shop) == 0
    assert "2 messages for orders were not sent" in caplog.text


def test_what_is_rolled_back_is_not_reported(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever rolls back, or fails, knows that nothing is sent."""
    with shop.app.app_context(), caplog.at_level(logging.WARNING):
        shop.db.session.add(shop.effect(name="view", number=1))
        event_bus.publish(OrderWasPlaced(1))
        shop.db.session.rollback()
        with pytest.raises(ValueError, match="out of stock"):
            command_bus.send(PlaceOrder(2, fails=True))
        with shop.db.session.begin_nested() as savepoint:
            event_bus.publish(OrderWasPlaced(3))
            savepoint.rollback()
        shop.db.session.commit()
    assert ready(shop) == 0
    assert caplog.text == ""


def test_a_nested_app_context_sends_with_the_command_around_it(shop: Shop) -> None:
    """Its session is a guest in the transaction."""
    with shop.app.app_context():

        def publish_and(error: Exception | None) -> None:
            with shop.app.app_context():
                event_bus.publish(OrderWasPlaced(1))
            if error is not None:
                raise error

        transaction = shop.messaging._transaction
        with pytest.raises(ValueError, match="given up"):
            transaction.run(None, lambda: publish_and(ValueError("given up")))
        assert ready(shop) == 0
        transaction.run(None, lambda: publish_and(None))
    assert ready(shop) == 2
