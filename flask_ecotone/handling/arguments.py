"""From a message to the arguments of a call, planned at compile time."""

from __future__ import annotations

import collections.abc
import typing as t
from collections.abc import Callable

from ..conversion import Conversion
from ..conversion import JSON
from ..decorators.parameters import ConfigVariable
from ..decorators.parameters import Fetch
from ..decorators.parameters import Header
from ..decorators.parameters import Headers
from ..decorators.parameters import Payload
from ..decorators.parameters import Reference
from ..decorators.parameters import TenantConnection
from ..decorators.parameters import TenantSession
from ..decorators.pointcuts import EndpointMarker
from ..errors import AggregateNotFoundError
from ..errors import ConversionError
from ..errors import did_you_mean
from ..errors import EcotoneError
from ..errors import HandlerSignatureError
from ..errors import HeaderNotFoundError
from ..errors import MessagingError
from ..message import CONTENT_TYPE
from ..message import Message
from ..reflection import members
from ..reflection import MISSING
from ..reflection import Parameter
from ..reflection import runtime_class
from ..reflection import Signature
from ..reflection import type_name
from .evaluation import evaluated
from .evaluation import Resolution
from .evaluation import variable

#: Makes one argument from the message.
Resolver = Callable[[Message], t.Any]
#: Makes all positional arguments from the message.
Arguments = Callable[[Message], tuple[t.Any, ...]]


def payload_parameter(signature: Signature) -> Parameter | None:
    """Return the parameter that takes the payload, if there is one.

    It is the one marked ``Payload()``, else the first if it has no marker at all and is
    neither the whole message nor a bus.
    """
    for parameter in signature.parameters:
        if parameter.marker(Payload) is not None:
            return parameter
    if signature.parameters:
        first = signature.parameters[0]
        is_bus = hasattr(first.type, "__ecotone_bus__")
        if not first.markers and first.type is not Message and not is_bus:
            return first
    return None


def plan(
    signature: Signature,
    resolution: Resolution,
    *,
    special: Callable[[Parameter], Resolver | None] = lambda parameter: None,
    has_payload: bool = True,
) -> dict[str, Resolver]:
    """Return how each parameter of a function is filled.

    :param special: Fills parameters that only this kind of function has.
    :param has_payload: Whether a first parameter without marker takes the payload.
    :raises HandlerSignatureError: A parameter can't be filled from a message.
    """
    resolvers: dict[str, Resolver] = {}
    payload = payload_parameter(signature) if has_payload else None
    headers = _headers_parameter(signature, payload)
    for parameter in signature.parameters:
        resolver = special(parameter)
        if resolver is not None and parameter is payload:
            payload = None
        resolver = resolver or _marked(parameter, signature, resolution)
        if resolver is None:
            if parameter.type is Message:
                resolver = _itself
            elif parameter is payload:
                resolver = _payload(parameter, resolution.conversion)
            elif parameter is headers:
                resolver = _all_headers
            else:
                resolver = _service(parameter, signature, resolution)
                if payload is None and has_payload:
                    resolver = _payload_or(resolver, parameter)
        resolvers[parameter.name] = resolver
    return resolvers


def arguments(signature: Signature, resolvers: dict[str, Resolver]) -> Arguments:
    """Return a function that makes the arguments, in order, from a message."""
    names = [p.name for p in signature.parameters]
    ordered = [resolvers[name] for name in names]
    if not names:
        return lambda message: ()

    def make(message: Message) -> tuple[t.Any, ...]:
        made: list[t.Any] = []
        try:
            for resolver in ordered:
                made.append(resolver(message))
        except Exception as error:
            said = _unresolved(error, names[len(made)], signature.where)
            if said is error:
                raise
            raise said from error.__cause__
        return tuple(made)

    return make


def _unresolved(error: Exception, name: str, where: str) -> Exception:
    # An error of ours says which parameter it concerns; what the application's own
    # expressions and factories raise is passed on as it is, with a note.
    said = f"Cannot resolve the parameter {name!r} of {where}"
    if isinstance(error, EcotoneError) and "Cannot resolve" not in str(error):
        return type(error)(f"{said}: {error}")
    error.add_note(f"{said}.")
    return error


def _itself(message: Message) -> Message:
    return message


def _all_headers(message: Message) -> dict[str, t.Any]:
    return dict(message.headers)


def _headers_parameter(
    signature: Signature, payload: Parameter | None
) -> Parameter | None:
    # handle(command, metadata: dict): the second plain dict takes the headers.
    if payload is None or len(signature.parameters) < 2:
        return None
    second = signature.parameters[1]
    if second is payload or second.markers:
        return None
    return second if takes_metadata(second) else None


