"""Queries: one answer, in the media type that was asked for."""

import json
import typing as t
import uuid
from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import business_method
from flask_ecotone import Ecotone
from flask_ecotone import Message
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import DuplicateHandlerError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class GetOrder:
    number: int = 1


@dataclass(frozen=True)
class Order:
    number: int
    key: uuid.UUID


KEY = uuid.UUID("018f3a52-0000-7000-8000-000000000001")


@query_handler
def get_order(query: GetOrder) -> Order:
    """Return an order."""
    return Order(query.number, KEY)


@query_handler("order.get")
def get_by_number(number: int, message: Message) -> t.Any:
    """Return an order, or what the message says about the answer."""
    return Order(number, KEY) if number else message.headers.get("replyContentType")


def test_query_returns_the_answer_of_its_handler() -> None:
    """By class and by routing key the answer is the very object."""
    bus = flow_testing([get_order, get_by_number]).query_bus
    assert bus.send(GetOrder(3)) == Order(3, KEY)
    assert bus.send_with_routing("order.get", 4) == Order(4, KEY)


def test_answer_is_encoded_in_the_expected_media_type() -> None:
    """JSON was asked for, by class and by routing key."""
    bus = flow_testing([get_order, get_by_number]).query_bus
    expected = {"number": 3, "key": str(KEY)}
    by_class = bus.send(GetOrder(3), expected_media_type="application/json")
    by_name = bus.send_with_routing(
        "order.get", 3, expected_media_type="application/json"
    )
    assert json.loads(by_class) == expected
    assert json.loads(by_name) == expected


@pytest.mark.parametrize("kind", ["dict", "array"])
def test_answer_is_made_plain_with_a_python_type(kind: str) -> None:
    """application/x-python;type=dict returns dicts instead of objects."""
    bus = flow_testing([get_order]).query_bus
    answer = bus.send(
        GetOrder(3), expected_media_type=f"application/x-python;type={kind}"
    )
    assert answer == {"number": 3, "key": str(KEY)}


def test_python_media_type_returns_the_object_itself() -> None:
    """application/x-python alone converts nothing."""
    bus = flow_testing([get_order]).query_bus
    answer = bus.send(GetOrder(3), expected_media_type="application/x-python")
    assert answer == Order(3, KEY)


def test_handler_can_read_which_media_type_is_expected() -> None:
    """The expected media type travels as the header replyContentType."""
    bus = flow_testing([get_by_number]).query_bus
    answer = bus.send_with_routing(
        "order.get", 0, expected_media_type="application/json"
    )
    assert json.loads(answer) == "application/json"


@pytest.mark.parametrize("given", ["text/csv", "application/xml"])
def test_expected_media_type_without_converter_is_refused(given: str) -> None:
    """Nothing writes the media type: the error names it and the way out."""
    bus = flow_testing([get_order]).query_bus
    with pytest.raises(ConversionError, match="@media_type_converter") as caught:
        bus.send(GetOrder(), expected_media_type=given)
    assert given in str(caught.value)


def test_malformed_media_type_is_refused_before_the_handler_runs() -> None:
    """A typo in the media type costs no work."""
    called: list[int] = []

    @query_handler
    def get(query: GetOrder) -> int:
        called.append(1)
        return 1

    bus = flow_testing([get]).query_bus
    with pytest.raises(ConversionError, match="not a media type"):
        bus.send(GetOrder(), expected_media_type="json")
    assert called == []


def test_answer_that_nothing_encodes_is_refused() -> None:
    """The error names the class of the answer."""

    class Secret: ...

    @query_handler
    def get(query: GetOrder) -> Secret:
        return Secret()

    with pytest.raises(ConversionError, match="Secret"):
        flow_testing([get]).query_bus.send(
            GetOrder(), expected_media_type="application/json"
        )


def test_unknown_query_has_no_handler() -> None:
    """The error names the query and what it takes to handle it."""
    bus = flow_testing([get_by_number]).query_bus
    with pytest.raises(NoHandlerError, match="@query_handler"):
        bus.send(GetOrder())
    with pytest.raises(NoHandlerError, match="Did you mean 'order.get'"):
        bus.send_with_routing("order.gte")


def test_two_handlers_of_one_query_are_refused() -> None:
    """A query has one answer."""

    @query_handler
    def other(query: GetOrder) -> int:
        return 1

    with pytest.raises(DuplicateHandlerError, match="query 'GetOrder' has 2 handlers"):
        flow_testing([get_order, other])


def test_query_without_answer_returns_none() -> None:
    """None is an answer, encoded as null when JSON is asked for."""

    @query_handler("nothing")
    def nothing() -> None: ...

    bus = flow_testing([nothing]).query_bus
    assert bus.send_with_routing("nothing") is None
    asked = bus.send_with_routing("nothing", expected_media_type="application/json")
    assert asked == "null"


def test_queries_log_to_the_logger_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A child of app.logger says first what is sent and then who handles it."""

    @query_handler("getAmount")
    def get_amount() -> int:
        return 1

    app = Flask("shop_of_the_log_test")
    ecotone = Ecotone(packages=[])
    ecotone.register(get_amount)
    ecotone.init_app(app)
    with app.app_context(), caplog.at_level("INFO", app.logger.name):
        query_bus.send_with_routing("getAmount")
    said = [(r.name, r.levelname, r.getMessage()) for r in caplog.records]
    name = f"{app.logger.name}.ecotone"
    assert said[0] == (name, "INFO", "Sending Query Message with: getAmount.")
    assert said[1][:2] == (name, "INFO")
    assert said[1][2].startswith("Executing Query Handler ")
    assert "get_amount" in said[1][2]
    assert len(said) == 2


def test_queries_log_nothing_when_the_level_is_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Above INFO no record is made."""
    app = Flask("quiet_shop_of_the_log_test")
    ecotone = Ecotone(packages=[])
    ecotone.register(get_order)
    ecotone.init_app(app)
    with app.app_context(), caplog.at_level("WARNING"):
        query_bus.send(GetOrder())
    assert caplog.records == []


class Counter(t.Protocol):
    @business_method("counter.get")
    def get(self) -> int: ...


def test_gateway_can_be_the_first_thing_that_is_used() -> None:
    """A business interface compiles the system as well as a bus does."""

    class Counting:
        def __init__(self) -> None:
            self.count = 0

        @query_handler("counter.get")
        def get(self) -> int:
            self.count += 1
            return self.count

    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(Counting, Counter)
    ecotone.init_app(app)
    with app.app_context():
        assert not app.extensions["ecotone"].is_compiled
        assert ecotone.get(Counter).get() == 1
        assert query_bus.send_with_routing("counter.get") == 2
        assert ecotone.get(Counter).get() == 3
        assert ecotone.get(Counter) is ecotone.get(Counter)
