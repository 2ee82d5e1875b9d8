"""Values of a database: rows to types, arguments to what a driver takes.

Databases differ in what they return: SQLite text for a date, MariaDB a decimal for a
sum, PostgreSQL a dict for JSON.
"""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import functools
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import is_dataclass

import msgspec

from ..errors import ConversionError
from ..reflection import class_hints
from ..reflection import is_union
from ..reflection import members
from ..reflection import MISSING
from ..reflection import runtime_class
from ..reflection import split_annotated
from .conversion import accepts
from .conversion import Conversion
from .media_type import JSON

Read = Callable[[t.Any], t.Any]
RowReader = Callable[[Sequence[str]], Callable[[Sequence[t.Any]], t.Any]]

#: What one column of a database holds, subclasses included.
SCALARS = (
    str,
    bytes,
    int,
    float,
    decimal.Decimal,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    enum.Enum,
)
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_EPOCH = datetime.datetime(1970, 1, 1)


def bare(target: t.Any) -> t.Any:
    """Return a type without ``Annotated``, ``None`` and ``NewType``."""
    target, _ = split_annotated(target)
    if is_union(target):
        found = members(target)
        target = bare(found[0]) if len(found) == 1 else target
    while isinstance(target, t.NewType):
        target = target.__supertype__
    return target


def is_made_of_row(target: t.Any, conversion: Conversion) -> bool:
    """Whether a type is made of a whole row; otherwise it is made of one column."""
    target = bare(target)
    if target in (t.Any, object, MISSING) or isinstance(target, t.TypeVar):
        return True
    if is_union(target):
        return all(is_made_of_row(each, conversion) for each in members(target))
    sources = conversion.sources_of(target)
    if sources:
        return any(_is_mapping(runtime_class(source)) for source in sources)
    cls = runtime_class(target)
    if cls is None or issubclass(cls, SCALARS):
        return False
    return _is_mapping(cls) or not _is_collection(cls) or issubclass(cls, tuple)


def can_be_made_of_row(target: t.Any, conversion: Conversion) -> bool:
    """Whether anything is known to make a type of a row."""
    target = bare(target)
    if is_union(target):
        return all(can_be_made_of_row(each, conversion) for each in members(target))
    if target in (t.Any, object, MISSING) or isinstance(target, t.TypeVar):
        return True
    if conversion.sources_of(target):
        return True
    cls = runtime_class(target)
    if cls is None or hasattr(cls, "__mapper__"):
        return False
    return _is_mapping(cls) or issubclass(cls, tuple) or _has_fields(cls)


def row_reader(target: t.Any, conversion: Conversion) -> RowReader:
    """Return a function of column names that returns a function of values.

    That one makes the target type of a row.
    """
    kind = bare(target)
    cls = runtime_class(kind)
    sources = conversion.sources_of(kind)
    if not sources and cls is not None and issubclass(cls, tuple):
        return _tuple_reader(kind, cls, conversion)
    if sources:
        return _dict_reader({}, None, lambda row: conversion.convert(row, target))
    if cls is None or cls is object:
        # Anything, or one of several: a dict will do where anything will.
        is_anything = kind is t.Any or cls is object or isinstance(kind, t.TypeVar)
        made = None if is_anything else lambda row: conversion.convert(row, target)
        return _dict_reader({}, None, made)
    if _is_mapping(cls) and not t.is_typeddict(kind):
        arguments = t.get_args(kind)
        value = arguments[1] if len(arguments) == 2 else t.Any
        is_any = value in (t.Any, object) or isinstance(value, t.TypeVar)
        return _dict_reader({}, None if is_any else column_reader(value, conversion))
    fields = {name: _field(hint, conversion) for name, hint in _fields(cls).items()}
    known = {name: read for name, read in fields.items() if read is not None}
    return _dict_reader(known, None, lambda row: conversion.convert(row, target))


def _dict_reader(
    fields: Mapping[str, Read], every: Read | None, made: Read | None = None
) -> RowReader:
    def reader(columns: Sequence[str]) -> Callable[[Sequence[t.Any]], t.Any]:
        _check_unique(columns)
        reads = [(at, fields[c]) for at, c in enumerate(columns) if c in fields]

        def read(values: Sequence[t.Any]) -> t.Any:
            if every is not None:
                values = [every(value) for value in values]
            elif reads:
                values = list(values)
                for at, convert in reads:
                    values[at] = convert(values[at])
            row = dict(zip(columns, values, strict=True))
            return row if made is None else made(row)

        return read

    return reader


def _tuple_reader(kind: t.Any, cls: type, conversion: Conversion) -> RowReader:
    names = getattr(cls, "_fields", None)
    if names is not None:
        hints = class_hints(cls)
        by_name = {name: column_reader(hints.get(name), conversion) for name in names}
        return _dict_reader(
            {n: r for n, r in by_name.items() if n in hints},
            None,
            lambda row: _named_tuple(cls, {n: row[n] for n in names if n in row}),
        )
    items = [a for a in t.get_args(kind) if a is not ...]
    reads = [column_reader(item, conversion) for item in items]
    is_open = ... in t.get_args(kind)

    def read(values: Sequence[t.Any]) -> t.Any:
        if not reads:
            return tuple(values)
        if is_open:
            return tuple(reads[0](value) for value in values)
        if len(values) != len(reads):
            raise ConversionError(
                f"A row has {len(values)} columns, and {kind} has {len(reads)} items."
            )
        return tuple(read(value) for read, value in zip(reads, values, strict=True))

    return lambda columns: read


def _named_tuple(cls: t.Any, values: dict[str, t.Any]) -> t.Any:
    try:
        return cls(**values)
    except TypeError as error:
        raise ConversionError(f"Can't make {cls.__qualname__}: {error}.") from error


