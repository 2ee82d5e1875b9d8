"""The database goes away and comes back; workers go on by themselves."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ..processes import until
from .conftest import OpenMailroom
from .mailroom import Mailroom
from .servers import missing
from .servers import PostgreSQL

_IN_FULL = bool(os.environ.get("ECOTONE_FULL_LOAD"))
_SHARE = 30


def disconnect(mailroom: Mailroom) -> None:
    """End all connections to the database but the one that does it."""
    with mailroom.engine.connect() as one:
        if one.dialect.name == "postgresql":
            one.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        victims = one.exec_driver_sql(
            "SELECT id FROM information_schema.processlist"
            " WHERE db = database() AND id <> connection_id()"
        )
        for victim in victims.scalars().all():
            # It may have left meanwhile.
            one.exec_driver_sql(
                f"BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;"
                f" KILL {victim}; END"
            )


def expect_all(mailroom: Mailroom, count: int, bad: int) -> None:
    """Wait until all is handled, and see that it was handled as it should be.

    :param bad: How many messages fail, whoever handles them.
    """
    until(lambda: mailroom.is_empty)
    assert mailroom.numbers() == list(range(count))
    parked = mailroom.parked()
    assert sorted(each.attempts for each in parked) == [3] * bad
    assert {each.error_class for each in parked} <= {"ValueError"}
    for worker in mailroom.workers:
        assert worker.poll() is None
        assert "Stopped (asked to stop)" in mailroom.stop(worker)
        assert worker.returncode == 0


@pytest.mark.parametrize("batch", ["", "1"], ids=["message", "batch"])
@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
def test_a_worker_outlives_its_connections(
    open_mailroom: OpenMailroom,
    server: str,
    batch: str,
    request: pytest.FixtureRequest,
) -> None:
    """They are ended again and again; no attempt is lost, nothing else either."""
    mailroom = open_mailroom(
        request.getfixturevalue(server), batch=batch, max_deliveries="100"
    )
    outages = 30 if _IN_FULL else 6
    chance = random.Random(7)
    mailroom.start("--threads", "2")
    for number in range(outages):
        mailroom.publish(*range(number * _SHARE, (number + 1) * _SHARE))
        mailroom.publish(-1, raises="ValueError")
        wanted = number * _SHARE + chance.randrange(1, _SHARE)
        until(lambda goal=wanted: mailroom.count() >= goal)
        disconnect(mailroom)
    expect_all(mailroom, outages * _SHARE, outages)


@pytest.fixture
def own_url(own_postgresql: PostgreSQL) -> Iterator[str]:
    """An empty database on a server of our own."""
    engine = sa.create_engine(own_postgresql.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as one:
        one.exec_driver_sql("CREATE DATABASE outages")
    engine.dispose()
    yield own_postgresql.url.removesuffix("postgres") + "outages"
    with engine.connect() as one:
        one.exec_driver_sql("DROP DATABASE outages WITH (FORCE)")
    engine.dispose()


@pytest.mark.parametrize("batch", ["", "1"], ids=["message", "batch"])
def test_a_worker_outlives_restarts_of_the_server(
    open_mailroom: OpenMailroom,
    own_url: str,
    own_postgresql: PostgreSQL,
    batch: str,
) -> None:
    """It waits for the server, whether that has shut down or crashed."""
    mailroom = open_mailroom(own_url, batch=batch, max_deliveries="100")
    outages = 8 if _IN_FULL else 2
    worker = mailroom.start()
    for number in range(outages):
        mailroom.publish(*range(number * _SHARE, (number + 1) * _SHARE))
        mailroom.publish(-1, raises="ValueError")
        wanted = number * _SHARE + _SHARE // 2
        until(lambda goal=wanted: mailroom.count() >= goal)
        own_postgresql.stop("fast" if number % 2 else "immediate")
        said = mailroom.said_by(worker).count("is gone")
        until(lambda said=said: mailroom.said_by(worker).count("is gone") > said)
        own_postgresql.start()
    expect_all(mailroom, outages * _SHARE, outages)


@pytest.mark.parametrize("batch", ["", "1"], ids=["message", "batch"])
def test_a_worker_waits_for_a_locked_file(
    open_mailroom: OpenMailroom, sqlite_url: str, batch: str
) -> None:
    """However long and however often somebody else holds it."""
    mailroom = open_mailroom(
        sqlite_url, batch=batch, max_deliveries="100", patience="0.05"
    )
    outages = 20 if _IN_FULL else 3
    worker = mailroom.start()
    other = sqlite3.connect(
        mailroom.engine.url.database or "", isolation_level=None, timeout=60
    )
    for number in range(outages):
        mailroom.publish(*range(number * _SHARE, (number + 1) * _SHARE))
        mailroom.publish(-1, raises="ValueError")
        wanted = number * _SHARE + 5
        until(lambda goal=wanted: mailroom.count() >= goal)
        other.execute("BEGIN EXCLUSIVE")
        said = mailroom.said_by(worker).count("is gone")
        until(lambda said=said: mailroom.said_by(worker).count("is gone") > said + 1)
        other.execute("ROLLBACK")
    other.close()
    expect_all(mailroom, outages * _SHARE, outages)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder that is full soon."""
    # Each run of pytest closes the folder of its temporary ones to other users.
    with tempfile.TemporaryDirectory(prefix="ecotone-disk-") as parent:
        folder = Path(parent) / "disk"
        folder.mkdir()
        Path(parent).chmod(0o755)
        options = ["-t", "tmpfs", "-o", "size=24m", "none"]
        if subprocess.run(["mount", *options, folder], check=False).returncode:
            missing("no small disk can be mounted")
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on a disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1_048_576, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


