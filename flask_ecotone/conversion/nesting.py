"""The parts of a value, where an application's own converters come first too.

msgspec converts a dataclass inside a dataclass by itself and asks nobody. So what own
converters make of the parts is made before; msgspec takes a part as it is then.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing as t
from collections.abc import Callable

import msgspec

from ..reflection import class_hints
from ..reflection import is_union
from ..reflection import members
from ..reflection import runtime_class
from ..reflection import split_annotated

_LISTS = (list, tuple, set, frozenset)

#: Converts a part, or returns the very same object.
Convert = Callable[[t.Any, t.Any], t.Any]


def mentions(target: t.Any, wanted: frozenset[t.Any]) -> bool:
    """Whether a type, or a type anywhere inside of it, is one of those wanted."""
    seen: list[t.Any] = []

    def look(annotation: t.Any) -> bool:
        annotation, _ = split_annotated(annotation)
        if annotation in wanted:
            return True
        if annotation in seen:
            return False
        seen.append(annotation)
        inside = (*t.get_args(annotation), *_fields_of(annotation).values())
        return any(look(each) for each in inside if isinstance(each, t.Hashable))

    return isinstance(target, t.Hashable) and look(target)


def convert_parts(value: t.Any, target: t.Any, convert: Convert) -> t.Any:
    """Return a value whose parts are converted to the types that a type has for them.

    :param convert: Converts a part to its type, or returns the very same object.
    """
    target, _ = split_annotated(target)
    converted = convert(value, target)
    if converted is not value:
        return converted
    for member in members(target):
        inside = t.get_args(member)
        cls = runtime_class(member)
        if isinstance(value, _LISTS) and inside and _is_list(cls):
            several = len(inside) == len(value) and inside[-1:] != (...,)
            types = inside if cls is tuple and several else [inside[0]] * len(value)
            pairs = zip(value, types, strict=True)
            return [convert_parts(part, wanted, convert) for part, wanted in pairs]
        if not isinstance(value, collections.abc.Mapping):
            continue
        if len(inside) == 2 and cls in (dict, collections.abc.Mapping):
            key, item = inside
            return {
                convert_parts(k, key, convert): convert_parts(v, item, convert)
                for k, v in value.items()
            }
        fields = _fields_of(member)
        if fields:
            return {
                name: convert_parts(part, fields.get(name, t.Any), convert)
                for name, part in value.items()
            }
    return value


def replace_parts(value: t.Any, replace: Callable[[t.Any], t.Any]) -> t.Any:
    """Return plain dicts and lists where a part is replaced, else the very same value.

    :param replace: Replaces a part, or returns the very same object.
    """
    replaced = replace(value)
    if replaced is not value:
        return replaced
    if isinstance(value, _LISTS):
        items = [replace_parts(part, replace) for part in value]
        changed = any(new is not old for new, old in zip(items, value, strict=True))
        return items if changed else value
    if isinstance(value, dict):
        parts = dict(value)
    else:
        names = _fields_of(type(value), attributes=True)
        parts = {name: getattr(value, attribute) for name, attribute in names.items()}
    new = {name: replace_parts(part, replace) for name, part in parts.items()}
    return new if any(new[name] is not parts[name] for name in new) else value


def _is_list(cls: type | None) -> bool:
    if cls is None or issubclass(cls, (str, bytes, collections.abc.Mapping)):
        return False
    return issubclass(cls, collections.abc.Collection)


def _fields_of(annotation: t.Any, attributes: bool = False) -> dict[str, t.Any]:
    # The name a field has outside → its type, or the attribute it is kept in.
    cls = None if is_union(annotation) else runtime_class(annotation)
    if cls is None:
        return {}
    if issubclass(cls, msgspec.Struct):
        fields = msgspec.structs.fields(cls)
        return {f.encode_name: f.name if attributes else f.type for f in fields}
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    elif hasattr(cls, "__attrs_attrs__"):
        names = [field.name for field in cls.__attrs_attrs__]
    elif t.is_typeddict(cls):
        names = list(cls.__annotations__)
    else:
        return {}
    if attributes:
        return {name: name for name in names}
    hints = class_hints(cls)
    return {name: hints.get(name, t.Any) for name in names}
