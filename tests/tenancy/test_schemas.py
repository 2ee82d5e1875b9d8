"""Tenants that are schemas of one PostgreSQL database."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.pool import NullPool

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.errors import ConfigurationError

from .house import A
from .house import B
from .house import House
from .house import Register

SCHEMAS = {"tenant_a": "first", "tenant_b": "Second Schema"}
CONFIGURATION = MultiTenantConfiguration(
    "tenant",
    {
        tenant: SQLAlchemyConnectionReference.in_schema(schema)
        for tenant, schema in SCHEMAS.items()
    },
)


@pytest.fixture
def house(postgres_url: str, style: str) -> t.Iterator[House]:
    """An application whose tables are in each schema, and empty ones in ``public``."""
    # One connection: whatever a tenant leaves on it, the next one gets.
    options = {"pool_size": 1, "max_overflow": 1, "pool_timeout": 5}
    house = House(
        {},
        postgres_url,
        style=style,
        configuration=CONFIGURATION,
        SQLALCHEMY_ENGINE_OPTIONS=options,
    )
    tenancy = house.app.extensions["ecotone"].tenancy
    for tenant in SCHEMAS:
        with house.app.app_context():
            tenancy.create_tables(tenant)
            tenancy.create_tables(tenant)
    yield house
    assert found(house) == "no rows in public"
    assert house.sessions == []


def found(house: House, schema: str = "public") -> t.Any:
    """Return the rows of a schema, read on a connection of its own."""
    engine = sa.create_engine(t.cast(str, house.default), poolclass=NullPool)
    query = sa.text(f'SELECT id, name FROM "{schema}".customers ORDER BY id')
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    return rows or f"no rows in {schema}"


def test_each_tenant_has_its_schema(house: House) -> None:
    """Models, tables and plain text find the rows of the schema, with the same keys."""

    @query_handler("by text")
    def by_text() -> list[str]:
        with house.app.app_context():
            guest = house.db.session.scalars(sa.text("SELECT name FROM customers"))
            listed = list(guest)
        here = house.db.session.scalars(sa.text("SELECT name FROM customers"))
        assert listed == list(here)
        return listed

    house.ecotone.register(by_text)
    with house.app.app_context():
        for metadata, name in ((A, "Alice"), (B, "Bob")):
            command_bus.send(Register(1, name), metadata)
            with pytest.raises(ValueError):
                command_bus.send(Register(2, "bad"), metadata)
            assert query_bus.send_with_routing("names", metadata=metadata) == [name]
            assert query_bus.send_with_routing("by text", metadata=metadata) == [name]
    assert found(house, "first") == [(1, "Alice")]
    assert found(house, "Second Schema") == [(1, "Bob")]


@pytest.mark.parametrize("fail", [False, True])
def test_plain_text_takes_part_in_the_command(house: House, fail: bool) -> None:
    """After commits, in savepoints and in guest sessions it stays in the schema."""
    insert = sa.text("INSERT INTO customers (id, name) VALUES (:id, :name)")
    session = house.db.session

    @command_handler("work")
    def work() -> None:
        session.execute(insert, {"id": 1, "name": "first"})
        session.commit()
        try:
            with session.begin_nested():
                session.execute(insert, {"id": 1, "name": "again"})
        except sa.exc.IntegrityError:
            session.execute(insert, {"id": 2, "name": "after the savepoint"})
        with house.app.app_context():
            session.execute(insert, {"id": 3, "name": "guest"})
            house.write(4, "guest")
        session.remove()
        house.write(5, "removed")
        session.execute(insert, {"id": 6, "name": "text"})
        if fail:
            raise ValueError("bad")

    # A unique name would hide what is written twice.
    with sa.create_engine(t.cast(str, house.default)).begin() as connection:
        connection.execute(
            sa.text("ALTER TABLE first.customers DROP CONSTRAINT customers_name_key")
        )
    house.ecotone.register(work)
    with house.app.app_context():
        if fail:
            with pytest.raises(ValueError, match="bad"):
                command_bus.send_with_routing("work", metadata=A)
        else:
            command_bus.send_with_routing("work", metadata=A)
    ids = "no rows in first" if fail else [1, 2, 3, 4, 5, 6]
    rows = found(house, "first")
    assert (rows if fail else [number for number, _ in rows]) == ids
    assert found(house, "Second Schema") == "no rows in Second Schema"


def test_a_connection_goes_back_as_it_came(house: House) -> None:
    """The next user of a pooled connection finds the search path untouched."""
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        with pytest.raises(ValueError):
            command_bus.send(Register(2, "bad"), A)
        query_bus.send_with_routing("names", metadata=B)
        with house.db.engine.connect() as connection:
            path = connection.scalar(sa.text("SHOW search_path"))
    assert path == '"$user", public'


def test_a_table_that_is_missing_is_not_looked_for_elsewhere(house: House) -> None:
    """What is only in ``public`` can't be found by accident."""

    @query_handler("astray")
    def astray() -> t.Any:
        return house.db.session.execute(sa.text("SELECT * FROM only_public")).all()

    with sa.create_engine(t.cast(str, house.default)).begin() as connection:
        connection.execute(sa.text("CREATE TABLE only_public (id integer)"))
    house.ecotone.register(astray)
    with house.app.app_context():
        with pytest.raises(sa.exc.ProgrammingError, match="only_public"):
            query_bus.send_with_routing("astray", metadata=A)


