"""The connection of the tenant as a parameter and as a service; and its name."""

from __future__ import annotations

import json
import pickle
import re
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Reference
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone import TenantConnection
from flask_ecotone import TenantSession
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import UnknownTenantError
from flask_ecotone.tenancy import ConnectionFactory

from .house import A
from .house import B
from .house import House
from .house import logged
from .house import MAPPING
from .house import Register

ConnectionReference = SQLAlchemyConnectionReference
Factory = t.Annotated[ConnectionFactory, Reference()]
Connection = t.Annotated[sa.Connection, TenantConnection()]
Session = t.Annotated[sa_orm.Session, TenantSession()]


@query_handler("address")
def address(connection: Connection, session: Session) -> str:
    """Return the address of the connection that the handler is given."""
    assert session.connection() is connection
    return connection.engine.url.render_as_string(hide_password=False)


@command_handler("insert")
def insert(name: str, connection: Connection) -> None:
    """Write on the connection, and fail if the name is bad."""
    statement = sa.text("INSERT INTO customers (id, name) VALUES (1, :name)")
    connection.execute(statement, {"name": name})
    if name == "bad":
        raise ValueError(name)


def test_a_handler_is_given_the_tenants_connection(house: House) -> None:
    """It is the session's own, and so takes part in the unit of work."""
    house.ecotone.register(address, insert)
    with house.app.app_context():
        for metadata, bind in ((A, "bind_a"), (B, "bind_b")):
            found = query_bus.send_with_routing("address", metadata=metadata)
            assert found == house.binds[bind]
        with pytest.raises(ValueError):
            command_bus.send_with_routing("insert", "bad", metadata=A)
        command_bus.send_with_routing("insert", "Alice", metadata=A)
        with pytest.raises(MissingTenantError):
            query_bus.send_with_routing("address")
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == []


def test_a_handler_is_given_the_default_connection(database_url: str) -> None:
    """Without tenants the markers are for the connection of the application."""
    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(address)
    with app.app_context():
        assert query_bus.send_with_routing("address") == database_url
        # The tests' requirement C-35.
        factory = ecotone.service(ConnectionFactory)
        assert factory.connection().scalar(sa.text("SELECT 1")) == 1
        assert factory.engine() is db.engine
        assert factory.session() is db.session()
        assert not factory.has_active_tenant()
        with pytest.raises(MissingTenantError, match="No tenants are configured"):
            factory.current_active_tenant()


def test_the_markers_need_a_database() -> None:
    """An app without Flask-SQLAlchemy can't be compiled with them."""
    ecotone = Ecotone(packages=[])
    ecotone.register(address)
    app = Flask(__name__)
    ecotone.init_app(app)
    with app.app_context():
        with pytest.raises(HandlerSignatureError, match="requires a 'db' connection"):
            ecotone.compile()


def test_tenants_need_a_database() -> None:
    """So do tenants, and the error says what to call first."""
    tenants = MultiTenantConfiguration("tenant", {})
    app = Flask(__name__)
    ecotone = Ecotone(app, packages=[], extensions=[tenants])
    with app.app_context():
        with pytest.raises(
            ConfigurationError, match="Call db.init_app\\(app\\) before"
        ):
            ecotone.compile()


def test_the_factory_follows_the_active_tenant(house: House) -> None:
    """It remembers nothing: each call asks who is active now."""
    found: list[t.Any] = []

    @query_handler("look")
    def look(factory: Factory) -> str:
        assert factory.has_active_tenant()
        assert factory.session() is house.db.session()
        assert factory.connection().engine is factory.engine()
        found.append(factory.engine().url.render_as_string(hide_password=False))
        return factory.current_active_tenant()

    house.ecotone.register(look)
    with house.app.app_context():
        for metadata in (A, B, A):
            tenant = query_bus.send_with_routing("look", metadata=metadata)
            assert tenant == metadata["tenant"]
        factory = house.connections
        assert not factory.has_active_tenant()
        for use in (factory.engine, factory.session, factory.connection):
            with pytest.raises(MissingTenantError, match="Lack of context"):
                use()
        with pytest.raises(MissingTenantError, match="Lack of context"):
            factory.current_active_tenant()
        assert factory.engine("tenant_b") is house.db.engines["bind_b"]
        with pytest.raises(UnknownTenantError, match="tenant_c"):
            factory.engine("tenant_c")
    binds = house.binds
    assert found == [binds["bind_a"], binds["bind_b"], binds["bind_a"]]


def test_a_transaction_ends_on_the_connection_it_began_on(house: House) -> None:
    """Whatever a handler does to sessions and engines meanwhile, it is stored."""

    pools: list[sa.Pool] = []

    @command_handler("swap")
    def swap() -> None:
        house.write(1, "Alice")
        house.db.session.flush()
        engine = house.db.engines["bind_a"]
        pools.append(engine.pool)
        engine.dispose()
        house.db.session.remove()
        with house.app.app_context():
            house.write(2, "Anna")
        house.write(3, "Ada")

    house.ecotone.register(swap)
    with house.app.app_context():
        command_bus.send_with_routing("swap", metadata=A)
    pools[0].dispose()
    assert house.stored("bind_a") == [(1, "Alice"), (2, "Anna"), (3, "Ada")]


