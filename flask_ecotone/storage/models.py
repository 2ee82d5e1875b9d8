"""Aggregates that are Flask-SQLAlchemy models, kept in ``db.session``."""

from __future__ import annotations

import re
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from functools import cached_property

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.attributes import set_committed_value

from ..errors import AggregateNotFoundError
from ..errors import ConcurrencyError
from ..errors import ModellingError
from .versions import version_attribute

_INT = 2**31
_BIGINT = 2**63
# int() reads more than this: one row must not have several names.
_NUMBER = re.compile(r"-?[0-9]+")


class SQLAlchemyRepository:
    """Loads and saves mapped classes through a session.

    It implements :class:`~flask_ecotone.storage.protocols.Repository`.

    :param session: Returns the session to use; for an application ``db.session``.
    """

    keeps_metadata = False

    def __init__(self, session: Callable[[], sa_orm.Session] | None = None) -> None:
        self._session = session
        self._plans: dict[type, _Plan] = {}

    def can_handle(self, aggregate_class: type) -> bool:
        """Whether the class is mapped to a table."""
        return _mapper(aggregate_class) is not None

    def identifiers_of(self, aggregate_class: type) -> tuple[str, ...]:
        """Return the names of the attributes that make the primary key."""
        return self._plan(aggregate_class).names

    def find_by(
        self, aggregate_class: type, identifiers: Mapping[str, t.Any]
    ) -> t.Any | None:
        """Return the model with the primary key, or ``None``.

        Text, as it comes from a URL, is converted to the type of the column.
        """
        plan = self._plan(aggregate_class)
        if identifiers.keys() != plan.key:
            query: sa.Select[t.Any] = sa.select(aggregate_class)
            query = query.filter_by(**identifiers)
            return self.session.scalars(query).one_or_none()
        try:
            key = tuple(convert(identifiers[name]) for name, convert in plan.converters)
        except ValueError:
            return None
        session = self.session
        for value, column in zip(key, plan.columns, strict=True):
            # A driver fails on a number that no row can have.
            if isinstance(value, int) and not -_INT <= value < _INT:
                if not _fits(value, column, session):
                    return None
        statement = plan.statement
        if (
            statement is None
            or None in key
            or type(session).get is not sa_orm.Session.get
            or plan.mapper.identity_key_from_primary_key(key) in session.identity_map
        ):
            return session.get(aggregate_class, key)
        parameters = dict(zip(plan.parameters, key, strict=True))
        return session.execute(statement, parameters).unique().scalars().one_or_none()

    def save(
        self,
        identifiers: Mapping[str, t.Any],
        aggregate: t.Any,
        metadata: Mapping[str, t.Any],
        version_before_handling: int | None,
    ) -> None:
        """Add the model to the session and flush.

        :raises ConcurrencyError: Its version column was changed since it was loaded.
        """
        session = self.session
        plan = self._plan(type(aggregate))
        state = instance_state(aggregate)
        if state.was_deleted:
            session.flush()  # the handler deleted it, and something flushed since
            return
        has_row = state.persistent or state.detached
        if not state.persistent:
            session.add(aggregate)
        if has_row and plan.version is not None and version_before_handling is not None:
            self._claim_version(
                session, plan.version, aggregate, version_before_handling
            )
        session.flush()

    @property
    def session(self) -> sa_orm.Session:
        """The session in use."""
        if self._session is None:
            raise AggregateNotFoundError(
                "This SQLAlchemyRepository was made without a session and can't load"
                " or save. Make it with SQLAlchemyRepository(lambda: db.session())."
            )
        return self._session()

    def _claim_version(
        self,
        session: sa_orm.Session,
        version: _VersionColumn,
        aggregate: t.Any,
        before: int,
    ) -> None:
        # One conditional UPDATE: whoever comes second finds no row with the version.
        name, column = version.name, version.column
        now = getattr(aggregate, name)
        stored = _stored_value(aggregate, name, before)
        if before == 0 and stored and version.counts_up:
            now = stored + 1  # a factory returned an instance that has a row already
        elif (stored or 0) != before and not version.counts_up:
            raise ModellingError(
                f"{type(aggregate).__qualname__}.{name} was written by a query before"
                " it could be checked. Change the version after the last query, or"
                " query inside 'with db.session.no_autoflush'."
            )
        table = column.table
        key = sa.inspect(aggregate).identity
        statement = (
            sa.update(table)
            .where(column == stored)
            .where(*(c == v for c, v in zip(table.primary_key, key, strict=True)))
            .values({column: now})
        )
        with session.no_autoflush:
            mapper = sa.inspect(aggregate).mapper
            found = session.execute(statement, bind_arguments={"mapper": mapper})
        if t.cast("sa.CursorResult[t.Any]", found).rowcount != 1:
            raise changed_meanwhile(type(aggregate).__qualname__, key)
        set_committed_value(aggregate, name, now)

    def version_of(self, aggregate_class: type) -> str | None:
        """Return the name of the attribute that SQLAlchemy counts, if there is one."""
        mapper = _mapper(aggregate_class)
        if mapper is None or mapper.version_id_col is None:
            return None
        return mapper.get_property_by_column(mapper.version_id_col).key

    def _plan(self, cls: type) -> _Plan:
        plan = self._plans.get(cls)
        if plan is None:
            plan = self._plans[cls] = _Plan(cls)
        return plan


