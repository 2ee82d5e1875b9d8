"""Databases for two tenants: on two files, and on two servers."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..services import MARIADB
from ..services import POSTGRESQL
from .house import House


@pytest.fixture(params=["sqlite+sqlite", "postgresql+mariadb"])
def binds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The databases of two tenants, by bind key."""
    if request.param == "sqlite+sqlite":
        names = ("bind_a", "bind_b")
        yield {name: f"sqlite:///{tmp_path / name}.sqlite" for name in names}
        return
    with POSTGRESQL.database() as first, MARIADB.database() as second:
        yield {"bind_a": first, "bind_b": second}


@pytest.fixture
def trap(tmp_path: Path) -> str:
    """The default database of an application, where nothing belongs."""
    return f"sqlite:///{tmp_path / 'trap.sqlite'}"


@pytest.fixture(params=["orm", "core"])
def style(request: pytest.FixtureRequest) -> str:
    """How the handlers use the database."""
    return t.cast(str, request.param)


@pytest.fixture
def house(binds: dict[str, str], trap: str, style: str) -> Iterator[House]:
    """An application with two tenants, whose default database must stay empty."""
    house = House(binds, trap, style=style)
    yield house
    house.check_clean()
    assert house.stored("default") == []


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The databases of two tenants, on files, where one kind of server will do."""
    names = ("bind_a", "bind_b")
    return {name: f"sqlite:///{tmp_path / name}.sqlite" for name in names}


@pytest.fixture
def plain(files: dict[str, str], trap: str) -> Iterator[House]:
    """The house on files, with handlers that use models."""
    house = House(files, trap)
    yield house
    house.check_clean()
    assert house.stored("default") == []
