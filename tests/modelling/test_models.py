"""Aggregates that are Flask-SQLAlchemy models, on every database."""

from __future__ import annotations

import typing as t
import uuid
from dataclasses import dataclass
from datetime import datetime

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Event
from flask_ecotone import event_handler
from flask_ecotone import Identifier
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.storage.models import SQLAlchemyRepository

from .apps import application

db = SQLAlchemy()


@dataclass
class PlaceOrder:
    """A command that makes an order."""

    product: str


@dataclass
class OrderPlaced:
    """What an order records."""

    product: str


@dataclass
class OrderCancelled:
    """What an order records."""

    order_id: int


class Cancellable:
    """A mixin with a column and handlers."""

    is_cancelled: Mapped[bool] = mapped_column(default=False)

    @command_handler("order.cancel")
    def cancel(self: t.Any) -> None:
        self.is_cancelled = True
        self.record_that(OrderCancelled(self.id))

    @query_handler("order.is_cancelled")
    def get_is_cancelled(self) -> bool:
        return self.is_cancelled


@aggregate
class Order(Cancellable, WithEvents, db.Model):
    """A declarative model whose id the database makes."""

    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(sa.String(50))

    @command_handler
    @classmethod
    def place(cls, command: PlaceOrder) -> t.Self:
        order = cls(product=command.product)
        order.record_that(OrderPlaced(command.product))
        return order

    @command_handler("order.fail")
    def fail(self) -> None:
        self.product = "nothing"
        self.record_that(OrderPlaced("nothing"))
        raise LookupError("out of stock")

    @command_handler("order.split")
    def split(self) -> Order:
        self.product = "half"
        return Order(product="other half")

    @query_handler("order.product")
    def get_product(self) -> str:
        return self.product


class Price(t.NamedTuple):
    """A value object."""

    amount: int
    currency: str


class PriceType(sa.types.TypeDecorator[Price]):
    """Stores a price as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Price | None, dialect: t.Any) -> t.Any:
        return None if value is None else list(value)

    def process_result_value(self, value: t.Any, dialect: t.Any) -> Price | None:
        return None if value is None else Price(*value)


@aggregate
class Product(db.Model):
    """A model with a UUID key, a JSON column and a value object."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    price: Mapped[Price] = mapped_column(PriceType)
    tags: Mapped[dict[str, t.Any]] = mapped_column(sa.JSON)

    @command_handler("product.list")
    @classmethod
    def list(cls, price: int) -> t.Self:
        return cls(price=Price(price, "EUR"), tags={"new": True})

    @command_handler("product.reprice")
    def reprice(self, amount: int) -> None:
        self.price = self.price._replace(amount=amount)
        self.tags = {**self.tags, "repriced": [amount]}

    @query_handler("product.price")
    def get(self) -> tuple[Price, dict[str, t.Any]]:
        return self.price, self.tags


@aggregate
class Stock(db.Model):
    """A model with a composite key."""

    warehouse: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    product_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int] = mapped_column(default=0)

    @command_handler("stock.open")
    @classmethod
    def open(cls, payload: dict[str, t.Any]) -> t.Self:
        return cls(**payload)

    @command_handler("stock.add")
    def add(self, payload: dict[str, t.Any]) -> int:
        self.amount += payload["amount"]
        return self.amount


@aggregate
class Customer(db.Model):
    """A model that is also addressed by another attribute than its key."""

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[t.Annotated[str, Identifier()]] = mapped_column(
        sa.String(50), unique=True
    )

    @command_handler("customer.register")
    @classmethod
    def register(cls, payload: dict[str, t.Any]) -> t.Self:
        return cls(**payload)

    @query_handler("customer.id")
    def get(self) -> int:
        return self.id


@pytest.fixture
def client_app(database_url: str) -> t.Any:
    """An application with the aggregates above."""
    app, _ = application(database_url, db, [Order, Product, Stock, Customer])
    with app.app_context():
        yield app