def column_reader(target: t.Any, conversion: Conversion) -> Read:
    """Return a function that makes the target type of the value of a column."""
    is_accepted = accepts(target)
    adapt = _adaption(target, conversion)

    def read(value: t.Any) -> t.Any:
        if adapt is not None and value is not None:
            value = adapt(value)
        return value if is_accepted(value) else conversion.convert(value, target)

    return read


def _field(hint: t.Any, conversion: Conversion) -> Read | None:
    """Return what must happen to a column before it is a field, if anything."""
    kind = bare(hint)
    if conversion.sources_of(kind):
        return column_reader(hint, conversion)
    adapt = _adaption(hint, conversion)
    if adapt is None:
        return None
    return lambda value: None if value is None else adapt(value)


def _adaption(target: t.Any, conversion: Conversion) -> Read | None:
    kind = bare(target)
    cls = runtime_class(kind)
    if cls is None or conversion.sources_of(kind):
        return None
    if issubclass(cls, enum.Enum):
        return functools.partial(_to_enum, cls)
    for base, adapt in _ADAPTIONS:
        if issubclass(cls, base):
            return adapt
    if issubclass(cls, SCALARS) or cls is object:
        return None
    if _is_collection(cls) or _has_fields(cls):
        return functools.partial(_from_json, conversion)
    return None


def _to_bool(value: t.Any) -> t.Any:
    if isinstance(value, bytes) and value in (b"\0", b"\1"):
        return value == b"\1"  # BIT(1) of MariaDB
    return bool(value) if value in (0, 1) else value


def _to_int(value: t.Any) -> t.Any:
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else value
    return int(value) if isinstance(value, bool) else value


def _to_float(value: t.Any) -> t.Any:
    return float(value) if isinstance(value, (decimal.Decimal, int)) else value


def _to_str(value: t.Any) -> t.Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value


def _to_bytes(value: t.Any) -> t.Any:
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value


def _to_datetime(value: t.Any) -> t.Any:
    return _parsed(value)


def _to_date(value: t.Any) -> t.Any:
    found = _parsed(value)
    if isinstance(found, datetime.datetime) and found.time() == datetime.time():
        return found.date()
    return value


def _to_time(value: t.Any) -> t.Any:
    # MariaDB's driver returns the time since midnight.
    if isinstance(value, datetime.timedelta) and not value.days:
        return (_EPOCH + value).time()
    return value


def _to_timedelta(value: t.Any) -> t.Any:
    # Without a type for it, SQLAlchemy stores the time since 1970.
    found = _parsed(value)
    return found - _EPOCH if isinstance(found, datetime.datetime) else value


def _parsed(value: t.Any) -> t.Any:
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value)
        except ValueError:
            return value
    return value


def _to_enum(cls: type[enum.Enum], value: t.Any) -> t.Any:
    value = _to_int(value)
    if isinstance(value, str) and all(value != each.value for each in cls):
        # SQLAlchemy stores the names of an Enum.
        return cls.__members__.get(value, value)
    return value


def _from_json(conversion: Conversion, value: t.Any) -> t.Any:
    if isinstance(value, (str, bytes)):
        return conversion.decoder(t.Any)(value, JSON)
    return value


_ADAPTIONS: tuple[tuple[type, Read], ...] = (
    (bool, _to_bool),
    (int, _to_int),
    (float, _to_float),
    (str, _to_str),
    (bytes, _to_bytes),
    (datetime.datetime, _to_datetime),
    (datetime.date, _to_date),
    (datetime.time, _to_time),
    (datetime.timedelta, _to_timedelta),
)


def bindable(value: t.Any, conversion: Conversion) -> t.Any:
    """Return what a database driver takes for an argument; a list for several values.

    :raises ConversionError: It is no value of one column.
    """
    if type(value) in _PLAIN:
        return value
    found = conversion.to_scalar(value)
    if found is not value:
        return found
    if isinstance(value, enum.Enum):
        return bindable(value.value, conversion)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (Mapping, msgspec.Struct)) or _has_fields(type(value)):
        raise ConversionError(
            f"{type(value).__qualname__} is no value of one column. Pass one of its"
            " values, write it as JSON with SqlParam(convert_to='application/json'), or"
            " mark a @converter from it to str or int."
        )
    if _is_collection(type(value)):
        listed = [bindable(each, conversion) for each in value]
        if any(isinstance(each, list) for each in listed):
            raise ConversionError("A list of lists can't be a parameter of SQL.")
        return listed
    return value


def _check_unique(columns: Sequence[str]) -> None:
    if len(set(columns)) != len(columns):
        twice = next(c for c in columns if list(columns).count(c) > 1)
        raise ConversionError(
            f"The query returns two columns named {twice!r}. Name one of them with AS."
        )


def _fields(cls: type) -> dict[str, t.Any]:
    if issubclass(cls, msgspec.Struct):
        return {f.encode_name: f.type for f in msgspec.structs.fields(cls)}
    return class_hints(cls)


def _has_fields(cls: type) -> bool:
    return (
        is_dataclass(cls)
        or issubclass(cls, msgspec.Struct)
        or hasattr(cls, "__attrs_attrs__")
        or hasattr(cls, "model_validate")
        or hasattr(cls, "__mapper__")
    )


def _is_mapping(cls: type | None) -> bool:
    return cls is not None and (
        issubclass(cls, collections.abc.Mapping) or t.is_typeddict(cls)
    )


def _is_collection(cls: type) -> bool:
    return issubclass(cls, collections.abc.Collection) and not issubclass(
        cls, (str, bytes, bytearray, memoryview)
    )
