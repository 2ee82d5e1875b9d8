"""Events that aggregates record: when they are published, and with what."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest

from flask_ecotone import after
from flask_ecotone import aggregate
from flask_ecotone import aggregate_events
from flask_ecotone import aggregate_type
from flask_ecotone import around
from flask_ecotone import command_handler
from flask_ecotone import Event
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Identifier
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import named_event
from flask_ecotone import query_handler
from flask_ecotone import repository
from flask_ecotone import revision
from flask_ecotone import Version
from flask_ecotone import WithEvents
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.testing import flow_testing


@named_event("tank.filled")
@dataclass
class Filled:
    """An event with a name."""

    litres: int


@revision(3)
@dataclass
class Drained:
    """An event in its third shape."""


@aggregate
@dataclass
class Tank(WithEvents):
    """An aggregate that records what happens to it."""

    tank_id: t.Annotated[str, Identifier()]
    litres: int = 0
    version: t.Annotated[int, Version()] = 0

    @command_handler("tank.build")
    @classmethod
    def build(cls, tank_id: str) -> t.Self:
        tank = cls(tank_id)
        tank.record_that(Filled(0))
        return tank

    @command_handler("tank.fill")
    def fill(self, litres: int) -> None:
        for number in range(litres):
            self.litres += 1
            self.record_that(Filled(number))

    @command_handler("tank.drain")
    def drain(self) -> None:
        self.record_that(Event(Drained(), {"reason": "leak", "user": "plumber"}))

    @command_handler("tank.fail")
    def fail(self) -> None:
        self.record_that(Drained())
        raise LookupError("no valve")

    @query_handler("tank.ask")
    def ask(self) -> int:
        self.record_that(Drained())
        return self.litres


AT: t.Final = {"aggregate.id": "t"}


def test_events_are_published_after_the_save_in_the_order_they_were_recorded() -> None:
    """A handler of the first event already sees what was saved."""
    seen: list[tuple[int, int]] = []

    @event_handler
    def note(event: Filled) -> None:
        seen.append((event.litres, flow.aggregate(Tank, "t").litres))

    flow = flow_testing([Tank, note]).with_state_for(Tank("t"))
    flow.send_command_with_routing("tank.fill", 3, metadata=AT)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_events_are_published_once() -> None:
    """A stored copy doesn't keep the events that were published already."""
    flow = flow_testing([Tank])
    flow.send_command_with_routing("tank.build", "t")
    assert flow.recorded_events() == [Filled(0)]
    for _ in range(2):
        flow.send_command_with_routing("tank.fill", 1, metadata=AT)
        assert flow.recorded_events() == [Filled(0)]
    flow.send_command_with_routing("tank.fill", 0, metadata=AT)
    assert flow.recorded_events() == []


def test_a_recorded_event_says_where_it_comes_from() -> None:
    """Identifier, class and version of the aggregate are headers of the event."""
    flow = flow_testing([Tank])
    flow.send_command_with_routing("tank.build", "t")
    flow.send_command_with_routing("tank.fill", 2, metadata={**AT, "user": "ann"})
    made, first, second = flow.recorded_event_headers()
    for headers, version in ((made, 1), (first, 2), (second, 3)):
        assert headers["_aggregate_id"] == "t"
        assert headers["_aggregate_type"] == "Tank"
        assert headers["_aggregate_version"] == version
        assert headers["revision"] == 1
    assert "user" not in made
    assert first["user"] == second["user"] == "ann"
    assert len({made.message_id, first.message_id, second.message_id}) == 3


def test_a_recorded_event_belongs_to_the_command_that_caused_it() -> None:
    """The correlation id is the command's, the parent is the command."""
    flow = flow_testing([Tank]).with_state_for(Tank("t"))
    flow.send_command_with_routing("tank.fill", 1, metadata=AT)
    [command] = flow.recorded_command_headers()
    [event] = flow.recorded_event_headers()
    assert event.correlation_id == command.correlation_id
    assert event.parent_id == command.message_id
    assert event.message_id != command.message_id


def test_an_event_can_carry_headers_of_its_own() -> None:
    """Event() adds metadata to one event; it wins over what is inherited."""
    flow = flow_testing([Tank]).with_state_for(Tank("t"))
    flow.send_command_with_routing("tank.drain", metadata={**AT, "user": "ann"})
    [headers] = flow.recorded_event_headers()
    assert headers["reason"] == "leak"
    assert headers["user"] == "plumber"
    assert headers["revision"] == 3


def test_the_aggregate_headers_are_not_inherited_by_what_an_event_causes() -> None:
    """An event that another handler publishes comes from no aggregate."""

    @event_handler
    def follow(event: Filled, bus: EventBus) -> None:
        bus.publish(Drained())

    flow = flow_testing([Tank, follow])
    flow.send_command_with_routing("tank.build", "t")
    _, caused = flow.recorded_event_headers()
    assert not [name for name in caused if name.startswith("_aggregate")]


def test_a_composite_identifier_is_a_dict_in_the_headers_of_events() -> None:
    """And the type may have a name of its own."""

    @aggregate_type("depot.cell")
    @aggregate
    @dataclass
    class Cell(WithEvents):
        row: t.Annotated[int, Identifier()]
        column: t.Annotated[int, Identifier()]

        @command_handler("cell.make")
        @classmethod
        def make(cls, payload: dict[str, int]) -> t.Self:
            cell = cls(**payload)
            cell.record_that(Drained())
            return cell

    flow = flow_testing([Cell])
    flow.send_command_with_routing("cell.make", {"row": 1, "column": 2})
    [headers] = flow.recorded_event_headers()
    assert headers["_aggregate_id"] == {"row": 1, "column": 2}
    assert headers["_aggregate_type"] == "depot.cell"


