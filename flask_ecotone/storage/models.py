"""Aggregates that are Flask-SQLAlchemy models, kept in ``db.session``."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Mapping

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from sqlalchemy.orm.attributes import set_committed_value

from ..decorators.parameters import Version
from ..errors import AggregateNotFoundError
from ..errors import ConcurrencyError
from ..reflection import class_hints
from ..reflection import field_markers


class SQLAlchemyRepository:
    """Loads and saves mapped classes through a session.

    It implements :class:`~flask_ecotone.storage.protocols.Repository`.

    :param session: Returns the session to use; for an application ``db.session``.
    """

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
        if set(identifiers) != set(plan.names):
            query: sa.Select[t.Any] = sa.select(aggregate_class)
            query = query.filter_by(**identifiers)
            return self.session.scalars(query).one_or_none()
        try:
            key = tuple(convert(identifiers[name]) for name, convert in plan.converters)
        except ValueError:
            return None
        return self.session.get(aggregate_class, key)

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
        state = sa.inspect(aggregate)
        if state.persistent and plan.version is not None and version_before_handling:
            self._claim_version(session, plan, aggregate, version_before_handling)
        elif not state.persistent:
            session.add(aggregate)
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
        self, session: sa_orm.Session, plan: _Plan, aggregate: t.Any, before: int
    ) -> None:
        # One conditional UPDATE: whoever comes second finds no row with the version.
        name, column = t.cast("tuple[str, sa.Column[t.Any]]", plan.version)
        now = getattr(aggregate, name)
        table = column.table
        key = sa.inspect(aggregate).identity
        statement = (
            sa.update(table)
            .where(column == before)
            .where(*(c == v for c, v in zip(table.primary_key, key, strict=True)))
            .values({column: now})
        )
        with session.no_autoflush:
            mapper = sa.inspect(aggregate).mapper
            found = session.execute(statement, bind_arguments={"mapper": mapper})
        if t.cast("sa.CursorResult[t.Any]", found).rowcount != 1:
            raise changed_meanwhile(type(aggregate).__qualname__, key)
        set_committed_value(aggregate, name, now)

    def _plan(self, cls: type) -> _Plan:
        plan = self._plans.get(cls)
        if plan is None:
            plan = self._plans[cls] = _Plan(cls)
        return plan


class _Plan:
    """How a mapped class is identified and versioned."""

    def __init__(self, cls: type) -> None:
        mapper = t.cast("sa_orm.Mapper[t.Any]", _mapper(cls))
        columns = mapper.primary_key
        self.names = tuple(mapper.get_property_by_column(c).key for c in columns)
        self.converters = [
            (name, _converter(column))
            for name, column in zip(self.names, columns, strict=True)
        ]
        self.version: tuple[str, sa.Column[t.Any]] | None = None
        if mapper.version_id_col is None:
            for name, annotation in class_hints(cls).items():
                if any(isinstance(m, Version) for m in field_markers(annotation)):
                    self.version = (name, mapper.columns[name])


def changed_meanwhile(name: str, key: t.Any) -> ConcurrencyError:
    """Return the error of a lost race for an aggregate."""
    return ConcurrencyError(
        f"{name} {key!r} was changed by somebody else since it was loaded. Load it"
        " again and decide anew; @instant_retry does so by itself."
    )


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

    def convert(value: t.Any) -> t.Any:
        return value if isinstance(value, python_type) else make(_text(value))

    return convert


def _text(value: t.Any) -> t.Any:
    # A float or None is not an identifier, whatever int() or str() make of it.
    if isinstance(value, (str, int, uuid.UUID)):
        return str(value) if isinstance(value, uuid.UUID) else value
    raise ValueError(value)
