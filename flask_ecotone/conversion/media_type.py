"""Media types, and converters between them."""

from __future__ import annotations

import functools
import re
import typing as t
from dataclasses import dataclass
from dataclasses import field

from ..errors import ConversionError

#: A Python object as it is.
PYTHON = "application/x-python"
JSON = "application/json"
#: Text and bytes as they are.
TEXT = "text/plain"
BYTES = "application/octet-stream"

_TOKEN = r"[A-Za-z0-9!#$&^_.+*-]+"
_SYNTAX = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*((?:;[^;]*)*)$")


@dataclass(frozen=True)
class MediaType:
    """A media type such as ``application/json;charset=utf-8``."""

    type: str
    subtype: str
    parameters: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> MediaType:
        """Read a media type.

        :raises ConversionError: It isn't written as ``type/subtype``.
        """
        if not isinstance(text, str):
            raise _no_media_type(text)
        return _parsed(text)

    @property
    def essence(self) -> str:
        """The media type without its parameters."""
        return f"{self.type}/{self.subtype}"

    def is_compatible_with(self, other: MediaType) -> bool:
        """Whether both name the same media type, wildcards and parameters aside."""
        return all(
            mine == theirs or "*" in (mine, theirs)
            for mine, theirs in (
                (self.type, other.type),
                (self.subtype, other.subtype),
            )
        )


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> MediaType:
    found = _SYNTAX.match(text)
    if found is None:
        raise _no_media_type(text)
    parameters = {}
    for part in filter(None, (p.strip() for p in found[3].split(";"))):
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return MediaType(found[1].lower(), found[2].lower(), parameters)


def _no_media_type(given: t.Any) -> ConversionError:
    return ConversionError(
        f"{given!r} is not a media type. Write it as type/subtype, for example"
        " 'application/json'."
    )


@t.runtime_checkable
class MediaTypeConverter(t.Protocol):
    """What a class marked with :func:`.media_type_converter` implements."""

    def matches(
        self,
        source_type: t.Any,
        source_media_type: MediaType,
        target_type: t.Any,
        target_media_type: MediaType,
    ) -> bool:
        """Whether :meth:`convert` can do this conversion."""
        ...

    def convert(
        self,
        source: t.Any,
        source_type: t.Any,
        source_media_type: MediaType,
        target_type: t.Any,
        target_media_type: MediaType,
    ) -> t.Any:
        """Convert the source."""
        ...