def test_handlers_of_a_name_get_recorded_events_of_its_class() -> None:
    """Recorded events are routed by class and by the name of the class."""
    seen: list[t.Any] = []

    @event_handler("tank.*")
    def note(event: Filled) -> None:
        seen.append(event)

    flow = flow_testing([Tank, note, Filled])
    flow.send_command_with_routing("tank.build", "t")
    assert seen == [Filled(0)]


def test_a_failing_handler_publishes_nothing_and_leaves_nothing() -> None:
    """The next command on the same aggregate publishes only its own events."""

    @repository
    class Single:
        tank = Tank("t")

        def can_handle(self, aggregate_class: type) -> bool:
            return True

        def find_by(self, aggregate_class: type, identifiers: t.Any) -> t.Any:
            return self.tank

        def save(self, *args: t.Any) -> None: ...

    flow = flow_testing([Tank, Single])
    with pytest.raises(LookupError, match="no valve"):
        flow.send_command_with_routing("tank.fail", metadata=AT)
    assert flow.recorded_events() == []
    flow.send_command_with_routing("tank.fill", 1, metadata=AT)
    assert flow.recorded_events() == [Filled(0)]


def test_a_failing_save_publishes_nothing_and_leaves_nothing() -> None:
    """Events of a save that failed are gone, on the instance too."""
    instance = Tank("t")

    @repository
    class Broken:
        fails = True

        def can_handle(self, aggregate_class: type) -> bool:
            return True

        def find_by(self, aggregate_class: type, identifiers: t.Any) -> t.Any:
            return instance

        def save(self, *args: t.Any) -> None:
            if self.fails:
                raise OSError("disk full")

    broken = Broken()
    flow = flow_testing([Tank, Broken], services=[broken])
    with pytest.raises(OSError, match="disk full"):
        flow.send_command_with_routing("tank.fill", 2, metadata=AT)
    assert flow.recorded_events() == []
    broken.fails = False
    flow.send_command_with_routing("tank.fill", 1, metadata=AT)
    assert flow.recorded_events() == [Filled(0)]


def test_an_aggregate_can_hand_out_its_events_by_a_method_of_its_own() -> None:
    """@aggregate_events marks the method that returns and forgets them."""

    @aggregate
    @dataclass
    class Diary:
        name: t.Annotated[str, Identifier()]
        pending: list[t.Any] = field(default_factory=list)

        @aggregate_events
        def pull(self) -> list[t.Any]:
            events, self.pending = self.pending, []
            return events

        @command_handler("diary.write")
        def write(self) -> None:
            self.pending += [Drained(), Event(Filled(1), {"x": "y"})]

    flow = flow_testing([Diary]).with_state_for(Diary("d"))
    for _ in range(2):
        flow.send_command_with_routing("diary.write", metadata={"aggregate.id": "d"})
        assert flow.recorded_events() == [Drained(), Filled(1)]


def test_a_method_of_events_that_returns_nothing_does_not_compile() -> None:
    """Its events would be lost."""

    @aggregate
    @dataclass
    class Mute:
        name: t.Annotated[str, Identifier()]

        @aggregate_events
        def pull(self) -> None: ...

        @query_handler("mute.name")
        def get(self) -> str:
            return self.name

    with pytest.raises(HandlerSignatureError, match=r"Mute.*\.pull is marked @aggr"):
        flow_testing([Mute])


def test_an_attribute_in_the_way_of_recorded_events_does_not_compile() -> None:
    """The private name that WithEvents uses is checked."""

    @aggregate
    class Clash(WithEvents):
        name: t.Annotated[str, Identifier()] = "c"
        _ecotone_recorded_events = "mine"

        @query_handler("clash.name")
        def get(self) -> str:
            return self.name

    with pytest.raises(ConfigurationError, match="rename yours"):
        flow_testing([Clash])


def test_interceptors_of_the_handler_run_before_the_save_and_the_events() -> None:
    """Around and after a handler see the change, not yet the stored aggregate."""
    ran: list[str] = []

    def stored() -> int:
        return flow.aggregate(Tank, "t").litres

    @around(pointcut=Tank.fill)
    def surround(invocation: MethodInvocation, tank: Tank) -> t.Any:
        result = invocation.proceed()
        ran.append(f"around {tank.litres} {stored()}")
        return result

    @after(pointcut=Tank.fill)
    def leave() -> None:
        ran.append(f"after {stored()}")

    @event_handler
    def note(event: Filled) -> None:
        ran.append(f"event {stored()}")

    flow = flow_testing([Tank, surround, leave, note]).with_state_for(Tank("t"))
    flow.send_command_with_routing("tank.fill", 1, metadata=AT)
    assert ran == ["around 1 0", "after 0", "event 1"]


def test_an_event_handler_that_fails_fails_the_command() -> None:
    """The exception reaches the sender as it was raised."""

    @event_handler
    def explode(event: Filled, message: Message) -> None:
        raise ArithmeticError(message.headers["_aggregate_id"])

    flow = flow_testing([Tank, explode])
    with pytest.raises(ArithmeticError, match="^t$"):
        flow.send_command_with_routing("tank.build", "t")