def test_a_reference_is_only_names() -> None:
    """It is made from a bind key, and has no more than what was said."""
    found = ConnectionReference.create("tenant_a")
    assert (found.bind_key, found.reference_name) == ("tenant_a", "tenant_a")
    named = ConnectionReference.create("tenant_a", "custom_ref")
    assert (named.bind_key, named.reference_name) == ("tenant_a", "custom_ref")
    default = ConnectionReference.default_connection()
    assert (default.bind_key, default.reference_name) == (None, "default")
    schema = ConnectionReference.in_schema("s", "bind")
    assert (schema.bind_key, schema.schema) == ("bind", "s")
    assert [str(each) for each in (found, named, default, schema)] == [
        *("tenant_a", "custom_ref", "default", "s")
    ]


@pytest.mark.parametrize(
    "reference",
    [
        ConnectionReference.create("tenant_a", "custom_ref"),
        ConnectionReference.default_connection(),
        ConnectionReference.in_schema("s", "bind"),
    ],
)
def test_a_reference_makes_the_round_trip(reference: ConnectionReference) -> None:
    """Its arguments are text that JSON can hold; it can be a key, and be pickled."""
    arguments = json.loads(json.dumps(reference.to_arguments()))
    assert all(isinstance(value, str | None) for value in arguments.values())
    assert ConnectionReference(**arguments) == reference
    assert {reference: 1}[ConnectionReference(**arguments)] == 1
    assert pickle.loads(pickle.dumps(reference)) == reference


@pytest.mark.parametrize(
    "make",
    [
        lambda url: ConnectionReference.create(url),
        lambda url: ConnectionReference.create("bind", url),
        lambda url: House({}, configuration=MultiTenantConfiguration("t", {"a": url})),
    ],
)
def test_a_url_is_no_name(make: t.Callable[[str], t.Any], tmp_path: Path) -> None:
    """A URL in place of a name is refused, without showing the password."""
    with pytest.raises((ConfigurationError, RuntimeError)) as raised:
        made = make("postgresql://user:secret@host/database")
        with made.app.app_context():
            made.ecotone.compile()
    assert "secret" not in str(raised.value)


def test_a_function_that_returns_a_url_is_refused(plain: House) -> None:
    """Its mistake is found before the name is logged."""
    configuration = MultiTenantConfiguration(
        "tenant", lambda tenant: f"postgresql://user:secret@host/{tenant}"
    )
    house = House(plain.binds, configuration=configuration)
    with logged("house.ecotone") as records, house.app.app_context():
        with pytest.raises(ConfigurationError, match="URL into SQLALCHEMY_BINDS") as e:
            query_bus.send_with_routing("names", metadata=A)
    assert "secret" not in str(e.value)
    assert not any("secret" in record.getMessage() for record in records)


def test_passwords_are_nowhere(tmp_path: Path) -> None:
    """Not in names, not in the log of an activation, nor in the manifest."""
    url = "postgresql+psycopg://someone:secret@127.0.0.1:1/nowhere"
    db, app = SQLAlchemy(), Flask("house")
    app.config.update(
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_BINDS={"bind_a": url, "bind_b": url},
        ECOTONE_CACHE_CONFIGURATION=True,
        ECOTONE_CACHE_DIR=str(tmp_path / "cache"),
        ECOTONE_TENANTS={"tenant_a": "bind_a"},
    )
    db.init_app(app)
    ecotone = Ecotone(app, packages=["tests.tenancy.house"])

    @query_handler("tenant")
    def tenant(factory: Factory) -> str:
        return repr(factory.engine())

    ecotone.register(tenant)
    with logged("house.ecotone") as records, app.app_context():
        ecotone.add_tenant("added", url)
        for name in ("tenant_a", "added"):
            # SQLAlchemy hides it as well.
            shown = query_bus.send_with_routing("tenant", metadata={"tenant": name})
            assert "secret" not in shown
    assert len(records) >= 4
    assert not any("secret" in record.getMessage() for record in records)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert not re.search(rb"secret|127\.0\.0\.1", path.read_bytes())
    state = app.extensions["ecotone"]
    assert "secret" not in f"{state.tenancy!r}{state.config!r}{MAPPING!r}"


def test_nothing_is_connected_at_compile_time(files: dict[str, str]) -> None:
    """Compiling, and adding tenants, opens no connection; fork away."""
    house = House(files)
    seen: list[t.Any] = []
    with house.app.app_context():
        for engine in house.db.engines.values():
            sa.event.listen(engine, "connect", lambda *args: seen.append(args))
        house.ecotone.compile()
        house.ecotone.add_tenant("more", "bind_a")
        assert seen == []
        command_bus.send(Register(1, "Alice"), {"tenant": "more"})
    assert len(seen) == 1
