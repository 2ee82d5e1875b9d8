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
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from .apart import begin_write

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_Type = t.TypeVar("_Type", bound=sa.types.TypeEngine[t.Any])

metadata = sa.MetaData()


def _of_mysql(name: str, generic: type[_Type]) -> _Type:
    """Return what stands for a type of SQLAlchemy's MySQL dialect.

    The dialect itself takes a MiB of memory where nobody uses it. It compiles a type by
    the name to visit; Alembic writes it down by the names of its class and module.
    """
    made = type(
        name,
        (generic,),
        {
            "__module__": "sqlalchemy.dialects.mysql",
            "__visit_name__": name,
            "__reduce__": lambda self: (_of_mysql, (name, generic)),
        },
    )
    return t.cast("type[_Type]", made)()


_KEY = sa.String(255)
_DIGEST = sa.LargeBinary(32).with_variant(sa.BINARY(32), "mysql", "mariadb")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTES = sa.LargeBinary().with_variant(
    _of_mysql("LONGBLOB", sa.LargeBinary), "mysql", "mariadb"
)
_TEXT = sa.Text().with_variant(_of_mysql("LONGTEXT", sa.Text), "mysql", "mariadb")

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
    # A planner that knows of no ready messages would sort all of them by this one.
    sa.Index(
        "ecotone_message_due",
        "channel",
        "state",
        "due_at",
        postgresql_where=sa.text(f"state = {WAITING}"),
    ),
)

#: The state is written out, as a planner must see that the index is one of those.
is_waiting: t.Final = messages.c.state == sa.literal_column(str(WAITING))

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

#: The advisory lock of PostgreSQL that whoever creates our tables takes.
_CREATING: t.Final = 0x65636F746F6E65


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
    # UNIX_TIMESTAMP() reads local time, of which an hour comes twice each autumn.
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"


@compiles(now_ms, "sqlite")
def _now_sqlite(element: t.Any, compiler: t.Any, **options: t.Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


def register(db: SQLAlchemy, key: str | None = None) -> None:
    """Show our tables to what reads the metadata of ``db``; once or more.

    :param key: The bind whose metadata is meant; what isn't one has none.
    """
    known = db.metadatas.get(key)
    if known is None:
        return
    for table in metadata.sorted_tables:
        if table.name not in known.tables:
            table.to_metadata(known)


def create(engine: sa.Engine, features: t.Iterable[Feature] = FEATURES) -> None:
    """Create our tables where they are missing, whoever else does the same just now.

    An index that somebody was stopped from creating is created, too.
    """
    schema = _schema(engine)
    with engine.begin() as connection:
        _wait_for_others(connection)
        inspector = sa.inspect(connection)
        for table in (feature.table for feature in features):
            known = set()
            if inspector.has_table(table.name, schema):
                known = {i["name"] for i in inspector.get_indexes(table.name, schema)}
            else:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
            # Only what is missing: a statement alone waits for those who write.
            for index in _indexes(table):
                if index.name not in known:
                    connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))


def statements(
    engine: sa.Engine, features: t.Iterable[Feature] = FEATURES
) -> list[str]:
    """Return the statements that create our tables; nothing is connected."""
    elements: list[sa.schema.ExecutableDDLElement] = []
    schema = _schema(engine)
    if schema is not None:
        elements.append(sa.schema.CreateSchema(schema, if_not_exists=True))
    for table in (feature.table for feature in features):
        elements.append(sa.schema.CreateTable(table))
        elements.extend(sa.schema.CreateIndex(index) for index in _indexes(table))
    options: dict[str, t.Any] = {"dialect": engine.dialect}
    if schema is not None:
        options["schema_translate_map"] = {None: schema}
        options["render_schema_translate"] = True
    return [str(element.compile(**options)).strip() for element in elements]


def drop(engine: sa.Engine, features: t.Iterable[Feature] = FEATURES) -> None:
    """Drop our tables, with everything in them."""
    metadata.drop_all(engine, [feature.table for feature in features])
    forget(engine)


def missing(
    engine: sa.Engine, features: t.Iterable[Feature] = FEATURES
) -> list[Feature]:
    """Return the features whose table isn't there."""
    schema = _schema(engine)
    inspector = sa.inspect(engine)
    return [f for f in features if not inspector.has_table(f.table.name, schema)]


def lacking(
    engine: sa.Engine, features: t.Iterable[Feature] = FEATURES
) -> dict[Feature, list[str]]:
    """Return what isn't there of tables that are, as another version made them."""
    schema = _schema(engine)
    inspector = sa.inspect(engine)
    found = {}
    for feature in features:
        table = feature.table
        if not inspector.has_table(table.name, schema):
            continue
        columns = {each["name"] for each in inspector.get_columns(table.name, schema)}
        indexes = {each["name"] for each in inspector.get_indexes(table.name, schema)}
        lacks = [f"column {c.name}" for c in table.columns if c.name not in columns]
        lacks += [f"index {i.name}" for i in _indexes(table) if i.name not in indexes]
        if lacks:
            found[feature] = lacks
    return found


_NOT_MADE: t.Final = (
    "Flask-Ecotone makes its tables when they are first needed. Where the application"
    " may not create tables, do it when you deploy, as a user that may: with 'flask"
    " ecotone database setup --initialize' or a migration."
)
_known: weakref.WeakKeyDictionary[sa.Engine, bool] = weakref.WeakKeyDictionary()


def ensure(engine: sa.Engine) -> None:
    """Create our tables on the first use of an engine; never inside a transaction."""
    if engine not in _known:
        if missing(engine):
            try:
                create(engine)
            except sa.exc.DBAPIError as error:
                error.add_note(_NOT_MADE)
                raise
        _known[engine] = True


def forget(engine: sa.Engine) -> None:
    """Look again whether our tables are there when an engine is used next."""
    _known.pop(engine, None)


def _schema(engine: sa.Engine) -> str | None:
    translated = engine.get_execution_options().get("schema_translate_map") or {}
    return t.cast("str | None", translated.get(None))


def _indexes(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))


def _wait_for_others(connection: sa.Connection) -> None:
    # MariaDB needs no more than IF NOT EXISTS. On PostgreSQL that is no help against
    # somebody whose table isn't committed yet.
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING)))
    elif connection.dialect.name == "sqlite":
        begin_write(connection)
