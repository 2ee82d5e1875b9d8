"""What was handled already: *Enterprise Integration Patterns*, Idempotent Receiver.

A key is noted in the transaction of what it stands for, before that runs. Whoever notes
it again meanwhile waits, and learns how the first one ended.
"""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql as postgresql

from ..errors import MessagingError
from .apart import apart
from .tables import handled
from .tables import now_ms
from .texts import storable

_h = handled.c
_noted: dict[str, t.Any] = {
    "digest": sa.bindparam("new_digest", type_=sa.LargeBinary),
    "key": sa.bindparam("new_key", type_=sa.String),
    "endpoint_id": sa.bindparam("new_endpoint", type_=sa.String),
    "handled_at": now_ms(),
}
_insert = sa.insert(handled).values(_noted)
#: Notes what isn't noted yet, on PostgreSQL; other statements have it as a part.
NOTE_NEW: t.Final = (
    postgresql.insert(handled)
    .values(_noted)
    .on_conflict_do_nothing()
    .returning(_h.digest)
)
#: SQLite's own insert would import its dialect everywhere.
_NOTE_ALL_SQLITE: t.Final = _insert.prefix_with("OR IGNORE")
_NOTE: t.Final[dict[str, t.Any]] = {
    "postgresql": NOTE_NEW,
    "sqlite": _NOTE_ALL_SQLITE.returning(_h.digest),
}
_NOTE_IGNORING: t.Final = _insert.prefix_with("IGNORE")


def _array(name: str, item: sa.types.TypeEngine[t.Any]) -> sa.ColumnElement[t.Any]:
    return sa.func.unnest(sa.bindparam(name, type_=postgresql.ARRAY(item)))


#: Many at once: arrays make one statement of them, however many there are.
_NOTE_ARRAYS: t.Final = postgresql.insert(handled).from_select(
    [_h.digest, _h.key, _h.endpoint_id, _h.handled_at],
    sa.select(
        _array("new_digests", sa.LargeBinary()),
        _array("new_keys", sa.Text()),
        _array("new_endpoints", sa.Text()),
        now_ms(),
    ),
    include_defaults=False,
)
#: Notes those that aren't noted yet, on PostgreSQL; others have it as a part.
NOTE_NEW_ARRAYS: t.Final = _NOTE_ARRAYS.on_conflict_do_nothing()
_find = _h.digest == sa.bindparam("of_digest", type_=sa.LargeBinary)
_ANSWER: t.Final = sa.select(_h.reply).where(_find)
#: Also what was committed after the transaction began.
_LATEST_ANSWER: t.Final = _ANSWER.with_for_update(read=True)
_KEEP_REPLY: t.Final = (
    sa.update(handled).where(_find).values(reply=sa.bindparam("new_reply"))
)
_FORGET: t.Final = sa.delete(handled).where(_find)
_digests: sa.BindParameter[t.Any] = sa.bindparam("digests", expanding=True)
_SEEN: t.Final = sa.select(_h.digest).where(_h.digest.in_(_digests))
_SEEN_IN_ARRAY: t.Final = sa.select(_h.digest).where(
    _h.digest
    == sa.any_(sa.bindparam("digests", type_=postgresql.ARRAY(sa.LargeBinary)))
)
_MYSQL: t.Final = ("mysql", "mariadb")


