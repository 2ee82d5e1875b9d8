"""Which headers a message hands to the messages that it causes."""

import typing as t
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_ecotone import add_header
from flask_ecotone import aggregate
from flask_ecotone import before
from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Identifier
from flask_ecotone import Message
from flask_ecotone import presend
from flask_ecotone import propagate_headers
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone import WithEvents
from flask_ecotone.message import Headers
from flask_ecotone.testing import flow_testing
from flask_ecotone.testing import FlowTesting

#: Every header of the specification that belongs to one message only.
FRAMEWORK = (
    "contentType",
    "replyContentType",
    "contentEncoding",
    "__TypeId__",
    "routingSlip",
    "replyChannel",
    "errorChannel",
    "sequenceNumber",
    "sequenceSize",
    "priority",
    "duplicateMessage",
    "timeToLive",
    "deliveryDelay",
    "polledChannelName",
    "ecotone_retry_number",
    "ecotone.first_failed_at",
    "ecotone.dlq.message_replied",
    "inboundRequestChannel",
    "streamBasedSourced",
    "entrypoint",
    "channelSendRetryNumber",
    "consumerPollingMetadata",
    "consumerAcknowledgeCallbackHeader",
    "aggregate.id",
    "revision",
    "_aggregate_id",
    "_aggregate_type",
    "_aggregate_version",
    "_stream_name",
)


@dataclass(frozen=True)
class Outer:
    pass


@dataclass(frozen=True)
class Happened:
    pass


@query_handler("seen")
def seen(message: Message) -> Headers:
    """Return the headers that arrived at the last step."""
    return message.headers


def asking(inner: dict[str, t.Any] | None = None) -> Callable[..., t.Any]:
    """Return a command handler that asks a query, with metadata of its own."""

    @command_handler
    def ask(
        command: Outer, message: Message, queries: QueryBus
    ) -> tuple[Headers, Headers]:
        return message.headers, queries.send_with_routing("seen", metadata=inner)

    return ask


def sent(
    outer: dict[str, t.Any] | None = None, inner: dict[str, t.Any] | None = None
) -> tuple[Headers, Headers]:
    """Return the headers of a command and of the query that it causes."""
    flow = flow_testing([asking(inner), seen])
    return t.cast(tuple[Headers, Headers], flow.command_bus.send(Outer(), outer))


def test_headers_of_the_user_are_inherited() -> None:
    """What the sender of the first message said holds for all that it causes."""
    _, inner = sent({"user": "mia", "tenant": 5})
    assert inner["user"] == "mia"
    assert inner["tenant"] == 5


def test_metadata_of_the_inner_message_wins() -> None:
    """Key by key: what is given replaces, what isn't is inherited."""
    outer, inner = sent({"user": "mia", "tenant": 5}, {"user": "ben", "role": "x"})
    assert (inner["user"], inner["tenant"], inner["role"]) == ("ben", 5, "x")
    assert outer["user"] == "mia"
    assert "role" not in outer


def test_none_given_to_the_inner_message_removes_the_inherited_header() -> None:
    """None means "without this header" for inherited ones too."""
    _, inner = sent({"user": "mia", "tenant": 5}, {"user": None})
    assert "user" not in inner
    assert inner["tenant"] == 5


@pytest.mark.parametrize("name", FRAMEWORK)
def test_header_that_belongs_to_one_message_is_not_inherited(name: str) -> None:
    """Framework and aggregate headers, of an event's origin too, stay behind."""
    value = "application/json" if name == "contentType" else "kept"
    outer, inner = sent({name: value, "user": "mia"})
    assert name not in inner
    assert inner["user"] == "mia"
    if name != "routingSlip":
        assert outer[name] == value


def test_routing_slip_in_metadata_is_dropped() -> None:
    """A new flow is never routed along an old one."""
    outer, _ = sent({"routingSlip": "a,b"})
    assert "routingSlip" not in outer