def send(key: str, payload: t.Any = None, at: t.Any = None) -> t.Any:
    """Send a command to an aggregate, then forget every loaded model."""
    metadata = {} if at is None else {"aggregate.id": at}
    result = command_bus.send_with_routing(key, payload, metadata=metadata)
    db.session.expunge_all()
    return result


def ask(key: str, at: t.Any) -> t.Any:
    """Ask an aggregate with nothing in the identity map."""
    db.session.expunge_all()
    return query_bus.send_with_routing(key, metadata={"aggregate.id": at})


def test_the_bus_returns_the_identifier_that_the_database_made(
    client_app: t.Any,
) -> None:
    """The model is flushed before its identifier is read (C-60, U-18)."""
    first = command_bus.send(PlaceOrder("book"))
    second = command_bus.send(PlaceOrder("pen"))
    assert isinstance(first, int)
    assert first != second
    rows = db.session.execute(sa.select(Order.__table__.c["id", "product"])).all()
    assert sorted(map(tuple, rows)) == [(first, "book"), (second, "pen")]


def test_a_change_round_trips_through_both_buses(client_app: t.Any) -> None:
    """The handler saves nothing itself, and a new session sees the change (C-61)."""
    order = command_bus.send(PlaceOrder("book"))
    assert ask("order.is_cancelled", order) is False
    send("order.cancel", at=order)
    assert ask("order.is_cancelled", order) is True


def test_a_view_uses_aggregates(database_url: str) -> None:
    """Buses work in views, and what one request stored the next one finds (C-28)."""
    app, _ = application(database_url, db, [Order])

    @app.post("/orders/<product>")
    def place(product: str) -> t.Any:
        return {"id": command_bus.send(PlaceOrder(product))}

    @app.get("/orders/<order_id>")
    def show(order_id: str) -> str:
        return query_bus.send_with_routing(
            "order.product", metadata={"aggregate.id": order_id}
        )

    client = app.test_client()
    order_id = client.post("/orders/book").get_json()["id"]
    assert client.get(f"/orders/{order_id}").text == "book"


@pytest.mark.parametrize("unknown", ["999", 999, "nonsense", "1.5", "9" * 30])
def test_an_identifier_from_a_url_that_nobody_has_is_not_found(
    client_app: t.Any, unknown: t.Any
) -> None:
    """Text that is no key is no error of the database, but an aggregate not found."""
    command_bus.send(PlaceOrder("book"))
    with pytest.raises(AggregateNotFoundError, match="Order"):
        ask("order.product", unknown)


def test_a_uuid_key_is_found_by_its_text_too(client_app: t.Any) -> None:
    """The key is made by the column's default; JSON and value objects round-trip."""
    product = send("product.list", 5)
    assert isinstance(product, uuid.UUID)
    send("product.reprice", 7, str(product))
    price, tags = ask("product.price", product)
    assert price == Price(7, "EUR")
    assert tags == {"new": True, "repriced": [7]}
    assert ask("product.price", str(product)) == (price, tags)


def test_a_composite_key_is_a_dict_in_any_order(client_app: t.Any) -> None:
    """Upstream supports no composite keys (U-19); 0 is part of one like any other."""
    key = {"warehouse": "north", "product_id": 0}
    assert send("stock.open", key) == key
    send("stock.open", {"warehouse": "south", "product_id": 0})
    assert send("stock.add", {"amount": 3, **key}) == 3
    swapped = {"product_id": "0", "warehouse": "north"}
    assert send("stock.add", {"amount": 4}, swapped) == 7


def test_a_model_may_be_identified_by_another_attribute(client_app: t.Any) -> None:
    """Identifier() chooses it; the primary key is left to the database layer."""
    registered = send("customer.register", {"id": 0, "email": "ann@x"})
    assert registered == "ann@x"
    assert ask("customer.id", "ann@x") == 0
    with pytest.raises(AggregateNotFoundError):
        ask("customer.id", "bob@x")


