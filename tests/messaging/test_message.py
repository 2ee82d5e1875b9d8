"""What travels: ids, headers that are made late, and changed copies."""

import time
import typing as t
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_ecotone import command_handler
from flask_ecotone import Header
from flask_ecotone import Message
from flask_ecotone.errors import MessagingError
from flask_ecotone.message import Headers
from flask_ecotone.message import new_id
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class PlaceOrder:
    number: int = 1


@command_handler
def headers_of(command: PlaceOrder, message: Message) -> Headers:
    """Return the headers that the command arrived with."""
    return message.headers


def test_message_id_is_a_uuid_of_version_seven() -> None:
    """An id is a UUIDv7 of the RFC's variant, written in its canonical form."""
    for made in (new_id() for _ in range(600)):
        parsed = uuid.UUID(made)
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122
        assert str(parsed) == made


def test_message_id_begins_with_the_time_it_was_made() -> None:
    """The first 48 bits of an id are the milliseconds since the epoch."""
    earliest = time.time_ns() // 1_000_000
    milliseconds = uuid.UUID(new_id()).int >> 80
    assert earliest <= milliseconds <= time.time_ns() // 1_000_000


def test_message_ids_are_unique_beyond_one_batch_of_random_bits() -> None:
    """Ids differ also when the random bits were fetched many times."""
    made = [new_id() for _ in range(5000)]
    assert len(set(made)) == len(made)


def test_message_ids_use_all_random_bits() -> None:
    """Each of the 74 random bits of an id is set in some ids and unset in others."""
    made = [uuid.UUID(new_id()).int for _ in range(2000)]
    fixed = {*range(80, 128), *range(76, 80), 62, 63}
    for bit in set(range(128)) - fixed:
        assert {number >> bit & 1 for number in made} == {0, 1}, bit


def test_headers_are_completed_when_somebody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message that nobody asks for its headers never makes an id."""
    made: list[str] = []

    def counted() -> str:
        made.append(new_id())
        return made[-1]

    monkeypatch.setattr("flask_ecotone.message.new_id", counted)
    message = Message(PlaceOrder(), {"user": "mia"})
    assert message.header("user") == "mia"
    assert message.header("absent") is None
    assert message.header("contentType", "x") == "x"
    assert made == []
    assert message.headers.message_id == made[0]
    assert message.header("id") == made[0]
    assert len(made) == 1


def test_header_given_as_id_asks_for_completion() -> None:
    """Reading the id by name gives the same id as the completed headers."""
    message = Message(PlaceOrder())
    assert message.header("id") == message.headers["id"]
    assert message.header("correlationId") == message.headers.correlation_id


def test_headers_of_a_first_message_are_made() -> None:
    """A first message has id, timestamp, a correlation with itself and no parent."""
    earliest = int(time.time())
    headers = flow_testing([headers_of]).command_bus.send(PlaceOrder())
    assert headers.correlation_id == headers.message_id
    assert headers.parent_id is None
    assert "parentId" not in headers
    assert isinstance(headers.timestamp, int)
    assert earliest <= headers.timestamp <= int(time.time())
    assert headers.content_type is None


def test_sender_may_give_every_made_header() -> None:
    """Id, correlation, parent and timestamp given as metadata are kept."""
    given_headers = {
        "id": "my-id",
        "correlationId": "my-flow",
        "parentId": "my-cause",
        "timestamp": 12,
    }
    headers = flow_testing([headers_of]).command_bus.send(PlaceOrder(), given_headers)
    assert dict(headers) == given_headers


def test_timestamp_of_zero_becomes_now() -> None:
    """A timestamp of 0 says nothing and is replaced by the time of sending."""
    bus = flow_testing([headers_of]).command_bus
    assert bus.send(PlaceOrder(), {"timestamp": 0}).timestamp > 0


def test_none_as_metadata_means_without_the_header() -> None:
    """A header given as None is not carried, and a made one is made anew."""
    bus = flow_testing([headers_of]).command_bus
    headers = bus.send(PlaceOrder(), {"user": None, "id": None})
    assert "user" not in headers
    assert uuid.UUID(headers.message_id).version == 7


def test_headers_are_an_immutable_mapping() -> None:
    """Headers read like a dict and can't be changed."""
    headers = Message(PlaceOrder(), {"user": "mia"}).headers
    assert headers["user"] == "mia"
    assert set(headers) == {"user", "id", "timestamp", "correlationId"}
    assert len(headers) == 4
    assert "mia" in repr(headers)
    with pytest.raises(TypeError):
        headers["user"] = "ben"  # type: ignore[index]
    with pytest.raises(KeyError):
        headers["absent"]


