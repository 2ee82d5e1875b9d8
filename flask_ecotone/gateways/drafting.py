"""From the arguments of a call to a message."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from ..conversion import compile_expression
from ..decorators.parameters import Header
from ..decorators.parameters import Headers
from ..decorators.parameters import Identifier
from ..decorators.parameters import Payload
from ..errors import HandlerSignatureError
from ..handling.arguments import takes_metadata
from ..message import AGGREGATE_ID
from ..message import checked_metadata
from ..reflection import Parameter
from ..reflection import Signature

#: Adds what one argument says to the payload and the headers of a message.
Part = Callable[["Draft", t.Any], None]


class Draft:
    """A message while it is made from the arguments of a call."""

    __slots__ = ("headers", "payload")

    def __init__(self) -> None:
        self.payload: t.Any = None
        self.headers: dict[str, t.Any] = {}


def parts_of(signature: Signature) -> list[Part]:
    """Return what each parameter of a business method is in the message.

    :raises HandlerSignatureError: A parameter is nothing in it, or two are the same.
    """
    parts: list[Part] = []
    payloads = [p.name for p in signature.parameters if p.marker(Payload) is not None]
    if len(payloads) > 1:
        raise HandlerSignatureError(
            f"{signature.where} has {len(payloads)} payloads: {', '.join(payloads)}. A"
            " message has one: mark the others as headers."
        )
    has_payload = bool(payloads)
    places = _Places(signature)
    for parameter in signature.parameters:
        part = _marked_part(parameter, places)
        if part is None and not has_payload:
            has_payload, part = True, _payload_part
        elif part is None and takes_metadata(parameter):
            places.take("all headers", parameter)
            part = _headers_part
        if part is None:
            raise HandlerSignatureError(
                f"{signature.where}: nothing says what the parameter"
                f" {parameter.name!r} is in the message. The first is the payload;"
                f' mark the others, for example Annotated[…, Header("'
                f'{parameter.name}")].'
            )
        parts.append(part)
    return parts


def header_parts(signature: Signature) -> dict[str, Part]:
    """Return what adds arguments to the headers, for the parameters that are some.

    :raises HandlerSignatureError: Two of them set the same header, or it is computed.
    """
    places = _Places(signature)
    found = {p.name: _header_part(p, places) for p in signature.parameters}
    return {name: part for name, part in found.items() if part is not None}


def split(
    names: Sequence[str], arguments: Sequence[t.Any], headers: Mapping[str, Part]
) -> tuple[Draft, dict[str, t.Any]]:
    """Return a draft with the headers among arguments, and the others by their names.

    :param headers: What adds those that are headers, by the name of the parameter.
    """
    draft, others = Draft(), {}
    for name, argument in zip(names, arguments, strict=True):
        if name in headers:
            headers[name](draft, argument)
        else:
            others[name] = argument
    return draft, others


class _Places:
    """What of a message the parameters of a method set: each has a place of its own."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._taken: dict[str, str] = {}

    def take(self, place: str, parameter: Parameter) -> None:
        other = self._taken.setdefault(place, parameter.name)
        if other != parameter.name:
            raise HandlerSignatureError(
                f"{self.signature.where}: the parameters {other!r} and"
                f" {parameter.name!r} both set {place}, and one value would be lost."
                " Remove one of them, or give it another name in Annotated[…]."
            )


def _header_part(parameter: Parameter, places: _Places) -> Part | None:
    header = parameter.marker(Header)
    if header is not None:
        if header.expression is not None:
            raise HandlerSignatureError(
                f"{places.signature.where}: the header {header.name!r} of a gateway"
                " can't have an expression. Compute the value before the call."
            )
        places.take(f"the header {header.name!r}", parameter)
        return _one_header(header.name)
    if parameter.marker(Headers) is None:
        return None
    places.take("all headers", parameter)
    return _headers_part


def _marked_part(parameter: Parameter, places: _Places) -> Part | None:
    header = _header_part(parameter, places)
    if header is not None:
        return header
    signature = places.signature
    identifier = parameter.marker(Identifier)
    if identifier is not None:
        several = [p for p in signature.parameters if p.marker(Identifier) is not None]
        for each in signature.parameters:
            said = each.marker(Header)
            if said is not None and said.name == AGGREGATE_ID:
                places.take(f"the header {AGGREGATE_ID!r}", each)
                places.take(f"the header {AGGREGATE_ID!r}", parameter)
        if len(several) == 1 and identifier.name is None:
            return _one_header(AGGREGATE_ID)
        name = identifier.name or parameter.name
        places.take(f"the identifier {name!r}", parameter)
        return _identifier_part(name)
    payload = parameter.marker(Payload)
    if payload is None:
        return None
    if payload.expression is None:
        return _payload_part
    where = f"{signature.where}, parameter {parameter.name!r}"
    compiled = compile_expression(payload.expression, where, ("value", "payload"))

    def evaluated(draft: Draft, argument: t.Any) -> None:
        names = {"value": argument, "payload": argument, "parameter": lambda n: None}
        draft.payload = compiled(names)

    return evaluated


def _payload_part(draft: Draft, argument: t.Any) -> None:
    draft.payload = argument


def _headers_part(draft: Draft, argument: t.Any) -> None:
    # A header parameter of its own wins, whatever the order.
    given = {} if argument is None else checked_metadata(argument)
    draft.headers = {**given, **draft.headers}


def _one_header(name: str) -> Part:
    def part(draft: Draft, argument: t.Any) -> None:
        # None is a header that isn't given, and may be inherited.
        if argument is not None:
            draft.headers[name] = argument

    return part


def _identifier_part(name: str) -> Part:
    def part(draft: Draft, argument: t.Any) -> None:
        draft.headers.setdefault(AGGREGATE_ID, {})[name] = argument

    return part
