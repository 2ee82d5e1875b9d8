"""The converters of one messaging system.

Dataclasses, attrs classes, ``msgspec.Struct``, typed dicts, enums, UUIDs, dates and
decimals are converted by msgspec, pydantic models by themselves. An application's own
converters come first.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ..errors import ConversionError
from ..errors import HandlerSignatureError
from ..reflection import is_union
from ..reflection import members
from ..reflection import MISSING
from ..reflection import reflect
from ..reflection import runtime_class
from ..reflection import type_name
from .media_type import BYTES
from .media_type import JSON
from .media_type import MediaType
from .media_type import MediaTypeConverter
from .media_type import PYTHON
from .media_type import TEXT
from .nesting import convert_parts
from .nesting import mentions
from .nesting import replace_parts

Decoder = Callable[[t.Any, "str | None"], t.Any]
_UNCONVERTED = object()
_PLAIN = (str, int, float, bool, dict, list)
_WRITTEN = (str, bytes, bytearray)
_AS_IT_IS = (TEXT, BYTES)


@dataclass(frozen=True, slots=True)
class UserConverter:
    """A function of the application that converts one type to another."""

    source: t.Any
    target: t.Any
    function: Callable[[t.Any], t.Any]

    def takes(self, value: t.Any) -> bool:
        """Whether the function converts such a value."""
        return accepts(self.source)(value)


def user_converter(
    function: t.Any, owner: type | None, call: Callable[..., t.Any]
) -> UserConverter:
    """Read the types of a function marked with :func:`converter`.

    :param call: What to call with the value.
    :raises HandlerSignatureError: It doesn't take one annotated value, or doesn't say
        what it returns.
    """
    signature = reflect(function, owner)
    required = [p for p in signature.parameters if p.default is MISSING]
    if len(required) != 1 or required[0].type is MISSING:
        raise HandlerSignatureError(
            f"The converter {signature.where} must take one annotated value, for"
            " example 'def to_role(value: str) -> Role'."
        )
    returns = signature.returns
    if returns in (MISSING, None, type(None)) or is_union(returns):
        raise HandlerSignatureError(
            f"The converter {signature.where} must say which one type it returns, for"
            f" example '-> Role'; it says {type_name(returns)!r}."
        )
    if returns is t.Self and owner is not None:
        returns = owner
    return UserConverter(required[0].type, returns, call)


class Conversion:
    """Converts values to types and media types.

    :param converters: The application's own converters, first match wins.
    :param media_type_converters: Converters between media types.
    """

    def __init__(
        self,
        converters: Iterable[UserConverter] = (),
        media_type_converters: Iterable[Callable[[], MediaTypeConverter]] = (),
    ) -> None:
        self._converters = list(converters)
        self._media_type_converters = list(media_type_converters)
        self._from_json: dict[t.Any, t.Any] = {}
        self._targets = frozenset(found.target for found in self._converters)
        self._mentions: dict[t.Any, bool] = {}
        self._encoders = [
            found
            for found in self._converters
            if found.target in _PLAIN and found.source not in (*_PLAIN, t.Any, object)
        ]

    def decoder(self, target: t.Any) -> Decoder:
        """Return a function of a value and its media type that returns the target type.

        A value that is neither text nor bytes was read already: its media type is what
        it was read from. The function raises :exc:`ConversionError` when it can't.
        """
        is_accepted = accepts(target)

        def decode(value: t.Any, media_type: str | None) -> t.Any:
            if media_type is not None:
                source = MediaType.parse(media_type)
                if source.essence != PYTHON and is_written(value):
                    return self._decode_media(value, source, target)
            return value if is_accepted(value) else self.convert(value, target)

        return decode

    def verifier(self, target: t.Any) -> Callable[[bytes], object] | None:
        """Return what raises :exc:`ConversionError` if JSON can't be read as a type.

        ``None`` if converters of the application take part: they may do anything, and
        are called when somebody wants the value.
        """
        json, python = MediaType.parse(JSON), MediaType.parse(PYTHON)
        if self._is_mentioned_in(target) or any(
            make().matches(bytes, json, target, python)
            for make in self._media_type_converters
        ):
            return None
        return lambda text: self._decode_json(text, target)

    def convert(self, value: t.Any, target: t.Any) -> t.Any:
        """Convert a Python value to a type; text becomes numbers and dates as needed.

        :raises ConversionError: Nothing converts such a value to the type.
        """
        try:
            converted = self._by_user(value, target)
            if converted is not _UNCONVERTED:
                return converted
            plain = _plain(value)
            if self._is_mentioned_in(target):
                plain = convert_parts(plain, target, self._part)
            return msgspec.convert(
                plain, target, strict=False, dec_hook=self._decode_nested
            )
        except ConversionError:
            raise
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise _failure(value, target, error) from error

    def sources_of(self, target: t.Any) -> list[t.Any]:
        """Return what the application's converters make a type of."""
        return [c.source for c in self._converters if c.target == target]

    def to_scalar(self, value: t.Any) -> t.Any:
        """Return the text or number that a converter makes of a value, or itself."""
        for found in self._encoders:
            if found.target in (str, int, float) and found.takes(value):
                return found.function(value)
        return value

    def scalar_of(self, source: t.Any) -> t.Any | None:
        """Return the text or number type that a converter makes of a type, if any."""
        made = [c.target for c in self._encoders if c.source == source]
        return next((found for found in made if found in (str, int, float)), None)

    def encode(self, value: t.Any, media_type: str) -> t.Any:
        """Return a value in a media type: ``str`` for JSON.

        With ``application/x-python;type=dict`` it becomes plain dicts and lists.

        :raises ConversionError: Nothing makes the media type of such a value.
        """
        target = MediaType.parse(media_type)
        python = MediaType.parse(PYTHON)
        for make in self._media_type_converters:
            found = make()
            if found.matches(type(value), python, str, target):
                return found.convert(value, type(value), python, str, target)
        if self._encoders:
            value = replace_parts(value, self._encoded_part)
        try:
            if target.essence == JSON:
                return msgspec.json.encode(value, enc_hook=self._encode_nested).decode()
            if target.essence == PYTHON:
                if target.parameters.get("type") in ("dict", "list", "array"):
                    return msgspec.to_builtins(value, enc_hook=self._encode_nested)
                return value
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise ConversionError(
                f"Can't write {type(value).__qualname__} as {media_type}: {error}."
                " Return a dataclass, or mark a @converter from the type to a dict."
            ) from error
        raise ConversionError(
            f"Nothing converts {type(value).__qualname__} to {media_type}. Mark a class"
            " with @media_type_converter, or ask for 'application/json'."
        )

    def _decode_media(self, value: t.Any, source: MediaType, target: t.Any) -> t.Any:
        python = MediaType.parse(PYTHON)
        for make in self._media_type_converters:
            found = make()
            if found.matches(type(value), source, target, python):
                return found.convert(value, type(value), source, target, python)
        if source.essence != JSON:
            if accepts(target)(value):
                return value
            if source.essence in _AS_IT_IS:
                return self.convert(value, target)
            raise ConversionError(
                f"Can't read {source.essence} as {type_name(target)}: nothing converts"
                " that media type. Mark a class with @media_type_converter."
            )
        if target in (str, bytes):
            return value if isinstance(value, target) else _other_text(value)
        return self._decode_json(value, target)

    def _decode_json(self, text: str | bytes | bytearray, target: t.Any) -> t.Any:
        if target is MISSING or target is object:
            target = t.Any
        if self._is_mentioned_in(target):
            return self.convert(self._decode_json(text, t.Any), target)
        decoder = self._from_json.get(target)
        try:
            if decoder is None:
                decoder = self._from_json[target] = msgspec.json.Decoder(
                    target, dec_hook=self._decode_nested
                )
            return decoder.decode(text)
        except ConversionError:
            raise
        except (msgspec.MsgspecError, NameError, TypeError, ValueError) as error:
            reason = str(error) if text else "there is nothing to read, not even null"
            raise ConversionError(
                f"Can't read JSON as {type_name(target)}: {reason}."
            ) from error

    def _by_user(self, value: t.Any, target: t.Any) -> t.Any:
        wanted = members(target)
        for found in self._converters:
            if found.target in wanted and found.takes(value):
                return found.function(value)
        if value is None and type(None) in t.get_args(target):
            return None
        return _UNCONVERTED

    def _is_mentioned_in(self, target: t.Any) -> bool:
        if not self._targets:
            return False
        found = self._mentions.get(target)
        if found is None:
            found = self._mentions[target] = mentions(target, self._targets)
        return found

    def _part(self, value: t.Any, target: t.Any) -> t.Any:
        converted = self._by_user(value, target)
        return value if converted is _UNCONVERTED else converted

    def _encoded_part(self, value: t.Any) -> t.Any:
        for found in self._encoders:
            if found.takes(value):
                return found.function(value)
        return value

    def _decode_nested(self, target: t.Any, value: t.Any) -> t.Any:
        if accepts(target)(value):
            return value
        converted = self._by_user(value, target)
        if converted is not _UNCONVERTED:
            return converted
        if hasattr(target, "model_validate"):
            return target.model_validate(value)
        raise _failure(value, target)

    def _encode_nested(self, value: t.Any) -> t.Any:
        for found in self._converters:
            if found.target in _PLAIN and found.takes(value):
                return found.function(value)
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        if hasattr(type(value), "__mapper__"):
            raise TypeError(
                f"{type(value).__qualname__} is a database model, which belongs to its"
                " session and can't travel. Put its id, or a dataclass with the values"
                " needed, in the message"
            )
        raise TypeError(f"nothing converts {type(value).__qualname__}")


