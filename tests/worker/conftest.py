"""Fixtures of the worker."""

from __future__ import annotations

import pytest

from .shop import Shop


@pytest.fixture
def shop(database_url: str) -> Shop:
    """A shop on SQLite, PostgreSQL and MariaDB in turn."""
    return Shop(database_url, lease=1)
