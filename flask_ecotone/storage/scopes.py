"""Which session belongs to which app context.

Flask-SQLAlchemy tells contexts apart by their address. When a teardown function of the
application fails, the session stays behind, and a later context that happens to get the
address of the old one would go on with it: with its identity map, its transaction and
whatever was written to its ``info``.
"""

from __future__ import annotations

import itertools
import typing as t
import weakref
from collections.abc import Callable

from .session import EcotoneSession

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_numbers = itertools.count(1)
_NUMBER = "_ecotone_scope"


def scope_by_context(db: SQLAlchemy, current_context: Callable[[], t.Any]) -> None:
    """Number the app contexts, and drop what is left of one that is gone.

    A ``scopefunc`` that the application chose itself is left alone. To be called before
    :func:`~flask_ecotone.storage.session.take_over`.

    :param current_context: Returns the current app context.
    """
    registry = db.session.registry
    address = registry.scopefunc
    if getattr(address, "__module__", "") != "flask_sqlalchemy.session":
        return
    sessions = registry.registry
    earlier = set(sessions)
    contexts: dict[int, _Context] = {}

    def is_gone(context: t.Any) -> None:
        contexts.pop(context.number, None)
        if sessions:
            _forget(sessions, context.number)

    def scope() -> int:
        context = current_context()
        try:
            known: int = context._ecotone_scope
            return known
        except AttributeError:
            number = next(_numbers)
            if earlier and address() in earlier.intersection(sessions):
                # It has a session already, which must be found to be refused.
                number = address()
            setattr(context, _NUMBER, number)
            reference = contexts[number] = _Context(context, is_gone)
            reference.number = number
            return number

    registry.scopefunc = scope


class _Context(weakref.ref[t.Any]):
    # Takes a fraction of the time of weakref.finalize.
    __slots__ = ("number",)

    number: int


def _forget(sessions: dict[t.Any, t.Any], number: int) -> None:
    for key in list(sessions):
        if key == number or (isinstance(key, tuple) and key[0] == number):
            EcotoneSession.drop(sessions.pop(key))