def takes_metadata(parameter: Parameter) -> bool:
    """Whether a parameter without marker is annotated as a dict of headers."""
    wanted = members(parameter.type)
    cls = runtime_class(wanted[0]) if len(wanted) == 1 else None
    return cls in (dict, collections.abc.Mapping)


def _payload(parameter: Parameter, conversion: Conversion) -> Resolver:
    decode = conversion.decoder(parameter.type)
    classes = _classes(parameter)

    def resolve(message: Message) -> t.Any:
        payload = message.payload
        if isinstance(payload, classes):
            return payload
        if payload is None:
            if parameter.is_optional or parameter.type in (MISSING, object):
                return parameter.fallback
            raise MessagingError(
                "the message has no payload. Send one, or, if the parameter is a"
                " service, annotate it Annotated"
                f"[{type_name(parameter.type)}, Reference()]."
            )
        return decode(payload, message.header(CONTENT_TYPE))

    return resolve


def _payload_or(service: Resolver, parameter: Parameter) -> Resolver:
    # handle(user: Annotated[User, Header("user")], command: PlaceOrder): an object of
    # the class that was sent is meant, and not a service made by calling the class.
    classes = tuple(c for c in _classes(parameter) if c is not object)

    def resolve(message: Message) -> t.Any:
        payload = message.payload
        return payload if isinstance(payload, classes) else service(message)

    return resolve


def payload_classes(signature: Signature) -> tuple[type, ...]:
    """Return the classes whose instances the payload parameter takes as they are."""
    parameter = payload_parameter(signature)
    return () if parameter is None or parameter.marker(Payload) else _classes(parameter)


def _classes(parameter: Parameter) -> tuple[type, ...]:
    return tuple(filter(None, map(_plain_class, members(parameter.type))))


def _plain_class(annotation: t.Any) -> type | None:
    # Classes whose instances are taken as they are, whatever the media type: text may
    # still be JSON.
    if annotation is t.Any:
        return None
    if runtime_class(annotation) is annotation and not t.get_args(annotation):
        is_protocol = getattr(annotation, "_is_protocol", False)
        if annotation.__module__ != "builtins" and not is_protocol:
            return None if t.is_typeddict(annotation) else annotation
    return None


def has_marker(parameter: Parameter) -> bool:
    """Whether a marker says how the parameter is filled."""
    return any(type(marker) in _MARKED for marker in parameter.markers)


def _marked(
    parameter: Parameter, signature: Signature, resolution: Resolution
) -> Resolver | None:
    for marker in parameter.markers:
        make = _MARKED.get(type(marker))
        if make is not None:
            return make(parameter, marker, signature, resolution)
    return None


def _marked_payload(
    parameter: Parameter, marker: Payload, signature: Signature, resolution: Resolution
) -> Resolver:
    if marker.expression is None:
        return _payload(parameter, resolution.conversion)
    evaluate = evaluated(marker, parameter, signature, resolution)
    decode = resolution.conversion.decoder(parameter.type)
    whole = resolution.conversion.decoder(t.Any)

    def resolve(message: Message) -> t.Any:
        payload = whole(message.payload, message.header(CONTENT_TYPE))
        return decode(evaluate(message, payload=payload, value=payload), None)

    return resolve


def _marked_header(
    parameter: Parameter, marker: Header, signature: Signature, resolution: Resolution
) -> Resolver:
    name = marker.name
    decode = resolution.conversion.decoder(parameter.type)
    evaluate = None
    if marker.expression is not None:
        evaluate = evaluated(marker, parameter, signature, resolution)

    def resolve(message: Message) -> t.Any:
        value = message.header(name)
        if value is None:
            if parameter.is_optional:
                return parameter.fallback
            known = [*message.headers]
            raise HeaderNotFoundError(
                f"the message has no header {name!r}; it has {', '.join(known)}."
                f"{did_you_mean(name, known)} Send it as metadata={{{name!r}: …}},"
                " or give the parameter a default."
            )
        if evaluate is not None:
            return evaluate(message, value=value)
        try:
            return decode(value, None)
        except ConversionError as error:
            if not isinstance(value, str):
                raise
            try:
                return decode(value, JSON)
            except ConversionError:
                raise error from error.__cause__

    return resolve


def _marked_headers(
    parameter: Parameter, marker: Headers, signature: Signature, resolution: Resolution
) -> Resolver:
    return _all_headers


