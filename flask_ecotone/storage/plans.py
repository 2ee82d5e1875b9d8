"""How PostgreSQL plans statements about tables that grow from nothing to a lot.

A driver prepares what it has executed a few times. A plan that was made for an empty
table reads all of the full one, until that is analyzed.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import sqlalchemy as sa

_MADE_AT: t.Final = "ecotone_plans_made_at"
#: Seconds that a plan is good for: nothing grows by much in that time.
_LIFE: t.Final = 1.0


@contextmanager
def planned_anew(connection: sa.Connection) -> Iterator[None]:
    """Have statements planned each time, for what there is then."""
    driver: t.Any = connection.connection.driver_connection
    threshold = getattr(driver, "prepare_threshold", None)
    if threshold is None:
        yield
        return
    driver.prepare_threshold = None
    try:
        yield
    finally:
        driver.prepare_threshold = threshold


def renew_plans(connection: sa.Connection) -> None:
    """Have prepared statements planned again once in a while.

    For those that are executed so often that planning each time would be felt.
    """
    if connection.dialect.name != "postgresql":
        return
    now = monotonic()
    if now - connection.info.get(_MADE_AT, 0.0) >= _LIFE:
        connection.info[_MADE_AT] = now
        connection.exec_driver_sql("DISCARD PLANS")
