"""Markers of gateways, repositories and converters."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..definitions import ConverterMark
from ..definitions import GatewayMethodMark
from ..definitions import MediaTypeConverterMark
from ..definitions import RepositoryMark
from ..definitions import RepositoryMethodMark
from .marking import Decorator
from .marking import F
from .marking import marking


def business_method(
    channel: str,
    *,
    reply_media_type: str | None = None,
    required_interceptors: Iterable[t.Any] = (),
) -> Decorator:
    """Mark a method of a Protocol that sends a message and returns the reply.

    :param channel: A routing key, or the input channel of an internal handler.
    :param reply_media_type: Return the reply in this media type.
    """
    return marking(
        GatewayMethodMark(
            channel=channel,
            reply_media_type=reply_media_type,
            required_interceptors=tuple(required_interceptors),
        )
    )


@t.overload
def repository_method(method: F, /) -> F: ...
@t.overload
def repository_method() -> Decorator: ...
def repository_method(method: t.Any = None) -> t.Any:
    """Mark a method of a Protocol that loads or saves an aggregate.

    Its return annotation says which: ``Order`` loads or raises
    :exc:`AggregateNotFoundError`, ``Order | None`` loads or returns ``None``, ``None``
    saves the argument.
    """
    return _plain(RepositoryMethodMark(), method)


@t.overload
def repository(cls: F, /) -> F: ...
@t.overload
def repository() -> Decorator: ...
def repository(cls: t.Any = None) -> t.Any:
    """Mark a class with ``can_handle``, ``find_by`` and ``save`` as a repository."""
    return _plain(RepositoryMark(), cls)


@t.overload
def converter(function: F, /) -> F: ...
@t.overload
def converter() -> Decorator: ...
def converter(function: t.Any = None) -> t.Any:
    """Mark a function of one value that converts it to the type it returns."""
    return _plain(ConverterMark(), function)


@t.overload
def media_type_converter(cls: F, /) -> F: ...
@t.overload
def media_type_converter() -> Decorator: ...
def media_type_converter(cls: t.Any = None) -> t.Any:
    """Mark a class with ``matches`` and ``convert`` as a media type converter."""
    return _plain(MediaTypeConverterMark(), cls)


def _plain(said: t.Any, marked: t.Any) -> t.Any:
    decorate = marking(said)
    return decorate if marked is None else decorate(marked)
