"""Payloads, headers and answers become the types that are asked for."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import typing as t
import uuid
from dataclasses import dataclass
from dataclasses import field

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_ecotone import content_type
from flask_ecotone import converter
from flask_ecotone import media_type_converter
from flask_ecotone import query_handler
from flask_ecotone.conversion import Conversion
from flask_ecotone.conversion import MediaType
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.testing import flow_testing

JSON = "application/json"
KEY = uuid.UUID("018f3a52-0000-7000-8000-000000000001")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Price:
    amount: decimal.Decimal
    at: dt.datetime


@dataclass(frozen=True)
class Order:
    key: uuid.UUID
    color: Color
    price: Price
    due: dt.date | None = None
    tags: list[str] = field(default_factory=list)


@attrs.frozen
class AttrsOrder:
    key: uuid.UUID
    count: int = 1


class StructOrder(msgspec.Struct, frozen=True):
    key: uuid.UUID
    count: int = 1


class TypedOrder(t.TypedDict):
    key: uuid.UUID
    due: dt.date


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


@converter
def write_email(email: Email) -> str:
    """Write an address."""
    return email.address


@dataclass(frozen=True)
class Customer:
    email: Email
    others: list[Email] = field(default_factory=list)
    by_kind: dict[str, Email] = field(default_factory=dict)
    second: Email | None = None


@attrs.frozen
class AttrsCustomer:
    email: Email


class StructCustomer(msgspec.Struct, rename="camel"):
    first_email: Email


class TypedCustomer(t.TypedDict):
    email: Email


def converted(
    target: t.Any,
    payload: t.Any,
    *found: t.Any,
    media_type: str | None = None,
    expected: str | None = None,
) -> t.Any:
    """Send a payload to a handler of a type and return what it got."""

    @query_handler("convert")
    def convert(payload: target) -> t.Any:  # type: ignore[valid-type]
        return payload

    return flow_testing([convert, *found]).query_bus.send_with_routing(
        "convert", payload, media_type=media_type, expected_media_type=expected
    )


ORDER = Order(
    KEY,
    Color.RED,
    Price(decimal.Decimal("1.10"), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)),
    dt.date(2024, 2, 3),
    ["a"],
)
PLAIN_ORDER = {
    "key": str(KEY),
    "color": "red",
    "price": {"amount": "1.10", "at": "2024-01-02T00:00:00Z"},
    "due": "2024-02-03",
    "tags": ["a"],
}


@pytest.mark.parametrize(
    ("target", "plain", "expected"),
    [
        (Order, PLAIN_ORDER, ORDER),
        (AttrsOrder, {"key": str(KEY)}, AttrsOrder(KEY)),
        (StructOrder, {"key": str(KEY), "count": 2}, StructOrder(KEY, 2)),
        (
            TypedOrder,
            {"key": str(KEY), "due": "2024-02-03"},
            {"key": KEY, "due": dt.date(2024, 2, 3)},
        ),
        (list[Order], [PLAIN_ORDER], [ORDER]),
        (dict[str, Order], {"x": PLAIN_ORDER}, {"x": ORDER}),
        (Color, "blue", Color.BLUE),
        (Level, 1, Level.LOW),
        (uuid.UUID, str(KEY), KEY),
        (decimal.Decimal, "1.5", decimal.Decimal("1.5")),
        (dt.date, "2024-02-03", dt.date(2024, 2, 3)),
        (dt.timedelta, "PT1H", dt.timedelta(hours=1)),
        (int, 5, 5),
        (t.Any, {"any": [1]}, {"any": [1]}),
        (object, {"any": [1]}, {"any": [1]}),
        (dict, {"any": [1]}, {"any": [1]}),
        (Order | None, PLAIN_ORDER, ORDER),
    ],
)
def test_payload_becomes_the_type(target: t.Any, plain: t.Any, expected: t.Any) -> None:
    """From plain values and from JSON, as text and as bytes."""
    text = json.dumps(plain)
    assert converted(target, plain) == expected
    assert converted(target, text, media_type=JSON) == expected
    utf8 = "application/json; charset=utf-8"
    assert converted(target, text.encode(), media_type=utf8) == expected


def test_object_of_the_type_is_passed_as_it_is() -> None:
    """Nothing is copied, also when a media type is given."""
    assert converted(Order, ORDER) is ORDER
    assert converted(Order, ORDER, media_type=JSON) is ORDER


def test_text_becomes_numbers_outside_of_json() -> None:
    """Forms and headers are text; JSON says itself what is a number."""
    assert converted(int, "5") == 5
    assert converted(AttrsOrder, {"key": str(KEY), "count": "7"}).count == 7
    with pytest.raises(ConversionError):
        converted(AttrsOrder, '{"key": "x", "count": "7"}', media_type=JSON)


@pytest.mark.parametrize("body", ["", b""])
def test_an_empty_body_is_named(body: str | bytes) -> None:
    """As that of a form is when a view passes on ``request.data``."""
    with pytest.raises(ConversionError, match="there is nothing to read"):
        converted(Order, body, media_type=JSON)


def test_pydantic_models_convert_themselves() -> None:
    """Alone, inside of others, from JSON and to JSON, with their own errors."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        number: int
        due: dt.date

    @dataclass
    class Holder:
        model: Model

    plain = {"number": "5", "due": "2024-02-03"}
    expected = Model(number=5, due=dt.date(2024, 2, 3))
    assert converted(Model, plain) == expected
    assert converted(Model, json.dumps(plain), media_type=JSON) == expected
    assert converted(Holder, {"model": plain}) == Holder(expected)
    answer = converted(Holder, {"model": plain}, expected=JSON)
    assert json.loads(answer) == {"model": {"number": 5, "due": "2024-02-03"}}
    assert converted(dict, expected) == {"number": 5, "due": dt.date(2024, 2, 3)}
    for target, wrong in ((Model, {"number": "x"}), (Holder, {"model": {}})):
        with pytest.raises(ConversionError, match="validation error"):
            converted(target, wrong)