def test_routing_key_of_the_cause_is_not_inherited() -> None:
    """A message sent by class inside of one sent by name has no routing key."""

    @command_handler("outer")
    def outer(commands: CommandBus) -> t.Any:
        return commands.send(Outer())

    @command_handler
    def inner(command: Outer, message: Message) -> str | None:
        return message.routing_key

    flow = flow_testing([outer, inner])
    assert flow.command_bus.send_with_routing("outer") is None


def test_inner_message_has_an_id_of_its_own_and_names_its_cause() -> None:
    """The correlation is the outermost id, the parent is the direct cause."""

    @command_handler("a")
    def a(message: Message, commands: CommandBus) -> list[Headers]:
        return [message.headers, *commands.send_with_routing("b")]

    @command_handler("b")
    def b(message: Message, queries: QueryBus) -> list[Headers]:
        return [message.headers, queries.send_with_routing("seen")]

    flow = flow_testing([a, b, seen])
    first, second, third = flow.command_bus.send_with_routing("a")
    assert len({first.message_id, second.message_id, third.message_id}) == 3
    assert first.parent_id is None
    assert second.parent_id == first.message_id
    assert third.parent_id == second.message_id
    assert {h.correlation_id for h in (first, second, third)} == {first.message_id}


def test_correlation_is_forced_on_caused_messages() -> None:
    """Another correlation or parent given inside of a flow doesn't hold."""
    outer, inner = sent(
        {"correlationId": "flow"}, {"correlationId": "mine", "parentId": "mine"}
    )
    assert outer.correlation_id == "flow"
    assert inner.correlation_id == "flow"
    assert inner.parent_id == outer.message_id


def test_message_sent_with_the_id_of_its_cause_is_not_its_own_cause() -> None:
    """The same message sent on isn't caused by itself."""
    outer, inner = sent({"id": "same"}, {"id": "same"})
    assert outer.message_id == inner.message_id == "same"
    assert inner.parent_id is None


def test_id_given_to_the_inner_message_is_kept() -> None:
    """The sender may choose the id; the cause is named all the same."""
    outer, inner = sent(None, {"id": "mine"})
    assert inner.message_id == "mine"
    assert inner.parent_id == outer.message_id


def test_headers_do_not_outlive_the_message() -> None:
    """The next message begins with nothing of the one before."""
    flow = flow_testing([asking(), seen])
    first, _ = flow.command_bus.send(Outer(), {"user": "mia"})
    second, inner = flow.command_bus.send(Outer())
    assert "user" not in second
    assert "user" not in inner
    assert second.correlation_id == second.message_id != first.message_id


def test_exception_does_not_leak_headers() -> None:
    """After a failing command, inside or outside of a flow, all is as before."""

    @command_handler("fail")
    def fail() -> None:
        raise ValueError

    @command_handler("outer")
    def outer(commands: CommandBus, queries: QueryBus) -> Headers:
        with pytest.raises(ValueError):
            commands.send_with_routing("fail", metadata={"user": "ben", "x": 1})
        return t.cast(Headers, queries.send_with_routing("seen"))

    flow = flow_testing([fail, outer, seen])
    with pytest.raises(ValueError):
        flow.command_bus.send_with_routing("fail", metadata={"user": "eve"})
    assert flow.system.current_message is None
    inner = flow.command_bus.send_with_routing("outer", metadata={"user": "mia"})
    assert inner["user"] == "mia"
    assert "x" not in inner
    after = flow.query_bus.send_with_routing("seen")
    assert set(after) == {"id", "timestamp", "correlationId", "ecotone.routingKey"}


def test_failing_conversion_does_not_leak_headers() -> None:
    """An error before the handler is called leaves nothing behind either."""

    @command_handler("count")
    def count(number: int) -> None: ...

    flow = flow_testing([count, seen])
    with pytest.raises(Exception, match="number"):
        flow.command_bus.send_with_routing("count", "many", metadata={"user": "mia"})
    assert "user" not in flow.query_bus.send_with_routing("seen")


