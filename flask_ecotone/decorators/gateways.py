"""Markers of gateways, repositories and converters."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..definitions import ConverterMark
from ..definitions import FetchMode
from ..definitions import GatewayMethodMark
from ..definitions import MediaTypeConverterMark
from ..definitions import RepositoryMark
from ..definitions import RepositoryMethodMark
from ..definitions import SqlParameterMark
from ..definitions import SqlQueryMark
from ..definitions import SqlWriteMark
from ..errors import ConfigurationError
from .marking import Decorator
from .marking import F
from .marking import marking
from .marking import several


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
            required_interceptors=several(required_interceptors),
        )
    )


@t.overload
def repository_method(method: F, /) -> F: ...
@t.overload
def repository_method() -> Decorator: ...
def repository_method(method: t.Any = None) -> t.Any:
    """Mark a method of a Protocol that loads or saves an aggregate.

    Its return annotation says which: ``Order`` loads or raises
    :exc:`.AggregateNotFoundError`, ``Order | None`` loads or returns ``None``, ``None``
    saves the argument. Parameters may be marked as headers, such as that of the tenant.
    """
    return _plain(RepositoryMethodMark(), method)


def sql_query(
    sql: str,
    fetch: FetchMode | None = None,
    bind: str | None = None,
    reply_media_type: str | None = None,
    *,
    required_interceptors: Iterable[t.Any] = (),
) -> Decorator:
    """Mark a method of a Protocol that returns what SQL finds.

    :param sql: SQL whose parameters, as ``:name``, are those of the method.
    :param fetch: What to return of the rows; by default as the return annotation says.
    :param bind: The bind key of the database, instead of the session's own choice.
    :param reply_media_type: Return the result in this media type.
    """
    return marking(
        SqlQueryMark(
            sql=_checked_sql("sql_query", sql),
            fetch=fetch,
            bind=bind,
            reply_media_type=reply_media_type,
            required_interceptors=several(required_interceptors),
        )
    )


def sql_write(
    sql: str,
    bind: str | None = None,
    *,
    required_interceptors: Iterable[t.Any] = (),
) -> Decorator:
    """Mark a method of a Protocol that changes rows with SQL.

    Annotate it ``-> None``, or ``-> int`` for the number of rows.

    :param sql: SQL whose parameters, as ``:name``, are those of the method.
    :param bind: The bind key of the database, instead of the session's own choice.
    """
    return marking(
        SqlWriteMark(
            sql=_checked_sql("sql_write", sql),
            bind=bind,
            required_interceptors=several(required_interceptors),
        )
    )


def sql_param(
    name: str, *, expression: t.Any, convert_to: str | None = None
) -> Decorator:
    """Mark a method of a Protocol, or the whole of it, with a parameter for its SQL.

    :param name: What the SQL calls it.
    :param expression: Computes it from the arguments of the method, by their names.
    :param convert_to: Write it in this media type, for example ``"application/json"``.
    """
    return marking(
        SqlParameterMark(name=name, expression=expression, convert_to=convert_to)
    )


def _checked_sql(decorator: str, sql: t.Any) -> str:
    if not isinstance(sql, str) or not sql.strip():
        raise ConfigurationError(
            f"@{decorator} was given {sql!r:.60}. It takes the SQL as text, for"
            f' example @{decorator}("SELECT 1").'
        )
    return sql


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
