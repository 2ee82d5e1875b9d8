"""Messages in writing: what goes into a channel, and what comes out of it."""

from __future__ import annotations

import builtins
import datetime
import importlib
import sys
import types
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import msgspec

from ..channels.protocols import Envelope
from ..conversion import BYTES
from ..conversion import Conversion
from ..conversion import is_written
from ..conversion import JSON
from ..conversion import MediaType
from ..conversion import mismatch
from ..conversion import PYTHON
from ..conversion import TEXT
from ..conversion.conversion import Decoder
from ..definitions import mark_of
from ..definitions import NamedEventMark
from ..discovery.packages import SKIPPED
from ..errors import ConfigurationError
from ..errors import ConversionError
from ..errors import MessagingError
from ..message import CONTENT_TYPE
from ..message import DELIVERY_DELAY
from ..message import Message
from ..message import MESSAGE_ID
from ..message import POLLED_CHANNEL_NAME
from ..message import PRIORITY
from ..message import ROUTING_SLIP
from ..message import TIME_TO_LIVE
from ..message import TYPE_ID
from ..reflection import members
from ..reflection import MISSING
from ..reflection import runtime_class

_LONGEST = 2**53
#: What payloads are written in, unless the sender says it: all others as the
#: application says.
_MEDIA_TYPES: t.Final[dict[type, str]] = {str: TEXT, bytes: BYTES, bytearray: BYTES}
#: What helps if a value is missing that nobody left out on purpose.
_ADVICE: t.Final = (
    " If the database gives it, flush the session before, as in db.session.flush(). If"
    " there may be none, annotate it with '| None'."
)


class _Value(msgspec.Struct):
    type: str
    value: msgspec.Raw