def test_headers_changed_before_a_bus_are_inherited() -> None:
    """What an interceptor of the bus adds or removes is what caused messages get."""

    @before(pointcut=CommandBus, change_headers=True)
    def authenticate(message: Message) -> dict[str, t.Any]:
        return {"user": "mia", "token": None}

    flow = flow_testing([authenticate, asking(), seen])
    outer, inner = flow.command_bus.send(Outer(), {"token": "secret"})
    for headers in (outer, inner):
        assert headers["user"] == "mia"
        assert "token" not in headers


@pytest.mark.parametrize("advice", [before, presend])
def test_headers_changed_before_a_handler_are_not_inherited(advice: t.Any) -> None:
    """They live on that one message only, as do those of @add_header."""
    ask = add_header("added", 1)(asking())

    @advice(pointcut=ask, change_headers=True)
    def enrich() -> dict[str, t.Any]:
        return {"role": "admin"}

    outer, inner = flow_testing([enrich, ask, seen]).command_bus.send(Outer())
    assert (outer["role"], outer["added"]) == ("admin", 1)
    assert "role" not in inner
    assert "added" not in inner
    assert inner.correlation_id == outer.correlation_id


def test_headers_changed_before_a_handler_flow_along_its_output_channel() -> None:
    """The next step of the same message has them."""

    @command_handler("first", output_channel="seen")
    def first() -> int:
        return 1

    @before(pointcut=first, change_headers=True)
    def enrich() -> dict[str, t.Any]:
        return {"role": "admin"}

    flow = flow_testing([enrich, first, seen])
    assert flow.command_bus.send_with_routing("first")["role"] == "admin"


def test_events_and_their_reactions_inherit_too() -> None:
    """From a command over its event to the command that the event causes."""

    @command_handler
    def begin(command: Outer, events: EventBus) -> None:
        events.publish(Happened())

    got: list[Headers] = []

    @event_handler
    def react(event: Happened, commands: CommandBus) -> None:
        got.append(commands.send_with_routing("end"))

    @command_handler("end")
    def end(message: Message) -> Headers:
        return message.headers

    flow = flow_testing([begin, react, end])
    flow.command_bus.send(Outer(), {"user": "mia", "id": "first"})
    assert got[0]["user"] == "mia"
    assert got[0].correlation_id == "first"
    assert got[0].parent_id not in (None, "first")


def test_business_interface_inherits_as_a_bus_does() -> None:
    """Headers and correlation reach what a gateway sends to."""

    class Api(t.Protocol):
        @business_method("seen")
        def seen(self) -> Headers: ...

    @command_handler
    def ask(command: Outer, api: Api) -> Headers:
        return api.seen()

    flow = flow_testing([Api, ask, seen])
    headers = flow.command_bus.send(Outer(), {"user": "mia", "id": "first"})
    assert headers["user"] == "mia"
    assert headers.correlation_id == headers.parent_id == "first"


def test_events_recorded_by_an_aggregate_do_not_hand_on_where_they_come_from() -> None:
    """A command sent by an event's handler carries nothing of the aggregate."""

    @dataclass(frozen=True)
    class Open:
        number: int

    @aggregate
    class Order(WithEvents):
        number: t.Annotated[int, Identifier()]

        @command_handler
        @classmethod
        def open(cls, command: Open) -> t.Self:
            order = cls()
            order.number = command.number
            order.record_that(Happened())
            return order

    got: list[Headers] = []

    @event_handler
    def react(event: Happened, message: Message, queries: QueryBus) -> None:
        got.extend((message.headers, queries.send_with_routing("seen")))

    flow = flow_testing([Order, react, seen])
    flow.command_bus.send(Open(1), {"user": "mia"})
    event, caused = got
    own = {"_aggregate_id", "_aggregate_type", "_aggregate_version", "revision"}
    assert own <= set(event)
    assert not own & set(caused)
    assert "aggregate.id" not in caused
    assert caused["user"] == event["user"] == "mia"


