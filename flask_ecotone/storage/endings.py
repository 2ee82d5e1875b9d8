"""Errors with which a database ends the transaction, and the driver doesn't say so."""

from __future__ import annotations

import sqlalchemy as sa

_IN_ERROR = 3  # libpq's PQTRANS_INERROR
_DEADLOCK = 1213


def has_ended(connection: sa.Connection, error: BaseException) -> bool:
    """Whether an error ended the transaction of a connection.

    PostgreSQL turns the commit into a rollback without a word. MariaDB rolls back after
    a deadlock, and the next statement begins another transaction.
    """
    if connection.dialect.name in ("mysql", "mariadb"):
        return is_deadlock(error)
    if connection.closed or connection.invalidated:
        return False
    # A savepoint may have been given up since.
    info = getattr(connection.connection.driver_connection, "info", None)
    return bool(getattr(info, "transaction_status", None) == _IN_ERROR)


def is_deadlock(error: BaseException) -> bool:
    """Whether MariaDB rolled back a transaction for the good of another one."""
    original = getattr(error, "orig", None) or error
    return original.args[:1] == (_DEADLOCK,)
