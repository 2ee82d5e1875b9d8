"""A message becomes a row among the dead letters."""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

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


@cache
def _upsert(dialect: str) -> t.Any:
    """Return the statement by which a database keeps dead letters."""
    if dialect in ("mysql", "mariadb"):
        # Applications with another database don't have it in their memory.
        failed = import_module("sqlalchemy.dialects.mysql").insert(dead_letters)
        return failed.on_duplicate_key_update(_again(failed.inserted))
    insert = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect]
    kept: t.Any = insert(dead_letters)
    return kept.on_conflict_do_update(
        index_elements=[_d.digest], set_=_again(kept.excluded)
    )


def _again(failed: t.Any) -> dict[str, t.Any]:
    latest: dict[str, t.Any] = {name: failed[name] for name in _LATEST}
    return {**latest, "attempts": _d.attempts + failed.attempts}


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
    connection.execute(_upsert(connection.dialect.name), rows)


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
