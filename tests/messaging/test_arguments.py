"""From a message to the arguments of a handler."""

import dataclasses
import enum
import typing as t
import uuid
from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import aggregate
from flask_ecotone import around
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import ConfigVariable
from flask_ecotone import converter
from flask_ecotone import Ecotone
from flask_ecotone import Fetch
from flask_ecotone import Header
from flask_ecotone import Headers
from flask_ecotone import Identifier
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import Payload
from flask_ecotone import Reference
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import HeaderNotFoundError
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import ServiceNotFoundError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class PlaceOrder:
    number: int = 1


class Color(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Email:
    address: str

    @converter
    @classmethod
    def parse(cls, text: str) -> t.Self:
        """Read an address."""
        if "@" not in text:
            raise ValueError("an address has an @")
        return cls(text)


class Calculator:
    rate = 3

    def multiply(self, number: int) -> int:
        """Multiply a number."""
        return number * self.rate


def answer(
    annotation: t.Any,
    payload: t.Any = None,
    metadata: dict[str, t.Any] | None = None,
    default: t.Any = dataclasses.MISSING,
    **options: t.Any,
) -> t.Any:
    """Send a message to a handler with one annotated parameter and return it."""

    if default is dataclasses.MISSING:

        def handle(argument: annotation) -> t.Any:  # type: ignore[valid-type]
            return argument

    else:

        def handle(argument: annotation = default) -> t.Any:  # type: ignore
            return argument

    more = options.pop("found", [])
    flow = flow_testing([command_handler("do")(handle), *more], **options)
    return flow.command_bus.send_with_routing("do", payload, metadata=metadata)


def test_first_parameter_takes_the_payload() -> None:
    """Converted to its annotation, or as it is when it has none."""

    @command_handler("plain")
    def plain(payload) -> t.Any:  # type: ignore[no-untyped-def]
        return payload

    bus = flow_testing([plain]).command_bus
    assert bus.send_with_routing("plain", {"a": 1}) == {"a": 1}
    assert answer(PlaceOrder, {"number": "4"}) == PlaceOrder(4)
    assert answer(t.Any, {"number": 4}) == {"number": 4}
    assert answer(object, 4) == 4


def test_payload_marker_takes_the_payload_at_any_place() -> None:
    """Marked, it needn't be the first."""

    @command_handler
    def handle(
        user: t.Annotated[str, Header("user")],
        command: t.Annotated[PlaceOrder, Payload()],
    ) -> t.Any:
        return user, command

    bus = flow_testing([handle]).command_bus
    assert bus.send(PlaceOrder(2), {"user": "mia"}) == ("mia", PlaceOrder(2))


def test_object_that_was_sent_is_never_made_anew_as_a_service() -> None:
    """A later parameter of the payload's class gets the payload."""

    @command_handler("place")
    def handle(
        user: t.Annotated[str, Header("user")], command: PlaceOrder, calc: Calculator
    ) -> t.Any:
        return user, command, calc.multiply(2)

    bus = flow_testing([handle]).command_bus
    sent = bus.send_with_routing("place", PlaceOrder(7), metadata={"user": "mia"})
    assert sent == ("mia", PlaceOrder(7), 6)


def test_interceptor_gets_the_payload_after_its_own_parameters() -> None:
    """Beside the invocation, a parameter of the payload's class is the payload."""
    got: list[t.Any] = []

    @command_handler
    def handle(command: PlaceOrder) -> int:
        return command.number

    @around(pointcut=handle)
    def watch(
        invocation: MethodInvocation, command: PlaceOrder, calc: Calculator
    ) -> t.Any:
        got.extend((command, calc.multiply(2)))
        return invocation.proceed()

    assert flow_testing([handle, watch]).command_bus.send(PlaceOrder(7)) == 7
    assert got == [PlaceOrder(7), 6]


def test_payload_expression_reads_the_payload() -> None:
    """As a string and as a callable, and the result is converted."""
    payload = {"amount": "5", "tags": ["a"]}
    by_text = t.Annotated[int, Payload("payload['amount']")]
    by_call = t.Annotated[int, Payload(lambda payload: payload["amount"])]
    assert answer(by_text, payload) == 5
    assert answer(by_call, payload) == 5
    assert answer(t.Annotated[str, Payload("value.tags[0]")], payload) == "a"
    assert answer(t.Annotated[int, Payload("value.number + 1")], PlaceOrder(3)) == 4


def test_payload_expression_reads_json() -> None:
    """The payload is decoded before the expression sees it."""

    @command_handler("pay")
    def pay(amount: t.Annotated[int, Payload("payload['amount']")]) -> int:
        return amount

    bus = flow_testing([pay]).command_bus
    sent = bus.send_with_routing("pay", '{"amount": 5}', media_type="application/json")
    assert sent == 5


def test_expression_can_ask_for_services_headers_and_the_message() -> None:
    """Callables bind by name; strings have the same names."""

    def compute(
        payload: t.Any, headers: t.Any, reference: t.Any, message: Message
    ) -> int:
        assert message.payload == payload
        return reference(Calculator).multiply(payload) + headers["extra"]

    by_call = t.Annotated[int, Payload(compute)]
    by_text = t.Annotated[
        int, Payload("reference('calc').multiply(payload) + headers.extra")
    ]
    named = {"services": {"calc": Calculator()}}
    assert answer(by_call, 5, {"extra": 1}) == 16
    assert answer(by_text, 5, {"extra": 1}, **named) == 16


def test_expression_may_have_parameters_with_defaults() -> None:
    """Names that are no names of Ecotone's are left to their default."""

    def scaled(payload: int, factor: int = 4) -> int:
        return payload * factor

    assert answer(t.Annotated[int, Payload(scaled)], 2) == 8
    assert answer(t.Annotated[int, Payload(lambda: 9)], 2) == 9


def test_expression_that_asks_for_an_unknown_name_is_refused_at_compile_time() -> None:
    """The error lists what an expression can have."""
    with pytest.raises(ConfigurationError, match="'paylod'.*payload, headers"):
        answer(t.Annotated[int, Payload(lambda paylod: paylod)], 1)


@pytest.mark.parametrize("expression", ["payload[", "", "1 +", 5])
def test_unreadable_expression_is_refused_at_compile_time(expression: t.Any) -> None:
    """Before any message is sent."""

    @command_handler("do")
    def handle(argument: t.Annotated[int, Payload(expression)]) -> None: ...

    with pytest.raises(ConfigurationError, match="'argument'"):
        flow_testing([handle])


@pytest.mark.parametrize(
    "expression",
    [
        "payload.__class__",
        "payload.__class__.__mro__",
        "payload|attr('__class__')",
        "payload['__class__']",
        "message.__init__.__globals__",
        "parameter.__globals__",
        "reference.__closure__",
        "'{0.__class__}'.format(payload)",
        "payload.items.append(1)",
        "payload.update({'a': 1})",
        "payload.pop('items')",
        "headers._values",
    ],
)
def test_unsafe_expression_is_refused(expression: str) -> None:
    """The sandbox lets nobody reach internals or change what it is given."""
    payload = {"items": [1]}
    for _ in range(2):
        with pytest.raises(MessagingError, match="Cannot resolve the parameter"):
            answer(t.Annotated[t.Any, Payload(expression)], payload)
    assert payload == {"items": [1]}


def test_expression_that_finds_nothing_is_an_error() -> None:
    """A missing item is said, not taken for None."""
    with pytest.raises(MessagingError, match="amount"):
        answer(t.Annotated[t.Any, Payload("payload.amount")], {"other": 1})
    with pytest.raises(MessagingError, match="'amonut' is undefined"):
        answer(t.Annotated[t.Any, Payload("amonut")], {})


def test_exception_in_an_expression_is_the_users_own() -> None:
    """It is raised as it is, with a note that says which parameter was made."""
    with pytest.raises(ZeroDivisionError) as caught:
        answer(t.Annotated[int, Payload("1 / payload")], 0)
    assert "Cannot resolve the parameter 'argument'" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "expression",
    [
        "parameter('SHOP_RATE') * payload['value']",
        lambda parameter, payload: parameter("SHOP_RATE") * payload["value"],
    ],
)
def test_parameter_in_an_expression_is_read_at_dispatch_and_is_a_number(
    expression: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set in the environment after compiling, "10" times 5 is 50, not "1010101010"."""

    @command_handler("count")
    def count(total: t.Annotated[int, Payload(expression)]) -> int:
        return total

    monkeypatch.delenv("SHOP_RATE", raising=False)
    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(count)
    ecotone.init_app(app)
    with app.app_context():
        ecotone.compile()
        with pytest.raises(MessagingError, match="'SHOP_RATE' is missing"):
            command_bus.send_with_routing("count", {"value": 5})
        monkeypatch.setenv("SHOP_RATE", "10")
        assert command_bus.send_with_routing("count", {"value": 5}) == 50
        monkeypatch.setenv("SHOP_RATE", "7")
        assert command_bus.send_with_routing("count", {"value": 3}) == 21
        app.config["SHOP_RATE"] = 2
        assert command_bus.send_with_routing("count", {"value": 5}) == 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("1.5", 1.5),
        ("007", "007"),
        ("1e5", "1e5"),
        ("+5", "+5"),
        ("", ""),
        ("ten", "ten"),
        (True, True),
    ],
)
def test_parameter_in_an_expression_is_a_number_only_if_it_is_written_as_one(
    text: t.Any, value: t.Any
) -> None:
    """A postal code with a leading zero stays text."""
    expression = t.Annotated[t.Any, Payload("parameter('X')")]
    assert answer(expression, 1, configuration={"X": text}) == value


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, "5", 5),
        (int, 5, 5),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (str, "x", "x"),
        (Color, "red", Color.RED),
        (Color, Color.RED, Color.RED),
        (Color | None, "red", Color.RED),
        (uuid.UUID, "018f3a52-0000-7000-8000-000000000001", uuid.UUID(int=0)),
        (list[int], "[1, 2]", [1, 2]),
        (PlaceOrder, '{"number": 3}', PlaceOrder(3)),
        (PlaceOrder, {"number": 3}, PlaceOrder(3)),
        (Email, "mia@shop", Email("mia@shop")),
        (Email | None, "mia@shop", Email("mia@shop")),
        (Email, Email("mia@shop"), Email("mia@shop")),
    ],
)
def test_header_is_converted(annotation: t.Any, value: t.Any, expected: t.Any) -> None:
    """To numbers, enums, UUIDs, value objects by @converter, and from JSON text."""
    if annotation is uuid.UUID:
        expected = uuid.UUID(value)
    marked = t.Annotated[annotation, Header("value")]
    assert answer(marked, None, {"value": value}, found=[Email]) == expected


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, "many"), (Color, "green"), (uuid.UUID, "5"), (Email, 5), (Email, "mia")],
)
def test_header_that_can_not_be_converted_is_an_error(
    annotation: t.Any, value: t.Any
) -> None:
    """It names the parameter, the handler with file and line, and the type."""
    marked = t.Annotated[annotation, Header("value")]
    said: list[str] = []
    for _ in range(2):
        with pytest.raises(ConversionError) as caught:
            answer(marked, None, {"value": value}, found=[Email])
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "Cannot resolve the parameter 'argument'" in said[0]
    assert "test_arguments.py:" in said[0]
    assert f"to {annotation.__qualname__}" in said[0]


def test_missing_header_is_an_error_that_offers_what_there_is() -> None:
    """It lists the headers and guesses which one was meant."""
    with pytest.raises(HeaderNotFoundError) as caught:
        answer(t.Annotated[str, Header("usr")], None, {"user": "mia"})
    said = str(caught.value)
    assert "no header 'usr'" in said
    assert "Did you mean 'user'" in said
    assert "metadata=" in said


def test_optional_header_may_be_missing() -> None:
    """A default wins over None, and None stands in where the type accepts it."""
    assert answer(t.Annotated[str | None, Header("user")]) is None
    assert answer(t.Annotated[str, Header("user")], default="nobody") == "nobody"
    optional = t.Annotated[str | None, Header("user")]
    assert answer(optional, default="nobody") == "nobody"
    assert answer(optional, None, {"user": "mia"}, default="nobody") == "mia"
    nested = t.Optional[t.Annotated[str, Header("user")]]  # noqa: UP045
    assert answer(nested) is None
    assert answer(nested, None, {"user": "mia"}) == "mia"


def test_header_expression_computes_from_the_value() -> None:
    """It sees value, payload and headers; its result is not converted."""
    trimmed = t.Annotated[str, Header("token", lambda value: value.strip())]
    assert answer(trimmed, None, {"token": " x "}) == "x"
    assert answer(t.Annotated[str, Header("n", "value + 1")], None, {"n": 1}) == 2
    joined = t.Annotated[str, Header("n", "value ~ payload ~ headers.m")]
    assert answer(joined, "b", {"n": "a", "m": "c"}) == "abc"
    with pytest.raises(HeaderNotFoundError):
        answer(trimmed)
    assert answer(trimmed, default="none") == "none"


def test_all_headers_come_as_a_dict() -> None:
    """By Headers(), or as the second plain dict, a copy each time."""

    @command_handler("marked")
    def marked(headers: t.Annotated[dict[str, t.Any], Headers()]) -> t.Any:
        return headers

    @command_handler("second")
    def second(payload: dict[str, t.Any], headers: dict[str, t.Any]) -> t.Any:
        return payload, headers

    @command_handler("optional")
    def optional(payload: t.Any, headers: dict | None = None) -> t.Any:  # type: ignore
        return headers

    @command_handler("explicit")
    def explicit(payload: t.Annotated[int, Payload()], headers: dict) -> t.Any:  # type: ignore
        return headers

    bus = flow_testing([marked, second, optional, explicit]).command_bus
    metadata = {"user": "mia"}
    assert bus.send_with_routing("marked", metadata=metadata)["user"] == "mia"
    payload, headers = bus.send_with_routing("second", {"a": 1}, metadata=metadata)
    assert (payload, headers["user"]) == ({"a": 1}, "mia")
    assert type(headers) is dict
    assert bus.send_with_routing("optional", 1, metadata=metadata)["user"] == "mia"
    assert bus.send_with_routing("explicit", 1, metadata=metadata)["user"] == "mia"


def test_message_is_injected_by_type_at_any_place() -> None:
    """The whole message, also as the only parameter."""

    @command_handler("only")
    def only(message: Message) -> t.Any:
        return message.payload

    @command_handler("last")
    def last(number: int, *, message: Message) -> t.Any:
        return number, message.payload

    bus = flow_testing([only, last]).command_bus
    assert bus.send_with_routing("only", 5) == 5
    assert bus.send_with_routing("last", "6") == (6, "6")


def test_service_is_injected_by_type() -> None:
    """A registered object, or a class that is made without a factory."""

    @command_handler("do")
    def handle(number: int, calculator: Calculator) -> int:
        return calculator.multiply(number)

    assert flow_testing([handle]).command_bus.send_with_routing("do", 2) == 6
    other = Calculator()
    other.rate = 10
    flow = flow_testing([handle], services={Calculator: other})
    assert flow.command_bus.send_with_routing("do", 2) == 20


def test_bus_as_the_first_parameter_is_no_payload() -> None:
    """A bus is never sent; so it is injected."""

    @command_handler("outer")
    def outer(commands: CommandBus) -> t.Any:
        return commands.send_with_routing("inner", 5)

    @command_handler("inner")
    def inner(number: int) -> int:
        return number

    assert flow_testing([outer, inner]).command_bus.send_with_routing("outer", 1) == 5


def test_reference_finds_a_service_by_name_or_by_type() -> None:
    """A name may stand for anything; an expression can use what is found."""
    services = {"calculator": Calculator(), "greeting": "HELLO"}
    by_name = t.Annotated[Calculator, Reference("calculator")]
    assert answer(by_name, services=services) is services["calculator"]
    assert isinstance(answer(t.Annotated[Calculator, Reference()]), Calculator)
    for expression in ("service.lower()", lambda service: service.lower()):
        marked = t.Annotated[str, Reference("greeting", expression)]
        assert answer(marked, services=services) == "hello"


@pytest.mark.parametrize("annotation", [t.Any, str, Calculator])
def test_reference_to_an_unknown_name_is_an_error(annotation: t.Any) -> None:
    """Also where Any would accept None."""
    with pytest.raises(ServiceNotFoundError, match="name calculatr"):
        answer(t.Annotated[annotation, Reference("calculatr")])


def test_optional_reference_that_nobody_registered_is_left_out() -> None:
    """None stands in where the type accepts it, or the default."""
    assert answer(t.Annotated[Calculator | None, Reference("calculator")]) is None
    assert answer(t.Annotated[t.Any, Reference("calculator")], default=3) == 3


def test_reference_without_name_and_type_is_refused() -> None:
    """Nothing would say which service it is."""
    with pytest.raises(HandlerSignatureError, match="Say which service"):
        answer(t.Annotated[t.Any, Reference()])


def test_optional_service_that_nobody_registered_is_left_out() -> None:
    """A class that may be None isn't made just because it could be."""

    @command_handler("do")
    def handle(number: int, calculator: Calculator | None = None) -> t.Any:
        return calculator

    assert flow_testing([handle]).command_bus.send_with_routing("do", 1) is None
    calculator = Calculator()
    flow = flow_testing([handle], services=[calculator])
    assert flow.command_bus.send_with_routing("do", 1) is calculator


def test_configuration_variable_is_converted_and_may_be_optional() -> None:
    """By its name or the parameter's, with defaults, from text."""
    here = {"configuration": {"argument": "5", "LIMIT": "7", "DEBUG": "false"}}
    assert answer(t.Annotated[int, ConfigVariable()], **here) == 5
    assert answer(t.Annotated[int, ConfigVariable("LIMIT")], **here) == 7
    assert answer(t.Annotated[bool, ConfigVariable("DEBUG")], **here) is False
    assert answer(t.Annotated[str, ConfigVariable("LIMIT")], **here) == "7"
    assert answer(t.Annotated[int | None, ConfigVariable("NO")], **here) is None
    assert answer(t.Annotated[int, ConfigVariable("NO")], default=3, **here) == 3
    with pytest.raises(MessagingError, match="'NO' is missing"):
        answer(t.Annotated[int, ConfigVariable("NO")], **here)
    with pytest.raises(ConversionError):
        answer(t.Annotated[int, ConfigVariable("DEBUG")], **here)


class MailSettings:
    host = "mail.example"


def test_configuration_variables_of_an_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """app.config, then the environment, dotted names in dicts, services' attributes."""
    name = f"{MailSettings.__module__}.MailSettings"
    variables = {
        "both": "SHOP_BOTH",
        "env": "SHOP_ENV",
        "dotted": "MAIL.HOST",
        "attribute": f"{name}::host",
        "no_attribute": f"{name}::port",
        "no_class": "shop.Unknown::host",
        "no_key": "MAIL.PORT",
        "no_dict": "SHOP_BOTH.HOST",
        "none": "SHOP_NONE",
    }

    def reading(variable: str) -> t.Any:
        def read(
            found: t.Annotated[t.Any, ConfigVariable(variable)] = "unset",
        ) -> t.Any:
            return found

        return read

    app = Flask(__name__)
    app.config.update(SHOP_BOTH="config", MAIL={"HOST": "dotted"}, SHOP_NONE=None)
    monkeypatch.setenv("SHOP_BOTH", "environment")
    monkeypatch.setenv("SHOP_ENV", "environment")
    ecotone = Ecotone(packages=[], services={MailSettings: MailSettings})
    for key, variable in variables.items():
        read = command_handler(key, endpoint_id=key)(reading(variable))
        ecotone.register(read)
    ecotone.init_app(app)
    with app.app_context():
        got = {key: command_bus.send_with_routing(key) for key in variables}
    assert got == {
        "both": "config",
        "env": "environment",
        "dotted": "dotted",
        "attribute": "mail.example",
        "no_attribute": "unset",
        "no_class": "unset",
        "no_key": "unset",
        "no_dict": "unset",
        "none": None,
    }


@aggregate
class User:
    name: t.Annotated[str, Identifier()]

    def __init__(self, name: str) -> None:
        self.name = name


def test_fetch_loads_an_aggregate() -> None:
    """By an expression of payload or headers; absent is an error unless optional."""

    @command_handler("show")
    def show(user: t.Annotated[User, Fetch("payload")]) -> str:
        return user.name

    @command_handler("by_header")
    def by_header(
        user: t.Annotated[User | None, Fetch(lambda headers: headers.get("user"))],
    ) -> str | None:
        return user and user.name

    flow = flow_testing([User, show, by_header]).with_state_for(User("mia"))
    bus = flow.command_bus
    assert bus.send_with_routing("show", "mia") == "mia"
    assert bus.send_with_routing("by_header", metadata={"user": "mia"}) == "mia"
    assert bus.send_with_routing("by_header", metadata={"user": "ben"}) is None
    assert bus.send_with_routing("by_header") is None
    with pytest.raises(AggregateNotFoundError, match="User.*'ben'"):
        bus.send_with_routing("show", "ben")


def test_fetch_of_something_that_is_no_class_is_refused() -> None:
    """A union says not which aggregate is meant."""

    @command_handler("show")
    def show(user: t.Annotated[User | Calculator, Fetch("payload")]) -> None: ...

    with pytest.raises(HandlerSignatureError, match="class of the aggregate"):
        flow_testing([User, show])


def test_current_user_is_written_once_and_reused() -> None:
    """An annotated alias with an expression is the recipe for a current user."""

    class Users:
        def get(self, name: str) -> User:
            """Return the user with a name."""
            return User(name)

    current = t.Annotated[
        User, Header("user", lambda value, reference: reference(Users).get(value))
    ]
    assert answer(current, None, {"user": "mia"}).name == "mia"


@pytest.mark.parametrize("annotation", [int, str, dict[str, int], list[int], t.Any])
def test_parameter_that_nothing_can_fill_is_refused_at_compile_time(
    annotation: t.Any,
) -> None:
    """A second parameter needs a marker, unless it is a service or the headers."""

    @command_handler
    def handle(
        command: PlaceOrder,
        message: Message,
        other: annotation,  # type: ignore[valid-type]
    ) -> None: ...

    with pytest.raises(HandlerSignatureError, match=r"'other'.*Header\(\"other\"\)"):
        flow_testing([handle])


def test_parameter_without_annotation_is_refused_at_compile_time() -> None:
    """It is no service of a class named "empty"."""

    @command_handler
    def handle(command: PlaceOrder, other) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(HandlerSignatureError, match="'other'.*no annotation"):
        flow_testing([handle])


def test_missing_payload_is_an_error_that_offers_a_service() -> None:
    """A first parameter that was meant as a service says how to write that."""
    with pytest.raises(MessagingError, match=r"Reference\(\)"):
        answer(Calculator)
    assert answer(PlaceOrder | None) is None
    assert answer(PlaceOrder, default=PlaceOrder(9)) == PlaceOrder(9)
