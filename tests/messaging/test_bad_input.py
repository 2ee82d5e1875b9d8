"""What is written or sent wrongly: one clear error, the same when repeated."""

import re
import typing as t
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_ecotone import add_header
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import DuplicateHandlerError
from flask_ecotone.errors import EcotoneError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import HeaderNotFoundError
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class PlaceOrder:
    number: int = 1


class Shape(t.Protocol):
    number: int


@t.runtime_checkable
class RuntimeShape(t.Protocol):
    number: int


class Typed(t.TypedDict):
    number: int


def app_with(*found: t.Any) -> Flask:
    """Return an application with handlers."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(*found)
    ecotone.init_app(app)
    return app


def refused(found: list[t.Any], error: type[EcotoneError], *said: str) -> None:
    """Check that handlers don't compile, with the same error on every use."""
    app = app_with(*found)
    errors = []
    uses: list[Callable[[], t.Any]] = [
        lambda: command_bus.send(PlaceOrder()),
        lambda: query_bus.send_with_routing("any"),
        lambda: event_bus.publish(PlaceOrder()),
        lambda: app.extensions["ecotone"].compile(),
        lambda: app.extensions["ecotone"].system,
    ]
    with app.app_context():
        for use in uses:
            with pytest.raises(error) as caught:
                use()
            errors.append((type(caught.value), str(caught.value)))
        assert not app.extensions["ecotone"].is_compiled
    assert len(set(errors)) == 1
    for part in (*said, "test_bad_input.py:"):
        assert part in errors[0][1]


async def _async(command: PlaceOrder) -> None: ...


async def _async_generator(command: PlaceOrder) -> t.Any:
    yield 1


def _generator(command: PlaceOrder) -> t.Any:
    yield 1


def _args(command: PlaceOrder, *args: int) -> None: ...


def _kwargs(command: PlaceOrder, **options: int) -> None: ...


def _nothing() -> None: ...


def _unannotated(command) -> None: ...  # type: ignore[no-untyped-def]


def _any(command: t.Any) -> None: ...


def _dict(command: dict) -> None: ...  # type: ignore[type-arg]


def _generic_dict(command: dict[str, t.Any]) -> None: ...


def _str(command: str) -> None: ...


def _int(command: int) -> None: ...


def _none(command: None) -> None: ...


def _list(command: list[PlaceOrder]) -> None: ...


def _literal(command: t.Literal["place"]) -> None: ...


def _typed_dict(command: Typed) -> None: ...


def _protocol(command: Shape) -> None: ...


def _data_protocol(command: RuntimeShape) -> None: ...


def _union_with_text(command: PlaceOrder | str) -> None: ...


def _only_headers(user: t.Annotated[str, Header("user")]) -> None: ...


def _unresolvable(command: "PlaceOdrer") -> None: ...  # type: ignore # noqa: F821


def _unresolvable_second(
    command: PlaceOrder,
    mailer: "Mailer",  # type: ignore # noqa: F821
) -> None: ...


