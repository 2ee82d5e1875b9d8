"""How a worker takes hold of rows: updates that each database wants written otherwise.

Rows that others have locked are passed over, so that workers never wait for each other.
"""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql as postgresql

from ..storage.tables import is_waiting
from ..storage.tables import messages
from ..storage.tables import now_ms
from ..storage.tables import READY
from ..storage.tables import SUSPECT
from ..storage.tables import WAITING

_m = messages.c
_RECOVERED = 1000

OF_CHANNEL: sa.BindParameter[t.Any] = sa.bindparam("of_channel", type_=sa.String)
_ids: sa.BindParameter[t.Any] = sa.bindparam("ids", expanding=True)
#: A list that grows is another statement each time; an array stays one parameter.
_id_array: sa.BindParameter[t.Any] = sa.bindparam(
    "ids", type_=postgresql.ARRAY(sa.BigInteger)
)
_tokens: sa.BindParameter[t.Any] = sa.bindparam("tokens", expanding=True)
_is_ours = _m.token == sa.bindparam("held")
#: Removes what is still ours, for PostgreSQL and for others.
REMOVE_ARRAY: t.Final = sa.delete(messages).where(_m.id == sa.any_(_id_array), _is_ours)
REMOVE_LIST: t.Final = sa.delete(messages).where(_m.id.in_(_ids), _is_ours)


def _chosen(state: int) -> sa.Select[t.Any]:
    return (
        sa.select(_m.id)
        .where(_m.channel == OF_CHANNEL, _m.state == state)
        .order_by(_m.rank, _m.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


def _due() -> sa.Select[t.Any]:
    return (
        sa.select(_m.id)
        .where(_m.channel == OF_CHANNEL, is_waiting, _m.due_at <= now_ms())
        .order_by(_m.due_at)
        .limit(_RECOVERED)
        .with_for_update(skip_locked=True)
    )


def _held(is_listed: sa.ColumnElement[bool]) -> sa.Select[t.Any]:
    return sa.select(_m.id).where(is_listed, _is_ours).with_for_update(skip_locked=True)


def _claimed_by() -> sa.Select[t.Any]:
    return (
        sa.select(_m.id)
        .where(_m.channel == OF_CHANNEL, _m.state == WAITING, _m.token.in_(_tokens))
        .with_for_update(skip_locked=True)
    )


_CLAIMED = {
    _m.state: WAITING,
    _m.token: sa.bindparam("new_token"),
    _m.due_at: now_ms() + sa.bindparam("lease", type_=sa.BigInteger),
}
#: A worker disappeared with it, which is counted now that it is alone.
_CLAIMED_ALONE = {**_CLAIMED, _m.attempts: _m.attempts + 1}
_TAKEN = (
    _m.id,
    _m.rank,
    _m.attempts,
    _m.due_at,
    _m.endpoint_id,
    _m.message_id,
    _m.headers,
    _m.body,
    _m.expires_at,
    (_m.expires_at < now_ms()).label("is_expired"),
)
_RECOVERING: dict[t.Any, t.Any] = {
    _m.state: sa.case((_m.token.is_(None), READY), else_=SUSPECT),
    _m.token: None,
}
#: Only suspects have attempts. MariaDB sees what it has set before, so that the state,
#: which is the earlier column, comes first.
_RELEASED: dict[t.Any, t.Any] = {
    _m.state: sa.case((_m.attempts > 0, SUSPECT), else_=READY),
    _m.token: None,
    _m.attempts: sa.case((_m.attempts > 0, _m.attempts - 1), else_=0),
}
_EXTENDED = {_m.due_at: now_ms() + sa.bindparam("lease", type_=sa.BigInteger)}


class Change:
    """An update of some rows, which each database wants to have written otherwise."""

    def __init__(
        self,
        choose: sa.Select[t.Any],
        values: dict[t.Any, t.Any],
        returning: Sequence[t.Any] = (),
        choose_of_array: sa.Select[t.Any] | None = None,
    ) -> None:
        # The rows to lock are chosen once: a subquery may be evaluated again.
        chosen = (choose if choose_of_array is None else choose_of_array).cte("chosen")
        self._joined: t.Any = (
            sa.update(messages).where(_m.id == chosen.c.id).values(values)
        )
        self._inner: t.Any = sa.update(messages).where(_m.id.in_(choose)).values(values)
        if returning:
            self._joined = self._joined.returning(*returning)
            self._inner = self._inner.returning(*returning)
        self._choose = choose
        self._listed = sa.update(messages).where(_m.id.in_(_ids)).values(values)
        self._read = sa.select(*returning).where(_m.id.in_(_ids)) if returning else None

    def run(
        self, connection: sa.Connection, values: dict[str, t.Any]
    ) -> Sequence[t.Any]:
        """Execute it and return what was changed, if it returns that."""
        if connection.dialect.name == "postgresql":
            result = connection.execute(self._joined, values)
        elif connection.dialect.name == "sqlite":
            result = connection.execute(self._inner, values)
        else:
            return self._run_listed(connection, values)
        return result.all() if result.returns_rows else ()

    def _run_listed(
        self, connection: sa.Connection, values: dict[str, t.Any]
    ) -> Sequence[t.Any]:
        ids = connection.scalars(self._choose, values).all()
        if not ids:
            return ()
        connection.execute(self._listed, {**values, "ids": ids})
        if self._read is None:
            return ()
        return connection.execute(self._read, {"ids": ids}).all()


CLAIM: t.Final = Change(_chosen(READY), _CLAIMED, _TAKEN)
CLAIM_SUSPECT: t.Final = Change(_chosen(SUSPECT), _CLAIMED_ALONE, _TAKEN)
RECOVER: t.Final = Change(_due(), _RECOVERING)
_listed = _held(_m.id.in_(_ids))
_in_array = _held(_m.id == sa.any_(_id_array))
EXTEND: t.Final = Change(_listed, _EXTENDED, choose_of_array=_in_array)
RELEASE: t.Final = Change(_listed, _RELEASED, choose_of_array=_in_array)
#: All that was claimed with some tokens.
RELEASE_CLAIMS: t.Final = Change(_claimed_by(), _RELEASED)


def remove_all(
    connection: sa.Connection, token: str, positions: Sequence[t.Any]
) -> int:
    """Remove what is still ours, and return how many that were."""
    is_array = connection.dialect.name == "postgresql"
    removal = REMOVE_ARRAY if is_array else REMOVE_LIST
    return connection.execute(removal, {"ids": positions, "held": token}).rowcount
