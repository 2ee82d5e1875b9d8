"""Models kept in memory, as a database would keep them."""

from __future__ import annotations

import copy
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from sqlalchemy.orm.attributes import set_committed_value

from ..errors import ConfigurationError
from ..storage.memory import InMemoryRepository
from ..storage.models import SQLAlchemyRepository
from ..storage.protocols import SqlText


class InMemoryModelRepository(InMemoryRepository):
    """Keeps aggregates in memory, plain classes and models alike.

    A model gets its column defaults and a number for its primary key, as on insert.
    """

    keeps_metadata = False

    def identifiers_of(self, aggregate_class: type) -> tuple[str, ...]:
        """Return the names of the attributes that make the primary key of a model."""
        models = SQLAlchemyRepository()
        if models.can_handle(aggregate_class):
            return models.identifiers_of(aggregate_class)
        return ()

    def version_of(self, aggregate_class: type) -> str | None:
        """Return the attribute that SQLAlchemy would count, if there is one."""
        return SQLAlchemyRepository().version_of(aggregate_class)

    def copy(self, aggregate: t.Any) -> t.Any:
        """Return a copy of an aggregate, with the models that belong to it."""
        if _is_model(aggregate):
            return _copied(aggregate, {})
        return super().copy(aggregate)

    def complete(self, aggregate: t.Any, numbers: Iterator[int]) -> None:
        """Give a model its column defaults and, if it has none, a number as its key."""
        mapper = sa.inspect(type(aggregate), raiseerr=False)
        if not isinstance(mapper, sa_orm.Mapper):
            return
        version = self.version_of(type(aggregate))
        if version is not None and callable(mapper.version_id_generator):
            now = mapper.version_id_generator(getattr(aggregate, version))
            setattr(aggregate, version, now)
        for column in mapper.columns:
            name = mapper.get_property_by_column(column).key
            if getattr(aggregate, name) is not None:
                continue
            default = column.default
            if isinstance(default, sa.ColumnDefault) and default.is_scalar:
                setattr(aggregate, name, default.arg)
            elif isinstance(default, sa.ColumnDefault) and default.is_callable:
                setattr(aggregate, name, default.arg(None))
            elif column.primary_key and isinstance(column.type, sa.Integer):
                setattr(aggregate, name, next(numbers))


class NoStatements:
    """Reads the SQL of business interfaces, and can't execute it."""

    def dialects(self, bind: str | None, where: str) -> tuple[str, ...]:
        """Return no dialect: the SQL is read as the standard has it."""
        return ("",)

    def current_dialect(self) -> str:
        """Return no dialect."""
        return ""

    def prepare(
        self, text: SqlText, bind: str | None, items: Mapping[str, type], where: str
    ) -> t.Any:
        """Return a statement that says what is missing when it is executed."""
        return _NoStatement(where)


class _NoStatement:
    def __init__(self, where: str) -> None:
        self._where = where

    def write(self, *args: t.Any) -> t.NoReturn:
        raise ConfigurationError(
            f"{self._where} executes SQL and requires a database, which a flow test"
            " doesn't have. Provide an object in place of the interface, as"
            " flow_testing(…, services={Interface: fake}), or test it in an"
            " application."
        )

    read = read_first = iterate = write


def _copied(value: t.Any, copies: dict[int, t.Any]) -> t.Any:
    """Return a copy of a value; models are not in any session afterwards."""
    if _is_model(value):
        if id(value) not in copies:
            mapper = sa.inspect(type(value))
            made = copies[id(value)] = mapper.class_manager.new_instance()
            for name, stored in vars(value).items():
                if name in mapper.attrs:
                    set_committed_value(made, name, _copied(stored, copies))
                elif name != "_sa_instance_state":
                    vars(made)[name] = copy.deepcopy(stored)
        return copies[id(value)]
    if isinstance(value, (list, set)) and any(map(_is_model, value)):
        return [_copied(each, copies) for each in value]
    if isinstance(value, dict) and any(map(_is_model, value.values())):
        return {key: _copied(each, copies) for key, each in value.items()}
    return copy.deepcopy(value)


def _is_model(value: t.Any) -> bool:
    return isinstance(sa.inspect(type(value), raiseerr=False), sa_orm.Mapper)