def test_metadata_changed_after_sending_does_not_reach_the_message() -> None:
    """The message has a copy of the metadata, although it is completed late."""
    metadata = {"user": "mia"}
    kept: list[Message] = []

    @command_handler
    def keep(command: PlaceOrder, message: Message) -> None:
        kept.append(message)

    flow_testing([keep]).command_bus.send(PlaceOrder(), metadata)
    metadata["user"] = "ben"
    assert kept[0].headers["user"] == "mia"


def test_changed_message_keeps_id_and_everything_else() -> None:
    """with_headers adds, replaces and removes, and it stays the same message."""
    message = Message(PlaceOrder(), {"user": "mia", "tenant": "a"})
    changed = message.with_headers({"user": "ben", "tenant": None, "role": "admin"})
    assert changed.payload is message.payload
    assert changed.headers.message_id == message.headers.message_id
    assert changed.headers["user"] == "ben"
    assert changed.headers["role"] == "admin"
    assert "tenant" not in changed.headers
    assert message.headers["user"] == "mia"


@pytest.mark.parametrize("completed_first", [True, False])
def test_message_with_another_payload_has_the_same_id(completed_first: bool) -> None:
    """with_payload keeps the headers, whether they were looked at before or not."""
    message = Message(PlaceOrder(1), {"user": "mia"})
    if completed_first:
        assert message.headers
    changed = message.with_payload(PlaceOrder(2), {"user": None})
    again = message.with_payload(PlaceOrder(3))
    assert changed.payload == PlaceOrder(2)
    assert "user" not in changed.headers
    assert again.headers["user"] == "mia"
    ids = {m.headers.message_id for m in (message, changed, again)}
    assert len(ids) == 1


def test_message_shows_payload_and_headers() -> None:
    """The repr of a message is made for a debugger."""
    shown = repr(Message(PlaceOrder(7), {"user": "mia"}))
    assert "PlaceOrder(number=7)" in shown
    assert "mia" in shown


def test_message_as_payload_is_refused() -> None:
    """A message can't be nested in another one by mistake."""

    @command_handler("any")
    def handle(payload: t.Any) -> None: ...

    flow = flow_testing([handle, headers_of])
    with pytest.raises(MessagingError, match="payload of another one"):
        flow.command_bus.send_with_routing("any", Message(PlaceOrder()))
    with pytest.raises(MessagingError):
        flow.command_bus.send(Message(PlaceOrder()))
    with pytest.raises(MessagingError):
        flow.event_bus.publish(Message(PlaceOrder()))


_VALUES = st.one_of(st.none(), st.integers(), st.text(), st.booleans())
_OWN = st.text("abc.", min_size=1, max_size=2)


@given(
    first=st.dictionaries(_OWN, _VALUES, max_size=5),
    second=st.dictionaries(_OWN, _VALUES, max_size=5),
)
def test_header_reads_the_same_before_and_after_completion(
    first: dict[str, t.Any], second: dict[str, t.Any]
) -> None:
    """Reading one header early gives what the completed headers say, also inherited."""
    parent = Message("parent", first)
    message = Message("child", second, parent)
    early = {name: message.header(name) for name in {*first, *second}}
    expected = {**{k: v for k, v in first.items() if v is not None}, **second}
    assert early == {name: expected.get(name) for name in early}
    assert early == {name: message.headers.get(name) for name in early}
    assert None not in message.headers.values()


@given(
    start=st.dictionaries(_OWN, _VALUES, max_size=5),
    change=st.dictionaries(_OWN, _VALUES, max_size=5),
)
def test_changed_headers_are_the_union_without_none(
    start: dict[str, t.Any], change: dict[str, t.Any]
) -> None:
    """Changing headers merges two dicts and drops what is None."""
    changed = Message("any", start).with_headers(change)
    own = {k: v for k, v in changed.headers.items() if k in {*start, *change}}
    assert own == {k: v for k, v in {**start, **change}.items() if v is not None}


def test_missing_header_has_no_empty_value() -> None:
    """A header that is carried and empty is not a missing one."""

    @command_handler("read")
    def read(value: t.Annotated[t.Any, Header("value")] = "default") -> t.Any:
        return value

    bus = flow_testing([read]).command_bus
    assert bus.send_with_routing("read", metadata={"value": ""}) == ""
    assert bus.send_with_routing("read", metadata={"value": 0}) == 0
    assert bus.send_with_routing("read", metadata={"value": False}) is False
    assert bus.send_with_routing("read") == "default"
