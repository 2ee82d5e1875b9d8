"""ECOTONE_TEST: the same support for a real application with a database."""

from __future__ import annotations

import typing as t

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
from flask_ecotone import query_handler
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ServiceNotFoundError
from flask_ecotone.testing import FlowTesting

from .parcels import ParcelSent

db = SQLAlchemy()


@aggregate
class Crate(WithEvents, db.Model):
    """A model that records events."""

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str] = mapped_column(sa.String(50), default="")

    @command_handler("crate.fill")
    def fill(self, content: str) -> None:
        self.content = content
        self.record_that(ParcelSent(content))

    @command_handler("crate.burn")
    def burn(self) -> None:
        raise LookupError("fire")

    @query_handler("crate.content")
    def get(self) -> str:
        return self.content


def warehouse(url: str, **config: t.Any) -> tuple[Flask, Ecotone]:
    """Return an application as it is run, with its tables."""
    app = Flask(__name__)
    app.config.from_mapping(SQLALCHEMY_DATABASE_URI=url, **config)
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(Crate)

    @app.post("/crates/<crate_id>/<content>")
    def fill(crate_id: str, content: str) -> str:
        metadata = {"aggregate.id": crate_id}
        command_bus.send_with_routing("crate.fill", content, metadata=metadata)
        return "filled"

    with app.app_context():
        db.create_all()
    return app, ecotone


def test_a_booted_application_offers_flow_testing(database_url: str) -> None:
    """State is committed before the command, and the events of views are recorded."""
    app, ecotone = warehouse(database_url, ECOTONE_TEST=True)
    with app.app_context():
        flow = ecotone.get(FlowTesting)
        crate = Crate(content="straw")
        crate.record_that(ParcelSent("never"))
        flow.with_state_for(crate)
        crate_id = crate.id
        with pytest.raises(LookupError):
            flow.send_command_with_routing(
                "crate.burn", metadata={"aggregate.id": crate_id}
            )
        assert flow.aggregate(Crate, crate_id).content == "straw"
        flow.discard_recorded_messages()
    assert app.test_client().post(f"/crates/{crate_id}/tea").text == "filled"
    with app.app_context():
        assert ecotone.get(FlowTesting) is flow
        assert flow.recorded_events() == [ParcelSent("tea")]
        assert flow.recorded_commands_with_routing() == [("crate.fill", str(crate_id))]
        answer = flow.send_query_with_routing(
            "crate.content", metadata={"aggregate.id": crate_id}
        )
        assert answer == "tea"
        with pytest.raises(AggregateNotFoundError):
            flow.aggregate(Crate, crate_id + 1)


def test_the_environment_switches_it_on(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ECOTONE_TEST is a configuration variable like the others."""
    monkeypatch.setenv("ECOTONE_TEST", "1")
    app, ecotone = warehouse(sqlite_url)
    with app.app_context():
        assert ecotone.get(FlowTesting).recorded_events() == []


def test_an_application_that_is_not_under_test_records_nothing(
    sqlite_url: str,
) -> None:
    """Messages aren't kept in production."""
    app, ecotone = warehouse(sqlite_url)
    with app.app_context():
        with pytest.raises(ServiceNotFoundError, match="ECOTONE_TEST"):
            ecotone.get(FlowTesting)


def test_two_applications_under_test_share_nothing(
    sqlite_url: str, tmp_path: t.Any
) -> None:
    """Each records what went through its own buses."""
    app, ecotone = warehouse(sqlite_url, ECOTONE_TEST=True)
    other, other_ecotone = warehouse(
        f"sqlite:///{tmp_path / 'other.sqlite'}", ECOTONE_TEST=True
    )
    with app.app_context():
        ecotone.get(FlowTesting).publish_event(ParcelSent("a"))
    with other.app_context():
        assert other_ecotone.get(FlowTesting).recorded_events() == []
    with app.app_context():
        assert ecotone.get(FlowTesting).recorded_events() == [ParcelSent("a")]
