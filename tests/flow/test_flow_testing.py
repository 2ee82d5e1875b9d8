"""Flow testing: the real system, no application and no database."""

from __future__ import annotations

import subprocess
import sys
import types
import typing as t
import uuid
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import environment
from flask_ecotone import EventBus
from flask_ecotone import Identifier
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone import Version
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConcurrencyError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ModellingError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.errors import ServiceNotFoundError
from flask_ecotone.errors import UnknownChannelError
from flask_ecotone.testing import flow_testing
from flask_ecotone.testing import FlowTesting

from . import parcels
from .parcels import CountParcels
from .parcels import FixedScale
from .parcels import Office
from .parcels import Parcel
from .parcels import ParcelSent
from .parcels import Scale
from .parcels import SendParcel
from .parcels import Unhandled
from .parcels import weigh


def flow_of_parcels(**options: t.Any) -> FlowTesting:
    """Return a flow of everything in the module."""
    return flow_testing([parcels], services={Scale: FixedScale()}, **options)


def test_a_flow_runs_without_an_application() -> None:
    """Commands, events and queries work with no app context pushed."""
    assert not has_app_context()
    flow = flow_of_parcels()
    counted = (
        flow.send_command(SendParcel("a", 3))
        .publish_event(ParcelSent("b"))
        .send_query(CountParcels())
    )
    assert counted == 2
    assert flow.aggregate(Parcel, "a") == Parcel("a", 6)