def test_an_action_may_return_a_new_model(client_app: t.Any) -> None:
    """Both are saved in the same unit of work."""
    order = command_bus.send(PlaceOrder("book"))
    other = command_bus.send_with_routing(
        "order.split", metadata={"aggregate.id": order}
    )
    other_id = other.id
    assert other_id != order
    assert ask("order.product", order) == "half"
    assert ask("order.product", other_id) == "other half"


def test_a_loaded_model_records_events(database_url: str) -> None:
    """Loading never ran __init__, and a failed command leaves nothing (U-17)."""
    seen: list[t.Any] = []

    @event_handler
    def note(event: OrderPlaced | OrderCancelled) -> None:
        seen.append(event)

    app, _ = application(database_url, db, [Order, note])
    with app.app_context():
        order = command_bus.send(PlaceOrder("book"))
        db.session.expunge_all()
        at = {"aggregate.id": order}
        for _ in range(2):
            with pytest.raises(LookupError):
                send("order.fail", at=order)
        assert ask("order.product", order) == "book"
        with pytest.raises(LookupError):
            command_bus.send_with_routing("order.fail", metadata=at)
        command_bus.send_with_routing("order.cancel", metadata=at)
    assert seen == [OrderPlaced("book"), OrderCancelled(order)]


def test_an_event_handler_that_fails_rolls_the_aggregate_back(
    database_url: str,
) -> None:
    """Events are published in the transaction of the command, after the save."""
    seen: list[str] = []

    @event_handler
    def explode(event: OrderPlaced) -> None:
        seen.append(db.session.scalars(sa.select(Order.product)).one())
        raise ArithmeticError("no")

    app, _ = application(database_url, db, [Order, explode])
    with app.app_context():
        with pytest.raises(ArithmeticError):
            command_bus.send(PlaceOrder("book"))
        assert seen == ["book"]
        assert db.session.scalars(sa.select(Order)).all() == []


def test_a_repository_tells_models_from_other_classes() -> None:
    """Mapped classes of every kind are models, anything else isn't (C-62, C-63)."""

    class Base(sa_orm.DeclarativeBase): ...

    class Plain(Base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Abstract(db.Model):
        __abstract__ = True

    class Imperative: ...

    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    sa_orm.registry().map_imperatively(Imperative, table)
    handles = SQLAlchemyRepository().can_handle
    assert handles(Order)
    assert handles(Plain)
    assert handles(Imperative)
    for other in (datetime, Abstract, Cancellable, Base, Event):
        assert not handles(other)


class Rows(sa_orm.DeclarativeBase):
    """A declarative base of the application."""


rows = SQLAlchemy(model_class=Rows)


@aggregate
class Note(WithEvents, sa_orm.MappedAsDataclass, rows.Model):
    """A model that is a dataclass."""

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(50))

    @command_handler("note.write")
    @classmethod
    def write(cls, text: str) -> t.Self:
        note = cls(text=text)
        note.record_that(OrderPlaced(text))
        return note

    @command_handler("note.rewrite")
    def rewrite(self, text: str) -> None:
        self.text = text
        self.record_that(OrderPlaced(text))

    @query_handler("note.text")
    def get(self) -> str:
        return self.text


def test_a_model_that_is_a_dataclass_is_an_aggregate(database_url: str) -> None:
    """MappedAsDataclass makes its own __init__ and __eq__; events still work."""
    seen: list[str] = []

    @event_handler
    def note_it(event: OrderPlaced) -> None:
        seen.append(event.product)

    app, _ = application(database_url, rows, [Note, note_it])
    with app.app_context():
        note = command_bus.send_with_routing("note.write", "a")
        rows.session.expunge_all()
        at = {"aggregate.id": note}
        command_bus.send_with_routing("note.rewrite", "b", metadata=at)
        rows.session.expunge_all()
        assert query_bus.send_with_routing("note.text", metadata=at) == "b"
    assert seen == ["a", "b"]
