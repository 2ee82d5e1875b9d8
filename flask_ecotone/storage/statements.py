"""The SQL of business interfaces, executed on ``db.session``."""

from __future__ import annotations

import datetime
import decimal
import re
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import MessagingError
from .protocols import Reader
from .protocols import SqlText

#: Databases store these in a way of their own, the same as for columns of models. The
#: most specific class stands first.
_TYPES: tuple[tuple[type, sa.types.TypeEngine[t.Any]], ...] = (
    (datetime.datetime, sa.DateTime()),
    (datetime.date, sa.Date()),
    (datetime.time, sa.Time()),
    (datetime.timedelta, sa.Interval()),
    (decimal.Decimal, sa.Numeric()),
    (uuid.UUID, sa.Uuid()),
)
_AWARE = sa.DateTime(timezone=True)
#: What an empty list is compared with, where a database wants to know.
_EMPTY: tuple[tuple[type, sa.types.TypeEngine[t.Any]], ...] = (
    *_TYPES,
    (str, sa.String()),
    (bytes, sa.LargeBinary()),
    (bool, sa.Boolean()),
    (int, sa.BigInteger()),
    (float, sa.Float()),
)
_EMPTY_NUMBERS = sa.BigInteger()
#: How a parameter is written, by the number of its values. The space parts it from a
#: cast.
_PLACEHOLDERS = {
    "one": ":{} ",
    "several": ":{} ",
    "none": "(SELECT :{} FROM (SELECT 1 AS one) AS empty_list WHERE 1 != 1) ",
}
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})

#: Text that SQLAlchemy may take for a parameter, or for an escape, and all around it.
_SUSPECT = re.compile(r"(?:[:\w$\\]|%\()+")
_MISLEADING = re.compile(r"(?<![:\w]):[\w$]|\\:|%\(")

_OPENED = re.compile(r"\(\s*$")
_CLOSED = re.compile(r"^\s*\)")
_ARRAY = re.compile(r"\b(any|all|some|unnest)\s*\(\s*$", re.IGNORECASE)
_READS = re.compile(r"\s*(select|values|table|with)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(insert|update|delete|merge)\b", re.IGNORECASE)

#: A kind of value: its type, and how many there are: one, several or none.
_Kind = tuple[t.Any, str]


class SessionStatements:
    """Prepares SQL for the session of an application.

    It implements :class:`~flask_ecotone.storage.protocols.Statements`.

    :param session: Returns the session of the current app context.
    :param engines: Bind key → engine.
    :param has_tenants: Whether the session leads to a database of the active tenant.
    """

    def __init__(
        self,
        session: Callable[[], sa_orm.Session],
        engines: Mapping[str | None, sa.Engine],
        has_tenants: bool = False,
    ) -> None:
        self._session = session
        self._engines = engines
        self._has_tenants = has_tenants

    def dialects(self, bind: str | None, where: str) -> tuple[str, ...]:
        """Return the names of the dialects that SQL for a bind key may be written in.

        :raises ConfigurationError: There is no such bind key.
        """
        if bind is not None:
            return (self._engine(bind, where).dialect.name,)
        engines = list(self._engines.values())
        if not self._has_tenants:
            engines = [self._engines[None]] if None in self._engines else engines[:1]
        return tuple(dict.fromkeys(e.dialect.name for e in engines)) or ("",)

    def current_dialect(self) -> str:
        """Return the name of the dialect of the active tenant's database."""
        return self._session().get_bind().dialect.name

    def prepare(
        self, text: SqlText, bind: str | None, items: Mapping[str, type], where: str
    ) -> SessionStatement:
        """Return SQL ready to be executed, any number of times."""
        engine = None if bind is None else self._engine(bind, where)
        return SessionStatement(self._session, engine, text, items, where)

    def _engine(self, bind: str, where: str) -> sa.Engine:
        engine = self._engines.get(bind)
        if engine is None:
            known = [str(key) for key in self._engines if key is not None]
            raise ConfigurationError(
                f"{where} uses the bind key {bind!r}, which SQLALCHEMY_BINDS doesn't"
                f" have.{did_you_mean(bind, known)} Add it there, or leave 'bind' out"
                " for the default database."
            )
        return engine


