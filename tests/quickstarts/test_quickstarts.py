"""Every quickstart does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.stem
    for path in (ROOT / "example_app" / "quickstarts").glob("*.py")
    if path.stem != "__init__"
)


def run(name: str, folder: Path, **environment: str) -> str:
    """Run a quickstart as its docstring says and return what it printed."""
    own = {k: v for k, v in os.environ.items() if not k.endswith("_DATABASE_URL")}
    result = subprocess.run(
        # An engine that is left to the garbage collector is fine in a script.
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning"]
        + ["-m", f"example_app.quickstarts.{name}"],
        cwd=ROOT,
        env={**own, "TMPDIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_quickstart_completes(name: str, tmp_path: Path) -> None:
    """It counts its steps, comes to its end and leaves no file behind."""
    lines = run(name, tmp_path).splitlines()
    steps = [line for line in lines if not line.startswith(" ")]
    assert steps.pop() == "== Example completed successfully =="
    assert len(steps) >= 3
    assert [step.partition(". ")[0] for step in steps] == [
        str(number) for number in range(1, len(steps) + 1)
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_quickstart_is_in_the_readme(name: str) -> None:
    """The table of quickstarts names every script."""
    readme = (ROOT / "example_app" / "README.md").read_text()
    assert f"| `{name}` |" in readme


def test_quickstarts_are_there() -> None:
    """Scripts are found by looking; one for each example is expected."""
    assert {
        "console_command",
        "model",
        "outbox",
        "tenant_aggregate",
        "tenant_asynchronous_events",
        "tenant_dead_letters",
        "tenant_events",
        "tenant_hooks",
        "tenant_message_bus",
        "tenants_without_flask",
    } <= set(SCRIPTS)


def test_message_bus_works_on_databases_of_two_kinds(
    postgres_url: str, mariadb_url: str, tmp_path: Path
) -> None:
    """The same script on PostgreSQL and MariaDB; both are asked what they stored."""
    output = run(
        "tenant_message_bus",
        tmp_path,
        TENANT_A_DATABASE_URL=postgres_url,
        TENANT_B_DATABASE_URL=mariadb_url,
    )
    assert "tenant_a on postgresql: ecotone_test_" in output
    assert "tenant_b on mysql: ecotone_test_" in output
    for url, expected in (postgres_url, ["Alice", "Bob"]), (mariadb_url, ["Carol"]):
        with sa.create_engine(url, poolclass=NullPool).connect() as connection:
            names = sa.text("SELECT name FROM customer ORDER BY number")
            assert list(connection.scalars(names)) == expected


def test_one_worker_empties_databases_of_two_kinds(
    postgres_url: str, mariadb_url: str, tmp_path: Path
) -> None:
    """The same script on PostgreSQL and MariaDB; both are asked what they stored."""
    output = run(
        "tenant_asynchronous_events",
        tmp_path,
        TENANT_A_DATABASE_URL=postgres_url,
        TENANT_B_DATABASE_URL=mariadb_url,
    )
    assert "2 messages handled, 0 failed" in output
    for url, expected in (
        (postgres_url, ["Alice", "Bob", "Erin"]),
        (mariadb_url, ["Carol", "Frank"]),
    ):
        with sa.create_engine(url, poolclass=NullPool).connect() as connection:
            texts = connection.scalars(sa.text("SELECT text FROM greeting ORDER BY id"))
            assert [text.rpartition(" ")[2] for text in texts] == expected
