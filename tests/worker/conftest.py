"""Fixtures of the worker."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import load_app
from ..services import MARIADB
from ..services import POSTGRESQL
from .book import Book
from .mailroom import Mailroom
from .servers import PostgreSQL
from .shop import Shop
from .town import BINDS
from .town import Town

OpenMailroom = Callable[..., Mailroom]


@pytest.fixture
def shop(database_url: str) -> Shop:
    """A shop on SQLite, PostgreSQL and MariaDB in turn."""
    return Shop(database_url, lease=1)


@pytest.fixture
def open_mailroom(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[OpenMailroom]:
    """A function that opens a mailroom on a database, with options for its app."""
    opened: list[Mailroom] = []

    def open(url: str, **options: str) -> Mailroom:
        options = {"database": url, **options}
        environment = {f"MAILROOM_{k.upper()}": v for k, v in options.items()}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # The connections of this process are closed at once.
        monkeypatch.setenv("MAILROOM_POOL", "none")
        monkeypatch.delenv("MAILROOM_CLOCK", raising=False)
        module = load_app("mailroom", monkeypatch)
        with module.app.app_context():
            module.db.create_all()
            module.ecotone.compile()
        environment["MAILROOM_POOL"] = ""
        room = Mailroom(module, environment, tmp_path)
        opened.append(room)
        return room

    yield open
    for room in opened:
        room.close()


@pytest.fixture
def mailroom(open_mailroom: OpenMailroom, database_url: str) -> Mailroom:
    """A mailroom on SQLite, PostgreSQL and MariaDB in turn."""
    return open_mailroom(database_url)


@pytest.fixture(params=["", "batch"], ids=["message", "batch"])
def either_mailroom(
    open_mailroom: OpenMailroom, database_url: str, request: pytest.FixtureRequest
) -> Mailroom:
    """One that handles letters one by one, and one that handles several together."""
    return open_mailroom(database_url, batch=request.param)


@pytest.fixture(scope="session")
def own_postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of our own, that may be disturbed."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(params=["sqlite+sqlite", "postgresql+mariadb"])
def urls(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[dict[str | None, str]]:
    """The databases of two tenants, by bind key: on files, and on two servers."""
    if request.param == "sqlite+sqlite":
        yield {key: f"sqlite:///{tmp_path / key}.sqlite" for key in BINDS.values()}
        return
    with POSTGRESQL.database() as first, MARIADB.database() as second:
        yield {"bind_a": first, "bind_b": second}


@pytest.fixture
def book(database_url: str) -> Book:
    """A book on each database."""
    return Book(database_url)


@pytest.fixture
def paper(sqlite_url: str) -> Book:
    """A book on SQLite, for what is the same everywhere."""
    return Book(sqlite_url)


@pytest.fixture
def town(urls: dict[str | None, str]) -> Town:
    """A town with the tenants a and b."""
    return Town(urls, lease=1)
