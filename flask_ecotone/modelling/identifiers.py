"""Which aggregate a message is for."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping

from ..conversion import compile_expression
from ..conversion import is_written
from ..decorators.parameters import Payload
from ..decorators.parameters import TargetIdentifier
from ..decorators.parameters import TargetVersion
from ..definitions import HandlerMark
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import IdentifierMissingError
from ..handling.arguments import payload_parameter
from ..handling.evaluation import evaluation
from ..handling.evaluation import Resolution
from ..message import AGGREGATE_ID
from ..message import CONTENT_TYPE
from ..message import Message
from ..reflection import class_hints
from ..reflection import field_markers
from ..reflection import members
from ..reflection import Remembered
from ..reflection import Signature
from .aggregate import Aggregate
from .aggregate import Identifiers

_ABSENT = object()


class Addressing:
    """Finds the identifiers of an aggregate in the messages of one handler.

    The header ``aggregate.id`` wins. Without it each identifier comes from the
    handler's ``identifier_mapping``, from its ``identifier_metadata_mapping``, from an
    attribute of the payload marked ``TargetIdentifier`` or from one of the same name,
    in this order.

    :raises ConfigurationError: A mapping names an identifier that there isn't.
    """

    def __init__(
        self,
        aggregate: Aggregate,
        marked: Marked[HandlerMark],
        signature: Signature,
        resolution: Resolution,
    ) -> None:
        self._aggregate = aggregate
        self._where = marked.where
        said = marked.said
        if said.identifier_mapping and said.identifier_metadata_mapping:
            raise ConfigurationError(
                f"{marked.where} has both identifier_mapping and"
                " identifier_metadata_mapping. Use one of them; an expression can"
                " read headers too."
            )
        self._by_expression: dict[str, Callable[[Message, t.Any], t.Any]] = {}
        for name, expression in said.identifier_mapping:
            self._check(name)
            compiled = compile_expression(expression, f"{marked.where}, {name!r}")
            self._by_expression[name] = _bind(compiled, resolution)
        self._by_header = dict(said.identifier_metadata_mapping)
        for name in self._by_header:
            self._check(name)
        self._payload_type = _payload_type(signature)
        self._decode = resolution.conversion.decoder(self._payload_type)
        self._attributes = Remembered[type, dict[str, str]]()

    def resolve(self, message: Message) -> Identifiers:
        """Return identifier name → value.

        :raises IdentifierMissingError: One or more can't be found.
        """
        given = message.header(AGGREGATE_ID)
        if given is not None:
            return self._aggregate.identifiers_from(given)
        payload = self._payload(message)
        found = {
            name: self._one(name, message, payload)
            for name in self._aggregate.identifiers
        }
        missing = [name for name, value in found.items() if value is None]
        if missing:
            names = ", ".join(repr(name) for name in missing)
            cls = self._aggregate.cls.__qualname__
            raise IdentifierMissingError(
                f"{self._where} can't tell which {cls} a message is for:"
                f" {type(message.payload).__qualname__} has no value for {names}. Send"
                " metadata={'aggregate.id': …}, give the message an attribute of that"
                " name, mark one with TargetIdentifier, or give the handler an"
                " identifier_mapping."
            )
        return found

    def expected_version(self, message: Message) -> int | None:
        """Return the version that the message expects the aggregate to have, if any."""
        payload = self._payload(message)
        if payload is None:
            return None
        attribute = self._attributes_of(self._kind(payload)).get("")
        version = None if attribute is None else _read(payload, attribute)
        return int(version) if isinstance(version, str) else version

    def _one(self, name: str, message: Message, payload: t.Any) -> t.Any:
        if name in self._by_expression:
            return self._by_expression[name](message, payload)
        if name in self._by_header:
            value = message.header(self._by_header[name])
            if value is not None:
                return value
        attribute = self._attributes_of(self._kind(payload)).get(name, name)
        return _read(payload, attribute)

    def _payload(self, message: Message) -> t.Any:
        """Return the payload as the class that the handler takes."""
        payload = message.payload
        media_type = message.header(CONTENT_TYPE)
        is_text = media_type is not None and is_written(payload)
        if is_text or isinstance(payload, Mapping):
            return self._decode(payload, media_type)
        return payload

    def _kind(self, payload: t.Any) -> t.Any:
        # A typed dict is a plain dict at run time.
        if isinstance(payload, Mapping):
            return next(iter(members(self._payload_type)), dict)
        return payload.__class__  # that of what a LocalProxy stands for

    def _attributes_of(self, cls: type) -> dict[str, str]:
        """Return identifier → attribute; the expected version is under ``""``."""
        known = self._attributes.get(cls)
        if known is None:
            known = self._attributes[cls] = {}
            hints = class_hints(cls) if isinstance(cls, type) else {}
            for attribute, annotation in hints.items():
                for marker in field_markers(annotation):
                    if isinstance(marker, TargetIdentifier):
                        known[marker.name or attribute] = attribute
                    elif isinstance(marker, TargetVersion):
                        known[""] = attribute
        return known

    def _check(self, name: str) -> None:
        known = self._aggregate.identifiers
        if name not in known:
            raise ConfigurationError(
                f"{self._where} maps the identifier {name!r}, and"
                f" {self._aggregate.cls.__qualname__} is identified by"
                f" {', '.join(known)}.{did_you_mean(name, known)}"
            )


def _payload_type(signature: Signature) -> t.Any:
    parameter = payload_parameter(signature)
    if parameter is None:
        return t.Any
    marker = parameter.marker(Payload)
    # An expression makes the parameter from the payload: its type is another one.
    is_part = marker is not None and marker.expression is not None
    return t.Any if is_part else parameter.type


def _bind(compiled: t.Any, resolution: Resolution) -> Callable[[Message, t.Any], t.Any]:
    def evaluate(message: Message, payload: t.Any) -> t.Any:
        return compiled(evaluation(message, resolution, payload=payload, value=payload))

    return evaluate


def _read(payload: t.Any, attribute: str) -> t.Any:
    if isinstance(payload, Mapping):
        return payload.get(attribute)
    value = getattr(payload, attribute, None)
    return None if callable(value) else value
