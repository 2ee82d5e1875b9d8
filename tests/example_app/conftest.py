"""Fixtures of the example shop."""

from __future__ import annotations

import pytest
from flask import Flask

from .shopper import open_shop
from .shopper import Shopper


@pytest.fixture
def app(sqlite_url: str) -> Flask:
    """The shop on a new SQLite file."""
    return open_shop(sqlite_url)


@pytest.fixture
def ada(app: Flask) -> Shopper:
    """Somebody with an empty cart."""
    return Shopper(app)


@pytest.fixture
def grace(app: Flask) -> Shopper:
    """Somebody else."""
    return Shopper(app)
