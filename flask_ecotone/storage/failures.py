"""What an error of the database says about the chances of another attempt."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
import sqlalchemy.orm.exc as sa_orm_exc

#: SQLSTATEs and numbers of errors that another attempt doesn't meet again: lost races,
#: deadlocks.
_TRANSIENT_STATES = frozenset({"40001", "40P01"})
_TRANSIENT_NUMBERS = frozenset({1205, 1213, 1020})
#: Where PostgreSQL finds that a prepared statement would return other types by now. It
#: is given up with the transaction; the SQLSTATE says it of much else as well.
_OUTDATED: t.Final = "RevalidateCachedQuery"

#: Those of a server that is starting, stopping or full. To MariaDB a table is full when
#: its disk is, and one in memory when it is as large as it may be.
_OUTAGE_STATES = ("08", "57P", "53")
_OUTAGE_NUMBERS = frozenset(
    {1021, 1040, 1053, 1114, 2002, 2003, 2006, 2013, 1927, 4031}
)
#: Those with an error of MariaDB's system: no space, or no more for its user.
_SYSTEM_NUMBERS = frozenset({3, 1026, 1030})
_NO_SPACE = re.compile(r"\b(?:error|Errcode:) (?:28|122)\b")
#: SQLite has no numbers, and nothing but these is said by its errors.
_OUTAGE_TEXTS = ("database is locked", "database or disk is full", "disk I/O error")


def is_transient(error: BaseException) -> bool:
    """Whether what failed may succeed when it is done again at once."""
    if isinstance(error, sa_orm_exc.StaleDataError):
        return True
    found = _database_error(error)
    if found is None:
        return False
    state, number, _ = _details(found)
    if state in _TRANSIENT_STATES or number in _TRANSIENT_NUMBERS:
        return True
    diagnosis = getattr(found.orig, "diag", None)
    return getattr(diagnosis, "source_function", None) == _OUTDATED


def is_outage(error: BaseException) -> bool:
    """Whether the database, and not what was done, is the reason of a failure."""
    found = _database_error(error)
    if found is None:
        return isinstance(error, sa_exc.TimeoutError)
    if found.connection_invalidated:
        return True
    state, number, text = _details(found)
    if (state or "").startswith(_OUTAGE_STATES) or number in _OUTAGE_NUMBERS:
        return True
    if number in _SYSTEM_NUMBERS and _NO_SPACE.search(text):
        return True
    if not isinstance(found, sa_exc.OperationalError):
        return False
    if state is None and number is None and text.startswith(_OUTAGE_TEXTS):
        return True
    return found.statement is None and state is None


def is_disconnection(error: BaseException) -> bool:
    """Whether a connection that had been there was lost."""
    found = _database_error(error)
    return found is not None and found.connection_invalidated


def is_of_database(error: BaseException) -> bool:
    """Whether it has to do with the database in any way."""
    return any(isinstance(each, sa_exc.SQLAlchemyError) for each in _causes(error))


def told(error: BaseException) -> str:
    """Return what an error says in a log: of a statement neither text nor values."""
    if isinstance(error, (sa_exc.StatementError, sa_exc.PendingRollbackError)):
        # What databases add in further lines repeats values.
        return str(error.args[0]).partition("\n")[0]
    return str(error)


@contextmanager
def values_hidden(error: BaseException) -> Iterator[None]:
    """Let an error, and those that led to it, not tell the values of statements."""
    errors = list(_led_to(error))
    found = [each for each in errors if _tells_values(each)]
    # Its text repeats that of the error that came before.
    repeating = [
        (each, each.args)
        for each in errors
        if isinstance(each, sa_exc.PendingRollbackError)
    ]
    for each in found:
        each.hide_parameters = True
    for each, _ in repeating:
        each.args = (told(each),)
    try:
        yield
    finally:
        for each in found:
            each.hide_parameters = False
        for each, args in repeating:
            each.args = args


def _led_to(error: BaseException) -> Iterator[t.Any]:
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__]
            yield each


def _tells_values(error: BaseException) -> bool:
    return isinstance(error, sa_exc.StatementError) and not error.hide_parameters


def _database_error(error: BaseException) -> sa.exc.DBAPIError | None:
    for each in _causes(error):
        if isinstance(each, sa_exc.DBAPIError):
            return each
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    # The application may have wrapped it.
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            return
        yield current
        current = current.__cause__


def _details(error: sa.exc.DBAPIError) -> tuple[str | None, int | None, str]:
    original = error.orig
    state = getattr(original, "sqlstate", None)
    first = original.args[0] if original is not None and original.args else None
    return state, first if isinstance(first, int) else None, str(original)