def test_importing_and_using_it_needs_no_database_and_no_flask_app() -> None:
    """A fresh interpreter, with every socket refused and nothing configured."""
    script = """
import socket, sqlalchemy, flask
def refuse(*args, **kwargs): raise AssertionError("something was opened")
socket.socket.connect = refuse
sqlalchemy.create_engine = refuse
flask.Flask.__init__ = refuse
from tests.flow import parcels
from flask_ecotone.testing import flow_testing
flow = flow_testing([parcels], services={parcels.Scale: parcels.FixedScale()})
print(flow.send_command(parcels.SendParcel("a")).recorded_events())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "[ParcelSent(parcel_id='a')]\n"


def test_sending_methods_return_the_flow_and_the_bus_the_result() -> None:
    """The result of a command is asked of the bus."""
    flow = flow_of_parcels()
    assert flow.send_command(SendParcel("a")) is flow
    at = {"aggregate.id": "a"}
    assert flow.send_command_with_routing("parcel.return", "broken", metadata=at) is (
        flow
    )
    assert flow.publish_event(ParcelSent("x")) is flow
    assert flow.publish_event_with_routing("office.announced", "x") is flow
    assert flow.discard_recorded_messages() is flow
    assert flow.with_state_for(Parcel("z")) is flow
    assert flow.command_bus.send(SendParcel("b")) == "b"
    returned = flow.command_bus.send_with_routing(
        "parcel.return", "broken", metadata=at
    )
    assert returned == "returned"


def test_payloads_and_replies_can_have_media_types() -> None:
    """JSON goes in and out like on the buses."""
    flow = flow_of_parcels()
    answer = flow.send_query_with_routing(
        "office.echo",
        '{"a": 1}',
        media_type="application/json",
        expected_media_type="application/json",
    )
    assert answer == '{"a":1}'
    assert flow.send_query(CountParcels(), expected_media_type="application/json") == (
        "0"
    )


def test_reading_recorded_events_drains_them() -> None:
    """Recorded and published events are kept once, in order."""
    flow = flow_of_parcels()
    flow.send_command(SendParcel("a")).publish_event(ParcelSent("b"))
    flow.send_command_with_routing("office.announce", "open")
    assert flow.recorded_events() == [ParcelSent("a"), ParcelSent("b"), "open"]
    assert flow.recorded_events() == []


def test_headers_of_recorded_events_are_drained_too() -> None:
    """Payloads and headers are two views of the same messages."""
    flow = flow_of_parcels()
    flow.publish_event(ParcelSent("a"), {"user": "ann"})
    [headers] = flow.recorded_event_headers()
    assert headers["user"] == "ann"
    assert headers.message_id == headers.correlation_id
    assert flow.recorded_events() == []


def test_the_names_that_events_were_published_by_are_recorded() -> None:
    """Upstream reads the routing key of commands there, and finds none."""
    flow = flow_of_parcels()
    flow.send_command_with_routing("office.announce", "open")
    flow.publish_event(ParcelSent("a"))
    assert flow.recorded_event_routing() == ["office.announced", None]
    assert flow.recorded_event_routing() == []


def test_commands_and_queries_are_recorded() -> None:
    """With their headers and, where they have one, their routing key."""
    flow = flow_of_parcels()
    flow.send_command(SendParcel("a"), {"user": "ann"})
    assert flow.recorded_commands() == [SendParcel("a")]
    flow.send_command(SendParcel("b"), {"user": "ann"})
    assert [h["user"] for h in flow.recorded_command_headers()] == ["ann"]
    flow.send_command(SendParcel("c")).send_command_with_routing(
        "parcel.return", "broken", metadata={"aggregate.id": "c"}
    ).send_command_with_routing("office.announce", "x")
    assert flow.recorded_commands_with_routing() == [
        ("parcel.return", "c"),
        ("office.announce", None),
    ]
    assert flow.recorded_commands() == []
    flow.send_query(CountParcels())
    assert flow.recorded_queries() == [CountParcels()]
    assert flow.recorded_queries() == []


def test_a_command_is_recorded_even_if_it_fails() -> None:
    """Its events are not: they were never published."""
    flow = flow_of_parcels()
    with pytest.raises(AggregateNotFoundError):
        flow.send_command_with_routing(
            "parcel.return", "x", metadata={"aggregate.id": "nobody"}
        )
    assert flow.recorded_commands() == ["x"]
    assert flow.recorded_events() == []


def test_discarding_forgets_commands_events_and_queries() -> None:
    """What set the stage is not what is tested."""
    flow = flow_of_parcels()
    flow.send_command(SendParcel("a")).send_query(CountParcels())
    flow.discard_recorded_messages()
    assert flow.recorded_commands() == []
    assert flow.recorded_events() == []
    assert flow.recorded_queries() == []


def test_a_given_state_publishes_nothing() -> None:
    """Neither at once nor with the next command (#365)."""
    flow = flow_of_parcels()
    parcel = Parcel("a")
    parcel.record_that(ParcelSent("a"))
    flow.with_state_for(parcel, Parcel("b"))
    assert flow.recorded_events() == []
    flow.send_command_with_routing("parcel.return", "x", metadata={"aggregate.id": "a"})
    assert flow.recorded_events() == [ParcelSent("a returned: x")]
    assert flow.send_query(CountParcels()) == 1
    assert flow.aggregate(Parcel, "b") == Parcel("b")


def test_a_given_state_is_stored_as_it_is() -> None:
    """The version isn't counted, and is the one that commands find."""

    @aggregate
    @dataclass
    class Versioned:
        name: t.Annotated[str, Identifier()]
        version: t.Annotated[int, Version()] = 0

        @command_handler("versioned.touch")
        def touch(self) -> int:
            return self.version

    flow = flow_testing([Versioned]).with_state_for(Versioned("a", 5))
    assert flow.aggregate(Versioned, "a").version == 5
    send = flow.command_bus.send_with_routing
    assert send("versioned.touch", metadata={"aggregate.id": "a"}) == 5
    assert flow.aggregate(Versioned, "a").version == 6


def test_a_state_for_something_that_is_no_aggregate_is_an_error() -> None:
    """It names the class."""
    with pytest.raises(ConfigurationError, match="ParcelSent.*no registered aggregate"):
        flow_of_parcels().with_state_for(ParcelSent("a"))


def test_a_loaded_aggregate_is_a_copy() -> None:
    """A test can't change what is stored by accident."""
    flow = flow_of_parcels().with_state_for(Parcel("a"))
    flow.aggregate(Parcel, "a").price = 99
    assert flow.aggregate(Parcel, "a").price == 0
    with pytest.raises(AggregateNotFoundError, match="Parcel.*'x'"):
        flow.aggregate(Parcel, "x")


def test_a_message_without_handler_fails_or_not_as_chosen() -> None:
    """Commands and queries are chosen separately; events never fail."""
    flow = flow_of_parcels()
    for send in (flow.send_command, flow.send_query):
        with pytest.raises(NoHandlerError, match="Unhandled"):
            send(Unhandled())
    flow.publish_event(Unhandled())
    forgiving = flow_of_parcels(fail_on_command_handler_not_found=False)
    forgiving.send_command(Unhandled()).send_command_with_routing("nowhere")
    with pytest.raises(NoHandlerError):
        forgiving.send_query(Unhandled())
    forgiving = flow_of_parcels(fail_on_query_handler_not_found=False)
    assert forgiving.send_query(Unhandled()) is None
    assert forgiving.send_query_with_routing("nowhere") is None
    with pytest.raises(NoHandlerError):
        forgiving.send_command(Unhandled())


def test_forgiving_a_missing_handler_forgives_nothing_else() -> None:
    """A handler that itself sends to nobody still fails."""

    @query_handler("asks")
    def asks(payload: t.Any, bus: CommandBus) -> None:
        bus.send(Unhandled())

    flow = flow_testing([asks], fail_on_query_handler_not_found=False)
    with pytest.raises(NoHandlerError, match="Unhandled"):
        flow.send_query_with_routing("asks")


def test_services_are_a_mapping_a_list_or_named() -> None:
    """By type, by the object's own type, or by a name."""
    office = Office()
    flow = flow_testing(
        [parcels],
        services={Scale: FixedScale(3), "fine scale": FixedScale(7), Office: office},
    )
    flow.send_command(SendParcel("a", 2))
    assert flow.aggregate(Parcel, "a").price == 6
    assert flow.send_query_with_routing("office.named") == 7
    assert office.count == 1
    assert flow.service(Office) is office
    listed = flow_testing([Office], services=[office]).publish_event(ParcelSent("b"))
    assert office.count == 2
    assert listed.service(Office) is office


def test_a_missing_service_is_an_error_each_time() -> None:
    """The name of the service is in the message."""
    flow = flow_testing([parcels])
    for _ in range(2):
        with pytest.raises(ServiceNotFoundError, match="Scale"):
            flow.send_command(SendParcel("a"))


def test_configuration_variables_are_given() -> None:
    """There is no app.config to read."""
    flow = flow_of_parcels(configuration={"LIMIT": 5})
    assert flow.send_query_with_routing("office.limit") == 5


def test_the_environment_is_chosen() -> None:
    """@environment handlers are there or not."""

    @environment("staging")
    @query_handler("where")
    def where() -> str:
        return "staging"

    flow = flow_testing([where], environment="staging")
    assert flow.send_query_with_routing("where") == "staging"
    with pytest.raises(NoHandlerError):
        flow_testing([where]).send_query_with_routing("where")


def test_classes_functions_and_modules_are_registered_together() -> None:
    """A module is scanned, a class and a function are taken as they are."""
    some = flow_testing([Parcel, weigh], services=[FixedScale()])
    with pytest.raises(NoHandlerError):
        some.send_query(CountParcels())
    assert flow_of_parcels().send_query(CountParcels()) == 0
    empty = types.ModuleType("empty")
    sys.modules["empty"] = empty
    try:
        assert flow_testing([empty, Office]).send_query(CountParcels()) == 0
    finally:
        del sys.modules["empty"]


def test_what_carries_no_marker_is_refused() -> None:
    """A forgotten decorator is told at once."""
    with pytest.raises(ConfigurationError, match="Unhandled.*carries no marker"):
        flow_testing([Unhandled])


def test_a_channel_is_reached_past_the_buses() -> None:
    """send_to_channel returns the reply; routing keys are channels."""
    flow = flow_of_parcels()
    assert flow.send_to_channel("weighing", 4) == 8
    flow.send_command(SendParcel("a")).discard_recorded_messages()
    at = {"aggregate.id": "a"}
    assert flow.send_to_channel("parcel.return", "x", at) == "returned"
    assert flow.recorded_commands() == []
    with pytest.raises(
        UnknownChannelError, match="'weihging'.*Did you mean 'weighing'"
    ):
        flow.send_to_channel("weihging", 4)


def test_what_goes_to_an_output_channel_is_recorded() -> None:
    """Reading drains it; a channel that nobody listens on is an error."""

    @command_handler("weigh", output_channel="weighing")
    def weigh_later(weight: int) -> int:
        return weight + 1

    flow = flow_testing([weigh, weigh_later], services={Scale: FixedScale()})
    at = {"user": "ann"}
    assert flow.command_bus.send_with_routing("weigh", 1, metadata=at) == 4
    assert flow.recorded_payloads_from("weighing") == [2]
    assert flow.recorded_payloads_from("weighing") == []
    flow.send_command_with_routing("weigh", 2, metadata=at)
    [message] = flow.recorded_messages_from("weighing")
    assert (message.payload, message.headers["user"]) == (3, "ann")
    flow.send_command_with_routing("weigh", 3).discard_recorded_messages()
    assert flow.recorded_messages_from("weighing") == []
    with pytest.raises(UnknownChannelError, match="'weihging'"):
        flow.recorded_payloads_from("weihging")


def test_gateways_are_the_ones_that_handlers_get() -> None:
    """The buses by type and as attributes are the same objects."""
    flow = flow_of_parcels()
    assert flow.gateway(CommandBus) is flow.command_bus
    assert flow.gateway(QueryBus) is flow.query_bus
    assert flow.gateway(EventBus) is flow.event_bus


def test_two_flows_share_nothing() -> None:
    """Each has its own stores, services and records."""
    first, second = flow_of_parcels(), flow_of_parcels()
    first.send_command(SendParcel("a"))
    assert second.recorded_events() == []
    assert second.send_query(CountParcels()) == 0
    with pytest.raises(AggregateNotFoundError):
        second.aggregate(Parcel, "a")


db = SQLAlchemy()


@aggregate
class Invoice(WithEvents, db.Model):
    """A model with defaults of every kind."""

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    status: Mapped[str] = mapped_column(default="open")
    note: Mapped[str | None]
    version: Mapped[t.Annotated[int, Version()]] = mapped_column(default=0)

    @command_handler("invoice.write")
    @classmethod
    def write(cls) -> t.Self:
        return cls()

    @command_handler("invoice.pay")
    def pay(self) -> None:
        self.status = "paid"
        self.record_that(ParcelSent(str(self.id)))

    @command_handler("invoice.fail")
    def fail(self) -> None:
        self.status = "failed"
        raise LookupError("no money")


class Base(sa_orm.DeclarativeBase):
    """A base without any extension."""


@aggregate
class Stamp(Base):
    """A model that SQLAlchemy versions and that knows no Flask."""

    __tablename__ = "stamp"
    code: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__: t.ClassVar[t.Any] = {"version_id_col": version}

    @command_handler("stamp.print")
    @classmethod
    def print(cls, code: str) -> t.Self:
        return cls(code=code)

    @command_handler("stamp.touch")
    def touch(self) -> None: ...


def test_models_need_no_database() -> None:
    """They get their column defaults and a number for their key."""
    flow = flow_testing([Invoice])
    first = flow.command_bus.send_with_routing("invoice.write")
    second = flow.command_bus.send_with_routing("invoice.write")
    assert (first, second) == (1, 2)
    invoice = flow.aggregate(Invoice, first)
    assert (invoice.status, invoice.note, invoice.version) == ("open", None, 1)
    assert isinstance(invoice.token, uuid.UUID)
    for version in (2, 3):
        flow.send_command_with_routing("invoice.pay", metadata={"aggregate.id": "1"})
        assert flow.aggregate(Invoice, 1).version == version
    assert flow.recorded_events() == [ParcelSent("1"), ParcelSent("1")]


def test_a_failed_command_leaves_a_model_as_it_was() -> None:
    """Only what is saved is stored, as with a database."""
    flow = flow_testing([Invoice])
    at = {"aggregate.id": flow.command_bus.send_with_routing("invoice.write")}
    with pytest.raises(LookupError):
        flow.send_command_with_routing("invoice.fail", metadata=at)
    assert flow.aggregate(Invoice, 1).status == "open"
    flow.aggregate(Invoice, 1).status = "changed by the test"
    assert flow.aggregate(Invoice, 1).status == "open"


def test_a_model_is_versioned_without_a_database_as_with_one() -> None:
    """SQLAlchemy's own counter counts too."""
    flow = flow_testing([Stamp])
    assert flow.command_bus.send_with_routing("stamp.print", "s") == "s"
    assert flow.aggregate(Stamp, "s").version == 1
    flow.send_command_with_routing("stamp.touch", metadata={"aggregate.id": "s"})
    assert flow.aggregate(Stamp, "s").version == 2


def test_in_memory_repositories_can_be_left_out() -> None:
    """Then nothing is stored that no repository of the test stores."""
    flow = flow_testing(
        [Parcel], services={Scale: FixedScale()}, in_memory_repositories=False
    )
    with pytest.raises(ModellingError, match="No repository can handle .*Parcel"):
        flow.send_command(SendParcel("a"))


def test_two_commands_on_one_version_conflict_in_memory() -> None:
    """The optimistic lock is part of the flow."""

    @aggregate
    class Loop(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[t.Annotated[int, Version()]] = mapped_column(default=0)

        @command_handler("loop.outer")
        def outer(self) -> None:
            flow.send_command_with_routing("loop.inner", metadata={"aggregate.id": 1})

        @command_handler("loop.inner")
        def inner(self) -> None: ...

    flow = flow_testing([Loop]).with_state_for(Loop(version=2))
    with pytest.raises(ConcurrencyError, match="at version 3, not 2"):
        flow.send_command_with_routing("loop.outer", metadata={"aggregate.id": 1})


@aggregate
class Album(db.Model):
    """A model with parts."""

    id: Mapped[int] = mapped_column(primary_key=True)
    photos: Mapped[list[Photo]] = sa_orm.relationship(back_populates="album")

    @command_handler("album.add")
    def add(self, caption: str) -> None:
        self.photos.append(Photo(caption=caption))
        if not caption:
            raise LookupError("no caption")


class Photo(db.Model):
    """A part of an album."""

    id: Mapped[int] = mapped_column(primary_key=True)
    album_id: Mapped[int | None] = mapped_column(sa.ForeignKey("album.id"))
    album: Mapped[Album | None] = sa_orm.relationship(back_populates="photos")
    caption: Mapped[str]


def test_a_model_is_kept_with_its_parts() -> None:
    """Related models are stored with the aggregate, and only when it is saved."""
    album = Album(photos=[Photo(caption="first")])
    flow = flow_testing([Album]).with_state_for(album)
    at = {"aggregate.id": album.id}
    flow.send_command_with_routing("album.add", "second", metadata=at)
    with pytest.raises(LookupError):
        flow.send_command_with_routing("album.add", "", metadata=at)
    stored = flow.aggregate(Album, album.id)
    assert [photo.caption for photo in stored.photos] == ["first", "second"]
    assert all(photo.album is stored for photo in stored.photos)
    assert len(album.photos) == 1


def test_a_class_given_as_a_service_is_refused() -> None:
    """The error says to give an object of it; a metaclass is none of our business."""
    with pytest.raises(ConfigurationError, match=r"Give it FixedScale\(\)"):
        flow_testing([], services={Scale: FixedScale})
    flow_testing([], services={type: FixedScale})
