"""Fixtures for every room; what belongs to one feature stands beside its tests."""

from __future__ import annotations

import itertools
import sys
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import globals as flask_globals
from flask.globals import app_ctx
from hypothesis import HealthCheck
from hypothesis import settings

from .services import engines
from .services import MARIADB
from .services import POSTGRESQL

_ROOT = Path(__file__).parent.parent

# Flask 3.2 has one context for both and only a deprecated name for the other.
_REQUEST_CTX = vars(flask_globals).get("request_ctx")

# A machine that is busy with other tests is no reason to fail.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")

# The example application is not part of the package. Last on the path, the
# checkout serves it without hiding an installed flask_ecotone.
if str(_ROOT) not in sys.path:
    sys.path.append(str(_ROOT))


# What takes longest, by what its address contains: whole files and folders.
_LONGEST = (
    "worker/test_kills",
    "worker/test_outages",
    "worker/test_poison",
    "worker/test_statements",
    "tenancy/test_isolation",
    "worker/",
    "console/test_lazy_listing",
    "tables/test_creation",
    "schedule/test_processes",
    "example_app/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes longest first, or one processor would work on alone with it."""

    def rank(item: pytest.Item) -> int:
        found = (n for n, part in enumerate(_LONGEST) if part in item.nodeid)
        return next(found, len(_LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def _watch_engines() -> t.Iterator[None]:
    """Keep the lists of engines and of databases for the whole run."""
    engines.install()
    yield
    engines.dispose(engines)
    engines.uninstall()
    POSTGRESQL.drop_used()


@pytest.fixture(autouse=True)
def _dispose_engines(_watch_engines: None) -> t.Iterator[None]:
    """Close the engines that a test opened; a wider fixture closes its own."""
    earlier = set(engines)
    yield
    engines.dispose(engine for engine in engines if engine not in earlier)


@pytest.fixture(autouse=True)
def leak_detector(_dispose_engines: None) -> t.Iterator[None]:
    """Fail a test that leaves a Flask app or request context pushed."""
    earlier = _current(app_ctx)
    yield
    leaked = []

    # Pop what leaked, so that it is one failure and not one in every later test.
    while _current(app_ctx) is not earlier:
        context = _current(_REQUEST_CTX) or _current(app_ctx)

        if context is None:
            break

        leaked.append(repr(context))
        context.pop(None)

    if leaked:
        pytest.fail(f"left a context pushed: {', '.join(leaked)}", pytrace=False)


def _current(proxy: t.Any) -> t.Any:
    return proxy._get_current_object() if proxy else None


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def new_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> t.Iterator[t.Callable[[], str]]:
    """A function that makes one more empty database on the same server.

    A test that uses it, or a fixture made from it, runs once for every server.
    """
    if request.param == "sqlite":
        numbers = itertools.count(1)
        yield lambda: f"sqlite:///{tmp_path / f'database-{next(numbers)}.sqlite'}"
        return

    server = POSTGRESQL if request.param == "postgresql" else MARIADB

    with ExitStack() as stack:
        yield lambda: stack.enter_context(server.database())


@pytest.fixture
def database_url(new_database: t.Callable[[], str]) -> str:
    """The URL of an empty database: SQLite, PostgreSQL and MariaDB in turn."""
    return new_database()


@pytest.fixture
def second_database_url(new_database: t.Callable[[], str]) -> str:
    """The URL of another empty database on the server of ``database_url``."""
    return new_database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a new SQLite file."""
    return f"sqlite:///{tmp_path / 'database.sqlite'}"


@pytest.fixture
def postgres_url() -> t.Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with POSTGRESQL.database() as url:
        yield url


@pytest.fixture
def mariadb_url() -> t.Iterator[str]:
    """The URL of an empty MariaDB database."""
    with MARIADB.database() as url:
        yield url
