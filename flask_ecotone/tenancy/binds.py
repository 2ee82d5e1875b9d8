"""Which tables keep to a bind of their own, whatever the tenant."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm


def bind_key_of(
    metadatas: Mapping[str | None, sa.MetaData], mapper: t.Any, clause: t.Any
) -> str | None:
    """Return the ``__bind_key__`` of what a statement is about, if it has one.

    :param metadatas: Those of the Flask-SQLAlchemy extension, by bind key.
    """
    if mapper is not None:
        inspected = sa.inspect(mapper, raiseerr=False)
        if isinstance(inspected, sa_orm.Mapper):
            clause = inspected.local_table
    if isinstance(clause, sa.Table):
        return _key(clause)
    if clause is None or isinstance(clause, sa.TextClause):
        return None
    # What a query reads takes time to find out: most applications have no such table.
    if not any(found.tables for key, found in metadatas.items() if key is not None):
        return None
    keys = {_key(table) for table in _tables(clause)}
    return keys.pop() if len(keys) == 1 else None


def _key(table: sa.Table) -> str | None:
    return t.cast("str | None", table.metadata.info.get("bind_key"))


def _tables(clause: t.Any) -> t.Iterator[sa.Table]:
    if isinstance(clause, sa.Table):
        yield clause
    elif isinstance(clause, sa.UpdateBase):
        yield from _tables(clause.table)
    elif isinstance(clause, sa.Select):
        for found in clause.get_final_froms():
            yield from _tables(found)
    elif isinstance(clause, sa.CompoundSelect):
        for query in clause.selects:
            yield from _tables(query)
    elif isinstance(clause, sa.Join):
        yield from _tables(clause.left)
        yield from _tables(clause.right)
    elif isinstance(clause, sa.FromClause | sa.SelectBase):
        # An alias, a subquery, a common table expression: each has an element.
        yield from _tables(getattr(clause, "element", None))
