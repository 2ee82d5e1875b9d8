"""What channels have in common whose messages are rows of our table."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

import sqlalchemy as sa

from ..storage.tables import create
from ..storage.tables import missing
from .database_source import DatabaseSource
from .inserting import insert_unchecked
from .opening import Databases


class TableChannel:
    """A channel whose messages are rows; equal to another one with the same rows.

    :param databases: Where they are.
    :param options: What its sources are made with.
    """

    #: Where a worker takes the messages of one database from.
    source: t.ClassVar[type[DatabaseSource]] = DatabaseSource

    def __init__(self, name: str, databases: Databases, **options: t.Any) -> None:
        self.name = name
        self._databases = databases
        self._options = options
        self._sources: dict[str | None, DatabaseSource] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableChannel) and self._rows == other._rows

    def __hash__(self) -> int:
        return hash(self._rows)

    @property
    def _rows(self) -> tuple[object, ...]:
        return type(self), self.name, self._databases

    def is_initialized(self) -> bool:
        """Whether our tables are in the database of each tenant."""
        return not any(missing(engine) for engine in self._engines())

    def initialize(self) -> None:
        """Make our tables where they are missing."""
        for engine in self._engines():
            create(engine)

    def delete(self) -> None:
        """Do nothing: the tables are those of other channels as well."""

    def _engines(self) -> list[sa.Engine]:
        return [self._databases.engine(each) for each in self._databases.tenants()]

    def sources(self) -> Sequence[DatabaseSource]:
        """Return a source for the database of each tenant."""
        found = {}
        for tenant in self._databases.tenants():
            found[tenant] = self._sources.get(tenant) or self.source(
                self.name,
                tenant,
                self._databases,
                insert=insert_unchecked,
                **self._options,
            )
        self._sources = found
        return list(found.values())
