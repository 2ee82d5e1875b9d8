"""Interceptors, compiled for the endpoints and gateways they point at."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

from ..decorators.pointcuts import Pointcut
from ..definitions import Advice
from ..definitions import InterceptorMark
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import HandlerSignatureError
from ..errors import MessagingError
from ..message import CONTENT_TYPE
from ..message import Message
from ..reflection import derives_from
from ..reflection import members
from ..reflection import MISSING
from ..reflection import Parameter
from ..reflection import reflect
from ..reflection import Signature
from .arguments import arguments
from .arguments import marker_lookup
from .arguments import plan
from .arguments import Resolver
from .calls import late_bound
from .calls import positional
from .evaluation import Resolution
from .invocation import MethodInvocation
from .pointcuts import JoinPoint
from .pointcuts import pointcut_of

#: Returns the message to go on with, or ``None`` to stop.
Step = Callable[[Message], "Message | None"]
Proceed = Callable[[], t.Any]
MakeArguments = Callable[[], tuple[t.Any, ...]]
#: Called with the message, the object called on, what is inside and its arguments.
AroundStep = Callable[[Message, t.Any, Proceed, MakeArguments], t.Any]
#: Calls a function on a target with the arguments from a message.
Call = Callable[[Message, t.Any], t.Any]

_INVOCATION = object()
_TARGET = object()


@dataclass(frozen=True, slots=True)
class Interception:
    """The interceptors of one endpoint or gateway, in the order they run."""

    #: Whose each step before the call is, and the step: presend first.
    entering: tuple[tuple[str, Step], ...] = ()
    around: tuple[AroundStep, ...] = ()
    #: The precedence of each step around the call.
    precedences: tuple[int, ...] = ()
    after: tuple[Step, ...] = ()
    #: Whose all the steps are.
    names: tuple[str, ...] = ()
    #: How many of the first steps come before a message is sent to a channel.
    presends: int = 0
    #: Whose steps before the call only look at messages.
    watchers: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether nothing intercepts."""
        return not (self.entering or self.names)

    @property
    def is_watching(self) -> bool:
        """Whether what comes before the call changes no message, and stops none."""
        return all(name in self.watchers for name, _ in self.entering)

    def split(self) -> tuple[Interception, Interception]:
        """Return what comes before a message is sent to a channel, and the rest."""
        first = self.entering[: self.presends]
        sending = Interception(first, watchers=self.watchers)
        return sending, replace(self, entering=self.entering[self.presends :])

    def enter(self, message: Message, without: Collection[str] = ()) -> Message | None:
        """Run what comes before the call; ``None`` stops the message.

        :param without: Interceptors that ran already.
        """
        current: Message | None = message
        for name, step in self.entering:
            if current is None:
                return None
            if name not in without:
                current = step(current)
        return current

    def before(self, flow: Callable[[Message], t.Any]) -> Callable[[Message], t.Any]:
        """Return a flow with what comes before the call in front of it."""
        if not self.entering:
            return flow

        def entered(message: Message) -> t.Any:
            found = self.enter(message)
            return None if found is None else flow(found)

        return entered

    def leave(self, reply: Message) -> Message | None:
        """Run what comes after the call; ``None`` stops the reply."""
        current: Message | None = reply
        for step in self.after:
            if current is None:
                return None
            current = step(current)
        return current

    def surround(
        self,
        make: Callable[[Message], tuple[t.Any, ...]],
        call: Callable[[t.Any, tuple[t.Any, ...]], t.Any],
    ) -> Call:
        """Return a call with the around interceptors around it.

        :param make: Makes the arguments.
        :param call: Calls the function on a target with arguments.
        """
        if not self.around:
            return lambda message, target: call(target, make(message))
        return _nested(self.around, make, call)

    def around_flow(
        self,
        flow: Callable[[Message], t.Any],
        applies: Callable[[int], bool] = lambda precedence: True,
    ) -> Callable[[Message], t.Any]:
        """Return a flow with interceptors of a gateway around it.

        :param applies: Chooses interceptors by precedence.
        """
        pairs = zip(self.around, self.precedences, strict=True)
        steps = tuple(step for step, precedence in pairs if applies(precedence))
        if not steps:
            return flow
        call = _nested(steps, lambda message: (message,), lambda _, made: flow(*made))
        return lambda message: call(message, None)


