"""How transactions end in ways that drivers don't tell of, or make too much of."""

from __future__ import annotations

import sqlalchemy as sa

_IN_TRANSACTION = 2  # libpq's PQTRANS_INTRANS
_IN_ERROR = 3  # and PQTRANS_INERROR
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


def end_by_itself(connection: sa.Connection) -> None:
    """Roll back what PostgreSQL had no part in, if psycopg would make more of it.

    psycopg gives up all prepared statements with each rollback, for the case that a
    table was made in between. PostgreSQL finds that out by itself, and among messages
    that fail each statement of their neighbours would be parsed and planned anew. To
    the driver the transaction has ended already when it is asked to roll back.
    """
    if connection.closed or connection.invalidated or not connection.in_transaction():
        return
    if connection.in_nested_transaction():
        return
    libpq = getattr(connection.connection.driver_connection, "pgconn", None)
    if libpq is not None and libpq.transaction_status == _IN_TRANSACTION:
        libpq.exec_(b"ROLLBACK")


def is_deadlock(error: BaseException) -> bool:
    """Whether MariaDB rolled back a transaction for the good of another one."""
    original = getattr(error, "orig", None) or error
    return original.args[:1] == (_DEADLOCK,)
