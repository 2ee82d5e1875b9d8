"""Our own tables, and how they come into a database.

They live in a MetaData of their own. An application that has channels in its database
gets copies in the metadata of its ``db``, where ``db.create_all()`` and Flask-Migrate
see them.
"""

from __future__ import annotations

import typing as t
import weakref
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

metadata = sa.MetaData()

_KEY = sa.String(255)
_DIGEST = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

#: A message that is delayed, or claimed.
WAITING: t.Final = 0
#: A message that can be claimed.
READY: t.Final = 1
#: A message whose worker disappeared: claimed alone, as it may be the reason.
SUSPECT: t.Final = 2

#: The messages of all channels of a database. Times are milliseconds since the epoch,
#: by the clock of the database.
messages = sa.Table(
    "ecotone_message",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("channel", _KEY, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    #: The negated priority: what comes first has the lowest.
    sa.Column("rank", sa.Integer, nullable=False),
    #: When a delay or a lease ends.
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("token", sa.String(36)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("endpoint_id", sa.String(512), nullable=False),
    sa.Column("message_id", _KEY, nullable=False),
    sa.Column("headers", _TEXT, nullable=False),
    sa.Column("body", _BYTES, nullable=False),
    sa.Index("ecotone_message_next", "channel", "state", "rank", "id"),
    sa.Index("ecotone_message_due", "channel", "state", "due_at"),
)

#: What was handled already: a digest of the key and of whom it concerns.
handled = sa.Table(
    "ecotone_handled",
    metadata,
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("endpoint_id", sa.String(512), nullable=False),
    sa.Column("handled_at", sa.BigInteger, nullable=False),
    #: The reply, as JSON, of what answers a repeated message with it.
    sa.Column("reply", _TEXT),
    sa.Index("ecotone_handled_at", "handled_at"),
)

#: Messages that failed for good, until somebody decides.
dead_letters = sa.Table(
    "ecotone_dead_letter",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    #: Of message and endpoint, as the two are too long to be unique everywhere.
    sa.Column("digest", _DIGEST, nullable=False, unique=True),
    sa.Column("message_id", _KEY, nullable=False),
    sa.Column("endpoint_id", sa.String(512), nullable=False),
    sa.Column("channel", _KEY, nullable=False),
    sa.Column("message_type", sa.String(255), nullable=False),
    sa.Column("error_class", sa.String(255), nullable=False),
    sa.Column("error_message", _TEXT, nullable=False),
    sa.Column("traceback", _TEXT, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("replays", sa.Integer, nullable=False),
    sa.Column("first_failed_at", sa.BigInteger, nullable=False),
    sa.Column("last_failed_at", sa.BigInteger, nullable=False),
    sa.Column("headers", _TEXT, nullable=False),
    sa.Column("body", _BYTES, nullable=False),
    sa.Index("ecotone_dead_letter_failed", "last_failed_at"),
    sa.Index("ecotone_dead_letter_channel", "channel"),
)

#: The ticks of schedules that were taken: each by one worker.
ticks = sa.Table(
    "ecotone_tick",
    metadata,
    sa.Column("schedule", _KEY, primary_key=True),
    sa.Column("due_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("taken_at", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the extension that needs a table.

    :param name: Its name on the command line.
    """

    name: str
    table: sa.Table


FEATURES: t.Final = (
    Feature("message_queue", messages),
    Feature("deduplication", handled),
    Feature("dead_letter", dead_letters),
    Feature("schedule", ticks),
)


class now_ms(FunctionElement[int]):
    """The milliseconds since the epoch, by the clock of the database."""

    type = sa.BigInteger()
    inherit_cache = True
    name = "now_ms"


@compiles(now_ms)
def _now_standard(element: t.Any, compiler: t.Any, **options: t.Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "mysql")
@compiles(now_ms, "mariadb")
def _now_mysql(element: t.Any, compiler: t.Any, **options: t.Any) -> str:
    return "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)"


@compiles(now_ms, "sqlite")
def _now_sqlite(element: t.Any, compiler: t.Any, **options: t.Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


def register(db: SQLAlchemy) -> None:
    """Show our tables to what reads the metadata of ``db``; once or more."""
    known = db.metadatas[None]
    for table in metadata.sorted_tables:
        if table.name not in known.tables:
            table.to_metadata(known)


def create(engine: sa.Engine, features: t.Iterable[Feature] = FEATURES) -> None:
    """Create our tables where they are missing, whoever else does the same just now."""
    tables = [feature.table for feature in features]
    for is_last in (False, False, True):
        try:
            metadata.create_all(engine, tables)
        except sa_exc.DBAPIError:
            # Another process was faster; what it hasn't made yet is made now.
            if is_last:
                raise
        else:
            break


def drop(engine: sa.Engine, features: t.Iterable[Feature] = FEATURES) -> None:
    """Drop our tables, with everything in them."""
    metadata.drop_all(engine, [feature.table for feature in features])


def missing(
    engine: sa.Engine, features: t.Iterable[Feature] = FEATURES
) -> list[Feature]:
    """Return the features whose table isn't there."""
    schema = (engine.get_execution_options().get("schema_translate_map") or {}).get(
        None
    )
    inspector = sa.inspect(engine)
    return [f for f in features if not inspector.has_table(f.table.name, schema)]


_known: weakref.WeakKeyDictionary[sa.Engine, bool] = weakref.WeakKeyDictionary()


def ensure(engine: sa.Engine) -> None:
    """Create our tables on the first use of an engine; never inside a transaction."""
    if engine not in _known:
        if missing(engine):
            create(engine)
        _known[engine] = True
