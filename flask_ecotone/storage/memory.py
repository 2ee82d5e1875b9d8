"""Aggregates kept in memory, for tests."""

from __future__ import annotations

import copy
import itertools
import threading
import typing as t
from collections.abc import Mapping

from ..errors import ConcurrencyError
from .versions import version_attribute


class InMemoryRepository:
    """Keeps copies of aggregates, so that only what is saved is stored.

    It implements :class:`~flask_ecotone.storage.protocols.Repository`.

    :param classes: What it handles; everything if left out.
    """

    def __init__(self, *classes: type) -> None:
        self._classes = classes
        self._stored: dict[tuple[type, tuple[t.Any, ...]], t.Any] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def can_handle(self, aggregate_class: type) -> bool:
        """Whether the class is one of those it was made for."""
        return not self._classes or issubclass(aggregate_class, self._classes)

    def find_by(
        self, aggregate_class: type, identifiers: Mapping[str, t.Any]
    ) -> t.Any | None:
        """Return a copy of the stored aggregate, or ``None``."""
        wanted = _key(identifiers)
        for (cls, key), stored in list(self._stored.items()):
            # Text from a URL finds a number.
            if key == wanted or list(map(str, key)) == list(map(str, wanted)):
                if issubclass(cls, aggregate_class):
                    return self.copy(stored)
        return None

    def save(
        self,
        identifiers: Mapping[str, t.Any],
        aggregate: t.Any,
        metadata: Mapping[str, t.Any],
        version_before_handling: int | None,
    ) -> None:
        """Store a copy; a missing single identifier is numbered.

        :raises ConcurrencyError: Another version is stored by now.
        """
        with self._lock:
            self.complete(aggregate, self._numbers)
            values = {
                name: getattr(aggregate, name, None) if value is None else value
                for name, value in identifiers.items()
            }
            key = (type(aggregate), _key(values))
            stored = self._stored.get(key)
            if version_before_handling and not (stored is None or stored is aggregate):
                self._check_version(stored, version_before_handling, values)
            self._stored[key] = self.copy(aggregate)

    def _check_version(
        self, stored: t.Any, expected: int, values: dict[str, t.Any]
    ) -> None:
        version = version_attribute(type(stored))
        found = expected if version is None else getattr(stored, version.name)
        if found != expected:
            raise ConcurrencyError(
                f"{type(stored).__qualname__} {values!r} was changed by somebody else:"
                f" it is at version {found}, not {expected}. Load it again and decide"
                " anew."
            )

    def copy(self, aggregate: t.Any) -> t.Any:
        """Return a copy of an aggregate."""
        return copy.deepcopy(aggregate)

    def complete(self, aggregate: t.Any, numbers: t.Iterator[int]) -> None:
        """Give an aggregate what a database would make on insert."""


def _key(identifiers: Mapping[str, t.Any]) -> tuple[t.Any, ...]:
    return tuple(identifiers[name] for name in sorted(identifiers))
