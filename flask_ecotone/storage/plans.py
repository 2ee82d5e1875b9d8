"""How PostgreSQL plans statements about tables that grow from nothing to a lot."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def planned_anew(connection: sa.Connection) -> Iterator[None]:
    """Have statements planned each time, for as many rows as there are then.

    A driver prepares what it has executed a few times. A plan that was made for an
    empty table reads all of the full one, until that is analyzed.
    """
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