class Writing:
    """Writes and reads the messages of one system.

    :param names: Event name → class.
    :param modules: Names of modules of the application. Only what is in their packages
        is imported because a message says so.
    :param media_type: What objects are written in, unless the sender says it.
    """

    def __init__(
        self,
        conversion: Conversion,
        names: Mapping[str, type],
        modules: Iterable[str] = (),
        media_type: str = JSON,
    ) -> None:
        self._conversion = conversion
        self._media_type = media_type
        self._by_name = names
        self._packages = frozenset(map(_package, modules))
        self._names: dict[type, str] = {}
        self._classes: dict[str, type] = {}
        self._decoders: dict[type, Decoder] = {}
        #: What finds out whether a class that was written as JSON can be read.
        self._verifiers: dict[type, Callable[[bytes], object] | None] = {}

    def write(
        self, message: Message, endpoint_id: str, slip: Sequence[str] = ()
    ) -> Envelope:
        """Return a message in writing.

        :param endpoint_id: Whom it is for.
        :param slip: The channels that it passes after the first one.
        :raises ConversionError: The payload or a header can't be written, or what is
            written couldn't be read.
        """
        values = dict(message.headers)
        delay = values.pop(DELIVERY_DELAY, None)
        lifetime = values.pop(TIME_TO_LIVE, None)
        payload = message.payload
        values[TYPE_ID] = self._name_of(payload.__class__)
        media_type = values.get(CONTENT_TYPE)
        if media_type is None or MediaType.parse(media_type).essence == PYTHON:
            media_type = _MEDIA_TYPES.get(payload.__class__, self._media_type)
            values[CONTENT_TYPE] = media_type
        if slip:
            values[ROUTING_SLIP] = list(slip)
        wait, due_at = _when(delay)
        body = self._body(payload, media_type)
        if _is_json(media_type):
            self._verify(body, payload.__class__, endpoint_id)
        return Envelope(
            endpoint_id,
            values[MESSAGE_ID],
            body,
            self.headers(values),
            wait,
            due_at,
            None if lifetime is None else _duration(lifetime, TIME_TO_LIVE),
            _priority(values.get(PRIORITY)),
        )

    def headers(self, values: Mapping[str, t.Any]) -> str:
        """Return headers as a JSON object.

        :raises ConversionError: One can't be written.
        """
        try:
            return t.cast(str, self._conversion.encode(values, JSON))
        except ConversionError:
            for name, value in values.items():
                try:
                    self._conversion.encode(value, JSON)
                except ConversionError as error:
                    raise ConversionError(
                        f"The header {name!r} can't travel over a channel: {error}"
                    ) from error
            raise

    def read(
        self, envelope: Envelope, channel: str, accepted: tuple[type, ...]
    ) -> Message:
        """Return a message as it was sent.

        :param channel: The channel that it came from.
        :param accepted: The classes that its endpoint handles.
        :raises ConversionError: It can't be read.
        """
        values = read_headers(envelope)
        values.pop(ROUTING_SLIP, None)
        name = values.pop(TYPE_ID, None)
        values[POLLED_CHANNEL_NAME] = channel
        try:
            payload = self._payload(envelope, name, values.get(CONTENT_TYPE), accepted)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConversionError(
                f"The body of the message {envelope.message_id} can't be read as"
                f" {name}: {error}."
            ) from error
        return Message(payload, values)

    def write_value(self, value: t.Any) -> str:
        """Return a value as JSON that says what it is.

        :raises ConversionError: It can't be written.
        """
        written = {"type": self._name_of(type(value)), "value": value}
        return t.cast(str, self._conversion.encode(written, JSON))

    def read_value(self, text: str, promised: t.Any = MISSING) -> t.Any:
        """Return a value that was written.

        :param promised: The type that it has, if somebody says so: it tells more than a
            class.
        :raises ConversionError: It can't be read.
        """
        found = msgspec.json.decode(text, type=_Value)
        cls = self._class_of(found.type, ())
        is_promised = any(runtime_class(each) is cls for each in members(promised))
        wanted = promised if is_promised else cls
        if getattr(wanted, "__module__", None) == "builtins" and wanted is cls:
            return msgspec.json.decode(found.value, type=cls)
        return self._conversion.decoder(wanted)(bytes(found.value), JSON)

    def _body(self, payload: t.Any, media_type: str) -> bytes:
        if isinstance(payload, types.GeneratorType):
            raise ConversionError("A generator can't travel over a channel.")
        text = payload
        if not is_written(payload):
            text = self._conversion.encode(payload, media_type)
        try:
            return text.encode() if isinstance(text, str) else bytes(text)
        except UnicodeEncodeError as error:
            raise ConversionError(
                f"The payload can't travel over a channel: {error}."
            ) from error

    def _verify(self, body: bytes, cls: type, endpoint_id: str) -> None:
        try:
            verify = self._verifiers[cls]
        except KeyError:
            verify = None
            if cls.__module__ != "builtins":
                verify = self._conversion.verifier(cls)
            self._verifiers[cls] = verify
        if verify is None:
            return
        try:
            verify(body)
        except ConversionError as error:
            raise ConversionError(
                f"{cls.__qualname__} isn't sent to {endpoint_id!r}, where nobody could"
                f" read it: {mismatch(error, _ADVICE)}"
            ) from error

    def _payload(
        self,
        envelope: Envelope,
        name: t.Any,
        media_type: str | None,
        accepted: tuple[type, ...],
    ) -> t.Any:
        body = envelope.body
        if name is None:
            return (
                body.decode() if media_type is not None else msgspec.json.decode(body)
            )
        cls = self._class_of(name, accepted)
        if cls in _MEDIA_TYPES and media_type is not None:
            return body.decode() if cls is str else cls(body)
        if cls is type(None):
            return None
        is_json = media_type is None or _is_json(media_type)
        if cls.__module__ == "builtins" and is_json:
            return msgspec.json.decode(body, type=cls)
        decode = self._decoders.get(cls)
        if decode is None:
            decode = self._decoders[cls] = self._conversion.decoder(cls)
        # What converts another media type is given text, as it made text of it.
        return decode(body, JSON) if is_json else decode(body.decode(), media_type)

    def _name_of(self, cls: type) -> str:
        name = self._names.get(cls)
        if name is None:
            said = mark_of(cls, NamedEventMark)
            name = said.name if said else f"{cls.__module__}:{cls.__qualname__}"
            self._names[cls] = name
            # A class inside of a function can't be imported by its name.
            self._classes.setdefault(name, cls)
        return name

    def _class_of(self, name: t.Any, accepted: tuple[type, ...]) -> type:
        if not isinstance(name, str):
            raise ConversionError(
                f"The header {TYPE_ID!r} is {name!r:.80}. It is the name of a class."
            )
        cls = self._by_name.get(name) or self._classes.get(name)
        if cls is None:
            cls = next((c for c in accepted if self._name_of(c) == name), None)
        if cls is None:
            cls = self._classes[name] = self._found(name, accepted)
        if accepted and cls.__module__ != "builtins":
            if not any(issubclass(cls, each) for each in accepted):
                expected = ", ".join(each.__qualname__ for each in accepted)
                raise ConversionError(
                    f"The message is a {name}, and its endpoint takes {expected}."
                )
        return cls

    def _found(self, name: str, accepted: tuple[type, ...]) -> type:
        module, _, path = name.partition(":")
        if module == "builtins":
            found = type(None) if path == "NoneType" else getattr(builtins, path, None)
        else:
            try:
                found = sys.modules.get(module)
                if found is None and self._may_import(module, accepted):
                    found = importlib.import_module(module)
                for part in path.split(".") if found is not None else ():
                    found = getattr(found, part)
            except (ImportError, AttributeError, ValueError) as error:
                raise ConversionError(
                    f"The message is a {name:.200}, and there is no such class:"
                    f" {error!s:.200}. If it was renamed, name events with"
                    " @named_event, which stays."
                ) from error
            if found is None:
                raise ConversionError(
                    f"The message is a {name:.200}, and there is no such class in the"
                    " application. A message has only modules of the application"
                    " imported: import this one where its handler is."
                )
        if not isinstance(found, type):
            raise ConversionError(f"The message is a {name:.200}, which is no class.")
        return found

    def _may_import(self, module: str, accepted: tuple[type, ...]) -> bool:
        if not SKIPPED.isdisjoint(module.split(".")):
            return False
        package = _package(module)
        known = (_package(each.__module__) for each in accepted)
        return package in self._packages or package in known