def _nested(
    steps: tuple[AroundStep, ...],
    make: Callable[[Message], tuple[t.Any, ...]],
    call: Callable[[t.Any, tuple[t.Any, ...]], t.Any],
) -> Call:
    def surrounded(message: Message, target: t.Any) -> t.Any:
        made: list[tuple[t.Any, ...]] = []

        def once() -> tuple[t.Any, ...]:
            if not made:
                made.append(make(message))
            return made[0]

        def run(index: int) -> t.Any:
            if index == len(steps):
                return call(target, once())
            return steps[index](message, target, lambda: run(index + 1), once)

        return run(0)

    return surrounded


@dataclass(frozen=True, slots=True)
class _Prepared:
    marked: Marked[InterceptorMark]
    signature: Signature
    pointcut: Pointcut

    @property
    def is_watcher(self) -> bool:
        """Whether it returns nothing, so that it can't change a message."""
        return self.signature.returns in (None, type(None))


class Interceptors:
    """All interceptors of a system.

    :raises ConfigurationError: One of them can't work as written.
    """

    def __init__(
        self, found: Iterable[Marked[InterceptorMark]], resolution: Resolution
    ) -> None:
        self._resolution = resolution
        self._prepared = [
            _prepare(m) for m in sorted(found, key=lambda m: m.said.precedence)
        ]

    def of(
        self,
        join_point: JoinPoint,
        required: Iterable[t.Any] = (),
        headers: Step | None = None,
    ) -> Interception:
        """Compile the interceptors that point at something.

        :param required: Interceptors that apply whatever they point at: functions, or
            classes for all of their methods.
        :param headers: Changes the headers, after the presend interceptors.
        """
        listed = list(required)
        names = [p for p in self._prepared if self._is_required(p, listed)]
        self._check_required(listed, join_point)
        applied = [
            p
            for p in self._prepared
            if p in names or p.pointcut.matches(join_point.is_pointed_at)
        ]
        if not applied and headers is None:
            return _NONE
        steps: dict[Advice, list[t.Any]] = {advice: [] for advice in Advice}
        entering: dict[Advice, list[tuple[str, Step]]] = {a: [] for a in Advice}
        for prepared in applied:
            advice = prepared.marked.said.advice
            if advice is Advice.AROUND:
                steps[advice].append(self._around(prepared, join_point))
                continue
            step = self._step(prepared, join_point)
            steps[advice].append(step)
            entering[advice].append((prepared.marked.qualified_name, step))
        if headers is not None:
            own = (f"headers of {join_point.qualified_name}", headers)
            entering[Advice.PRESEND].append(own)
        return Interception(
            (*entering[Advice.PRESEND], *entering[Advice.BEFORE]),
            tuple(steps[Advice.AROUND]),
            tuple(
                p.marked.said.precedence
                for p in applied
                if p.marked.said.advice is Advice.AROUND
            ),
            tuple(steps[Advice.AFTER]),
            tuple(p.marked.qualified_name for p in applied),
            len(entering[Advice.PRESEND]),
            frozenset(p.marked.qualified_name for p in applied if p.is_watcher),
        )

    def _is_required(self, prepared: _Prepared, required: list[t.Any]) -> bool:
        marked = prepared.marked
        return any(
            each in (marked.owner, marked.plain, marked.qualified_name)
            or getattr(each, "__func__", each) is marked.plain
            for each in required
        )

    def _check_required(self, required: list[t.Any], join_point: JoinPoint) -> None:
        for each in required:
            if not any(self._is_required(p, [each]) for p in self._prepared):
                name = getattr(each, "__qualname__", str(each))
                known = [p.marked.plain.__qualname__ for p in self._prepared]
                raise ConfigurationError(
                    f"{join_point.qualified_name} requires the interceptor {name!r},"
                    f" which isn't registered.{did_you_mean(name, known)} Mark it and"
                    " register its module."
                )

    def _step(self, prepared: _Prepared, join_point: JoinPoint) -> Step:
        marked, signature = prepared.marked, prepared.signature

        def special(parameter: Parameter) -> Resolver | None:
            return marker_lookup(parameter, join_point.markers)

        make = arguments(signature, plan(signature, self._resolution, special=special))
        function = positional(late_bound(marked, self._resolution.services), signature)
        if prepared.is_watcher:

            def watch(message: Message) -> Message:
                function(*make(message))
                return message

            return watch
        if marked.said.change_headers:
            where = marked.where

            def change_headers(message: Message) -> Message | None:
                result = function(*make(message))
                if result is None:
                    return None
                return with_changes(message, result, where)

            return change_headers

        def replace(message: Message) -> Message | None:
            result = function(*make(message))
            return None if result is None else replaced(message, result)

        return replace

    def _around(self, prepared: _Prepared, join_point: JoinPoint) -> AroundStep:
        marked, signature = prepared.marked, prepared.signature
        slots: dict[int, object] = {}

        def special(parameter: Parameter) -> Resolver | None:
            slot = _slot(parameter, join_point)
            if slot is not None:
                slots[signature.parameters.index(parameter)] = slot
                return lambda message: None
            return marker_lookup(parameter, join_point.markers)

        make = arguments(signature, plan(signature, self._resolution, special=special))
        function = positional(late_bound(marked, self._resolution.services), signature)
        proceeds = _INVOCATION in slots.values()
        around_of = join_point.function

        def around(
            message: Message, target: t.Any, proceed: Proceed, inner: MakeArguments
        ) -> t.Any:
            made = list(make(message))
            for index, slot in slots.items():
                made[index] = (
                    MethodInvocation(proceed, around_of, target, inner)
                    if slot is _INVOCATION
                    else None
                    if isinstance(target, type)
                    else target
                )
            result = function(*made)
            return result if proceeds else proceed()

        return around


