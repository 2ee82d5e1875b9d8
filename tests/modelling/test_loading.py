"""How an aggregate's row is read: as ``db.session.get()`` reads it."""

from __future__ import annotations

import re
import typing as t
import uuid

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import relationship

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import AggregateNotFoundError

from .apps import application

db = SQLAlchemy()


@aggregate
class Parcel(db.Model):
    """A row with text, a part of which is read later."""

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(sa.String(20))
    notes: Mapped[str] = mapped_column(sa.Text, default="", deferred=True)
    length = sa_orm.column_property(sa.func.length(label))

    @query_handler("Parcel")
    def shown(self) -> tuple[str, int]:
        return self.label, self.length

    @command_handler("parcel.relabel")
    def relabel(self, label: str) -> str:
        before, self.label = self.label, label
        return before

    @command_handler("parcel.add")
    @classmethod
    def add(cls, key: int) -> t.Self:
        # Nothing of it is flushed when the query is sent.
        db.session.add(cls(id=key, label="found"))
        query_bus.send_with_routing("Parcel", metadata={"aggregate.id": key})
        return cls(id=key + 1, label="last")


class Code(sa.types.TypeDecorator[str]):
    """Text that is stored in small letters."""

    impl = sa.String(10)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: t.Any) -> t.Any:
        return None if value is None else value.lower()

    def process_result_value(self, value: t.Any, dialect: t.Any) -> t.Any:
        return None if value is None else value.upper()


@aggregate
class Station(db.Model):
    """A key of two columns, with a type of the application's own."""

    code: Mapped[str] = mapped_column(Code, primary_key=True)
    line: Mapped[uuid.UUID] = mapped_column(primary_key=True)

    @query_handler("Station")
    def shown(self) -> str:
        return self.code


@aggregate
class Basket(db.Model):
    """A row whose lines are read along with it, in one statement and in another."""

    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list[Line]] = relationship(lazy="joined", order_by="Line.id")
    marks: Mapped[list[Mark]] = relationship(lazy="selectin")

    @query_handler("Basket")
    def shown(self) -> tuple[list[str], list[str]]:
        return [line.text for line in self.lines], [mark.text for mark in self.marks]


class Line(db.Model):
    """One of many."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))
    basket_id: Mapped[int] = mapped_column(sa.ForeignKey("basket.id"))


class Mark(db.Model):
    """One of many."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))
    basket_id: Mapped[int] = mapped_column(sa.ForeignKey("basket.id"))


@aggregate
class Shape(db.Model):
    """The base of joined tables that are read at once."""

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(20))
    __mapper_args__: t.ClassVar[t.Any] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "shape",
        "with_polymorphic": "*",
    }

    @query_handler("Shape")
    def shown(self) -> float:
        return 0.0


@aggregate
class Circle(Shape):
    """A row in two tables."""

    id: Mapped[int] = mapped_column(sa.ForeignKey("shape.id"), primary_key=True)
    radius: Mapped[int]
    __mapper_args__: t.ClassVar[t.Any] = {"polymorphic_identity": "circle"}

    def shown(self) -> float:
        return self.radius * 2.0


@aggregate
class Payment(ConcreteBase, db.Model):
    """The base of tables that have nothing in common but their columns."""

    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    __mapper_args__: t.ClassVar[t.Any] = {
        "polymorphic_identity": "payment",
        "concrete": True,
    }

    @query_handler("Payment")
    def shown(self) -> str:
        return f"{type(self).__name__} {self.amount}"


@aggregate
class Cash(Payment):
    """A row of a table of its own."""

    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    __mapper_args__: t.ClassVar[t.Any] = {
        "polymorphic_identity": "cash",
        "concrete": True,
    }

    @query_handler("Cash")
    def counted(self) -> int:
        return self.amount


@aggregate
class Gauge(db.Model):
    """A row that others change, which is read again whenever it is asked for."""

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    __mapper_args__: t.ClassVar[t.Any] = {"always_refresh": True}

    @query_handler("Gauge")
    def shown(self) -> int:
        return self.value


ALL: t.Final = [Parcel, Station, Basket, Shape, Circle, Payment, Cash, Gauge]
LINE: t.Final = uuid.UUID(int=7)


@pytest.fixture
def depot(database_url: str) -> t.Iterator[Flask]:
    """An application with one row of each."""
    app, _ = application(database_url, db, ALL)
    with app.app_context():
        db.session.add_all(
            [
                Parcel(id=1, label="red"),
                Station(code="ABC", line=LINE),
                Basket(
                    id=1,
                    lines=[Line(text="a"), Line(text="b")],
                    marks=[Mark(text="c"), Mark(text="d")],
                ),
                Circle(id=1, radius=2),
                Shape(id=2),
                Cash(id=1, amount=5),
                Gauge(id=1, value=1),
            ]
        )
        db.session.commit()
        db.session.expunge_all()
        yield app