def is_written(value: t.Any) -> bool:
    """Whether a value is text or bytes, which a media type says how to read.

    A member of an enum, say, is an object, even if it is text as well.
    """
    return type(value) in _WRITTEN


def accepts(target: t.Any) -> Callable[[t.Any], bool]:
    """Return a test for values that need no conversion to the target type."""
    if target in (MISSING, t.Any, object) or isinstance(target, t.TypeVar):
        return lambda value: True
    if is_union(target):
        tests = [accepts(member) for member in t.get_args(target)]
        return lambda value: any(test(value) for test in tests)
    if target is None or target is type(None):
        return lambda value: value is None
    cls = runtime_class(target)
    if cls is None or t.is_typeddict(target):
        return lambda value: False
    if getattr(cls, "_is_protocol", False):
        if not getattr(cls, "_is_runtime_protocol", False):
            return lambda value: True
    arguments = t.get_args(target)
    if arguments and any(a not in (t.Any, object, ...) for a in arguments):
        if not (cls is dict and arguments == (str, t.Any)):
            return lambda value: False
    return lambda value: isinstance(value, cls)


def _plain(value: t.Any) -> t.Any:
    # Forms and headers arrive in dict subclasses and other mappings.
    return value.model_dump() if hasattr(value, "model_dump") else value


def _other_text(value: t.Any) -> t.Any:
    try:
        return value.encode() if isinstance(value, str) else bytes(value).decode()
    except UnicodeError as error:
        raise ConversionError(f"Can't read the payload as text: {error}.") from error


def _failure(
    value: t.Any, target: t.Any, error: Exception | None = None
) -> ConversionError:
    reason = f": {error}" if error is not None else ""
    return ConversionError(
        f"Can't convert {type(value).__qualname__} to {type_name(target)}{reason}."
        " Send a value of that type, a dict of its fields, or mark a @converter."
    )
