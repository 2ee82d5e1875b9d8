"""Ask a database for its name, so that a page can prove where it came from."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated

from sqlalchemy import Connection
from sqlalchemy import text

from flask_ecotone import query_handler
from flask_ecotone import TenantConnection

KINDS = {
    "sqlite": ("SQLite", "SELECT file FROM pragma_database_list WHERE name = 'main'"),
    "postgresql": ("PostgreSQL", "SELECT current_database()"),
    "mysql": ("MySQL", "SELECT database()"),
    "mariadb": ("MariaDB", "SELECT database()"),
}


@dataclass(frozen=True)
class DescribeDatabase:
    """Ask which database answers."""


@dataclass(frozen=True)
class DatabaseDetails:
    """The kind of a database, and its name or that of its file."""

    kind: str
    name: str


@query_handler
def describe_database(
    query: DescribeDatabase, connection: Annotated[Connection, TenantConnection()]
) -> DatabaseDetails:
    """Ask the connection itself: what it says is no matter of configuration."""
    is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    kind, sql = KINDS["mariadb" if is_mariadb else connection.dialect.name]
    return DatabaseDetails(kind, PurePath(connection.scalar(text(sql)) or "").name)