def read_headers(envelope: Envelope) -> dict[str, t.Any]:
    """Return the headers of a message in writing.

    :raises ConversionError: They can't be read.
    """
    try:
        return msgspec.json.decode(envelope.headers, type=dict[str, t.Any])
    except msgspec.MsgspecError as error:
        raise ConversionError(
            f"The headers of the message {envelope.message_id} can't be read: {error}."
        ) from error


def slip_of(envelope: Envelope) -> Sequence[str]:
    """Return the channels that a message in writing is still to pass."""
    if ROUTING_SLIP not in envelope.headers:
        return ()
    try:
        slip = read_headers(envelope).get(ROUTING_SLIP)
    except ConversionError:
        return ()
    if not isinstance(slip, list) or not all(isinstance(n, str) for n in slip):
        return ()
    return slip


def _is_json(media_type: str) -> bool:
    return media_type == JSON or MediaType.parse(media_type).essence == JSON


def _package(module: str) -> str:
    return module.partition(".")[0]


def _when(delay: t.Any) -> tuple[int, int | None]:
    if delay is None:
        return 0, None
    if isinstance(delay, str):
        try:
            delay = datetime.datetime.fromisoformat(delay)
        except ValueError:
            raise _no_duration(delay, DELIVERY_DELAY) from None
    if isinstance(delay, datetime.datetime):
        if delay.tzinfo is None:
            raise ConfigurationError(
                f"A message is delayed until {delay}, which has no time zone. Give one,"
                " for example datetime(…, tzinfo=UTC) or '…+02:00'."
            )
        return 0, int(delay.timestamp() * 1000)
    return max(0, _duration(delay, DELIVERY_DELAY)), None


def _duration(value: t.Any, header: str) -> int:
    if isinstance(value, datetime.timedelta):
        value = value / datetime.timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _no_duration(value, header)
    if not -_LONGEST < value < _LONGEST:
        raise _no_duration(value, header)
    return int(value)


def _no_duration(value: t.Any, header: str) -> MessagingError:
    return MessagingError(
        f"The header {header!r} is {value!r:.80}. It is a timedelta, a number of"
        " milliseconds, or, for a delay, a moment with a time zone."
    )


def _priority(value: t.Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise MessagingError(
            f"The header {PRIORITY!r} is {value!r:.80}. It is a whole number; higher"
            " comes first."
        )
    return max(-(2**31) + 1, min(value, 2**31 - 1))
