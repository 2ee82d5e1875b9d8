"""Aggregates that delete themselves."""

from __future__ import annotations

import typing as t
from typing import Annotated

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Version
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError

db = SQLAlchemy()
gone: list[int] = []


class WasDeleted:
    """What a deleted row records."""

    def __init__(self, number: int) -> None:
        self.number = number


@aggregate
class Leaf(WithEvents, db.Model):
    """A row that deletes itself."""

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[Annotated[int, Version()]] = mapped_column(default=0)

    @command_handler("leaf.delete")
    def delete(self, then: str) -> None:
        db.session.delete(self)
        self.record_that(WasDeleted(self.id))

        if then == "flush":
            db.session.flush()
        elif then == "commit":
            db.session.commit()
        elif then == "query":
            db.session.scalars(sa.select(Leaf)).all()

    @query_handler("leaf.version")
    def get_version(self) -> int:
        return self.version


@event_handler
def note_deleted(event: WasDeleted) -> None:
    gone.append(event.number)


@pytest.fixture
def app(database_url: str) -> t.Iterator[Flask]:
    """An application with one leaf, 10."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db.init_app(app)
    Ecotone(app, packages=[]).register(Leaf, note_deleted)
    gone.clear()

    with app.app_context():
        db.create_all()
        db.session.add(Leaf(id=10, version=1))
        db.session.commit()
        yield app


@pytest.mark.parametrize("then", ["nothing", "flush", "commit", "query"])
def test_a_model_deletes_itself(app: Flask, then: str) -> None:
    """It stays deleted if something flushes before it is saved."""
    command_bus.send_with_routing("leaf.delete", then, metadata={"aggregate.id": 10})
    assert db.session.scalars(sa.select(Leaf)).all() == []
    assert gone == [10]


@pytest.mark.parametrize("given", ["1_0", " 10 ", "+10", "१०", True])
def test_a_row_has_one_name(app: Flask, given: t.Any) -> None:
    """What int() reads as a key but nobody writes so finds nothing."""
    db.session.add(Leaf(id=1, version=1))
    db.session.commit()

    with pytest.raises(AggregateNotFoundError):
        query_bus.send_with_routing("leaf.version", metadata={"aggregate.id": given})

    assert query_bus.send_with_routing("leaf.version", metadata={"aggregate.id": "10"})