@pytest.mark.parametrize(
    ("target", "plain", "expected"),
    [
        (Email, "a@b", Email("a@b")),
        (Email | None, "a@b", Email("a@b")),
        (list[Email], ["a@b", "c@d"], [Email("a@b"), Email("c@d")]),
        (tuple[Email, ...], ["a@b"], (Email("a@b"),)),
        (tuple[int, Email], [1, "a@b"], (1, Email("a@b"))),
        (set[Email], ["a@b"], {Email("a@b")}),
        (dict[str, Email], {"x": "a@b"}, {"x": Email("a@b")}),
        (list[list[Email]], [["a@b"]], [[Email("a@b")]]),
        (Customer, {"email": "a@b"}, Customer(Email("a@b"))),
        (
            Customer,
            {
                "email": "a@b",
                "others": ["c@d"],
                "by_kind": {"x": "e@f"},
                "second": "g@h",
            },
            Customer(Email("a@b"), [Email("c@d")], {"x": Email("e@f")}, Email("g@h")),
        ),
        (list[Customer], [{"email": "a@b"}], [Customer(Email("a@b"))]),
        (AttrsCustomer, {"email": "a@b"}, AttrsCustomer(Email("a@b"))),
        (StructCustomer, {"firstEmail": "a@b"}, StructCustomer(Email("a@b"))),
        (TypedCustomer, {"email": "a@b"}, {"email": Email("a@b")}),
    ],
)
def test_own_converter_comes_first_everywhere(
    target: t.Any, plain: t.Any, expected: t.Any
) -> None:
    """Alone, in collections and inside of classes; from Python and from JSON."""
    assert converted(target, plain, Email) == expected
    assert converted(target, json.dumps(plain), Email, media_type=JSON) == expected


def test_own_converter_leaves_converted_values_alone() -> None:
    """A list may hold both kinds, and a dict of fields still works."""
    mixed = converted(list[Email], ["a@b", Email("c@d")], Email)
    assert mixed == [Email("a@b"), Email("c@d")]
    assert converted(Email, {"address": "a@b"}, Email) == Email("a@b")
    nested = converted(Customer, {"email": Email("a@b")}, Email)
    assert nested == Customer(Email("a@b"))