def with_changes(message: Message, result: t.Any, where: str) -> Message:
    """Return a message with the headers that an interceptor or handler returned.

    :param where: Who returned them, for errors.
    """
    if not isinstance(result, Mapping):
        raise MessagingError(
            f"{where} changes headers and returned {type(result).__qualname__}. Return"
            " a dict of headers."
        )
    for name in result:
        if not isinstance(name, str) or not name:
            raise MessagingError(
                f"{where} returned a header named {name!r}. The name of a header is a"
                " non-empty string."
            )
    return message.with_headers(result)


def replaced(message: Message, result: t.Any) -> Message:
    """Return a message with the payload that an interceptor or handler returned."""
    if isinstance(result, Message):
        return result
    headers = {CONTENT_TYPE: None} if message.header(CONTENT_TYPE) else None
    return message.with_payload(result, headers)


def _slot(parameter: Parameter, join_point: JoinPoint) -> object | None:
    if parameter.markers:
        return None
    if parameter.type is MethodInvocation:
        return _INVOCATION
    wanted = members(parameter.type)
    owner = join_point.owner
    if owner is not None and len(wanted) == 1 and isinstance(wanted[0], type):
        if wanted[0] is not object and derives_from(owner, wanted[0]):
            return _TARGET
    return None


def _prepare(marked: Marked[InterceptorMark]) -> _Prepared:
    signature = reflect(marked.function, marked.owner)
    advice = marked.said.advice
    if advice is Advice.AROUND:
        takes_part = any(p.type is MethodInvocation for p in signature.parameters)
        if not takes_part and signature.returns not in (MISSING, None, type(None)):
            raise HandlerSignatureError(
                f"{signature.where} returns a value and has no MethodInvocation. Take"
                " one and return invocation.proceed(), or annotate it '-> None'."
            )
        if takes_part and signature.returns in (None, type(None)):
            raise HandlerSignatureError(
                f"{signature.where} takes a MethodInvocation and is annotated"
                " '-> None': the caller would lose what the call returns. Annotate"
                " '-> Any' and return invocation.proceed()."
            )
    elif signature.returns is MISSING:
        raise HandlerSignatureError(
            f"{signature.where} is an @{advice.value} interceptor without return"
            " annotation. Write '-> None' to let the message pass, or the type it"
            " returns: then a returned None stops the message."
        )
    elif marked.said.change_headers and signature.returns in (None, type(None)):
        raise HandlerSignatureError(
            f"{signature.where} changes headers and is annotated '-> None'. Annotate"
            " the dict of headers it returns."
        )
    return _Prepared(marked, signature, pointcut_of(marked, signature))


_NONE = Interception()
