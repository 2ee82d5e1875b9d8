"""Fixtures of the example shops."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from .shopper import open_shops
from .shopper import Shopper


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """Both shops on new SQLite files."""
    return open_shops(
        f"sqlite:///{tmp_path / 'hedge.sqlite'}",
        f"sqlite:///{tmp_path / 'river.sqlite'}",
    )


@pytest.fixture
def ada(app: Flask) -> Shopper:
    """Somebody with an empty cart."""
    return Shopper(app)


@pytest.fixture
def grace(app: Flask) -> Shopper:
    """Somebody else."""
    return Shopper(app)
