"""Aggregates that derive from one another, on every database."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Version
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.testing import flow_testing

from .apps import application

db = SQLAlchemy()


@aggregate
class Animal(db.Model):
    """The base of one table for all."""

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(20))
    name: Mapped[str] = mapped_column(sa.String(20))
    tricks: Mapped[int | None]
    __mapper_args__: t.ClassVar[t.Any] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "animal",
    }

    @command_handler("animal.rename")
    def rename(self, name: str) -> None:
        self.name = name

    @query_handler("animal.sound")
    def sound(self) -> str:
        return f"{self.name} breathes"

    def sleep(self) -> str:
        return "zzz"


@aggregate
class Dog(Animal):
    """A row of the same table."""

    __mapper_args__: t.ClassVar[t.Any] = {"polymorphic_identity": "dog"}

    @command_handler("dog.adopt")
    @classmethod
    def adopt(cls, name: str) -> t.Self:
        return cls(name=name, tricks=0)

    @command_handler("dog.teach")
    def teach(self) -> int:
        self.tricks = (self.tricks or 0) + 1
        return self.tricks

    def sound(self) -> str:
        return f"{self.name} barks"

    @command_handler("dog.sleep")
    def sleep(self) -> str:
        return "wuff"


@aggregate
class Cat(Animal):
    """Another one."""

    __mapper_args__: t.ClassVar[t.Any] = {"polymorphic_identity": "cat"}


@aggregate
class Vehicle(db.Model):
    """The base of joined tables, with a version."""

    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(sa.String(20))
    mileage: Mapped[int] = mapped_column(default=0)
    version: Mapped[t.Annotated[int, Version()]] = mapped_column(default=0)
    __mapper_args__: t.ClassVar[t.Any] = {
        "polymorphic_on": "type",
        "polymorphic_identity": "vehicle",
    }

    @command_handler("vehicle.drive")
    def drive(self, distance: int) -> int:
        self.mileage += distance
        return self.mileage


@aggregate
class Truck(Vehicle):
    """A row in two tables."""

    id: Mapped[int] = mapped_column(sa.ForeignKey("vehicle.id"), primary_key=True)
    load: Mapped[int] = mapped_column(default=0)
    __mapper_args__: t.ClassVar[t.Any] = {"polymorphic_identity": "truck"}

    @command_handler("truck.build")
    @classmethod
    def build(cls) -> t.Self:
        return cls()

    @command_handler("truck.load")
    def put(self, tons: int) -> int:
        self.load += tons
        return self.load


ALL: t.Final = [Animal, Dog, Cat, Vehicle, Truck]


@pytest.fixture
def farm(database_url: str) -> t.Iterator[t.Any]:
    """An application with all of them."""
    app, _ = application(database_url, db, ALL)
    with app.app_context():
        yield app


def send(key: str, payload: t.Any = None, at: t.Any = None) -> t.Any:
    """Send a command with nothing in the identity map."""
    db.session.expunge_all()
    metadata = {} if at is None else {"aggregate.id": at}
    return command_bus.send_with_routing(key, payload, metadata=metadata)


def ask(key: str, at: t.Any) -> t.Any:
    """Ask an aggregate with nothing in the identity map."""
    db.session.expunge_all()
    return query_bus.send_with_routing(key, metadata={"aggregate.id": at})


def test_handlers_of_the_base_serve_rows_of_subclasses(farm: t.Any) -> None:
    """They load the subclass, and its overrides are called."""
    dog = send("dog.adopt", "Rex")
    send("animal.rename", "Max", dog)
    assert ask("animal.sound", dog) == "Max barks"


def test_a_subclass_adds_handlers_that_find_its_own_rows_only(farm: t.Any) -> None:
    """A cat is no dog, though they share a table and a key."""
    dog = send("dog.adopt", "Rex")
    assert send("dog.teach", at=dog) == 1
    cat = Cat(name="Tom")
    db.session.add(cat)
    db.session.commit()
    cat_id = cat.id
    with pytest.raises(AggregateNotFoundError, match="Dog"):
        send("dog.teach", at=cat_id)
    assert ask("animal.sound", cat_id) == "Tom breathes"


def test_a_row_already_loaded_as_another_class_is_not_found(farm: t.Any) -> None:
    """The identity map makes no dog of a cat either."""
    cat = Cat(name="Tom")
    db.session.add(cat)
    db.session.commit()
    with pytest.raises(AggregateNotFoundError, match="Dog"):
        command_bus.send_with_routing("dog.teach", metadata={"aggregate.id": cat.id})


def test_a_subclass_marks_a_method_that_its_base_has_without_a_mark(
    farm: t.Any,
) -> None:
    """Overriding a plain method with a handler makes it a handler."""
    dog = send("dog.adopt", "Rex")
    assert send("dog.sleep", at=dog) == "wuff"


def test_joined_tables_are_one_aggregate_with_one_version(farm: t.Any) -> None:
    """Handlers of both classes count the same version, in the table of the base."""
    truck = send("truck.build")
    assert send("vehicle.drive", 10, truck) == 10
    assert send("truck.load", 5, truck) == 5
    assert send("vehicle.drive", 10, truck) == 20
    db.session.expunge_all()
    loaded = db.session.get(Vehicle, truck)
    assert type(loaded) is Truck
    assert (loaded.mileage, loaded.load, loaded.version) == (20, 5, 4)


def test_inheritance_works_without_a_database_too() -> None:
    """The same classes in a flow test."""
    flow = flow_testing(ALL)
    dog = flow.command_bus.send_with_routing("dog.adopt", "Rex")
    at = {"aggregate.id": dog}
    flow.send_command_with_routing("animal.rename", "Max", metadata=at)
    assert flow.send_query_with_routing("animal.sound", metadata=at) == "Max barks"
    cat = Cat(name="Tom")
    flow.with_state_for(cat)
    assert cat.id != dog
    with pytest.raises(AggregateNotFoundError, match="Dog"):
        flow.send_command_with_routing("dog.teach", metadata={"aggregate.id": cat.id})
