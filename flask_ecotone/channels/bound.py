"""A channel in a database of its own, apart from that of the session.

Two databases don't commit together. What was handled is noted in the transaction of the
handler, and removed here afterwards: a worker that dies in between leaves a message
that the next one knows.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from ..storage.apart import apart
from ..storage.apart import short_transaction
from ..storage.tables import ensure
from .database_source import CAPABILITIES
from .database_source import DatabaseSource
from .inserting import insert
from .protocols import Capability
from .protocols import Envelope
from .protocols import Preparing
from .table_channel import TableChannel

_R = t.TypeVar("_R")

_CAPABILITIES: t.Final = CAPABILITIES & ~Capability.TRANSACTIONAL


class BoundSource(DatabaseSource):
    """The messages of a channel in a database that the session doesn't lead to."""

    capabilities = _CAPABILITIES

    def _joined(self, work: Callable[[sa.Connection], _R]) -> _R:
        return self._apart(work)


class BoundChannel(TableChannel, Preparing):
    """A :class:`.DatabaseChannel` of one application, with a bind."""

    capabilities: t.Final = _CAPABILITIES
    source = BoundSource

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Insert messages, and commit."""
        if envelopes:
            apart(
                self._engine(),
                lambda connection: insert(connection, self.name, envelopes),
                is_one_statement=len(envelopes) == 1,
            )

    @contextmanager
    def taking(self, envelopes: Sequence[Envelope]) -> Iterator[None]:
        """Insert messages, and commit at the end of the context."""
        with short_transaction(self._engine()) as connection:
            insert(connection, self.name, envelopes)
            yield

    def _engine(self) -> sa.Engine:
        engine = self._databases.engine(None)
        ensure(engine)
        return engine
