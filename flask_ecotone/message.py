"""What travels: a payload with headers.

A message costs nothing that nobody asks for. Its id, its timestamp and the headers
that it inherits from the message being handled are made on the first look at
:attr:`Message.headers`.
"""

from __future__ import annotations

import os
import threading
import time
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping

from .errors import MessagingError

MESSAGE_ID = "id"
CORRELATION_ID = "correlationId"
PARENT_ID = "parentId"
TIMESTAMP = "timestamp"
CONTENT_TYPE = "contentType"
REPLY_CONTENT_TYPE = "replyContentType"
TYPE_ID = "__TypeId__"
ROUTING_KEY = "ecotone.routingKey"
ROUTING_SLIP = "routingSlip"
PRIORITY = "priority"
TIME_TO_LIVE = "timeToLive"
DELIVERY_DELAY = "deliveryDelay"
#: The tick that a schedule fires for: a moment in UTC.
DUE_AT = "ecotone.due_at"
#: The asynchronous bus that a message was sent through.
BUS = "ecotone.bus"
POLLED_CHANNEL_NAME = "polledChannelName"
#: How often a message was tried again.
RETRY_NUMBER = "ecotone_retry_number"
#: When it failed first, in milliseconds since the epoch.
FIRST_FAILED = "ecotone.first_failed_at"
#: How often it was put back from the dead letters.
REPLAYS = "ecotone.dlq.message_replied"
REVISION = "revision"
AGGREGATE_ID = "aggregate.id"
EVENT_AGGREGATE_ID = "_aggregate_id"
EVENT_AGGREGATE_TYPE = "_aggregate_type"
EVENT_AGGREGATE_VERSION = "_aggregate_version"

#: Headers that belong to one message and are not handed to the messages it causes.
NOT_PROPAGATED = frozenset(
    {
        MESSAGE_ID,
        CORRELATION_ID,
        PARENT_ID,
        TIMESTAMP,
        CONTENT_TYPE,
        REPLY_CONTENT_TYPE,
        TYPE_ID,
        ROUTING_KEY,
        ROUTING_SLIP,
        PRIORITY,
        TIME_TO_LIVE,
        DELIVERY_DELAY,
        DUE_AT,
        BUS,
        POLLED_CHANNEL_NAME,
        RETRY_NUMBER,
        FIRST_FAILED,
        REPLAYS,
        REVISION,
        AGGREGATE_ID,
        EVENT_AGGREGATE_ID,
        EVENT_AGGREGATE_TYPE,
        EVENT_AGGREGATE_VERSION,
        "contentEncoding",
        "replyChannel",
        "errorChannel",
        "sequenceNumber",
        "sequenceSize",
        "duplicateMessage",
        "consumerAcknowledgeCallbackHeader",
        "inboundRequestChannel",
        "consumerPollingMetadata",
        "streamBasedSourced",
        "channelSendRetryNumber",
        "entrypoint",
        "_stream_name",
    }
)

#: Headers that are made when the headers are completed.
_MADE = frozenset({MESSAGE_ID, CORRELATION_ID, PARENT_ID, TIMESTAMP})

_IDS_PER_BATCH = 256
_RANDOM_BYTES = 10
_id_bits: list[bytes] = []
_materialising = threading.RLock()