def test_own_converter_writes_everywhere() -> None:
    """Answers in JSON, or as plain dicts, hold what the converter makes."""
    found = (Email, write_email)
    customer = Customer(Email("a@b"), [Email("c@d")], {"x": Email("e@f")})
    plain = {
        "email": "a@b",
        "others": ["c@d"],
        "by_kind": {"x": "e@f"},
        "second": None,
    }
    assert json.loads(converted(t.Any, customer, *found, expected=JSON)) == plain
    as_dict = "application/x-python;type=dict"
    assert converted(t.Any, customer, *found, expected=as_dict) == plain
    assert converted(t.Any, Email("a@b"), *found, expected=JSON) == '"a@b"'
    struct = StructCustomer(Email("a@b"))
    answer = converted(t.Any, struct, *found, expected=JSON)
    assert json.loads(answer) == {"firstEmail": "a@b"}


def test_own_converter_of_a_class_that_nothing_else_knows() -> None:
    """An ordinary class needs a converter, and has one as function or method."""

    class Point:
        def __init__(self, x: int, y: int) -> None:
            self.x, self.y = x, y

    @dataclass
    class Line:
        points: list[Point]

    class Geometry:
        def __init__(self) -> None:
            self.sign = ","

        @converter
        def read(self, text: str) -> Point:
            x, y = text.split(self.sign)
            return Point(int(x), int(y))

        @converter
        def write(self, point: Point) -> dict:  # type: ignore[type-arg]
            return {"x": point.x, "y": point.y}

    line = converted(Line, {"points": ["1,2"]}, Geometry)
    assert (line.points[0].x, line.points[0].y) == (1, 2)
    answer = converted(t.Any, line, Geometry, expected=JSON)
    assert json.loads(answer) == {"points": [{"x": 1, "y": 2}]}
    with pytest.raises(ConversionError, match="Point"):
        converted(Line, {"points": ["1,2"]})


def test_first_own_converter_that_matches_wins() -> None:
    """In the order of registration, by the type of the value."""

    @converter
    def from_text(value: str) -> Email:
        return Email(f"text {value}")

    @converter
    def again(value: str) -> Email:
        return Email("never")

    @converter
    def from_number(value: int) -> Email:
        return Email(f"number {value}")

    found = (from_text, again, from_number)
    assert converted(Email, "x", *found) == Email("text x")
    assert converted(Email, 5, *found) == Email("number 5")


def test_converters_are_not_chained() -> None:
    """A → B and B → C don't make A → C."""

    class Unknown: ...

    @converter
    def to_email(value: str) -> Email:
        return Email(value)

    @converter
    def to_unknown(value: Email) -> Unknown:
        return Unknown()

    with pytest.raises(ConversionError, match="Can't convert str to .*Unknown"):
        converted(Unknown, "a@b", to_email, to_unknown)


@pytest.mark.parametrize("media_type", [None, JSON])
def test_value_that_an_own_converter_refuses_is_a_conversion_error(
    media_type: str | None,
) -> None:
    """Its ValueError is the cause, alone and inside of others."""
    for target, plain in ((Email, "nobody"), (Customer, {"email": "nobody"})):
        payload = json.dumps(plain) if media_type else plain
        with pytest.raises(ConversionError, match="an address has an @") as caught:
            converted(target, payload, Email, media_type=media_type)
        assert isinstance(caught.value.__cause__, ValueError)


def _no_parameter() -> Email:
    raise NotImplementedError


def _two_parameters(a: str, b: str) -> Email:
    raise NotImplementedError


def _no_annotation(a):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def _returns_none(a: str) -> None: ...


def _returns_union(a: str) -> Email | int:
    raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [_no_parameter, _two_parameters, _no_annotation, _returns_none, _returns_union],
)
def test_converter_with_a_wrong_signature_is_refused(function: t.Any) -> None:
    """The error names the function with file and line."""
    with pytest.raises(HandlerSignatureError) as caught:
        flow_testing([converter(function)])
    assert function.__name__ in str(caught.value)
    assert "test_conversion.py:" in str(caught.value)


