"""What the rooms nearer to the door know of storage."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..message import Message


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

    #: Whether it stores the metadata that :meth:`save` is given; if not, it gets none.
    keeps_metadata: bool

    def identifiers_of(self, aggregate_class: type) -> tuple[str, ...]:
        """Return the names of the attributes that make the primary key."""
        ...

    def version_of(self, aggregate_class: type) -> str | None:
        """Return the attribute with the version that the repository itself counts."""
        ...


class Routing(t.Protocol):
    """Which database the session of an application uses just now."""

    def bind_key(self, mapper: t.Any, clause: t.Any) -> str | None:
        """Return the bind that a statement keeps to; ``None`` if it is routed."""
        ...

    def engine_for(self, scope: t.Hashable) -> t.Any:
        """Return the engine for a session that was made in a scope.

        :raises TenancyError: There is none for it now.
        """
        ...

    def scope(self) -> t.Hashable:
        """Return what tells its session from others in the same app context."""
        ...


class Connections(t.Protocol):
    """The database connection of the active tenant."""

    def session(self) -> t.Any:
        """Return the session."""
        ...

    def connection(self) -> t.Any:
        """Return the connection that the session uses."""
        ...


#: Called with the tenant and its connection reference.
Hook = Callable[[str, t.Any], None]


class Activation(t.Protocol):
    """Makes a message's tenant the active one."""

    @property
    def header(self) -> str:
        """The header that names the tenant."""
        ...

    def call_hooks(
        self, on_activation: tuple[Hook, ...], on_deactivation: tuple[Hook, ...]
    ) -> None:
        """Set what is called around an activation."""
        ...

    def opens(self, message: Message) -> bool:
        """Whether the tenant of a message isn't active yet."""
        ...

    def run(self, message: Message, proceed: Callable[[Message], t.Any]) -> t.Any:
        """Handle a message with its tenant active."""
        ...


#: Raises an exception if what was done in a transaction is lost already. It may leave
#: that to a later call if it is given what a part of that failed with.
Check = Callable[[BaseException | None], None]


class Transaction(t.Protocol):
    """The unit of work of the outermost command."""

    def run(self, payload: t.Any, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the active unit of work, or in a new one that commits."""
        ...

    def is_outage(self, error: BaseException) -> bool:
        """Whether the database, and not what was done, is the reason of a failure."""
        ...

    def is_transient(self, error: BaseException) -> bool:
        """Whether what failed may succeed when it is done again at once."""
        ...

    def may_repeat(self) -> bool:
        """Whether what is about to run could be repeated if it fails."""
        ...

    def attempt(self) -> AbstractContextManager[None]:
        """Give a repeated attempt a session of its own."""
        ...

    def batch(self) -> AbstractContextManager[Check]:
        """Let units of work share one transaction, each of them in a savepoint.

        It is committed at the end, and rolled back on any exception.

        :return: A check for what they did so far.
        """
        ...

    def refuses(self, payload_class: type) -> Callable[[t.Any], None] | None:
        """Return a check for payloads of the class, if they can't go everywhere.

        The check raises :exc:`MessagingError` for a payload that would leave its
        session.
        """
        ...


class Notes(t.Protocol):
    """Remembers which keys were handled, along with the transaction of the caller."""

    @property
    def is_open(self) -> bool:
        """Whether a transaction is going on."""
        ...

    def run(self, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the transaction that is going on, or in a new one."""
        ...

    def note(self, key: str, endpoint_id: str) -> bool:
        """Note a key in the transaction; return whether it was new.

        If somebody else has noted it and goes on, this waits for the end.
        """
        ...

    def has(self, key: str, endpoint_id: str) -> bool:
        """Whether a key is noted; called where no transaction is going on."""
        ...

    def forget(self, key: str, endpoint_id: str, error: BaseException) -> None:
        """Forget a key whose message failed, if the transaction goes on.

        :param error: What it failed with.
        """
        ...

    def reply(self, key: str, endpoint_id: str) -> str | None:
        """Return the reply that was kept for a key, if one was."""
        ...

    def keep_reply(self, key: str, endpoint_id: str, reply: str) -> None:
        """Keep the reply for a key that was noted in the transaction."""
        ...


class Ticks(t.Protocol):
    """Remembers which ticks of schedules were fired, so that each is fired once.

    Times are milliseconds since the epoch.
    """

    def time(self) -> float:
        """Return the time in seconds since the epoch, by the clock that counts."""
        ...

    def prepare(self, schedule: str) -> None:
        """Get ready; called outside of transactions."""
        ...

    def last_taken(self, schedule: str) -> int | None:
        """Return the latest tick that was taken, if any."""
        ...

    def take(self, schedule: str, due_at: int) -> bool:
        """Take a tick in the transaction of the session: its rollback gives it back.

        :return: Whether it was free, and no later one was taken.
        :raises TickBusyError: Somebody else is at it, and may still give it back.
        """
        ...

    def take_at_once(self, schedule: str, due_at: int) -> bool:
        """Take a tick for good, in a transaction of its own."""
        ...


@dataclass(frozen=True, slots=True)
class SqlText:
    """SQL in pieces: text, a parameter's name, text, a name, and so on until text."""

    pieces: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, each once."""
        return tuple(dict.fromkeys(self.pieces[1::2]))


#: Returns, for the names of columns, what makes a result of the values of a row.
Reader = Callable[[Sequence[str]], Callable[[Sequence[t.Any]], t.Any]]


class Statement(t.Protocol):
    """SQL that is executed with the values of its parameters."""

    def write(self, values: Mapping[str, t.Any]) -> int:
        """Execute it and return the number of rows that it changed."""
        ...

    def read(self, values: Mapping[str, t.Any], reader: Reader) -> list[t.Any]:
        """Execute it and return all rows."""
        ...

    def read_first(self, values: Mapping[str, t.Any], reader: Reader) -> list[t.Any]:
        """Execute it and return the first row, if there is one."""
        ...

    def iterate(
        self, values: Mapping[str, t.Any], reader: Reader
    ) -> Generator[t.Any, None, None]:
        """Execute it and return an iterator of the rows."""
        ...


class Statements(t.Protocol):
    """Prepares SQL for the database of an application."""

    def dialects(self, bind: str | None, where: str) -> tuple[str, ...]:
        """Return the names of the dialects that SQL for a bind key may be written in.

        :param where: Whose SQL it is, for errors.
        :raises ConfigurationError: There is no such bind key.
        """
        ...

    def current_dialect(self) -> str:
        """Return the name of the dialect of the active tenant's database."""
        ...

    def prepare(
        self, text: SqlText, bind: str | None, items: Mapping[str, type], where: str
    ) -> Statement:
        """Return SQL ready to be executed, any number of times.

        :param items: Name of a parameter → type of the items, where it takes several.
        """
        ...
