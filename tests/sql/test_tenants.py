"""SQL follows the active tenant."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Reference
from flask_ecotone import sql_query

from .people import Application
from .people import People

A, B = {"tenant": "tenant_a"}, {"tenant": "tenant_b"}


@dataclass
class Register:
    id: int
    name: str


@command_handler
def register(command: Register, people: People) -> None:
    people.add(command.id, command.name)

    if command.name == "bad":
        raise ValueError("bad")


class Names(t.Protocol):
    @sql_query("SELECT name FROM person ORDER BY id")
    def one_by_one(self) -> Iterator[str]: ...


@query_handler("names")
def names(people: t.Annotated[People, Reference()]) -> list[str]:
    return people.names()


@query_handler("names.one_by_one")
def one_by_one(found: t.Annotated[Names, Reference()]) -> list[str]:
    return list(found.one_by_one())


@pytest.fixture
def tenants(
    sqlite_url: str, database_url: str, second_database_url: str
) -> Iterator[Application]:
    """An application with two tenants; its default database must stay empty."""
    binds = {"bind_a": database_url, "bind_b": second_database_url}
    mapping = {"tenant_a": "bind_a", "tenant_b": "bind_b"}
    made = Application(
        sqlite_url,
        People,
        Names,
        register,
        names,
        one_by_one,
        binds=binds,
        extensions=[MultiTenantConfiguration("tenant", mapping)],
    )

    with made.app.app_context():
        for engine in made.db.engines.values():
            made.table.metadata.create_all(engine)

        yield made
        assert made.rows(None) == []


def test_sql_is_executed_on_the_database_of_the_tenant(tenants: Application) -> None:
    """The same key is written and read for two tenants, each in its own database."""
    command_bus.send(Register(1, "Alice"), A)
    command_bus.send(Register(2, "Bob"), A)
    command_bus.send(Register(1, "Carol"), B)

    assert tenants.rows("bind_a") == [(1, "Alice"), (2, "Bob")]
    assert tenants.rows("bind_b") == [(1, "Carol")]

    for key in ("names", "names.one_by_one"):
        found = [query_bus.send_with_routing(key, metadata=tenant) for tenant in (A, B)]
        assert found == [["Alice", "Bob"], ["Carol"]]


def test_failed_command_rolls_back_the_database_of_the_tenant(
    tenants: Application,
) -> None:
    """SQL is part of the tenant's transaction."""
    with pytest.raises(ValueError, match="bad"):
        command_bus.send(Register(1, "bad"), A)

    command_bus.send(Register(1, "good"), B)

    assert tenants.rows("bind_a") == []
    assert tenants.rows("bind_b") == [(1, "good")]
