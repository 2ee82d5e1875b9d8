"""Markers of interceptors."""

from __future__ import annotations

import typing as t

from ..definitions import Advice
from ..definitions import InterceptorMark
from .marking import Decorator
from .marking import F
from .marking import is_markable
from .marking import marking


class _Order(t.TypedDict, total=False):
    #: Lower runs earlier and, around, further out. 1 unless given.
    precedence: int


class _Options(_Order, total=False):
    #: The returned dict is merged into the headers; the payload stays.
    change_headers: bool


@t.overload
def presend(pointcut: F, /) -> F: ...
@t.overload
def presend(*, pointcut: t.Any = None, **options: t.Unpack[_Options]) -> Decorator: ...
def presend(*args: t.Any, **options: t.Any) -> t.Any:
    """Mark a function that runs before a message is sent to its handler's channel.

    It runs at the sender's side, also when the handler is asynchronous. What it returns
    is treated as in :func:`before`.
    """
    return _interceptor(Advice.PRESEND, args, options)


@t.overload
def before(pointcut: F, /) -> F: ...
@t.overload
def before(*, pointcut: t.Any = None, **options: t.Unpack[_Options]) -> Decorator: ...
def before(*args: t.Any, **options: t.Any) -> t.Any:
    """Mark a function that runs before the handlers or gateways it points at.

    Its return annotation, which it must have, says what it does: ``-> None`` passes the
    message through; anything else replaces the payload, or with ``change_headers``
    adds to the headers, and a returned ``None`` stops the message.

    :param pointcut: What is intercepted: a bus, a handler, a class, an
        :class:`EndpointMarker`, a glob of ``module.qualname``, or such joined by ``&``,
        ``|`` and ``~``. Left out, it follows from the parameters annotated with an
        :class:`EndpointMarker`.
    """
    return _interceptor(Advice.BEFORE, args, options)


@t.overload
def after(pointcut: F, /) -> F: ...
@t.overload
def after(*, pointcut: t.Any = None, **options: t.Unpack[_Options]) -> Decorator: ...
def after(*args: t.Any, **options: t.Any) -> t.Any:
    """Mark a function that runs after the handlers or gateways it points at.

    Its payload is what the handler returned; what it returns is treated as in
    :func:`before`. It doesn't run when the handler returned ``None``, but after a
    command handler of an aggregate it always runs, before the aggregate is saved.
    """
    return _interceptor(Advice.AFTER, args, options)


@t.overload
def around(pointcut: F, /) -> F: ...
@t.overload
def around(*, pointcut: t.Any = None, **options: t.Unpack[_Order]) -> Decorator: ...
def around(*args: t.Any, **options: t.Any) -> t.Any:
    """Mark a function that runs around the handlers or gateways it points at.

    It takes a :class:`MethodInvocation` and returns ``invocation.proceed()``. Without
    such a parameter it runs first, and the handler after it.
    """
    return _interceptor(Advice.AROUND, args, options)


def _interceptor(
    advice: Advice, args: tuple[t.Any, ...], options: dict[str, t.Any]
) -> t.Any:
    if args and is_markable(args[0]):
        return marking(InterceptorMark(advice=advice))(args[0])
    return marking(InterceptorMark(advice=advice, **options))
