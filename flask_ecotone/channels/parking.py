"""A message becomes a row among the dead letters."""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite

from ..message import REPLAYS
from ..storage.tables import dead_letters
from ..storage.tables import now_ms
from ..storage.texts import storable
from .protocols import Envelope

_d = dead_letters.c
#: How many characters of an error are kept.
_LONGEST: t.Final = 30_000

#: What is known of a message that failed once more is that of the last time.
_LATEST: t.Final = (
    "channel",
    "message_type",
    "error_class",
    "error_message",
    "traceback",
    "last_failed_at",
    "headers",
    "body",
)
_NOW = sa.select(now_ms())
_FAILED = sa.insert(dead_letters)


def _upsert(failed: t.Any) -> t.Any:
    again = {name: failed.excluded[name] for name in _LATEST}
    again["attempts"] = _d.attempts + failed.excluded.attempts
    return failed.on_conflict_do_update(index_elements=[_d.digest], set_=again)


_UPSERTS: t.Final[dict[str, t.Any]] = {
    "postgresql": _upsert(postgresql.insert(dead_letters)),
    "sqlite": _upsert(sqlite.insert(dead_letters)),
}
#: For databases that can't do both with one statement.
_KNOWN = sa.select(_d.digest).where(
    _d.digest.in_(sa.bindparam("digests", expanding=True))
)
_FAILED_AGAIN = (
    sa.update(dead_letters)
    .where(_d.digest == sa.bindparam("known"))
    .values(attempts=_d.attempts + sa.bindparam("more", type_=sa.Integer))
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was given up.

    :param attempts: How often it was tried.
    :param first_failed_at: Milliseconds since the epoch; ``None`` for now.
    """

    error_class: str
    error_message: str
    traceback: str
    attempts: int
    first_failed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that failed for good.

    :param channel: Where it came from.
    """

    channel: str
    envelope: Envelope
    failure: Failure
    message_type: str


def store(connection: sa.Connection, letters: Sequence[Letter]) -> None:
    """Keep messages that failed for good, or note that they did so once more."""
    now = t.cast(int, connection.scalar(_NOW))
    rows = [_row(each, now) for each in letters]
    upsert = _UPSERTS.get(connection.dialect.name)
    if upsert is not None:
        connection.execute(upsert, rows)
        return
    digests = [row["digest"] for row in rows]
    known = set(connection.scalars(_KNOWN, {"digests": digests}))
    again = [row for row in rows if row["digest"] in known]
    first = [row for row in rows if row["digest"] not in known]
    if again:
        connection.execute(_FAILED_AGAIN, [_changes(row) for row in again])
    if first:
        connection.execute(_FAILED, first)


def _row(letter: Letter, now: int) -> dict[str, t.Any]:
    envelope, failure = letter.envelope, letter.failure
    key = f"{envelope.message_id}\0{envelope.endpoint_id}".encode()
    return {
        "digest": hashlib.sha256(key).digest(),
        "message_id": envelope.message_id,
        "endpoint_id": envelope.endpoint_id,
        "channel": letter.channel,
        "message_type": storable(letter.message_type, 255),
        **said_of(failure),
        "attempts": failure.attempts,
        "replays": _replays(envelope),
        "first_failed_at": failure.first_failed_at or now,
        "last_failed_at": now,
        "headers": envelope.headers,
        "body": envelope.body,
    }


def _changes(row: dict[str, t.Any]) -> dict[str, t.Any]:
    latest = {name: row[name] for name in _LATEST}
    return {**latest, "known": row["digest"], "more": row["attempts"]}


def said_of(failure: Failure) -> dict[str, str]:
    """Return what columns say of a failure."""
    return {
        "error_class": storable(failure.error_class, 255),
        "error_message": storable(failure.error_message, _LONGEST),
        # Its end says what happened.
        "traceback": storable(failure.traceback[-_LONGEST:], _LONGEST),
    }


def headers_of(envelope: Envelope) -> dict[str, t.Any]:
    """Return the headers of a message, none if they can't be read."""
    try:
        return msgspec.json.decode(envelope.headers, type=dict[str, t.Any])
    except msgspec.MsgspecError:
        return {}


def _replays(envelope: Envelope) -> int:
    found = headers_of(envelope).get(REPLAYS)
    # What isn't a number of ours must not keep the message from being stored.
    return found if isinstance(found, int) and 0 <= found < 2**31 - 1 else 0
