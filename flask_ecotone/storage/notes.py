"""What was handled, noted along with the session of the caller."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from contextlib import suppress

import sqlalchemy as sa

from .apart import apart
from .deduplication import Handled
from .endings import has_ended
from .endings import is_deadlock
from .session import EcotoneSession
from .transaction import SessionTransaction

_ATTEMPTS: t.Final = 10


class SessionNotes:
    """Notes keys in the transaction of the session, where the handler writes, too.

    It implements :class:`~flask_ecotone.storage.protocols.Notes`.

    :param session: Returns the session of the caller.
    :param engine: Returns the engine where that session leads.
    :param prepare: Makes our tables where they are missing.
    """

    def __init__(
        self,
        session: Callable[[], t.Any],
        engine: Callable[[], sa.Engine],
        transaction: SessionTransaction,
        prepare: Callable[[], None],
    ) -> None:
        self._session = session
        self._engine = engine
        self._transaction = transaction
        self._prepare = prepare
        self._handled = Handled("deduplicated")

    @property
    def is_open(self) -> bool:
        """Whether a transaction is going on."""
        return self._transaction.is_active or self._session().in_transaction()

    def run(self, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the transaction that is going on, or in a new one."""
        if self.is_open:
            return proceed()
        self._prepare()
        return self._transaction.run(None, proceed)

    def note(self, key: str, endpoint_id: str) -> bool:
        """Note a key of an endpoint; return whether it was new."""
        is_new = self._note(key, endpoint_id)
        if is_new:
            # What SQLAlchemy doesn't see would be lost with a retry.
            t.cast(EcotoneSession, self._session())._has_written = True
        return is_new

    def has(self, key: str, endpoint_id: str) -> bool:
        """Whether a key is noted, as far as it is committed."""
        self._prepare()
        wanted = (key, endpoint_id)
        return bool(apart(self._engine(), lambda c: self._handled.seen(c, [wanted])))

    def forget(self, key: str, endpoint_id: str, error: BaseException) -> None:
        """Forget a key whose message failed, if the transaction goes on."""
        with suppress(sa.exc.SQLAlchemyError):
            if self.is_open:
                connection = self._connection()
                if not has_ended(connection, error):
                    self._handled.forget(connection, key, endpoint_id)

    def reply(self, key: str, endpoint_id: str) -> str | None:
        """Return the reply that was kept for a key, if one was."""
        if self.is_open:
            return self._handled.answer(self._connection(), key, endpoint_id)
        work = self._handled.answer
        return apart(self._engine(), lambda c: work(c, key, endpoint_id))

    def keep_reply(self, key: str, endpoint_id: str, reply: str) -> None:
        """Keep the reply for a key that was noted."""
        self._handled.keep_reply(self._connection(), key, endpoint_id, reply)

    def _note(self, key: str, endpoint_id: str) -> bool:
        is_first = not self._transaction.has_begun
        connection = self._connection()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._handled.note(connection, key, endpoint_id)
            except sa.exc.DBAPIError as error:
                # Of those that wait for one that fails MariaDB lets one go on, and ends
                # the transactions of the others: nothing is lost where nothing was
                # done before.
                if attempt == _ATTEMPTS or not is_first or not is_deadlock(error):
                    raise
                self._transaction.excuse(error)
        raise AssertionError("unreachable")

    def _connection(self) -> sa.Connection:
        return t.cast(sa.Connection, self._session().connection())