@media_type_converter
class Csv:
    """Reads and writes comma-separated text."""

    def matches(
        self,
        source_type: t.Any,
        source_media_type: MediaType,
        target_type: t.Any,
        target_media_type: MediaType,
    ) -> bool:
        """Whether one side is CSV."""
        return "text/csv" in (source_media_type.essence, target_media_type.essence)

    def convert(
        self,
        source: t.Any,
        source_type: t.Any,
        source_media_type: MediaType,
        target_type: t.Any,
        target_media_type: MediaType,
    ) -> t.Any:
        """Convert from or to CSV."""
        sign = source_media_type.parameters.get("sign", ",")
        if source_media_type.essence == "text/csv":
            return source.split(sign)
        return target_media_type.parameters.get("sign", ",").join(source)


def test_media_type_converter_reads_and_writes_its_media_type() -> None:
    """With the parameters that the media type was given with."""
    piped = converted(list[str], "a|b,c", Csv, media_type="text/csv; sign=|")
    assert piped == ["a", "b,c"]
    assert converted(list[str], "a,b", Csv, media_type="text/csv") == ["a", "b"]
    assert converted(list[str], ["a", "b"], Csv, expected="text/csv") == "a,b"
    assert converted(list[str], ["a", "b"], Csv, expected="text/csv;sign=|") == "a|b"
    both = converted(list[str], "a,b", Csv, media_type="text/csv", expected="text/csv")
    assert both == "a,b"


def test_media_type_that_nothing_reads_is_refused() -> None:
    """Unless the handler takes the text as it is."""
    assert converted(str, "a,b", media_type="text/csv") == "a,b"
    with pytest.raises(ConversionError, match=r"text/csv.*@media_type_converter"):
        converted(Order, "a,b", media_type="text/csv")


@pytest.mark.parametrize("wrong", ["json", "", "a/b/c", "a b/c", "/json", "json/"])
def test_malformed_media_type_is_refused(wrong: str) -> None:
    """The error says how it is written."""
    with pytest.raises(ConversionError, match="type/subtype"):
        converted(str, "x", media_type=wrong)


@pytest.mark.parametrize("wrong", [5, ["application/json"], {"a": 1}])
def test_media_type_in_the_metadata_that_is_no_text_is_refused(wrong: t.Any) -> None:
    """It is a conversion error, not an AttributeError somewhere inside."""

    @query_handler("convert")
    def convert(payload: Order) -> t.Any:
        return payload

    bus = flow_testing([convert]).query_bus
    for _ in range(2):
        with pytest.raises(ConversionError, match="is not a media type"):
            bus.send_with_routing(
                "convert", PLAIN_ORDER, metadata={"contentType": wrong}
            )


@pytest.mark.parametrize("broken", ["{", "", "[1,", "nul", b"\xff"])
def test_broken_json_is_a_conversion_error(broken: t.Any) -> None:
    """It names what it should have become."""
    with pytest.raises(ConversionError, match="Can't read JSON as Order"):
        converted(Order, broken, media_type=JSON)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"key": "x"}, {**PLAIN_ORDER, "color": "green"}, 5, "text", [PLAIN_ORDER]],
)
def test_wrong_payload_is_a_conversion_error_that_repeats(wrong: t.Any) -> None:
    """It names parameter, handler and class, the same each time."""
    said = []
    for _ in range(2):
        with pytest.raises(ConversionError) as caught:
            converted(Order, wrong)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "'payload'" in said[0]
    assert "to Order" in said[0]


def test_text_parameter_gets_json_as_it_is() -> None:
    """Who asks for text or bytes decodes by himself."""
    assert converted(str, '{"a": 1}', media_type=JSON) == '{"a": 1}'
    assert converted(bytes, '{"a": 1}', media_type=JSON) == b'{"a": 1}'
    assert converted(str, b'{"a": 1}', media_type=JSON) == '{"a": 1}'


