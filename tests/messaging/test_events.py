"""Events: who hears of them, and in which order."""

import abc
import itertools
import re
import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import Identifier
from flask_ecotone import Message
from flask_ecotone import named_event
from flask_ecotone import priority
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import MessagingError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class OrderEvent:
    number: int = 1


@dataclass(frozen=True)
class OrderPlaced(OrderEvent):
    pass


@dataclass(frozen=True)
class OrderPaid(OrderEvent):
    pass


@named_event("order.shipped")
@dataclass(frozen=True)
class OrderShipped(OrderEvent):
    pass


@dataclass(frozen=True)
class OrderShippedAbroad(OrderShipped):
    pass


@dataclass
class Heard:
    """Collects who heard what."""

    by: list[str] = field(default_factory=list)

    def listener(self, name: str, annotation: t.Any, listen_to: str | None = None):
        """Return an event handler that notes its name."""

        def listen(event: annotation) -> None:  # type: ignore[valid-type]
            self.by.append(name)

        listen.__qualname__ = name
        return event_handler(listen_to)(listen)


@pytest.fixture
def heard() -> Heard:
    """Who heard what, in order."""
    return Heard()


def test_event_without_handlers_is_fine() -> None:
    """Publishing to nobody is no error, by class and by name."""
    bus = flow_testing([]).event_bus
    assert bus.publish(OrderPlaced()) is None
    assert bus.publish_with_routing("order.placed", {"number": 1}) is None


def test_event_reaches_all_handlers_of_its_class(heard: Heard) -> None:
    """Each handler is called, in the order they were registered."""
    found = [heard.listener(name, OrderPlaced) for name in "abc"]
    flow_testing([*found, heard.listener("other", OrderPaid)]).publish_event(
        OrderPlaced()
    )
    assert heard.by == ["a", "b", "c"]


def test_event_reaches_handlers_of_bases_unions_protocols_and_object(
    heard: Heard,
) -> None:
    """A handler hears of every event that is an instance of what it is annotated."""

    class Audited(abc.ABC): ...  # noqa: B024

    @t.runtime_checkable
    class Numbered(t.Protocol):
        def count(self) -> int: ...

    @Audited.register
    class Counted(OrderPaid):
        def count(self) -> int:
            return 1

    flow = flow_testing(
        [
            heard.listener("base", OrderEvent),
            heard.listener("union", OrderPlaced | OrderPaid),
            heard.listener("optional", t.Optional[OrderPaid]),  # noqa: UP045
            heard.listener("abc", Audited),
            heard.listener("protocol", Numbered),
            heard.listener("object", object),
            heard.listener("sibling", OrderPlaced),
        ]
    )
    flow.publish_event(Counted())
    assert heard.by == ["base", "union", "optional", "abc", "protocol", "object"]


def test_handler_that_matches_several_ways_is_called_once(heard: Heard) -> None:
    """Class, base, object and name lead to one call."""
    flow = flow_testing([heard.listener("union", OrderEvent | OrderShipped | object)])
    flow.publish_event(OrderShipped())
    assert heard.by == ["union"]

    @event_handler("order.*")
    @event_handler("order.shipped")
    @event_handler
    def stacked(event: OrderShipped, message: Message) -> None:
        heard.by.append("stacked")

    heard.by.clear()
    flow = flow_testing([OrderShipped, stacked])
    flow.publish_event(OrderShipped())
    flow.publish_event_with_routing("order.shipped", OrderShipped())
    flow.publish_event_with_routing("order.else", OrderShipped())
    assert heard.by == ["stacked"] * 3


def test_event_published_by_name_reaches_the_handlers_of_the_name_only(
    heard: Heard,
) -> None:
    """A name that is nobody's alias reaches neither class nor object handlers."""
    flow = flow_testing(
        [
            heard.listener("name", t.Any, "order.placed"),
            heard.listener("class", OrderPlaced),
            heard.listener("object", object),
        ]
    )
    flow.publish_event_with_routing("order.placed", OrderPlaced())
    assert heard.by == ["name"]


def test_event_published_by_class_reaches_names_through_its_alias_only(
    heard: Heard,
) -> None:
    """A listener of a name hears of classes with that name, not of others."""
    flow = flow_testing(
        [
            OrderShipped,
            heard.listener("name", t.Any, "order.shipped"),
            heard.listener("glob", t.Any, "order.*"),
            heard.listener("class name", t.Any, "OrderPlaced"),
        ]
    )
    flow.publish_event(OrderShipped())
    assert heard.by == ["name", "glob"]
    flow.publish_event(OrderPlaced())
    assert heard.by == ["name", "glob"]


def test_alias_is_not_inherited_by_subclasses(heard: Heard) -> None:
    """The name belongs to the one class that has it; its handlers are inherited."""
    flow = flow_testing(
        [
            OrderShipped,
            heard.listener("name", t.Any, "order.shipped"),
            heard.listener("class", OrderShipped),
        ]
    )
    flow.publish_event(OrderShippedAbroad())
    assert heard.by == ["class"]