def _marked_reference(
    parameter: Parameter,
    marker: Reference,
    signature: Signature,
    resolution: Resolution,
) -> Resolver:
    if marker.name is None and parameter.type in (MISSING, t.Any):
        raise HandlerSignatureError(
            f"{signature.where}: the parameter {parameter.name!r} is a Reference()"
            " without name or type. Say which service it is."
        )
    find = _service(parameter, signature, resolution, marker)
    if marker.expression is None:
        return find
    evaluate = evaluated(marker, parameter, signature, resolution)
    return lambda message: evaluate(message, service=find(message))


def _marked_variable(
    parameter: Parameter,
    marker: ConfigVariable,
    signature: Signature,
    resolution: Resolution,
) -> Resolver:
    name = marker.name or parameter.name
    decode = resolution.conversion.decoder(parameter.type)
    variables = resolution.variables

    def resolve(message: Message) -> t.Any:
        if not variables.has(name) and parameter.is_optional:
            return parameter.fallback
        return decode(variable(variables, name), None)

    return resolve


def _marked_fetch(
    parameter: Parameter, marker: Fetch, signature: Signature, resolution: Resolution
) -> Resolver:
    wanted = members(parameter.type)
    if len(wanted) != 1 or not isinstance(wanted[0], type):
        raise HandlerSignatureError(
            f"{signature.where}: the parameter {parameter.name!r} fetches an aggregate"
            f" and is annotated {type_name(parameter.type)}. Annotate it with the"
            " class of the aggregate."
        )
    evaluate = evaluated(marker, parameter, signature, resolution)

    def resolve(message: Message) -> t.Any:
        identifier = evaluate(message)
        found = None
        if identifier is not None:
            found = resolution.fetch(wanted[0], identifier)
        if found is None and not parameter.is_optional:
            raise AggregateNotFoundError(
                f"{wanted[0].__qualname__} was not found by the identifier"
                f" {identifier!r}."
            )
        return parameter.fallback if found is None else found

    return resolve


def _service(
    parameter: Parameter,
    signature: Signature,
    resolution: Resolution,
    marker: Reference | None = None,
) -> Resolver:
    wanted = members(parameter.type)
    key = wanted[0] if len(wanted) == 1 else parameter.type
    cls = runtime_class(key)
    if marker is not None:
        key = marker.name or key
    elif cls is None or cls.__module__ == "builtins":
        name = type_name(parameter.type)
        example = "int" if parameter.type is MISSING else name
        raise HandlerSignatureError(
            f"{signature.where} has no way to fill the parameter"
            f" {parameter.name!r} ({name}). Only the first"
            " parameter takes the payload; mark the others, for example"
            f' Annotated[{example}, Header("{parameter.name}")],'
            " or annotate them with the class of a service."
        )
    services = resolution.services
    # Any says nothing about whether there may be no service.
    has_default = parameter.default is not MISSING
    is_optional = parameter.is_optional and (has_default or parameter.type is not t.Any)
    service = resolution.service

    def resolve(message: Message) -> t.Any:
        if is_optional and not services.is_registered(key):
            return parameter.fallback
        return service(message, key)

    return resolve


def marker_lookup(
    parameter: Parameter, markers: tuple[EndpointMarker, ...]
) -> Resolver | None:
    """Fill a parameter annotated with an endpoint marker's class."""
    wanted = members(parameter.type)
    if not all(isinstance(w, type) and issubclass(w, EndpointMarker) for w in wanted):
        return None
    found = next((m for m in markers if type(m) in wanted), None)
    if found is None:
        found = next((m for m in markers if isinstance(m, tuple(wanted))), None)
    return lambda message: found


def _marked_connection(
    parameter: Parameter,
    marker: TenantConnection | TenantSession,
    signature: Signature,
    resolution: Resolution,
) -> Resolver:
    connections = resolution.connections
    if connections is None:
        raise HandlerSignatureError(
            f"{signature.where}: the parameter {parameter.name!r} requires a 'db'"
            " connection to be configured. Call db.init_app(app) before"
            " ecotone.init_app(app)."
        )
    if isinstance(marker, TenantSession):
        return lambda message: connections.session()
    return lambda message: connections.connection()


_MARKED: dict[type, Callable[..., Resolver]] = {
    Payload: _marked_payload,
    Header: _marked_header,
    Headers: _marked_headers,
    Reference: _marked_reference,
    ConfigVariable: _marked_variable,
    Fetch: _marked_fetch,
    TenantConnection: _marked_connection,
    TenantSession: _marked_connection,
}