def _unfillable(command: PlaceOrder, number: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_async, "write a plain 'def'"),
        (_async_generator, "write a plain 'def'"),
        (_generator, "yields"),
        (_args, "'*args: int'"),
        (_kwargs, "'**options: int'"),
        (_nothing, "takes no message"),
        (_unannotated, "'command' (no annotation)"),
        (_any, "'command' (Any)"),
        (_dict, "'command' (dict)"),
        (_generic_dict, "'command' (dict[str, Any])"),
        (_str, "'command' (str)"),
        (_int, "'command' (int)"),
        (_none, "'command' (None)"),
        (_list, "'command' (list["),
        (_literal, "'command' (Literal["),
        (_typed_dict, "'command' (Typed)"),
        (_protocol, "'command' (Shape)"),
        (_data_protocol, "'command' (RuntimeShape)"),
        (_union_with_text, "'command' (test"),
        (_only_headers, "takes no message"),
        (_unresolvable, "'PlaceOdrer' of the parameter 'command'"),
        (_unresolvable_second, "'Mailer' of the parameter 'mailer'"),
        (_unfillable, "the parameter 'number' (int)"),
    ],
)
@pytest.mark.parametrize("marker", [command_handler, event_handler])
def test_handler_with_a_wrong_signature_is_refused(
    marker: t.Any, function: t.Any, said: str
) -> None:
    """At compile time, for commands and events; function, file, line and the fix."""

    def copied() -> t.Any:
        # The marks of one case must not reach the next one.
        made = type(function)(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        made.__annotations__ = dict(function.__annotations__)
        made.__qualname__ = function.__qualname__
        return made

    said = said.replace("(test", f"({__name__}")
    refused([marker(copied())], HandlerSignatureError, said, function.__name__)


def test_error_names_the_line_of_the_handler() -> None:
    """file:line leads to the function."""

    @command_handler
    def handle(command: dict) -> None: ...  # type: ignore[type-arg]

    line = handle.__code__.co_firstlineno
    refused([handle], HandlerSignatureError, f"{__file__}:{line}", "handle")


def test_method_without_self_is_refused() -> None:
    """It can't be called on an object."""

    class Orders:
        @command_handler("place")
        def place() -> None: ...  # type: ignore[misc]

    refused([Orders], HandlerSignatureError, "without 'self'", "Orders.place")


def test_special_method_is_refused_as_a_handler() -> None:
    """__call__ and its like belong to Python."""

    class Orders:
        @command_handler
        def __call__(self, command: PlaceOrder) -> None: ...

    refused([Orders], HandlerSignatureError, "Orders.__call__", "Rename it")


def test_two_handlers_of_one_command_are_refused() -> None:
    """Both are named, by class and by routing key."""

    @command_handler
    def first(command: PlaceOrder) -> None: ...

    @command_handler
    def second(command: PlaceOrder) -> None: ...

    refused([first, second], DuplicateHandlerError, "'PlaceOrder'", "first", "second")

    @command_handler("place")
    def third(command: PlaceOrder) -> None: ...

    @command_handler("place", endpoint_id="other")
    def fourth(command: PlaceOrder) -> None: ...

    refused([third, fourth], DuplicateHandlerError, "'place'", "third", "fourth")

    @command_handler("place")
    def fifth(command: PlaceOrder) -> None: ...

    refused([third, fifth], DuplicateHandlerError, "'place' has 2 handlers", "fifth")


def test_two_endpoints_with_one_id_are_refused() -> None:
    """An endpoint_id names one endpoint, whatever it handles."""

    @command_handler(endpoint_id="same")
    def first(command: PlaceOrder) -> None: ...

    @event_handler(endpoint_id="same")
    def second(event: PlaceOrder) -> None: ...

    refused([first, second], DuplicateHandlerError, "'same'", "first", "second")


def test_two_internal_handlers_of_one_channel_are_refused_where_it_is_used() -> None:
    """A step leads to one place."""

    @command_handler("first", output_channel="step")
    def first() -> int:
        return 1

    @internal_handler("step", endpoint_id="a")
    def one(number: int) -> None: ...

    @internal_handler("step", endpoint_id="b")
    def two(number: int) -> None: ...

    refused([first, one, two], DuplicateHandlerError, "'step'", "one", "two")


@pytest.mark.parametrize("found", [PlaceOrder, PlaceOrder(), 5, "text", [1], len])
def test_registration_of_something_unmarked_is_refused(found: t.Any) -> None:
    """Also of what has no hash."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="carries no marker"):
            flow_testing([found])


def test_private_attribute_that_markers_use_is_refused_on_a_class() -> None:
    """An application's own __ecotone__ isn't overwritten or misread."""

    class Orders:
        __ecotone__ = "mine"

        @command_handler
        def place(self, command: PlaceOrder) -> None: ...

    for _ in range(2):
        with pytest.raises(ConfigurationError, match="'__ecotone__'.*rename yours"):
            flow_testing([Orders])
    assert Orders.__ecotone__ == "mine"


def test_private_attribute_that_markers_use_is_refused_on_a_function() -> None:
    """At once, when the function is marked."""

    def place(command: PlaceOrder) -> None: ...

    place.__ecotone__ = 5  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="'__ecotone__'.*rename yours"):
        command_handler(place)
    assert place.__ecotone__ == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("marker", [command_handler, query_handler, event_handler])
@pytest.mark.parametrize("key", ["", 5, ["place"], {"a": 1}])
def test_routing_key_of_a_marker_is_text(marker: t.Any, key: t.Any) -> None:
    """Refused where it is written."""
    with pytest.raises(ConfigurationError, match="takes a routing key"):
        marker(key)


@pytest.mark.parametrize("channel", ["", None, 5])
def test_internal_handler_needs_the_name_of_its_channel(channel: t.Any) -> None:
    """There is no class to route by."""
    with pytest.raises(ConfigurationError, match="input channel"):
        internal_handler(channel)


def test_marker_on_something_that_is_no_function_is_refused() -> None:
    """Refused where it is written."""
    for wrong in (5, "text", None):
        with pytest.raises(ConfigurationError, match="Markers decorate"):
            command_handler("place")(wrong)  # type: ignore[type-var]


def test_options_of_markers_are_checked_where_they_are_written() -> None:
    """A header has a value or an expression; a retry happens at least once."""
    with pytest.raises(ConfigurationError, match="either a value or an expression"):
        add_header("user")
    with pytest.raises(ConfigurationError, match="either a value or an expression"):
        add_header("user", 1, expression="payload")
    with pytest.raises(ConfigurationError, match="at least one retry"):
        instant_retry(0)


@command_handler("order.place")
def place(command: PlaceOrder, user: t.Annotated[str, Header("user")]) -> int:
    """Return the number."""
    return command.number


@query_handler("order.get")
def get(number: int) -> int:
    """Return the number."""
    return number


_USER = {"user": "mia"}


@pytest.mark.parametrize(
    ("send", "error", "said"),
    [
        (
            lambda: command_bus.send_with_routing("order.plcae", PlaceOrder()),
            NoHandlerError,
            "'order.plcae'.*Did you mean 'order.place'",
        ),
        (
            lambda: query_bus.send_with_routing("order.place", 1),
            NoHandlerError,
            "query to 'order.place'",
        ),
        (
            lambda: command_bus.send(PlaceOrder()),
            NoHandlerError,
            "command PlaceOrder: no handler.*@command_handler",
        ),
        (
            lambda: command_bus.send(PlaceOrder),
            NoHandlerError,
            "type says nothing",
        ),
        (lambda: command_bus.send(None), NoHandlerError, "NoneType says nothing"),
        (
            lambda: command_bus.send({"number": 1}),
            NoHandlerError,
            "dict says nothing.*send_with_routing with one of: order.place",
        ),
        (lambda: query_bus.send("order.get"), NoHandlerError, "str says nothing"),
        (
            lambda: command_bus.send_with_routing(5, 1),  # type: ignore[arg-type]
            NoHandlerError,
            "5 is a int",
        ),
        (
            lambda: command_bus.send_with_routing(None),  # type: ignore[arg-type]
            NoHandlerError,
            "None is a NoneType",
        ),
        (
            lambda: command_bus.send_with_routing(["order"]),  # type: ignore[arg-type]
            NoHandlerError,
            "is a list",
        ),
        (
            lambda: command_bus.send_with_routing("", PlaceOrder()),
            NoHandlerError,
            "''",
        ),
        (
            lambda: command_bus.send_with_routing("order.place", PlaceOrder()),
            HeaderNotFoundError,
            r"'user' of .*place \(.*test_bad_input.py:\d+\).*metadata=",
        ),
        (
            lambda: command_bus.send_with_routing("order.place", 5, metadata=_USER),
            ConversionError,
            r"'command' of .*place \(.*test_bad_input.py:\d+\).*int to PlaceOrder",
        ),
        (
            lambda: command_bus.send_with_routing(
                "order.place", {"number": "x"}, metadata=_USER
            ),
            ConversionError,
            r"\$\.number",
        ),
        (
            lambda: command_bus.send_with_routing("order.place", metadata=_USER),
            MessagingError,
            "'command' of .*no payload",
        ),
        (
            lambda: query_bus.send_with_routing("order.get", "many"),
            ConversionError,
            "str to int",
        ),
    ],
)
def test_wrong_message_is_refused_the_same_each_time(
    send: Callable[[], t.Any], error: type[EcotoneError], said: str
) -> None:
    """What was attempted, what was found and what to do; nothing is left behind."""
    app = app_with(place, get)
    texts = []
    with app.app_context():
        for _ in range(3):
            with pytest.raises(error) as caught:
                send()
            texts.append(str(caught.value))
        assert (
            command_bus.send_with_routing("order.place", PlaceOrder(4), metadata=_USER)
            == 4
        )
    assert len({re.sub(r"it has [^;]*?\.", "", text) for text in texts}) == 1
    assert re.search(said, texts[0], re.DOTALL)


@pytest.mark.parametrize(
    "metadata", [5, 0, "", "user", [("user", 1)], (), True, object]
)
def test_metadata_that_is_no_mapping_is_refused(metadata: t.Any) -> None:
    """On every bus, by class and by name, also where it is falsy."""
    app = app_with(place, get)
    sends: list[Callable[[], t.Any]] = [
        lambda: command_bus.send(PlaceOrder(), metadata),
        lambda: command_bus.send_with_routing("order.place", 1, metadata=metadata),
        lambda: query_bus.send(PlaceOrder(), metadata),
        lambda: query_bus.send_with_routing("order.get", 1, metadata=metadata),
        lambda: event_bus.publish(PlaceOrder(), metadata),
        lambda: event_bus.publish_with_routing("order", 1, metadata=metadata),
    ]
    with app.app_context():
        for send in sends:
            with pytest.raises(MessagingError):
                send()
        with pytest.raises(MessagingError, match="must be a mapping"):
            event_bus.publish(PlaceOrder(), metadata)


@pytest.mark.parametrize("name", [5, "", None, ("user",), b"user"])
def test_header_name_that_is_no_text_is_refused(name: t.Any) -> None:
    """A header needs a name that every channel can carry."""
    app = app_with(place)
    with app.app_context():
        for _ in range(2):
            with pytest.raises(MessagingError, match="non-empty string") as caught:
                command_bus.send_with_routing("order.place", 1, metadata={name: 1})
            assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["id", "correlationId", "parentId"])
@pytest.mark.parametrize("value", [5, [], {"a": 1}, b"id", uuid.UUID(int=1)])
def test_id_that_is_no_text_is_refused(name: str, value: t.Any) -> None:
    """An id is compared, logged and carried as text."""
    bus = flow_testing([place]).command_bus
    with pytest.raises(MessagingError, match=f"'{name}'.*type str"):
        bus.send_with_routing("order.place", 1, metadata={name: value})


def test_empty_id_is_refused() -> None:
    """Every such message would count as the same one, and be handled once."""
    bus = flow_testing([place]).command_bus
    with pytest.raises(MessagingError, match="id of a message is empty text"):
        bus.send_with_routing("order.place", 1, metadata={"id": ""})


@pytest.mark.parametrize("value", ["now", 1.5, [1]])
def test_timestamp_that_is_no_whole_number_is_refused(value: t.Any) -> None:
    """It counts seconds since the epoch."""
    bus = flow_testing([place]).command_bus
    with pytest.raises(MessagingError, match="'timestamp'.*type int"):
        bus.send_with_routing("order.place", 1, metadata={"timestamp": value})


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(max_size=3), inside, max_size=3)
    ),
    max_leaves=5,
)


@given(payload=_ANYTHING, media_type=st.sampled_from([None, "application/json"]))
def test_any_payload_is_handled_or_refused_with_an_error_of_ours(
    payload: t.Any, media_type: str | None
) -> None:
    """No payload leads to an exception from inside of the machinery."""
    bus = flow_testing([place]).command_bus
    try:
        result = bus.send_with_routing(
            "order.place", payload, media_type=media_type, metadata=_USER
        )
    except EcotoneError:
        return
    assert isinstance(result, int)


@given(metadata=st.one_of(_ANYTHING, st.dictionaries(st.text(), _ANYTHING)))
def test_any_metadata_is_carried_or_refused_with_an_error_of_ours(
    metadata: t.Any,
) -> None:
    """Metadata of any shape, framework headers among its names included."""
    bus = flow_testing([place]).command_bus
    try:
        bus.send_with_routing("order.place", PlaceOrder(3), metadata=metadata)
    except EcotoneError:
        return
    assert metadata["user"] is not None


@given(
    name=st.sampled_from(
        ["contentType", "replyContentType", "aggregate.id", "id", "timestamp"]
    ),
    value=_ANYTHING,
)
def test_any_value_of_a_framework_header_is_carried_or_refused(
    name: str, value: t.Any
) -> None:
    """Their values come from outside too."""
    bus = flow_testing([place]).command_bus
    try:
        result = bus.send_with_routing(
            "order.place", {"number": 1}, metadata={**_USER, name: value}
        )
    except EcotoneError:
        return
    assert result == 1


def test_bus_used_without_the_extension_says_so() -> None:
    """A RuntimeError as Flask's own, with the fix."""
    app = Flask(__name__)
    with app.app_context(), pytest.raises(RuntimeError, match="init_app"):
        command_bus.send(PlaceOrder())
    with pytest.raises(RuntimeError, match="application context"):
        command_bus.send(PlaceOrder())


def test_an_unknown_option_of_a_marker_is_named() -> None:
    """A misspelled option says which there are, and the closest one."""
    with pytest.raises(TypeError, match="'endpoint'. Did you mean 'endpoint_id'"):
        command_handler("order.place", endpoint="x")  # type: ignore[call-overload]


def test_mapped_identifiers_without_an_aggregate_are_refused() -> None:
    """A mapping on a plain function would be ignored, and is an error instead."""

    @command_handler("order.place", identifier_mapping={"id": "payload.id"})
    def place() -> None: ...

    with pytest.raises(ConfigurationError, match="no handler of an aggregate"):
        flow_testing([place])
