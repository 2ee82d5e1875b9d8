"""What an application says about its tenants, in code, config and environment."""

from __future__ import annotations

import enum
import typing as t

import pytest
from flask import Flask
from flask import request
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone import with_tenant_resolver
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import TenancyError
from flask_ecotone.errors import UnknownTenantError

from .house import A
from .house import B
from .house import House
from .house import MAPPING
from .house import Register


def test_tenants_by_a_function(files: dict[str, str]) -> None:
    """A function is asked for each message; ``None`` means that it knows of none."""
    asked: list[str] = []

    def find(tenant: str) -> str | SQLAlchemyConnectionReference | None:
        asked.append(tenant)
        if tenant == "1":
            return "bind_a"
        if tenant == "tenant_b":
            return SQLAlchemyConnectionReference.create("bind_b", "second")
        return None

    house = House(files, configuration=MultiTenantConfiguration("tenant", find))
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), {"tenant": 1})
        command_bus.send(Register(1, "Bob"), B)
        with pytest.raises(UnknownTenantError, match="`tenant_a`"):
            command_bus.send(Register(1, "Nobody"), A)
    assert asked == ["1", "tenant_b", "tenant_a"]
    assert house.everything == {"bind_a": [(1, "Alice")], "bind_b": [(1, "Bob")]}


def test_a_function_with_a_default(files: dict[str, str]) -> None:
    """Where it returns ``None`` the default connection is used."""
    house = House(
        files,
        configuration=MultiTenantConfiguration("tenant", lambda _: None, "bind_b"),
    )
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
    assert house.everything == {"bind_a": [], "bind_b": [(1, "Alice")]}


