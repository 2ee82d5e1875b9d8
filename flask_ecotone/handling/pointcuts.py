"""Whether an interceptor points at an endpoint or gateway."""

from __future__ import annotations

import fnmatch
import inspect
import typing as t
from dataclasses import dataclass

from .. import decorators
from ..decorators import handlers as marked
from ..decorators.asynchronous import asynchronous
from ..decorators.console import console_command
from ..decorators.modelling import aggregate
from ..decorators.pointcuts import EndpointMarker
from ..decorators.pointcuts import Pointcut
from ..decorators.scheduling import scheduled
from ..definitions import AggregateMark
from ..definitions import AsynchronousMark
from ..definitions import ConsoleCommandMark
from ..definitions import GatewayMethodMark
from ..definitions import HandlerMark
from ..definitions import inherited_mark_of
from ..definitions import InterceptorMark
from ..definitions import Kind
from ..definitions import marks_of
from ..definitions import plain_function
from ..definitions import RepositoryMethodMark
from ..definitions import ScheduledMark
from ..definitions import SqlMark
from ..discovery import Marked
from ..errors import ConfigurationError
from ..reflection import derives_from
from ..reflection import describe
from ..reflection import is_union
from ..reflection import members
from ..reflection import Signature

_KINDS: dict[t.Any, Kind] = {
    marked.command_handler: Kind.COMMAND,
    marked.query_handler: Kind.QUERY,
    marked.event_handler: Kind.EVENT,
    marked.internal_handler: Kind.INTERNAL,
    console_command: Kind.CONSOLE,
    scheduled: Kind.SCHEDULED,
}


#: What a function is marked with that can be intercepted.
_INTERCEPTED: t.Final = (
    HandlerMark,
    ConsoleCommandMark,
    ScheduledMark,
    GatewayMethodMark,
    RepositoryMethodMark,
    SqlMark,
)


@dataclass(frozen=True, slots=True)
class JoinPoint:
    """Something that interceptors can point at."""

    function: t.Any
    #: The class of a handler, or the type of a gateway.
    owner: type | None
    kind: Kind | None
    markers: tuple[EndpointMarker, ...]

    def is_pointed_at(self, target: t.Any) -> bool:
        """Whether it is the one thing that a part of a pointcut names."""
        if isinstance(target, str):
            return fnmatch.fnmatchcase(self.qualified_name, target)
        if target in _KINDS:
            return self.kind is _KINDS[target]
        if target is aggregate:
            owner = self.owner
            return owner is not None and bool(inherited_mark_of(owner, AggregateMark))
        if target is asynchronous:
            return self._is_asynchronous
        if isinstance(target, type):
            if issubclass(target, EndpointMarker):
                return any(isinstance(m, target) for m in self.markers)
            return self.owner is not None and derives_from(self.owner, target)
        return _function(target) is plain_function(self.function)

    @property
    def _is_asynchronous(self) -> bool:
        if self.kind not in (Kind.COMMAND, Kind.EVENT, Kind.INTERNAL):
            return False
        owner = self.owner
        if owner is not None and inherited_mark_of(owner, AsynchronousMark):
            return True
        return bool(marks_of(self.function, AsynchronousMark))

    @property
    def qualified_name(self) -> str:
        """``module.qualname``, which globs are matched against."""
        plain = plain_function(self.function)
        if self.owner is None:
            return f"{plain.__module__}.{plain.__qualname__}"
        return f"{self.owner.__module__}.{self.owner.__qualname__}.{plain.__name__}"


def pointcut_of(interceptor: Marked[InterceptorMark], signature: Signature) -> Pointcut:
    """Return what an interceptor points at.

    :raises ConfigurationError: It points at nothing, or at something unknown.
    """
    pointcut = interceptor.said.pointcut
    if pointcut is None:
        return _by_parameters(interceptor, signature)
    pointcut = Pointcut.of(pointcut)
    for target in pointcut.targets():
        is_known = (
            isinstance(target, (str, type))
            or target is aggregate
            or target is asynchronous
            or any(target is kind for kind in _KINDS)
        )
        if not is_known and inspect.isfunction(_function(target)):
            _check_function(_function(target), interceptor.where)
        elif not is_known or target == "":
            raise ConfigurationError(
                f"The interceptor {interceptor.where} points at {target!r}. A pointcut"
                " is a bus, a handler, a class, an EndpointMarker class, a glob such"
                " as 'shop.ordering.*', or such joined by &, | and ~."
            )
    return pointcut


def _check_function(function: t.Any, where: str) -> None:
    """Refuse a function that nothing calls by a message: it would never match."""
    if any(marks_of(function, kind) for kind in _INTERCEPTED):
        return
    name = getattr(function, "__qualname__", "")
    if getattr(decorators, name, None) is function:
        kinds = [*(kind.__name__ for kind in _KINDS), "aggregate", "asynchronous"]
        raise ConfigurationError(
            f"The interceptor {where} points at the marker @{name}, and would never"
            f" run: of markers a pointcut can be {', '.join(kinds)}. Point at the"
            " handlers, or at an EndpointMarker class that they carry."
        )
    raise ConfigurationError(
        f"The interceptor {where} points at the function {describe(function)}, and"
        " would never run: the function isn't marked as a handler, a console command, a"
        " schedule or a method of an interface. Mark it, for example with"
        " @command_handler, or point at what is marked; for a method of a bus that is"
        " the bus."
    )


def _by_parameters(
    interceptor: Marked[InterceptorMark], signature: Signature
) -> Pointcut:
    required: list[Pointcut] = []
    optional: list[Pointcut] = []
    for parameter in signature.parameters:
        wanted = members(parameter.type)
        if all(isinstance(w, type) and issubclass(w, EndpointMarker) for w in wanted):
            into = optional if is_union(parameter.type) else required
            into.extend(Pointcut(w) for w in wanted)
    if not required and not optional:
        raise ConfigurationError(
            f"The interceptor {interceptor.where} points at nothing and would never"
            " run. Give it a pointcut, for example"
            f" @{interceptor.said.advice.value}(pointcut=CommandBus), or a parameter"
            " annotated with an EndpointMarker."
        )
    joined, *others = required or optional
    for other in others:
        joined = joined & other if required else joined | other
    return joined


def _function(target: t.Any) -> t.Any:
    return plain_function(getattr(target, "__func__", target))