class SessionStatement:
    """SQL that is executed on the session of the current app context.

    It implements :class:`~flask_ecotone.storage.protocols.Statement`.

    :param engine: The engine of its bind key, ``None``: where the session leads.
    """

    def __init__(
        self,
        session: Callable[[], sa_orm.Session],
        engine: sa.Engine | None,
        text: SqlText,
        items: Mapping[str, type],
        where: str,
    ) -> None:
        self._session = session
        self._bind = {} if engine is None else {"bind": engine}
        self._pieces = text.pieces
        self._names = text.names
        self._arrays = _arrays(text)
        self._empty = {
            name: _listed(_EMPTY, cls) or _EMPTY_NUMBERS for name, cls in items.items()
        }
        self._where = where
        first = text.pieces[0]
        written = " ".join(text.pieces[::2])
        self._can_stream = bool(_READS.match(first)) and not _WRITES.search(written)
        # SQLAlchemy compiles each of them once for a dialect.
        self._clauses: dict[tuple[_Kind, ...], sa.TextClause] = {}

    def write(self, values: Mapping[str, t.Any]) -> int:
        """Execute it and return the number of rows that it changed."""
        result = self._execute(self._ready(), values)
        if result.returns_rows:
            return len(result.all())
        return max(result.rowcount, 0)

    def read(self, values: Mapping[str, t.Any], reader: Reader) -> list[t.Any]:
        """Execute it and return all rows."""
        result = self._rows(self._ready(), values)
        try:
            read = reader(tuple(result.keys()))
            return [read(t.cast("tuple[t.Any, ...]", row)) for row in result]
        finally:
            result.close()

    def read_first(self, values: Mapping[str, t.Any], reader: Reader) -> list[t.Any]:
        """Execute it and return the first row, if there is one."""
        result = self._rows(self._ready(), values)
        try:
            read = reader(tuple(result.keys()))
            row = result.fetchone()
            return [] if row is None else [read(t.cast("tuple[t.Any, ...]", row))]
        finally:
            result.close()

    def iterate(
        self, values: Mapping[str, t.Any], reader: Reader
    ) -> Generator[t.Any, None, None]:
        """Execute it and return an iterator of the rows.

        It is executed now, on the session of the call.
        """
        rows = self._iterate(values, reader)
        # Once it has begun, closing it runs its end.
        next(rows)
        return rows

    def _iterate(
        self, values: Mapping[str, t.Any], reader: Reader
    ) -> Generator[t.Any, None, None]:
        session = self._ready()
        streams = False
        if self._can_stream:
            # It takes the dict apart.
            connection = session.connection(bind_arguments=dict(self._bind))
            dialect = connection.dialect.name
            # MySQL's driver can't execute anything else meanwhile, and SQLite finds
            # rows that are inserted meanwhile, without an end.
            streams = dialect not in ("mysql", "mariadb", "sqlite")
        result = self._rows(session, values, {"stream_results": streams})
        begun = session.get_transaction()
        try:
            read = reader(tuple(result.keys()))
            rows = iter(result if streams else result.fetchall())
            yield None
            while True:
                if session.get_transaction() is not begun:
                    raise MessagingError(
                        f"{self._where}: the transaction ended before all rows were"
                        " read. Read them in the command, query or view that asked for"
                        " them, before db.session.commit(), or return a list."
                    )
                row = next(rows, None)
                if row is None:
                    return
                yield read(t.cast("tuple[t.Any, ...]", row))
        finally:
            result.close()

    def _ready(self) -> sa_orm.Session:
        session = self._session()
        # SQL sees what is pending, as a query of the ORM does.
        if session.autoflush and not getattr(session, "_flushing", False):
            session.flush()
        return session

    def _rows(
        self,
        session: sa_orm.Session,
        values: Mapping[str, t.Any],
        options: Mapping[str, t.Any] = sa.util.EMPTY_DICT,
    ) -> sa.CursorResult[t.Any]:
        result = self._execute(session, values, options)
        if not result.returns_rows:
            raise MessagingError(
                f"{self._where} is a query, and its SQL returned no rows at all. Mark"
                " it with @sql_write, or write a SELECT or RETURNING."
            )
        return result

    def _execute(
        self,
        session: sa_orm.Session,
        values: Mapping[str, t.Any],
        options: Mapping[str, t.Any] = sa.util.EMPTY_DICT,
    ) -> sa.CursorResult[t.Any]:
        kinds = tuple([self._kind(name, values[name]) for name in self._names])
        pairs = zip(self._names, kinds, strict=True)
        clause = self._clauses.get(kinds)
        if clause is None:
            clause = self._clauses[kinds] = self._clause(kinds)
        return t.cast(
            "sa.CursorResult[t.Any]",
            session.execute(
                clause,
                # An empty list is a query of its own, which finds nothing.
                {n: None if k[1] == "none" else values[n] for n, k in pairs},
                execution_options=options,
                bind_arguments=dict(self._bind),
            ),
        )

    def _kind(self, name: str, value: t.Any) -> _Kind:
        if not isinstance(value, list) or name in self._arrays:
            return _type_of(value), "one"
        if not value:
            return self._empty.get(name, _EMPTY_NUMBERS), "none"
        return next(filter(None, map(_type_of, value)), None), "several"

    def _clause(self, kinds: tuple[_Kind, ...]) -> sa.TextClause:
        by_name = dict(zip(self._names, kinds, strict=True))
        pieces = list(self._pieces)
        for at in range(1, len(pieces), 2):
            before, name, after = pieces[at - 1 : at + 2]
            is_enclosed = _OPENED.search(before) and _CLOSED.match(after)
            if by_name[name][1] != "one" and is_enclosed:
                # SQLAlchemy writes the parentheses of a list.
                pieces[at - 1] = f"{_OPENED.sub('', before)} "
                pieces[at + 1] = f" {_CLOSED.sub('', after)}"
        parameters = [
            sa.bindparam(name, type_=type_, expanding=count == "several")
            for name, (type_, count) in by_name.items()
        ]

        def verbatim(found: re.Match[str]) -> str:
            if not _MISLEADING.search(found[0]):
                return found[0]
            name = f"verbatim_{len(parameters)}"
            while name in by_name:
                name += "_"
            parameters.append(
                sa.bindparam(name, found[0], type_=_Verbatim(), literal_execute=True)
            )
            return f":{name}"

        for at, piece in enumerate(pieces):
            if at % 2:
                pieces[at] = _PLACEHOLDERS[by_name[piece][1]].format(piece)
            else:
                pieces[at] = _SUSPECT.sub(verbatim, piece)
        return sa.text("".join(pieces)).bindparams(*parameters)


class _Verbatim(sa.types.UserDefinedType[str]):
    """A part of the SQL itself, past what SQLAlchemy reads in text."""

    cache_ok = True

    def literal_processor(self, dialect: sa.Dialect) -> Callable[[str], str]:
        if dialect.paramstyle in ("format", "pyformat"):
            return lambda text: text.replace("%", "%%")
        return str


def _arrays(text: SqlText) -> frozenset[str]:
    pieces = text.pieces
    return frozenset(
        pieces[at]
        for at in range(1, len(pieces), 2)
        if _ARRAY.search(pieces[at - 1]) or pieces[at + 1].startswith("::")
    )


def _type_of(value: t.Any) -> sa.types.TypeEngine[t.Any] | None:
    cls = type(value)
    if cls in _PLAIN:
        return None
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return _AWARE
    return _listed(_TYPES, cls)


def _listed(types: t.Any, cls: type) -> sa.types.TypeEngine[t.Any] | None:
    return next((type_ for base, type_ in types if issubclass(cls, base)), None)
