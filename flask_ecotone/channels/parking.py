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

_said: dict[str, sa.BindParameter[t.Any]] = {
    name: sa.bindparam(name, type_=_d[name].type)
    for name in (
        "channel",
        "message_type",
        "error_class",
        "error_message",
        "traceback",
        "headers",
        "body",
    )
}
_digest: sa.BindParameter[t.Any] = sa.bindparam("known_digest", type_=_d.digest.type)
_attempts: sa.BindParameter[t.Any] = sa.bindparam("failed_attempts", type_=sa.Integer)
_kept: dict[str, t.Any] = {
    **_said,
    "digest": _digest,
    "attempts": _attempts,
    "message_id": sa.bindparam("message_id"),
    "endpoint_id": sa.bindparam("endpoint_id"),
    "replays": sa.bindparam("replays"),
    "first_failed_at": sa.func.coalesce(
        sa.bindparam("failed_first", type_=sa.BigInteger), now_ms()
    ),
    "last_failed_at": now_ms(),
}
_again: dict[str, t.Any] = {
    **_said,
    "attempts": _d.attempts + _attempts,
    "last_failed_at": now_ms(),
}
#: For databases that can't do both with one statement.
_KNOWN = sa.select(_d.digest).where(
    _d.digest.in_(sa.bindparam("digests", expanding=True))
)
_FAILED_AGAIN = sa.update(dead_letters).where(_d.digest == _digest).values(_again)
_FAILED = sa.insert(dead_letters).values(_kept)
_UPSERTS: dict[str, t.Any] = {
    name: module.insert(dead_letters)
    .values(_kept)
    .on_conflict_do_update(index_elements=[_d.digest], set_=_again)
    for name, module in (("postgresql", postgresql), ("sqlite", sqlite))
}


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
    rows = [_row(each) for each in letters]
    upsert = _UPSERTS.get(connection.dialect.name)
    if upsert is not None:
        connection.execute(upsert, rows)
        return
    digests = [row["known_digest"] for row in rows]
    known = set(connection.scalars(_KNOWN, {"digests": digests}))
    again = [row for row in rows if row["known_digest"] in known]
    first = [row for row in rows if row["known_digest"] not in known]
    if again:
        connection.execute(_FAILED_AGAIN, again)
    if first:
        connection.execute(_FAILED, first)


def _row(letter: Letter) -> dict[str, t.Any]:
    envelope, failure = letter.envelope, letter.failure
    key = f"{envelope.message_id}\0{envelope.endpoint_id}".encode()
    return {
        "channel": letter.channel,
        "message_type": storable(letter.message_type, 255),
        **said_of(failure),
        "headers": envelope.headers,
        "body": envelope.body,
        "failed_attempts": failure.attempts,
        "known_digest": hashlib.sha256(key).digest(),
        "message_id": envelope.message_id,
        "endpoint_id": envelope.endpoint_id,
        "replays": _replays(envelope),
        "failed_first": failure.first_failed_at,
    }


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