def test_event_published_by_an_alias_reaches_the_handlers_of_its_class() -> None:
    """The payload becomes the class for them, also from a dict or from JSON."""
    got: list[t.Any] = []

    @event_handler
    def of_class(event: OrderShipped) -> None:
        got.append(event)

    @event_handler
    def of_base(event: OrderEvent) -> None:
        got.append(event)

    @event_handler
    def of_everything(event: object) -> None:
        got.append(event)

    @event_handler("order.shipped")
    def of_name(payload: dict[str, t.Any]) -> None:
        got.append(payload)

    flow = flow_testing([OrderShipped, of_class, of_base, of_everything, of_name])
    flow.publish_event_with_routing("order.shipped", {"number": 4})
    assert got == [OrderShipped(4)] * 3 + [{"number": 4}]
    got.clear()
    flow.publish_event_with_routing(
        "order.shipped", '{"number": 5}', media_type="application/json"
    )
    assert got == [OrderShipped(5)] * 3 + [{"number": 5}]


def test_one_name_for_two_events_is_refused() -> None:
    """Event names are unique in an application; both classes are named."""

    @named_event("order.shipped")
    class Other: ...

    with pytest.raises(ConfigurationError, match="OrderShipped.*Other"):
        flow_testing([OrderShipped, Other])


@pytest.mark.parametrize(
    ("pattern", "name", "hears"),
    [
        ("order.*", "order.placed", True),
        ("order.*", "ORDER.Placed", True),
        ("ORDER.*", "order.placed", True),
        ("order.*", "order.item.added", True),
        ("order.*", "my.order.placed", False),
        ("order.*", "orders", False),
        ("order.*", "orderXplaced", False),
        ("*.placed", "order.placed", True),
        ("*.placed", "order.item.placed", True),
        ("*.placed", "order.placed.twice", False),
        ("order.*.added", "order.item.added", True),
        ("order.*.added", "order.added", False),
        ("*", "anything", True),
        ("or?er.*", "order.placed", False),
        ("or[d]er.*", "order.placed", False),
        ("or[d]er.*", "or[d]er.placed", True),
        ("a|b*", "b", False),
        ("order.*", "order.\nplaced", True),
        ("order.*", "order.placed\n", True),
    ],
)
def test_glob_matches_names(pattern: str, name: str, hears: bool, heard: Heard) -> None:
    """A glob is anchored, ignores case, crosses dots, and only its star is special."""
    flow = flow_testing([heard.listener("glob", t.Any, pattern)])
    flow.publish_event_with_routing(name, 1)
    assert heard.by == ["glob"] * hears


def test_name_without_star_is_matched_exactly(heard: Heard) -> None:
    """A plain name is compared as it is written."""
    flow = flow_testing([heard.listener("name", t.Any, "order.placed")])
    flow.publish_event_with_routing("Order.Placed", 1)
    flow.publish_event_with_routing("order.placed.again", 1)
    assert heard.by == []


def _naive_glob(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_naive_glob(pattern[1:], name[i:]) for i in range(len(name) + 1))
    same = bool(name) and pattern[0].lower() == name[0].lower()
    return same and _naive_glob(pattern[1:], name[1:])


@given(
    pattern=st.text("aAbB.*?[]^-\\$", min_size=1, max_size=7).filter(
        lambda p: "*" in p
    ),
    name=st.text("aAbB.?[]^-\\$", min_size=1, max_size=8),
)
def test_glob_agrees_with_a_naive_matcher(pattern: str, name: str) -> None:
    """Any pattern with a star matches what a matcher of ten lines matches."""
    heard = Heard()
    flow = flow_testing([heard.listener("glob", t.Any, pattern)])
    flow.publish_event_with_routing(name, 1)
    assert bool(heard.by) is _naive_glob(pattern, name)


@given(data=st.data())
def test_routing_by_class_agrees_with_isinstance(data: st.DataObject) -> None:
    """In a random hierarchy a handler hears of exactly the instances of its class."""
    classes: list[type] = []
    for number in range(data.draw(st.integers(1, 6))):
        chosen = data.draw(_some(classes, 0, 2))
        bases = _consistent(chosen)
        classes.append(type(f"Event{number}", bases or (object,), {}))
    listened = data.draw(_some(classes, 1, 6))
    heard = Heard()
    flow = flow_testing([heard.listener(c.__name__, c) for c in listened])
    for cls in classes:
        heard.by.clear()
        event = cls()
        flow.publish_event(event)
        assert heard.by == [c.__name__ for c in listened if isinstance(event, c)]


def _some(classes: list[type], least: int, most: int) -> st.SearchStrategy[list[type]]:
    if not classes:
        return st.just([])
    found = st.sampled_from(classes)
    return st.lists(found, min_size=least, max_size=most, unique=True)


def _consistent(bases: list[type]) -> tuple[type, ...]:
    for order in itertools.permutations(bases):
        try:
            type("Probe", order, {})
        except TypeError:
            continue
        return order
    return tuple(bases[:1])