def test_bus_that_does_not_propagate_hands_on_nothing() -> None:
    """@propagate_headers(False): neither headers nor the correlation go on."""

    @propagate_headers(False)
    class SilentBus(CommandBus): ...

    flow = flow_testing([SilentBus, asking(), seen])
    sent_with = {"user": "mia", "id": "first"}
    outer, inner = flow.gateway(SilentBus).send(Outer(), sent_with)
    assert outer["user"] == "mia"
    assert "user" not in inner
    assert inner.correlation_id == inner.message_id
    assert inner.parent_id is None
    _, inherited = flow.command_bus.send(Outer(), sent_with)
    assert inherited["user"] == "mia"


def test_message_on_a_silent_bus_itself_inherits() -> None:
    """Silence is about what the bus's own message causes, not about what caused it."""

    @propagate_headers(False)
    class SilentBus(CommandBus): ...

    @command_handler("first")
    def first(bus: SilentBus) -> t.Any:
        return bus.send(Outer())

    flow = flow_testing([SilentBus, first, asking(), seen])
    outer, inner = flow.command_bus.send_with_routing("first", metadata={"user": "m"})
    assert outer["user"] == "m"
    assert "user" not in inner


def test_current_message_is_the_one_being_handled() -> None:
    """The proxy follows nested messages and is falsy outside of them."""
    seen_ids: list[str] = []

    @command_handler("outer")
    def outer() -> None:
        seen_ids.append(current_message.headers.message_id)
        command_bus.send_with_routing("inner", metadata={"id": "in"})
        seen_ids.append(current_message.headers.message_id)

    @command_handler("inner")
    def inner() -> None:
        seen_ids.append(current_message.headers.message_id)

    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(outer, inner)
    ecotone.init_app(app)
    with app.app_context():
        assert not current_message
        command_bus.send_with_routing("outer", metadata={"id": "out"})
        assert not current_message
    assert seen_ids == ["out", "in", "out"]


def test_late_headers_do_not_see_what_happened_meanwhile() -> None:
    """Headers completed after the flow is over are those of the time of sending."""
    kept: list[Message] = []

    @command_handler("keep")
    def keep(message: Message) -> None:
        kept.append(message)

    @command_handler
    def outer(command: Outer, commands: CommandBus) -> None:
        commands.send_with_routing("keep")

    bus = _quiet([keep, outer]).command_bus
    bus.send(Outer(), {"user": "mia", "id": "first"})
    bus.send(Outer(), {"user": "ben", "id": "second"})
    first, second = kept
    assert second.headers.parent_id == "second"
    assert first.headers.parent_id == first.headers.correlation_id == "first"
    assert (first.headers["user"], second.headers["user"]) == ("mia", "ben")


def _quiet(found: list[t.Any]) -> FlowTesting:
    return flow_testing(found)


_NAMES = st.sampled_from(["user", "tenant", "role", "id", "correlationId", *FRAMEWORK])
_METADATA = st.dictionaries(
    _NAMES.filter(lambda name: "ontent" not in name),
    st.one_of(st.none(), st.text(min_size=1, max_size=3)),
    max_size=6,
)


@given(outer=_METADATA, inner=_METADATA)
def test_propagation_agrees_with_its_rules(
    outer: dict[str, t.Any], inner: dict[str, t.Any]
) -> None:
    """Any two sets of metadata: inherited user headers, then what was given."""
    made = {"id", "correlationId", "parentId", "timestamp"}
    stays = {*FRAMEWORK, "ecotone.routingKey"}
    first, second = sent(outer, inner)
    inherited = {k: v for k, v in outer.items() if k not in stays}
    expected = {**inherited, **inner}
    expected.pop("routingSlip", None)
    wanted = {k: v for k, v in expected.items() if v is not None and k not in made}
    got = {k: v for k, v in second.items() if k not in made | {"ecotone.routingKey"}}
    assert got == wanted
    assert second.correlation_id == first.correlation_id
    if inner.get("id") is not None:
        assert second.message_id == inner["id"]
    if second.message_id != first.message_id:
        assert second.parent_id == first.message_id