@pytest.mark.parametrize("batch", ["", "1"], ids=["message", "batch"])
def test_a_full_disk_of_sqlite_loses_nothing(
    open_mailroom: OpenMailroom, small_disk: Path, batch: str
) -> None:
    """The worker goes on when there is room again."""
    mailroom = open_mailroom(
        f"sqlite:///{small_disk / 'database.sqlite'}",
        batch=batch,
        max_deliveries="100",
    )
    overflow(mailroom, small_disk)


@pytest.mark.parametrize("batch", ["", "1"], ids=["message", "batch"])
def test_a_full_disk_of_postgresql_loses_nothing(
    open_mailroom: OpenMailroom,
    own_postgresql: PostgreSQL,
    small_disk: Path,
    batch: str,
) -> None:
    """The worker goes on when there is room again."""
    own_postgresql.give(small_disk)
    engine = sa.create_engine(own_postgresql.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as one:
        one.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        one.exec_driver_sql("CREATE DATABASE small TABLESPACE small")
    try:
        url = own_postgresql.url.removesuffix("postgres") + "small"
        mailroom = open_mailroom(url, batch=batch, max_deliveries="100")
        overflow(mailroom, small_disk)
    finally:
        with engine.connect() as one:
            one.exec_driver_sql("DROP DATABASE small WITH (FORCE)")
            one.exec_driver_sql("DROP TABLESPACE small")
        engine.dispose()


def test_a_full_table_of_mariadb_loses_nothing(
    open_mailroom: OpenMailroom, mariadb_url: str
) -> None:
    """The worker goes on when there is room again.

    Full is a table in memory; on a full disk MariaDB says the same of its tables.
    """
    engine = sa.create_engine(mariadb_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as one:
        one.exec_driver_sql("SET SESSION max_heap_table_size = 1048576")
        one.exec_driver_sql(
            "CREATE TABLE letter (id INT AUTO_INCREMENT PRIMARY KEY, number INT,"
            " text VARCHAR(2000), sorted_at BIGINT) ENGINE = MEMORY"
        )
        mailroom = open_mailroom(mariadb_url, max_deliveries="100")
        mailroom.publish(*range(_SHARE))
        filling = "INSERT INTO letter (number, text, sorted_at) VALUES (-1, '', 0)"
        with pytest.raises(sa.exc.OperationalError, match="1114"):
            while True:
                one.exec_driver_sql(filling)
        worker = mailroom.start()
        until(lambda: mailroom.said_by(worker).count("is gone") > 2)
        one.exec_driver_sql("DELETE FROM letter")
    engine.dispose()
    expect_all(mailroom, _SHARE, 0)


def overflow(mailroom: Mailroom, disk: Path) -> None:
    """Let a worker meet a full disk, and then one with room."""
    mailroom.publish(*range(_SHARE), length=100_000)
    mailroom.publish(-1, raises="ValueError", length=100_000)
    filler = fill(disk)
    worker = mailroom.start()
    until(lambda: mailroom.said_by(worker).count("is gone") > 2)
    filler.unlink()
    expect_all(mailroom, _SHARE, 1)


def test_a_worker_that_cannot_read_our_tables_says_where_to_look(
    open_mailroom: OpenMailroom, database_url: str
) -> None:
    """Somebody has tables of another version. The worker ends, and loses nothing."""
    mailroom = open_mailroom(database_url)
    mailroom.publish(1)
    with mailroom.engine.begin() as one:
        one.exec_driver_sql("ALTER TABLE ecotone_message DROP expires_at")
    said = mailroom.finish(mailroom.start())
    assert "expires_at" in said
    assert "flask ecotone database setup --status" in said
    assert not mailroom.is_empty