def test_handlers_run_in_the_order_of_their_priority(heard: Heard) -> None:
    """A higher number first, 1 unless given, ties in the order of registration."""
    flow = flow_testing(
        [
            heard.listener("first of 1", OrderPlaced),
            priority(-5)(heard.listener("last", OrderPlaced)),
            priority(10)(heard.listener("first", object)),
            priority(1)(heard.listener("second of 1", OrderEvent)),
            priority(5)(heard.listener("second", OrderPlaced)),
            heard.listener("third of 1", OrderPlaced),
        ]
    )
    flow.publish_event(OrderPlaced())
    assert heard.by == [
        "first",
        "second",
        "first of 1",
        "second of 1",
        "third of 1",
        "last",
    ]


def test_priority_also_orders_handlers_of_names(heard: Heard) -> None:
    """Globs, names and classes are one list in the order of priority."""
    flow = flow_testing(
        [
            OrderShipped,
            heard.listener("class", OrderShipped),
            priority(3)(heard.listener("name", t.Any, "order.shipped")),
            priority(2)(heard.listener("glob", t.Any, "*")),
        ]
    )
    flow.publish_event(OrderShipped())
    flow.publish_event_with_routing("order.shipped", {"number": 1})
    assert heard.by == ["name", "glob", "class"] * 2


def test_aggregate_hears_before_services_of_the_same_priority(heard: Heard) -> None:
    """Among equals an aggregate comes first, whatever was registered first."""

    @aggregate
    class Order:
        def __init__(self, number: int) -> None:
            self.number: t.Annotated[int, Identifier()] = number

        number: t.Annotated[int, Identifier()]

        @event_handler(identifier_mapping={"number": "payload.number"})
        def on(self, event: OrderPlaced) -> None:
            heard.by.append("aggregate")

    flow = flow_testing(
        [
            heard.listener("service", OrderPlaced),
            priority(2)(heard.listener("earlier service", OrderPlaced)),
            Order,
        ]
    )
    flow.with_state_for(Order(1)).publish_event(OrderPlaced(1))
    assert heard.by == ["earlier service", "aggregate", "service"]


def test_exception_reaches_the_publisher_and_stops_later_handlers(
    heard: Heard,
) -> None:
    """What one handler raises is raised as it is; those after it don't run."""
    raised = LookupError("no stock")

    @event_handler
    def fail(event: OrderPlaced) -> None:
        raise raised

    found = [heard.listener("before", OrderPlaced), fail]
    flow = flow_testing([*found, heard.listener("after", OrderPlaced)])
    with pytest.raises(LookupError) as caught:
        flow.publish_event(OrderPlaced())
    assert caught.value is raised
    assert heard.by == ["before"]


def test_handlers_of_one_event_get_the_same_message() -> None:
    """Everybody sees one id, and nobody sees another's changes."""
    seen: list[tuple[str, dict[str, t.Any]]] = []

    @event_handler
    def first(event: OrderPlaced, headers: dict[str, t.Any]) -> None:
        seen.append((headers["id"], dict(headers)))
        headers.clear()

    @event_handler
    def second(event: OrderPlaced, headers: dict[str, t.Any]) -> None:
        seen.append((headers["id"], dict(headers)))

    flow_testing([first, second]).publish_event(OrderPlaced(), {"user": "mia"})
    assert seen[0] == seen[1]
    assert seen[0][1]["user"] == "mia"


@pytest.mark.parametrize("event", [{"number": 1}, [1], "text", 5, None, OrderPlaced])
def test_event_that_says_nothing_by_its_class_is_refused(event: t.Any) -> None:
    """A dict, text, None or a class instead of an instance isn't silently dropped."""

    @event_handler
    def listen(event: object) -> None: ...

    bus = flow_testing([listen]).event_bus
    for _ in range(2):
        with pytest.raises(MessagingError, match="publish_with_routing"):
            bus.publish(event)


@pytest.mark.parametrize("name", [5, None, OrderPlaced, ["order"]])
def test_event_name_that_is_no_text_is_refused(name: t.Any) -> None:
    """publish_with_routing takes a name, also where an object was meant."""
    with pytest.raises(MessagingError, match=re.escape(repr(name))):
        flow_testing([]).event_bus.publish_with_routing(name)


def test_event_published_while_a_command_is_handled_is_handled_at_once() -> None:
    """Handlers run inside of the publishing handler, depth first."""
    happened: list[str] = []
    flow = None

    @dataclass(frozen=True)
    class Place: ...

    @command_handler
    def place(command: Place) -> None:
        happened.append("begin")
        flow.event_bus.publish(OrderPlaced())
        happened.append("end")

    @event_handler
    def listen(event: OrderPlaced) -> None:
        happened.append("placed")
        flow.event_bus.publish(OrderPaid())

    @event_handler
    def react(event: OrderPaid) -> None:
        happened.append("paid")

    flow = flow_testing([place, listen, react])
    flow.command_bus.send(Place())
    assert happened == ["begin", "placed", "paid", "end"]