@pytest.mark.parametrize("where", ["config", "environment"])
def test_tenants_by_configuration_keys(
    files: dict[str, str], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys do what MultiTenantConfiguration does."""
    config = {
        "ECOTONE_TENANT_HEADER": "shop",
        "ECOTONE_TENANTS": " tenant_a = bind_a , 2=bind_b ",
        "ECOTONE_DEFAULT_TENANT_BIND": "bind_b",
    }
    if where == "environment":
        for name, value in config.items():
            monkeypatch.setenv(name, value)
        config = {"ECOTONE_TENANTS": t.cast(str, None)}
    house = House(files, **config)
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), {"shop": "tenant_a"})
        command_bus.send(Register(2, "Bob"), {"shop": 2})
        command_bus.send(Register(3, "Other"), {"shop": "other"})
        command_bus.send(Register(4, "Nobody"))
    assert house.everything == {
        "bind_a": [(1, "Alice")],
        "bind_b": [(2, "Bob"), (3, "Other"), (4, "Nobody")],
    }


def test_the_default_may_be_that_of_the_application(
    files: dict[str, str], trap: str
) -> None:
    """The word ``default`` means SQLALCHEMY_DATABASE_URI, for a tenant as well."""
    house = House(
        files,
        trap,
        ECOTONE_TENANTS={"tenant_a": "bind_a", "tenant_b": "default"},
        ECOTONE_DEFAULT_TENANT_BIND="default",
    )
    with house.app.app_context():
        command_bus.send(Register(1, "Bob"), B)
        command_bus.send(Register(2, "Nobody"))
    assert house.stored("default") == [(1, "Bob"), (2, "Nobody")]


def test_the_keys_take_objects_too(files: dict[str, str]) -> None:
    """In ``app.config`` tenants may be a function, and connections references."""
    bind_b = SQLAlchemyConnectionReference.create("bind_b", "second")
    by_function = House(
        files, ECOTONE_TENANTS=MAPPING.get, ECOTONE_DEFAULT_TENANT_BIND=bind_b
    )
    by_reference = House(files, ECOTONE_TENANTS={"tenant_a": bind_b})
    for house, name in ((by_function, "bind_a"), (by_reference, "bind_b")):
        with house.app.app_context():
            found = house.connections.engine("tenant_a")
            assert found is house.db.engines[name]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ECOTONE_TENANTS": "tenant_a"}, "ECOTONE_TENANTS has 'tenant_a'"),
        ({"ECOTONE_TENANTS": "=bind_a"}, "ECOTONE_TENANTS has '=bind_a'"),
        ({"ECOTONE_TENANTS": 7}, "neither a mapping nor a function, but a int"),
        ({"ECOTONE_TENANTS": {"a": 7}}, "A tenant is mapped to 7"),
        ({"ECOTONE_TENANTS": {"a": "gone"}}, "needs the bind 'gone'"),
        ({"ECOTONE_TENANTS": {"a": "default"}}, "needs the default database"),
        ({"ECOTONE_TENANT_HEADER": "shop"}, "ECOTONE_TENANT_HEADER is set, and"),
        ({"ECOTONE_DEFAULT_TENANT_BIND": "x"}, "ECOTONE_DEFAULT_TENANT_BIND is set"),
    ],
)
def test_mistakes_are_found_when_the_system_is_compiled(
    files: dict[str, str], config: dict[str, t.Any], message: str
) -> None:
    """And never end in a system that takes the application to have no tenants."""
    db, app = SQLAlchemy(), Flask("house")
    app.config.update(SQLALCHEMY_BINDS=files, **config)
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])
    with app.app_context():
        with pytest.raises(ConfigurationError, match=message):
            ecotone.compile()
    result = app.test_cli_runner().invoke(args=["ecotone", "check"])
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", {}), "tenant header is ''"),
        ((None, {}), "tenant header is None"),
        (("tenant", ["tenant_a"]), "neither a mapping nor a function, but a list"),
    ],
)
def test_a_configuration_checks_itself(
    arguments: tuple[t.Any, ...], message: str
) -> None:
    """What can't be right is refused where it is written."""
    with pytest.raises(ConfigurationError, match=message):
        MultiTenantConfiguration(*arguments)
    with pytest.raises(ConfigurationError, match="max_engines is 0"):
        MultiTenantConfiguration("tenant", {}, max_engines=0)


@pytest.mark.parametrize("limit", ["5", None, 2.5])
def test_max_engines_is_a_number(limit: t.Any) -> None:
    """Anything else is refused with a line about it."""
    with pytest.raises(ConfigurationError, match="It is a number of engines"):
        MultiTenantConfiguration("tenant", {}, max_engines=limit)


@pytest.mark.parametrize("header", ["id", "aggregate.id", "contentType", "timestamp"])
def test_the_header_is_none_of_ours(header: str) -> None:
    """Every message has some of them, and no message inherits them."""
    with pytest.raises(ConfigurationError, match="for something else"):
        MultiTenantConfiguration(header, {})


def test_tenants_that_are_one_as_text_are_refused(files: dict[str, str]) -> None:
    """A header can't tell 5 from "5": one of them would be lost."""
    both = MultiTenantConfiguration("tenant", {5: "bind_a", "5": "bind_b"})
    house = House(files, configuration=both)

    with (
        house.app.app_context(),
        pytest.raises(ConfigurationError, match="same as text: 5, '5'"),
    ):
        house.ecotone.compile()


def test_a_tenant_begins_no_line_of_its_own(
    files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the log nor in errors, whatever a request says."""
    hostile = "x`\nINFO all is well"
    caplog.set_level("INFO")
    shared = MultiTenantConfiguration("tenant", MAPPING, "bind_a")

    with House(files, configuration=shared).app.app_context():
        command_bus.send(Register(1, "Alice"), {"tenant": hostile})

    lines = [each.getMessage() for each in caplog.records]
    assert "Activating tenant `x`\\nINFO all is well` on connection `bind_a`" in lines
    assert not any("\n" in line for line in lines)

    with (
        House(files).app.app_context(),
        pytest.raises(UnknownTenantError, match=r"`x`\\nINFO all is well`"),
    ):
        command_bus.send(Register(2, "Bob"), {"tenant": hostile})


def test_nor_does_a_connection_that_a_function_names(
    files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Functions often make the name of the tenant a part of it; long ones are cut."""
    caplog.set_level("INFO")
    house = House(
        files, configuration=MultiTenantConfiguration("tenant", lambda t: f"db_{t}")
    )

    with house.app.app_context():
        for tenant in ("x\nINFO all is well", "y" * 1_000_000):
            with pytest.raises(ConfigurationError, match="needs the bind 'db_") as got:
                command_bus.send(Register(1, "Alice"), {"tenant": tenant})
            assert "\n" not in str(got.value)
            assert len(str(got.value)) < 1000

    lines = [each.getMessage() for each in caplog.records]
    assert any(r"connection `db_x\nINFO all is well`" in line for line in lines)
    assert not any("\n" in line or len(line) > 1000 for line in lines)


class Region(enum.Enum):
    NORTH = "tenant_a"


def test_a_tenant_may_be_a_member_of_an_enum(files: dict[str, str]) -> None:
    """Its value is meant, in headers and in the mapping."""
    mapped = MultiTenantConfiguration("tenant", {Region.NORTH: "bind_a"})
    for configuration in (mapped, None):
        house = House(files, configuration=configuration)
        with house.app.app_context():
            for tenant in (Region.NORTH, "tenant_a"):
                house.db.session.remove()
                found = query_bus.send_with_routing(
                    "names", metadata={"tenant": tenant}
                )
                assert found == []
            engine = house.db.engines["bind_a"]
            assert house.connections.engine(t.cast(str, Region.NORTH)) is engine


@pytest.mark.parametrize(
    "tenant", [b"tenant_a", ["tenant_a"], {"tenant": 1}, True, 1.0, object()]
)
def test_what_is_no_name_does_not_end_at_the_default(
    files: dict[str, str], trap: str, tenant: t.Any
) -> None:
    """It is a mistake, where a name that isn't mapped is meant to go there."""
    shared = MultiTenantConfiguration("tenant", MAPPING, "shared")
    house = House({**files, "shared": trap}, configuration=shared)

    with house.app.app_context():
        with pytest.raises(TenancyError, match="Name it by text, a number or a UUID"):
            command_bus.send(Register(1, "Alice"), {"tenant": tenant})
        with pytest.raises(TenancyError, match="Name it by text"):
            house.ecotone.add_tenant(tenant, "bind_a")

    assert house.everything == {"bind_a": [], "bind_b": [], "shared": []}
    house.check_clean()


def test_two_configurations_are_refused(files: dict[str, str]) -> None:
    """Nobody could tell which one counts."""
    one, two = (MultiTenantConfiguration(name, {}) for name in ("one", "two"))
    for extensions, config in (
        ([one, two], {}),
        ([one], {"ECOTONE_TENANTS": {}, "ECOTONE_TENANT_HEADER": "two"}),
    ):
        db, app = SQLAlchemy(), Flask("house")
        app.config.update(SQLALCHEMY_BINDS=files, **config)
        db.init_app(app)
        ecotone = Ecotone(app, packages=[], extensions=extensions)
        with app.app_context():
            for _ in range(2):
                with pytest.raises(ConfigurationError, match="2 times.*'one', 'two'"):
                    ecotone.compile()


def test_tenants_come_from_the_request(plain: House) -> None:
    """A metadata provider names the tenant; what is given to the bus wins."""
    house = plain

    @house.ecotone.metadata_provider
    def tenant_of_request() -> dict[str, t.Any]:
        found = request.headers.get("X-Tenant")
        return {} if found is None else {"tenant": found}

    @house.app.post("/<int:number>/<name>")
    def register(number: int, name: str) -> str:
        command_bus.send(Register(number, name))
        return ",".join(query_bus.send_with_routing("names"))

    @house.app.get("/b")
    def at_b() -> str:
        return ",".join(query_bus.send_with_routing("names", metadata=B))

    house.app.testing = True
    client = house.app.test_client()
    at_a = {"X-Tenant": "tenant_a"}
    assert client.post("/1/Alice", headers=at_a).text == "Alice"
    assert client.post("/1/Bob", headers={"X-Tenant": "tenant_b"}).text == "Bob"
    assert client.get("/b", headers=at_a).text == "Bob"
    with pytest.raises(MissingTenantError):
        client.post("/1/Nobody")
    # Outside of a request it isn't asked.
    with house.app.app_context():
        with pytest.raises(MissingTenantError):
            query_bus.send_with_routing("names")
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == [(1, "Bob")]


def test_a_tenant_resolver_is_for_inbound_adapters(files: dict[str, str]) -> None:
    """On a handler it is refused, in the words of the specification."""

    @command_handler("import")
    @with_tenant_resolver("headers['shop']")
    def import_order() -> None:
        """Never called."""

    house = House(files)
    house.ecotone.register(import_order)
    with house.app.app_context():
        with pytest.raises(ConfigurationError) as raised:
            house.ecotone.compile()
    for words in ("import_order", "inbound channel adapter", "Internal Message Chann"):
        assert words in str(raised.value)