class Handled:
    """Knows what was handled already, by a key and the endpoint that it concerns.

    :param scope: Keys of another scope are other keys. Database channels note the ids
        of their messages without a scope.
    """

    def __init__(self, scope: str = "") -> None:
        self.scope = scope

    def note(self, connection: sa.Connection, key: str, endpoint_id: str) -> bool:
        """Note a key in the transaction of a connection; return whether it was new.

        If another transaction has noted it and goes on, this waits for its end.
        """
        values = self.values(key, endpoint_id)
        name = connection.dialect.name
        if name not in _MYSQL:
            noted = connection.execute(_NOTE[name], values).one_or_none()
            return noted is not None
        if connection.execute(_NOTE_IGNORING, values).rowcount:
            return True
        # It may have ignored something else than that the key is there.
        found = connection.execute(_LATEST_ANSWER, {"of_digest": values["new_digest"]})
        if found.one_or_none() is None:
            connection.execute(_insert, values)
            return True
        return False

    def note_all(
        self,
        connection: sa.Connection,
        notes: Iterable[tuple[str, str]],
        *,
        are_new: bool = False,
    ) -> None:
        """Note keys of endpoints; what is noted already stays as it is.

        :param are_new: Fail if one is noted already, with an error of the database.
        """
        name = connection.dialect.name
        if name == "postgresql":
            insert: t.Any = _NOTE_ARRAYS if are_new else NOTE_NEW_ARRAYS
            connection.execute(insert, self.arrays(notes))
            return
        insert = _NOTE_ALL_SQLITE if name == "sqlite" else _NOTE_IGNORING
        rows = [self.values(*each) for each in notes]
        connection.execute(_insert if are_new else insert, rows)

    def seen(
        self, connection: sa.Connection, notes: Iterable[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Return those keys of endpoints that are noted."""
        digests = {self._digest(*each): each for each in notes}
        is_array = connection.dialect.name == "postgresql"
        query = _SEEN_IN_ARRAY if is_array else _SEEN
        found = connection.scalars(query, {"digests": list(digests)})
        return {digests[bytes(digest)] for digest in found}

    def forget(self, connection: sa.Connection, key: str, endpoint_id: str) -> None:
        """Forget a key."""
        connection.execute(_FORGET, {"of_digest": self._digest(key, endpoint_id)})

    def answer(
        self, connection: sa.Connection, key: str, endpoint_id: str
    ) -> str | None:
        """Return the reply that was kept, if one was."""
        is_mysql = connection.dialect.name in _MYSQL
        query = _LATEST_ANSWER if is_mysql else _ANSWER
        values = {"of_digest": self._digest(key, endpoint_id)}
        return t.cast("str | None", connection.scalar(query, values))

    def keep_reply(
        self, connection: sa.Connection, key: str, endpoint_id: str, reply: str
    ) -> None:
        """Keep the reply, for those who come with the key again.

        :raises MessagingError: The key wasn't noted before.
        """
        values = {"of_digest": self._digest(key, endpoint_id), "new_reply": reply}
        if not connection.execute(_KEEP_REPLY, values).rowcount:
            raise MessagingError(
                f"The reply of {endpoint_id} can't be kept for the key {key!r:.80}, as"
                " that isn't noted. Call 'note()' first, in the same transaction."
            )

    def values(self, key: str, endpoint_id: str) -> dict[str, t.Any]:
        """Return what :data:`NOTE_NEW` is executed with."""
        return {
            "new_digest": self._digest(key, endpoint_id),
            "new_key": storable(key, 255),
            "new_endpoint": storable(endpoint_id, 512),
        }

    def arrays(self, notes: Iterable[tuple[str, str]]) -> dict[str, list[t.Any]]:
        """Return what :data:`NOTE_NEW_ARRAYS` is executed with."""
        rows = [self.values(*each) for each in notes]
        return {
            f"{name}s": [row[name] for row in rows]
            for name in ("new_digest", "new_key", "new_endpoint")
        }

    def _digest(self, key: str, endpoint_id: str) -> bytes:
        parts = [key, endpoint_id]
        if self.scope:
            parts.insert(0, self.scope)
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()


def is_noted(engine: sa.Engine, endpoint_id: str) -> bool:
    """Whether something is noted for an endpoint."""
    query = sa.select(sa.literal(1)).where(_h.endpoint_id == storable(endpoint_id, 512))
    found = apart(engine, lambda one: one.scalar(query.limit(1)))
    return found is not None


def remove_expired(
    engine: sa.Engine,
    older_than: timedelta,
    endpoint_id: str | None = None,
    batch: int = 1000,
) -> int:
    """Remove what was noted longer ago than an age; return how much it was.

    Each batch is a transaction of its own. What another cleanup is about to remove is
    left to it.

    :param older_than: By the clock of the database.
    :param endpoint_id: Only what concerns this endpoint.
    :param batch: How many rows to remove at once, at most.
    """
    now = apart(engine, lambda one: one.scalar(sa.select(now_ms()))) or 0
    # Once for all batches: it mustn't run after what becomes old meanwhile.
    is_expired = _h.handled_at < now - older_than // timedelta(milliseconds=1)
    chosen = sa.select(_h.digest).where(is_expired)
    if endpoint_id is not None:
        chosen = chosen.where(_h.endpoint_id == storable(endpoint_id, 512))
    chosen = chosen.order_by(_h.handled_at).limit(batch)
    chosen = chosen.with_for_update(skip_locked=True)
    # Somebody may have removed a row and noted its key anew.
    removal = sa.delete(handled).where(_h.digest.in_(_digests), is_expired)

    def remove(connection: sa.Connection) -> tuple[int, int]:
        digests = connection.scalars(chosen).all()
        if not digests:
            return 0, 0
        removed = connection.execute(removal, {"digests": digests}).rowcount
        return len(digests), removed

    total = 0
    while True:
        # MariaDB locks the index first and then the row, and for a removal the other
        # way round: two cleanups may stand in each other's way, and one of them loses.
        found, removed = apart(engine, remove)
        total += removed
        if found < batch:
            return total