def test_a_table_with_a_schema_of_its_own_is_shared(house: House) -> None:
    """Only tables without schema follow the tenant."""

    class Plan(house.db.Model):
        __table_args__ = {"schema": "shared"}

        id: Mapped[int] = mapped_column(primary_key=True)

    @command_handler("plan")
    def plan() -> int:
        house.db.session.add(Plan())
        house.db.session.flush()
        return len(house.db.session.scalars(sa.select(Plan)).all())

    engine = sa.create_engine(t.cast(str, house.default))
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("shared"))
        Plan.__table__.create(connection)
    house.ecotone.register(plan)
    with house.app.app_context():
        assert command_bus.send_with_routing("plan", metadata=A) == 1
        assert command_bus.send_with_routing("plan", metadata=B) == 2


def test_one_unit_of_work_over_schemas(postgres_url: str) -> None:
    """A command without tenant may send to schemas: all commit, or none."""
    configuration = MultiTenantConfiguration(
        "tenant",
        {
            tenant: SQLAlchemyConnectionReference.in_schema(schema)
            for tenant, schema in SCHEMAS.items()
        },
        SQLAlchemyConnectionReference.default_connection(),
    )
    house = House({}, postgres_url, configuration=configuration)

    @command_handler("all")
    def everybody(fail: bool) -> None:
        house.write(1, "public")
        for metadata in (A, B, A):
            names = query_bus.send_with_routing("names", metadata=metadata)
            command_bus.send(Register(len(names), f"number {len(names)}"), metadata)
        if fail:
            raise ValueError("bad")

    house.ecotone.register(everybody)
    with house.app.app_context():
        for tenant in SCHEMAS:
            house.app.extensions["ecotone"].tenancy.create_tables(tenant)
        with pytest.raises(ValueError, match="bad"):
            command_bus.send_with_routing("all", True)
        assert found(house) == "no rows in public"
        assert found(house, "first") == "no rows in first"
        command_bus.send_with_routing("all", False)
    assert found(house) == [(1, "public")]
    assert found(house, "first") == [(0, "number 0"), (1, "number 1")]
    assert found(house, "Second Schema") == [(0, "number 0")]
    house.check_clean()


@pytest.mark.parametrize("by_function", [False, True])
def test_other_databases_have_no_schemas(
    sqlite_url: str, mariadb_url: str, by_function: bool
) -> None:
    """They are refused: when the system is compiled, or when the tenant is used."""
    reference = SQLAlchemyConnectionReference.in_schema("first")
    for url in (sqlite_url, mariadb_url):
        tenants: t.Any = {"tenant_a": reference}
        if by_function:
            tenants = tenants.get
        house = House(
            {}, url, configuration=MultiTenantConfiguration("tenant", tenants)
        )
        with house.app.app_context():
            with pytest.raises(ConfigurationError, match="on PostgreSQL only"):
                query_bus.send_with_routing("names", metadata=A)
