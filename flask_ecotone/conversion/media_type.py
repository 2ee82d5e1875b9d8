"""Media types, and converters between them."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass
from dataclasses import field

from ..errors import ConversionError

#: A Python object as it is.
PYTHON = "application/x-python"
JSON = "application/json"

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
        found = _SYNTAX.match(text) if isinstance(text, str) else None
        if found is None:
            raise ConversionError(
                f"{text!r} is not a media type. Write it as type/subtype, for example"
                " 'application/json'."
            )
        parameters = {}
        for part in filter(None, (p.strip() for p in found[3].split(";"))):
            name, _, value = part.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        return cls(found[1].lower(), found[2].lower(), parameters)

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
