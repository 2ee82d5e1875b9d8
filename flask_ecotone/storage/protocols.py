"""What the rooms nearer to the door know of storage."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import AbstractContextManager


@t.runtime_checkable
class Repository(t.Protocol):
    """Loads and saves aggregates."""

    def can_handle(self, aggregate_class: type) -> bool:
        """Whether the repository stores aggregates of the class."""
        ...

    def find_by(
        self, aggregate_class: type, identifiers: Mapping[str, t.Any]
    ) -> t.Any | None:
        """Return the aggregate, or ``None`` if none is stored.

        :param identifiers: Identifier name → value.
        """
        ...

    def save(
        self,
        identifiers: Mapping[str, t.Any],
        aggregate: t.Any,
        metadata: Mapping[str, t.Any],
        version_before_handling: int | None,
    ) -> None:
        """Store a new or changed aggregate.

        :param identifiers: Identifier name → value; ``None`` where the database is to
            make it.
        :param metadata: The application's headers of the message being handled.
        :param version_before_handling: The version it was loaded with, 0 if it is new,
            ``None`` if it has no version.
        :raises ConcurrencyError: It has another version by now.
        """
        ...


class ModelRepository(Repository, t.Protocol):
    """A repository that knows by itself how its classes are identified."""

    def identifiers_of(self, aggregate_class: type) -> tuple[str, ...]:
        """Return the names of the attributes that make the primary key."""
        ...


class Transaction(t.Protocol):
    """The unit of work of the outermost command."""

    def run(self, payload: t.Any, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the active unit of work, or in a new one that commits."""
        ...

    @property
    def is_active(self) -> bool:
        """Whether a unit of work is active."""
        ...

    def attempt(self) -> AbstractContextManager[None]:
        """Give a repeated attempt a session of its own."""
        ...

    def refuses(self, payload_class: type) -> Callable[[t.Any], None] | None:
        """Return a check for payloads of the class, if they can't go everywhere.

        The check raises :exc:`MessagingError` for a payload that would leave its
        session.
        """
        ...