class _VersionColumn(t.NamedTuple):
    name: str
    column: sa.Column[t.Any]
    counts_up: bool


class _Plan:
    """How a mapped class is identified, loaded and versioned."""

    def __init__(self, cls: type) -> None:
        mapper = self.mapper = t.cast("sa_orm.Mapper[t.Any]", _mapper(cls))
        columns = self.columns = mapper.primary_key
        self.names = tuple(mapper.get_property_by_column(c).key for c in columns)
        self.key = frozenset(self.names)
        self.converters = [
            (name, _converter(column))
            for name, column in zip(self.names, columns, strict=True)
        ]
        self.version: _VersionColumn | None = None
        if mapper.version_id_col is None:
            found = version_attribute(cls)
            if found is not None:
                column = mapper.columns[found.name]
                self.version = _VersionColumn(found.name, column, found.counts_up)
        #: The parameters of the statement, one for each part of the key.
        self.parameters = [f"pk_{n}" for n in range(1, len(columns) + 1)]

    @cached_property
    def statement(self) -> sa.Select[t.Any] | None:
        """What ``session.get()`` makes anew for every row, a third of its time.

        ``None`` if it does more than to execute that.
        """
        mapper = self.mapper
        is_polymorphic = mapper.selectable is not mapper.persist_selectable
        if is_polymorphic or mapper.always_refresh:
            return None
        key = zip(self.columns, self.parameters, strict=True)
        return sa.select(mapper).where(
            *(c == sa.bindparam(name, type_=c.type) for c, name in key)
        )


def changed_meanwhile(name: str, key: t.Any) -> ConcurrencyError:
    """Return the error of a lost race for an aggregate."""
    return ConcurrencyError(
        f"{name} {key!r} was changed by somebody else since it was loaded. Load it"
        " again and decide anew; @instant_retry does so by itself."
    )


def _stored_value(aggregate: t.Any, name: str, default: t.Any) -> t.Any:
    # What the row has, as far as the session knows.
    history = sa.inspect(aggregate).attrs[name].history
    known = [*(history.deleted or ()), *(history.unchanged or ())]
    return known[0] if known else default


def _mapper(cls: t.Any) -> sa_orm.Mapper[t.Any] | None:
    found = sa.inspect(cls, raiseerr=False) if isinstance(cls, type) else None
    return found if isinstance(found, sa_orm.Mapper) else None


def _converter(column: sa.ColumnElement[t.Any]) -> Callable[[t.Any], t.Any]:
    try:
        python_type = column.type.python_type
    except NotImplementedError:
        return lambda value: value
    if python_type not in (int, uuid.UUID, str):
        return lambda value: value
    if isinstance(column.type, sa.TypeDecorator):
        return lambda value: value
    make = t.cast(Callable[[t.Any], t.Any], python_type)
    is_number = python_type is int

    def convert(value: t.Any) -> t.Any:
        if isinstance(value, python_type) and not isinstance(value, bool):
            return value
        text = _text(value)
        if is_number and isinstance(text, str) and not _NUMBER.fullmatch(text):
            raise ValueError(value)
        return make(text)

    return convert


def _fits(value: int, column: t.Any, session: sa_orm.Session) -> bool:
    dialect = session.get_bind(clause=sa.select(column)).dialect.name
    is_big = isinstance(column.type, sa.BigInteger) or dialect == "sqlite"
    return is_big and -_BIGINT <= value < _BIGINT


def _text(value: t.Any) -> t.Any:
    # A float or None is not an identifier, whatever int() or str() make of it.
    if isinstance(value, (str, int, uuid.UUID)) and not isinstance(value, bool):
        return str(value) if isinstance(value, uuid.UUID) else value
    raise ValueError(value)