@pytest.fixture
def executed(depot: Flask) -> t.Iterator[list[t.Any]]:
    """The SELECT statements that the database was sent, with their parameters."""
    seen: list[t.Any] = []

    def note(
        connection: t.Any, cursor: t.Any, text: str, parameters: t.Any, *_: t.Any
    ) -> None:
        if text.startswith("SELECT"):
            # What SQLAlchemy calls the columns is left out: in 2.0 it depends.
            seen.append((re.sub(r" AS \w+", "", text), parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(db.engine, "before_cursor_execute", note)


def ask(name: str, at: t.Any) -> t.Any:
    """Ask an aggregate."""
    return query_bus.send_with_routing(name, metadata={"aggregate.id": at})


@pytest.mark.parametrize(
    ("name", "at", "answer"),
    [
        ("Parcel", 1, ("red", 3)),
        ("Station", {"code": "ABC", "line": LINE}, "ABC"),
        ("Basket", 1, (["a", "b"], ["c", "d"])),
        ("Shape", 1, 4.0),
        ("Shape", 2, 0.0),
        ("Cash", 1, 5),
        ("Payment", 1, "Cash 5"),
        ("Gauge", 1, 1),
    ],
)
def test_a_row_is_read_by_the_statements_of_session_get(
    depot: Flask, executed: list[t.Any], name: str, at: t.Any, answer: t.Any
) -> None:
    """Inheritance, eager loading, deferred columns and keys are as in SQLAlchemy."""
    cls = globals()[name]
    shown = getattr(db.session.get(cls, at), "counted" if name == "Cash" else "shown")
    assert shown() == answer
    expected = [*executed]
    for _ in range(2):
        db.session.rollback()
        db.session.expunge_all()
        executed.clear()
        assert ask(name, at) == answer
        assert executed == expected


def test_a_row_that_the_session_has_is_not_read_again(
    depot: Flask, executed: list[t.Any]
) -> None:
    """The action gets the very instance that a view loaded, with its changes."""
    parcel = db.session.get(Parcel, 1)
    assert parcel is not None
    parcel.label = "blue"
    executed.clear()
    before = command_bus.send_with_routing(
        "parcel.relabel", "green", metadata={"aggregate.id": "1"}
    )
    assert before == "blue"
    assert executed == []
    assert parcel.label == "green"


def test_an_expired_row_that_is_gone_is_not_found(depot: Flask) -> None:
    """What the session still has of it is no aggregate."""
    parcel = db.session.get(Parcel, 1)
    db.session.commit()
    with db.engine.begin() as connection:
        connection.execute(sa.delete(Parcel.__table__))
    with pytest.raises(AggregateNotFoundError, match="Parcel"):
        ask("Parcel", 1)
    assert parcel not in db.session


def test_a_model_that_is_always_refreshed_is(depot: Flask) -> None:
    """It is read again though the session has it."""
    gauge = db.session.get(Gauge, 1)
    db.session.execute(sa.update(Gauge.__table__).values(value=9))
    assert ask("Gauge", 1) == 9
    assert gauge is not None


def test_what_was_added_before_is_flushed_and_found(depot: Flask) -> None:
    """Loading flushes like any query."""
    command_bus.send_with_routing("parcel.add", 77)
    db.session.expunge_all()
    assert ask("Parcel", 77) == ("found", 5)


def test_a_listener_of_the_session_narrows_what_is_found(depot: Flask) -> None:
    """Rows that an application hides from all of its queries stay hidden."""

    def hide(state: sa_orm.ORMExecuteState) -> None:
        if state.is_select:
            visible = sa_orm.with_loader_criteria(Parcel, Parcel.label != "red")
            state.statement = state.statement.options(visible)

    session = db.session()
    sa.event.listen(session, "do_orm_execute", hide)
    with pytest.raises(AggregateNotFoundError, match="Parcel"):
        ask("Parcel", 1)
    sa.event.remove(session, "do_orm_execute", hide)
    assert ask("Parcel", 1) == ("red", 3)


def test_a_session_class_finds_and_executes_in_its_own_way(sqlite_url: str) -> None:
    """Its ``get()`` is asked; one that has an ``execute()`` only sees the query."""
    calls: list[str] = []

    class Getting(Session):
        def get(self, *args: t.Any, **options: t.Any) -> t.Any:
            calls.append("get")
            return super().get(*args, **options)

    class Executing(Session):
        def execute(self, *args: t.Any, **options: t.Any) -> t.Any:
            calls.append("execute")
            return super().execute(*args, **options)

    for session_class, expected in ((Getting, "get"), (Executing, "execute")):
        own = SQLAlchemy(session_options={"class_": session_class})

        @aggregate
        class Box(own.Model):  # type: ignore[misc]
            __tablename__ = "box"
            id: Mapped[int] = mapped_column(primary_key=True)

            @query_handler("box.id")
            def number(self) -> int:
                return self.id

        app, _ = application(sqlite_url, own, [Box])
        with app.app_context():
            own.session.merge(Box(id=3))
            own.session.commit()
            own.session.expunge_all()
            calls.clear()
            at = {"aggregate.id": 3}
            assert query_bus.send_with_routing("box.id", metadata=at) == 3
            assert calls == [expected]