def test_content_type_marker_says_what_payloads_are() -> None:
    """@content_type fills in for the sender; with replace it wins."""

    @content_type(JSON)
    @query_handler("default")
    def default(payload: list[int]) -> t.Any:
        return payload

    @content_type(JSON, replace=True)
    @query_handler("replaced")
    def replaced(payload: list[int]) -> t.Any:
        return payload

    bus = flow_testing([default, replaced, Csv]).query_bus
    assert bus.send_with_routing("default", "[1]") == [1]
    kept = bus.send_with_routing("default", "1", media_type="text/csv")
    assert kept == ["1"]
    assert bus.send_with_routing("replaced", "[1]", media_type="text/csv") == [1]


_TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
_MOMENTS = st.datetimes(timezones=st.just(dt.UTC))
_PRICES = st.builds(
    Price,
    st.decimals(allow_nan=False, allow_infinity=False),
    _MOMENTS,
)
_ORDERS = st.builds(
    Order,
    st.uuids(),
    st.sampled_from(Color),
    _PRICES,
    st.none() | st.dates(),
    st.lists(_TEXT, max_size=3),
)
_EMAILS = st.builds(Email, _TEXT.map(lambda text: f"{text}@"))
_CUSTOMERS = st.builds(
    Customer,
    _EMAILS,
    st.lists(_EMAILS, max_size=3),
    st.dictionaries(_TEXT, _EMAILS, max_size=3),
    st.none() | _EMAILS,
)


@given(order=_ORDERS)
def test_dataclass_survives_the_way_through_json(order: Order) -> None:
    """What is written is read back equal."""
    conversion = Conversion()
    decode = conversion.decoder(Order)
    text = conversion.encode(order, JSON)
    assert decode(text, JSON) == order
    plain = conversion.encode(order, "application/x-python;type=dict")
    assert decode(plain, None) == order


@given(key=st.uuids(), count=st.integers(-(2**63), 2**63 - 1))
def test_attrs_and_structs_survive_the_way_through_json(
    key: uuid.UUID, count: int
) -> None:
    """Both kinds of classes, alone and in lists."""
    conversion = Conversion()
    for cls in (AttrsOrder, StructOrder):
        value = cls(key, count)
        text = conversion.encode([value], JSON)
        assert conversion.decoder(list[cls])(text, JSON) == [value]  # type: ignore


@given(customer=_CUSTOMERS)
def test_own_converters_survive_the_way_through_json(customer: Customer) -> None:
    """Value objects inside of a class are written and read by own converters."""

    @query_handler("convert")
    def convert(payload: Customer) -> t.Any:
        return payload

    bus = flow_testing([convert, Email, write_email]).query_bus
    text = bus.send_with_routing("convert", customer, expected_media_type=JSON)
    assert json.loads(text)["email"] == customer.email.address
    assert bus.send_with_routing("convert", text, media_type=JSON) == customer


_PARTS = st.text("abcXYZ019.+-", min_size=1, max_size=6)


@given(
    kind=_PARTS,
    subtype=_PARTS,
    parameters=st.dictionaries(_PARTS.map(str.lower), _PARTS, max_size=3),
)
def test_media_type_is_read_as_it_is_written(
    kind: str, subtype: str, parameters: dict[str, str]
) -> None:
    """Type, subtype and parameters, whatever the case and the spaces."""
    text = f" {kind}/{subtype} " + "".join(
        f"; {name} = {value}" for name, value in parameters.items()
    )
    parsed = MediaType.parse(text)
    assert parsed.essence == f"{kind}/{subtype}".lower()
    assert parsed.parameters == parameters
    assert parsed.is_compatible_with(MediaType.parse("*/*"))
    assert parsed.is_compatible_with(MediaType.parse(f"{kind}/*"))
    assert not parsed.is_compatible_with(MediaType.parse(f"other{kind}/{subtype}"))


def test_dataclass_fields_keep_their_order() -> None:
    """The JSON of an answer lists fields as the class does."""
    answer = converted(t.Any, ORDER, expected=JSON)
    names = [f.name for f in dataclasses.fields(Order)]
    assert list(json.loads(answer)) == names
