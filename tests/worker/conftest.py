"""Fixtures of the worker."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import pytest

from .mailroom import APPS
from .mailroom import Mailroom
from .shop import Shop


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
