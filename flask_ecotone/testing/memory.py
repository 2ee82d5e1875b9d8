"""Models kept in memory, as a database would keep them."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..storage.memory import InMemoryRepository
from ..storage.models import SQLAlchemyRepository


class InMemoryModelRepository(InMemoryRepository):
    """Keeps aggregates in memory, plain classes and models alike.

    A model gets its column defaults and a number for its primary key, as on insert.
    """

    def identifiers_of(self, aggregate_class: type) -> tuple[str, ...]:
        """Return the names of the attributes that make the primary key of a model."""
        models = SQLAlchemyRepository()
        if models.can_handle(aggregate_class):
            return models.identifiers_of(aggregate_class)
        return ()

    def copy(self, aggregate: t.Any) -> t.Any:
        """Return a copy of a plain aggregate, and a model itself."""
        is_model = sa.inspect(type(aggregate), raiseerr=False) is not None
        return aggregate if is_model else super().copy(aggregate)

    def complete(self, aggregate: t.Any, numbers: Iterator[int]) -> None:
        """Give a model its column defaults and, if it has none, a number as its key."""
        mapper = sa.inspect(type(aggregate), raiseerr=False)
        if not isinstance(mapper, sa_orm.Mapper):
            return
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
