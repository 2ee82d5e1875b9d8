"""What was handled, for systems without a database."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import field

from .protocols import Check

#: How many keys are remembered.
_REMEMBERED: t.Final = 100_000


@dataclass(slots=True)
class _Unit:
    #: Takes back what was noted.
    undo: list[Callable[[], object]] = field(default_factory=list)
    #: Lets others note something.
    release: Callable[[], None] | None = None


class MemoryTransaction:
    """The unit of work of the outermost command, in which nothing but keys is noted.

    It implements :class:`~flask_ecotone.storage.protocols.Transaction`.
    """

    def __init__(self) -> None:
        self._active: ContextVar[_Unit | None] = ContextVar("memory_unit", default=None)

    @property
    def current(self) -> _Unit | None:
        """The unit of work that is active, if one is."""
        return self._active.get()

    def run(self, payload: t.Any, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the active unit of work, or in a new one."""
        if self._active.get() is not None:
            return proceed()
        unit = _Unit()
        token = self._active.set(unit)
        try:
            return proceed()
        except BaseException:
            for undo in reversed(unit.undo):
                undo()
            raise
        finally:
            self._active.reset(token)
            if unit.release is not None:
                unit.release()

    def is_outage(self, error: BaseException) -> bool:
        """Never: there is no database."""
        return False

    def is_transient(self, error: BaseException) -> bool:
        """Never: nobody races for anything."""
        return False

    def may_repeat(self) -> bool:
        """Whether what is about to run is no part of a unit of work."""
        return self._active.get() is None

    def attempt(self) -> AbstractContextManager[None]:
        """Do nothing: there is no session."""
        return nullcontext()

    def batch(self) -> AbstractContextManager[Check]:
        """Do nothing: there is no transaction to share."""
        return nullcontext(lambda error: None)

    def refuses(self, payload_class: type) -> Callable[[t.Any], None] | None:
        """Refuse nothing."""
        return None


class MemoryNotes:
    """Notes keys in memory. As in SQLite, one unit of work at a time writes.

    It implements :class:`~flask_ecotone.storage.protocols.Notes`.
    """

    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction
        self._replies: dict[tuple[str, str], str | None] = {}
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether a unit of work is active."""
        return self._transaction.current is not None

    def run(self, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the active unit of work, or in a new one."""
        return self._transaction.run(None, proceed)

    def note(self, key: str, endpoint_id: str) -> bool:
        """Note a key of an endpoint; return whether it was new."""
        unit = self._transaction.current
        assert unit is not None, "Notes are made in a unit of work."
        if unit.release is None:
            self._lock.acquire()
            unit.release = self._lock.release
        noted = (key, endpoint_id)
        if noted in self._replies:
            return False
        self._replies[noted] = None
        unit.undo.append(lambda: self._replies.pop(noted, None))
        if len(self._replies) > _REMEMBERED:
            del self._replies[next(iter(self._replies))]
        return True

    def has(self, key: str, endpoint_id: str) -> bool:
        """Whether a key is noted."""
        return (key, endpoint_id) in self._replies

    def forget(self, key: str, endpoint_id: str, error: BaseException) -> None:
        """Forget a key whose message failed."""
        self._replies.pop((key, endpoint_id), None)

    def reply(self, key: str, endpoint_id: str) -> str | None:
        """Return the reply that was kept for a key, if one was."""
        return self._replies.get((key, endpoint_id))

    def keep_reply(self, key: str, endpoint_id: str, reply: str) -> None:
        """Keep the reply for a key that was noted."""
        self._replies[key, endpoint_id] = reply
