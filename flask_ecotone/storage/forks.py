"""Connections stay with the process that opened them."""

from __future__ import annotations

import os
import typing as t
import weakref

import sqlalchemy as sa

from .session import SHARING

#: Who has engines, as long as they live.
_holders: weakref.WeakSet[t.Any] = weakref.WeakSet()
#: A driver may say goodbye to the server when a connection is collected.
_left: list[sa.Pool] = []


class HasEngines(t.Protocol):
    """An application with databases."""

    def all_engines(self) -> t.Iterable[sa.Engine]:
        """Return all engines."""
        ...


def leave_connections(holder: HasEngines) -> None:
    """Let a process that is forked open connections of its own.

    Two processes that write into one connection read the answers of each other.
    """
    _holders.add(holder)


def _after_fork() -> None:
    for holder in list(_holders):
        for engine in holder.all_engines():
            # A database in memory is where its connection is.
            if not isinstance(engine.pool, SHARING):
                _left.append(engine.pool)
                engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
