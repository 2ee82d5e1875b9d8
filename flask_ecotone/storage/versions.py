"""Which attribute of an aggregate is its version."""

from __future__ import annotations

import typing as t

from ..decorators.parameters import Version
from ..reflection import class_hints
from ..reflection import field_markers


class VersionAttribute(t.NamedTuple):
    """An attribute that is annotated with :class:`Version`."""

    name: str
    #: Whether it is counted up with each save; otherwise the aggregate does it.
    counts_up: bool


def version_attribute(cls: type) -> VersionAttribute | None:
    """Return the attribute annotated with :class:`Version`, if there is one."""
    for name, annotation in class_hints(cls).items():
        for marker in field_markers(annotation):
            if isinstance(marker, Version):
                return VersionAttribute(name, marker.auto_increase)
    return None