def _after_fork() -> None:
    global _materialising
    # A forked worker must neither hand out the random bits of its parent nor wait for
    # a thread that it doesn't have.
    _id_bits.clear()
    _materialising = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def new_id() -> str:
    """Return a new UUIDv7 (RFC 9562): sortable by time, unique across processes.

    The random bits of many ids come from one read of :func:`os.urandom`.
    """
    while True:
        try:
            bits = _id_bits.pop()
            break
        except IndexError:
            pool = os.urandom(_IDS_PER_BATCH * _RANDOM_BYTES)
            _id_bits.extend(
                pool[i : i + _RANDOM_BYTES] for i in range(0, len(pool), _RANDOM_BYTES)
            )
    random = int.from_bytes(bits, "big")
    milliseconds = time.time_ns() // 1_000_000
    value = (
        (milliseconds & 0xFFFFFFFFFFFF) << 80
        | 0x7000 << 64
        | (random >> 62 & 0x0FFF) << 64
        | 0x8000000000000000
        | random & 0x3FFFFFFFFFFFFFFF
    )
    digits = f"{value:032x}"
    return "-".join(
        (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    )


class Headers(Mapping[str, t.Any]):
    """The headers of a message: an immutable mapping of names to values."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, t.Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> t.Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self._values!r})"

    @property
    def message_id(self) -> str:
        """The id of the message, a UUIDv7."""
        return t.cast(str, self._values[MESSAGE_ID])

    @property
    def correlation_id(self) -> str:
        """The id shared by everything that one first message caused."""
        return t.cast(str, self._values[CORRELATION_ID])

    @property
    def parent_id(self) -> str | None:
        """The id of the message whose handling caused this one, if any."""
        return self._values.get(PARENT_ID)

    @property
    def timestamp(self) -> int:
        """When the message was made, in whole seconds since the epoch."""
        return t.cast(int, self._values[TIMESTAMP])

    @property
    def content_type(self) -> str | None:
        """The media type of the payload, or, of a payload that came over a channel and
        was read, of what it was read from; ``None`` for a plain Python object.
        """
        return self._values.get(CONTENT_TYPE)

    def propagated(self) -> dict[str, t.Any]:
        """Return the headers that messages caused by this one inherit."""
        return {k: v for k, v in self._values.items() if k not in NOT_PROPAGATED}


class Message:
    """A payload with headers.

    :param payload: What the message is about: usually a plain object of the
        application.
    :param headers: Headers given by the sender. A value of ``None`` means "without
        this header".
    :param parent: The message being handled when this one was sent; its headers are
        inherited.
    """

    __slots__ = ("_given", "_headers", "_origin", "_parent", "payload", "scope")

    #: Whether the messages that it causes inherit its headers.
    propagates: t.ClassVar[bool] = True

    payload: t.Any

    #: What the services made for this message live in; opened by the first one.
    scope: t.Any

    def __init__(
        self,
        payload: t.Any,
        headers: Mapping[str, t.Any] | None = None,
        parent: Message | None = None,
    ) -> None:
        self.payload = payload
        self._given = headers
        self._parent = parent
        self._headers: Headers | None = None
        self._origin: Message | None = None
        self.scope = None

    @property
    def headers(self) -> Headers:
        """The headers, completed with id, timestamp and what is inherited."""
        return self._headers or self._complete()

    @property
    def routing_key(self) -> str | None:
        """The name the message was sent to, if it was not sent by its class."""
        return t.cast("str | None", self.header(ROUTING_KEY))

    def header(self, name: str, default: t.Any = None) -> t.Any:
        """Return one header, or the default when the message doesn't carry it."""
        # Read before the check: another thread may complete the headers now.
        given, parent = self._given, self._parent
        if self._headers is not None or name in _MADE:
            return self.headers.get(name, default)
        if given and name in given:
            value = given[name]
            return default if value is None else value
        if parent is None or not parent.propagates or name in NOT_PROPAGATED:
            return default
        return parent.header(name, default)

    def with_payload(self, payload: t.Any, headers: t.Any = None) -> Message:
        """Return the same message with another payload.

        :param headers: Headers to change too; ``None`` as a value removes one.
        """
        changed = self.with_headers(headers) if headers else _copy(self)
        changed.payload = payload
        return changed

    def with_headers(self, headers: Mapping[str, t.Any]) -> Message:
        """Return the same message with headers added, replaced or, where the value is
        ``None``, removed.
        """
        values = {**self.headers, **headers}
        changed = Message(self.payload)
        changed._headers = Headers({k: v for k, v in values.items() if v is not None})
        changed.scope = self.scope
        return changed

    def isolated(self) -> Message:
        """Return the same message, from which nothing is inherited."""
        return _copy(self, IsolatedMessage)

    def __repr__(self) -> str:
        return f"Message({self.payload!r}, {dict(self.headers)!r})"

    def _complete(self) -> Headers:
        with _materialising:
            headers = self._headers
            if headers is None:
                origin = self._origin
                headers = self._make_headers() if origin is None else origin.headers
                self._headers = headers
                self._given = self._parent = self._origin = None
            return headers

    def _make_headers(self) -> Headers:
        parent = self._parent
        if parent is not None and not parent.propagates:
            parent = None
        values = {} if parent is None else parent.headers.propagated()
        if self._given:
            values.update(self._given)
        values = {k: v for k, v in values.items() if v is not None}
        values.setdefault(MESSAGE_ID, new_id())
        values[TIMESTAMP] = values.get(TIMESTAMP) or int(time.time())
        if parent is None:
            values.setdefault(CORRELATION_ID, values[MESSAGE_ID])
        else:
            values[CORRELATION_ID] = parent.headers.correlation_id
            if values[MESSAGE_ID] != parent.headers.message_id:
                values[PARENT_ID] = parent.headers.message_id
        return Headers(values)


class IsolatedMessage(Message):
    """A message from which the messages that it causes inherit nothing."""

    __slots__ = ()
    propagates = False


def _copy(message: Message, cls: type[Message] = Message) -> Message:
    # Both have one id, made when either is asked for it. What completing sets comes
    # last: another thread may complete the headers now.
    copied = cls(message.payload, message._given, message._parent)
    copied._headers = message._headers
    if copied._headers is None:
        copied._origin = message
    copied.scope = message.scope
    return copied


def checked_metadata(metadata: t.Any) -> dict[str, t.Any]:
    """Return metadata given to a bus as a new dict of headers.

    A routing slip is dropped: a new flow is never routed along an old one.

    :raises MessagingError: It isn't a mapping of header names to values.
    """
    if not isinstance(metadata, Mapping):
        raise MessagingError(
            "The metadata of a message must be a mapping of header names to values,"
            f" not {type(metadata).__name__} ({metadata!r:.80})."
            " Pass for example metadata={'user_id': 1}."
        )
    headers = dict(metadata)
    for name in headers:
        if not isinstance(name, str) or not name:
            raise MessagingError(
                "A header name must be a non-empty string, found"
                f" {name!r} in the metadata of the message."
            )
    headers.pop(ROUTING_SLIP, None)
    if not _MADE.isdisjoint(headers):
        _check_made(headers)
    return headers


def _check_made(headers: dict[str, t.Any]) -> None:
    for name in _MADE.intersection(headers):
        wanted = int if name == TIMESTAMP else str
        value = headers[name]
        if name == MESSAGE_ID and value == "":
            raise MessagingError(
                "The id of a message is empty text, and would be that of every other"
                " such message. Leave the header 'id' out to get a new one."
            )
        if value is not None and not isinstance(value, wanted):
            raise MessagingError(
                f"The header {name!r} of a message is of the type {wanted.__name__},"
                f" not {type(value).__name__} ({value!r:.80})."
            )
