"""Fixtures of the worker."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..services import MARIADB
from ..services import POSTGRESQL
from .mailroom import APPS
from .mailroom import Mailroom
from .shop import Shop
from .town import BINDS
from .town import Town


@pytest.fixture
def shop(database_url: str) -> Shop:
    """A shop on SQLite, PostgreSQL and MariaDB in turn."""
    return Shop(database_url, lease=1)


@pytest.fixture
def mailroom(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailroom]:
    """A mailroom on SQLite, PostgreSQL and MariaDB in turn."""
    monkeypatch.setenv("MAILROOM_DATABASE", database_url)
    spec = importlib.util.spec_from_file_location("mailroom", APPS / "mailroom.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mailroom", module)
    spec.loader.exec_module(module)
    with module.app.app_context():
        module.db.create_all()
        module.ecotone.compile()
    room = Mailroom(database_url, module)
    yield room
    for worker in room.workers:
        worker.kill()
        worker.wait()
        if worker.stderr is not None:
            worker.stderr.close()


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
def town(urls: dict[str | None, str]) -> Town:
    """A town with the tenants a and b."""
    return Town(urls, lease=1)
