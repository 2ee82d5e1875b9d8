"""From the rows that SQL finds to what a method returns."""

from __future__ import annotations

import collections.abc
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

from ..conversion import Conversion
from ..conversion import JSON
from ..conversion import MediaType
from ..conversion.columns import bare
from ..conversion.columns import can_be_made_of_row
from ..conversion.columns import column_reader
from ..conversion.columns import is_made_of_row
from ..conversion.columns import row_reader
from ..definitions import FetchMode
from ..definitions import SqlQueryMark
from ..errors import ConversionError
from ..errors import HandlerSignatureError
from ..errors import MessageDeliveryError
from ..reflection import accepts_none
from ..reflection import Signature
from ..reflection import type_name
from ..storage.protocols import Reader
from ..storage.protocols import Statement

#: Executes a statement with values and returns the result.
Fetch = Callable[[Statement, dict[str, t.Any]], t.Any]

_LAZY = (
    collections.abc.Generator,
    collections.abc.Iterator,
    collections.abc.Iterable,
)
#: What a container in an annotation is at run time.
_CONTAINERS: dict[t.Any, Callable[[list[t.Any]], t.Any] | None] = {
    list: None,
    collections.abc.Sequence: None,
    collections.abc.MutableSequence: None,
    collections.abc.Collection: None,
    collections.abc.Iterable: None,
    tuple: tuple,
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
}
_SEVERAL = (FetchMode.ROWS, FetchMode.FIRST_COLUMN)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a return annotation says of the result."""

    #: The type of one item, or of the whole where there is one only.
    item: t.Any
    #: The container's class; ``None`` if the result is one item.
    container: t.Any
    #: Whether rows may be read while they are asked for.
    is_lazy: bool
    #: Whether they must be.
    is_iterator: bool


def results_of(
    said: SqlQueryMark, signature: Signature, conversion: Conversion
) -> Fetch:
    """Return how the result of a query is made.

    :raises HandlerSignatureError: The return annotation doesn't fit what is fetched.
    """
    if said.reply_media_type is not None:
        return _encoded(said, signature, conversion, said.reply_media_type)
    shape = _shape_of(signature.returns)
    mode = said.fetch or _mode_of(shape, conversion)
    _check(mode, shape, signature, conversion)
    whole = mode not in (FetchMode.FIRST_COLUMN, FetchMode.SCALAR)
    if mode is FetchMode.ITERATE or shape.is_iterator:
        whole = whole and is_made_of_row(shape.item, conversion)
        reader = _reader(shape.item, whole, signature, conversion)
        return lambda statement, values: statement.iterate(values, reader)
    if mode in _SEVERAL:
        reader = _reader(shape.item, whole, signature, conversion)
        contain = _CONTAINERS.get(shape.container)
        if contain is None:
            return lambda statement, values: statement.read(values, reader)
        return lambda statement, values: contain(statement.read(values, reader))
    reader = _reader(signature.returns, whole, signature, conversion)
    return _first(mode, signature, reader)


def _first(mode: FetchMode, signature: Signature, reader: Reader) -> Fetch:
    wanted = signature.returns
    is_optional = accepts_none(wanted)
    name = type_name(wanted)

    def first(statement: Statement, values: dict[str, t.Any]) -> t.Any:
        found = statement.read_first(values, reader)
        if found and found[0] is not _NULL:
            return found[0]
        if is_optional:
            return None
        what = "was NULL" if found else "had no row"
        raise MessageDeliveryError(
            f"{signature.where} promises {name}, and the result of its SQL {what}."
            f" Annotate '-> {name} | None' if that may be."
        )

    if mode is FetchMode.SCALAR:
        reader = _with_null(reader)
    return first


_NULL = object()


def _encoded(
    said: SqlQueryMark, signature: Signature, conversion: Conversion, media_type: str
) -> Fetch:
    mode = said.fetch or FetchMode.ROWS
    returns = bare(signature.returns)
    if mode is FetchMode.ITERATE:
        raise HandlerSignatureError(
            f"{signature.where} can't return rows one at a time as {media_type}. Leave"
            " out 'fetch' or 'reply_media_type'."
        )
    if MediaType.parse(media_type).essence == JSON and returns not in (str, t.Any):
        raise HandlerSignatureError(
            f"{signature.where} returns JSON, which is text, and is annotated with"
            f" {type_name(signature.returns)}. Annotate '-> str'."
        )
    column = mode in (FetchMode.FIRST_COLUMN, FetchMode.SCALAR)
    reader = _reader(t.Any, not column, signature, conversion)
    if mode in _SEVERAL:
        return lambda statement, values: conversion.encode(
            statement.read(values, reader), media_type
        )
    first = _first(mode, signature, reader)

    def fetch(statement: Statement, values: dict[str, t.Any]) -> t.Any:
        found = first(statement, values)
        return None if found is None else conversion.encode(found, media_type)

    return fetch


def _reader(
    target: t.Any, whole: bool, signature: Signature, conversion: Conversion
) -> Reader:
    where = signature.where
    if whole:
        rows = row_reader(target, conversion)
    else:
        column = column_reader(target, conversion)
        rows = lambda columns: lambda values: column(values[0])  # noqa: E731

    def reader(columns: Sequence[str]) -> Callable[[Sequence[t.Any]], t.Any]:
        read_row = _named(where, rows, columns)
        return lambda values: _named(where, read_row, values)

    return reader


def _with_null(reader: Reader) -> Reader:
    def null_reader(columns: Sequence[str]) -> Callable[[Sequence[t.Any]], t.Any]:
        read = reader(columns)
        return lambda values: _NULL if values[0] is None else read(values)

    return null_reader


def _named(where: str, read: Callable[[t.Any], t.Any], values: t.Any) -> t.Any:
    try:
        return read(values)
    except ConversionError as error:
        raise ConversionError(f"{where}: {error}") from error


def _shape_of(returns: t.Any) -> _Shape:
    kind = bare(returns)
    container = t.get_origin(kind) or kind
    arguments = t.get_args(kind)
    item = arguments[0] if arguments else t.Any
    if container in _LAZY:
        return _Shape(item, container, True, container is not collections.abc.Iterable)
    if container is tuple and arguments[-1:] != (...,):
        return _Shape(returns, None, False, False)
    if container in _CONTAINERS:
        return _Shape(item, container, False, False)
    return _Shape(returns, None, False, False)


def _mode_of(shape: _Shape, conversion: Conversion) -> FetchMode:
    if bare(shape.item) is t.Any and shape.container is None:
        return FetchMode.ROWS
    whole = is_made_of_row(shape.item, conversion)
    if shape.is_lazy:
        return FetchMode.ITERATE
    if shape.container is not None:
        return FetchMode.ROWS if whole else FetchMode.FIRST_COLUMN
    return FetchMode.FIRST_ROW if whole else FetchMode.SCALAR


def _check(
    mode: FetchMode, shape: _Shape, signature: Signature, conversion: Conversion
) -> None:
    is_anything = bare(signature.returns) is t.Any
    name = type_name(signature.returns)

    def refuse(reason: str, fix: str) -> t.NoReturn:
        raise HandlerSignatureError(
            f"{signature.where} fetches {mode.value} (FetchMode.{mode.name}) and"
            f" returns {name}{reason}. {fix}"
        )

    if mode in _SEVERAL and shape.container is None and not is_anything:
        refuse(", which is one", f"Annotate '-> list[{name}]', or use FIRST_ROW.")
    if mode is FetchMode.ITERATE and not shape.is_lazy and not is_anything:
        refuse(", which isn't read bit by bit", "Annotate '-> Iterator[…]'.")
    if mode is FetchMode.FIRST_ROW and shape.container is not None:
        refuse(", which is several", "Use FetchMode.ROWS, or annotate one of them.")
    if mode is FetchMode.SCALAR and shape.is_lazy:
        refuse(", which is several", "Use FetchMode.ITERATE.")
    whole = is_made_of_row(shape.item, conversion)
    if mode in (FetchMode.ROWS, FetchMode.FIRST_ROW) and not whole:
        column = "FIRST_COLUMN" if mode is FetchMode.ROWS else "SCALAR"
        refuse(", and a row is no such value", f"Use FetchMode.{column}.")
    reads_rows = mode in (FetchMode.ROWS, FetchMode.FIRST_ROW, FetchMode.ITERATE)
    if reads_rows and whole and not can_be_made_of_row(shape.item, conversion):
        raise HandlerSignatureError(
            f"{signature.where} returns {name}, and nothing makes that of a row. Use a"
            " dataclass or another class with fields, or mark a @converter from dict."
            " Models are loaded with db.session."
        )
