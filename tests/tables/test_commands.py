"""``flask ecotone database`` and ``flask ecotone deduplication``."""

from __future__ import annotations

import json
import typing as t
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import NullPool

from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import DatabaseChannel
from flask_ecotone import deduplicated
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.storage import tables

from .test_creation import found_tables
from .test_creation import NAMES
from .test_deduplication import age
from .test_deduplication import note
from .test_deduplication import noted

FEATURES = [feature.name for feature in tables.FEATURES]


@deduplicated(key="order")
class OrderBus(CommandBus):
    """Handles each order once."""


class Shop:
    """An application with one table of its own, and its command line."""

    def __init__(
        self,
        url: str | None = None,
        *,
        tenants: t.Any = None,
        channels: t.Sequence[t.Any] = (DatabaseChannel("orders"),),
        **binds: str,
    ) -> None:
        self.app, db = Flask("shop"), SQLAlchemy()
        self.app.config["SQLALCHEMY_BINDS"] = binds
        if url is not None:
            self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        db.init_app(self.app)
        db.Table("customers", sa.Column("id", sa.Integer, primary_key=True))
        extensions = [tenants] if tenants else []
        self.ecotone = Ecotone(
            self.app, packages=[], extensions=extensions, channels=channels
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command and return its output."""
        result = self.app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    def setup(self, *arguments: str, code: int = 0) -> str:
        """Run ``database setup``."""
        return self.run("database", "setup", *arguments, code=code)

    def delete(self, *arguments: str, code: int = 0) -> str:
        """Run ``database delete``."""
        return self.run("database", "delete", *arguments, code=code)

    def clean_up(self, *arguments: str, code: int = 0) -> str:
        """Run ``deduplication remove-expired-messages``."""
        command = ("deduplication", "remove-expired-messages")
        return self.run(*command, *arguments, code=code)


@pytest.fixture
def two(new_database: t.Callable[[], str]) -> tuple[Shop, dict[str, str]]:
    """A shop with the tenants north and south, and their databases."""
    binds = {"north": new_database(), "south": new_database()}
    mapping = MultiTenantConfiguration("tenant", {"n": "north", "s": "south"})
    return Shop(tenants=mapping, **binds), binds


def test_setup_says_what_is_there(database_url: str) -> None:
    """It changes nothing by itself."""
    shop = Shop(database_url)
    assert shop.setup().split() == [
        *("Feature", "Used", "Initialized"),
        *(word for name in FEATURES for word in (name, "yes", "no")),
    ]
    assert found_tables(database_url) == []
    shop.setup("--initialize", "--feature", "deduplication")
    status = json.loads(shop.setup("--json"))
    assert status == [
        {
            "tenant": None,
            "feature": name,
            "used": True,
            "initialized": name == "deduplication",
            "lacks": [],
        }
        for name in FEATURES
    ]


def test_setup_says_what_tables_of_another_version_lack(database_url: str) -> None:
    """An index is created, and a column is left to a migration."""
    shop = Shop(database_url)
    shop.setup("--initialize")
    engine = sa.create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        of_table = " ON ecotone_message" if engine.dialect.name == "mysql" else ""
        connection.exec_driver_sql(f"DROP INDEX ecotone_message_next{of_table}")
        connection.exec_driver_sql("ALTER TABLE ecotone_message DROP expires_at")
    said = shop.setup()
    assert ["message_queue", "yes", "no"] in [each.split() for each in said.split("\n")]
    lacks = "ecotone_message lacks column expires_at"
    assert f"{lacks}, index ecotone_message_next.\n" in said
    assert f"{lacks}.\n" in shop.setup("--initialize")
    (row, *_) = json.loads(shop.setup("--json"))
    assert (row["initialized"], row["lacks"]) == (False, ["column expires_at"])


def test_initialize_creates_our_tables_only(database_url: str) -> None:
    """Once or more; ``--feature`` may be repeated."""
    shop = Shop(database_url)
    shop.setup("--initialize", "--feature", "dead_letter", "--feature", "deduplication")
    assert found_tables(database_url) == ["ecotone_dead_letter", "ecotone_handled"]
    for _ in range(2):
        output = shop.setup("--initialize")
        assert output.split()[3:] == [w for n in FEATURES for w in (n, "yes", "yes")]
    assert found_tables(database_url) == NAMES


def test_only_what_is_used(sqlite_url: str) -> None:
    """An application without database channels uses none of our tables."""
    shop = Shop(sqlite_url, channels=())
    assert "message_queue  no" in shop.setup()
    said = "The application uses none of the features.\n"
    assert shop.setup("--initialize", "--only-used") == said
    assert shop.setup("--only-used", "--json") == "[]\n"
    assert found_tables(sqlite_url) == []
    Shop(sqlite_url).setup("--initialize", "--only-used")
    assert found_tables(sqlite_url) == NAMES


def test_sql_is_printed_and_not_executed(database_url: str) -> None:
    """In the dialect of the database; executed by hand it does the same."""
    shop = Shop(database_url)
    output = shop.setup("--sql")
    assert found_tables(database_url) == []
    dialect = sa.make_url(database_url).get_backend_name()
    wanted = {"postgresql": "BIGSERIAL", "mysql": "LONGBLOB", "sqlite": "BLOB"}
    assert wanted[dialect] in output
    engine = sa.create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in output.split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    assert found_tables(database_url) == NAMES
    one = shop.setup("--sql", "--feature", "deduplication")
    assert one.startswith("CREATE TABLE ecotone_handled (")
    assert "ecotone_message" not in one


def test_sql_needs_no_server() -> None:
    """Whoever prints it may be elsewhere."""
    shop = Shop("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    assert "CREATE TABLE ecotone_message" in shop.setup("--sql")
    assert shop.setup(code=1).startswith("Error: ")


def test_tenants_get_the_application_s_tables_and_ours(
    two: tuple[Shop, dict[str, str]],
) -> None:
    """Each in its database, as they are named."""
    shop, binds = two
    assert shop.setup("--tenant", "n") == "n: the tables are there.\n"
    assert found_tables(binds["north"]) == ["customers", *NAMES]
    assert found_tables(binds["south"]) == []
    status = json.loads(shop.setup("--all-tenants", "--json"))
    assert {(row["tenant"], row["initialized"]) for row in status} == {
        ("n", True),
        ("s", False),
    }
    assert "s       message_queue  yes   no" in shop.setup("--all-tenants", "--status")
    assert found_tables(binds["south"]) == []
    shop.setup("--all-tenants", "--feature", "schedule")
    assert found_tables(binds["south"]) == ["ecotone_tick"]
    shop.setup("--all-tenants", "--initialize")
    assert found_tables(binds["south"]) == ["customers", *NAMES]


def test_tenants_without_default_must_be_named(
    two: tuple[Shop, dict[str, str]],
) -> None:
    """No database stands for all of them."""
    shop, _ = two
    for command in (shop.setup, shop.delete, shop.clean_up):
        assert "The tenants have no default connection." in command(code=2)
        both = command("--tenant", "n", "--all-tenants", code=2)
        assert "Say either --tenant NAME or --all-tenants." in both


def test_a_tenant_that_is_a_schema(postgres_url: str) -> None:
    """Everything is in the schema, that of the default connection in its own."""
    schema = SQLAlchemyConnectionReference.in_schema("north")
    tenants = MultiTenantConfiguration("tenant", {"n": schema})
    shop = Shop(postgres_url, tenants=tenants)
    printed = shop.setup("--tenant", "n", "--sql", "--feature", "schedule")
    assert printed.startswith("-- n\n\nCREATE SCHEMA IF NOT EXISTS north;")
    assert "CREATE TABLE north.ecotone_tick" in printed
    shop.setup("--tenant", "n", "--feature", "schedule")
    assert found_tables(postgres_url, "north") == ["ecotone_tick"]
    shop.setup("--tenant", "n")
    assert found_tables(postgres_url, "north") == ["customers", *NAMES]
    shop.delete("--tenant", "n", "--force")
    assert found_tables(postgres_url, "north") == ["customers"]
    assert found_tables(postgres_url) == []


def test_the_default_connection_of_tenants(two: t.Any, database_url: str) -> None:
    """It is meant when no tenant is named."""
    _, binds = two
    tenants = MultiTenantConfiguration("tenant", {"n": "north"}, "south")
    Shop(database_url, tenants=tenants, **binds).setup("--initialize")
    assert found_tables(binds["south"]) == NAMES
    assert found_tables(database_url) == found_tables(binds["north"]) == []


def test_delete_asks_for_force(database_url: str) -> None:
    """Without it nothing is deleted; with it our tables are, the others never."""
    shop = Shop(database_url)
    assert shop.delete() == "There is nothing to delete.\n"
    engine = sa.create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
    shop.setup("--initialize")
    note(engine, "a")
    output = shop.delete("--feature", "deduplication", "--feature", "dead_letter")
    assert output.split("\n")[1:] == [
        "deduplication  ecotone_handled      1",
        "dead_letter    ecotone_dead_letter  0",
        "Would be deleted (use --force to confirm).",
        "",
    ]
    assert found_tables(database_url) == ["customers", *NAMES]
    assert "\nDeleted.\n" in shop.delete("--feature", "deduplication", "--force")
    assert "ecotone_handled" not in found_tables(database_url)
    shop.delete("--force")
    assert found_tables(database_url) == ["customers"]


def test_delete_of_a_tenant_leaves_the_others(
    two: tuple[Shop, dict[str, str]],
) -> None:
    """A tenant that fails is told, and the others are done."""
    shop, binds = two
    shop.setup("--all-tenants")
    assert shop.delete("--all-tenants").count("Would be deleted") == 1
    output = shop.delete("--tenant", "x", "--tenant", "n", "--force", code=1)
    assert "x: Lack of mapping for tenant `x`." in output
    assert "Error: 1 of 2 databases could not be deleted: x." in output
    assert found_tables(binds["north"]) == ["customers"]
    assert found_tables(binds["south"]) == ["customers", *NAMES]


@pytest.mark.parametrize(
    "arguments",
    [
        ("setup", "--feature", "messages"),
        ("setup", "--sql", "--initialize"),
        ("setup", "--sql", "--json"),
        ("setup", "--status", "--initialize"),
        ("delete", "--feature", "messages"),
        ("delete", "ecotone_message"),
    ],
)
def test_wrong_usage(sqlite_url: str, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is done."""
    shop = Shop(sqlite_url)
    assert "Error: " in shop.run("database", *arguments, code=2)
    assert found_tables(sqlite_url) == []


def test_an_application_without_database() -> None:
    """It is told how to have one, or how to name it."""
    app = Flask("shop")
    Ecotone(app, packages=[])
    for command in ("database setup", "database delete"):
        arguments = ["ecotone", *command.split()]
        result = app.test_cli_runner().invoke(args=arguments)
        assert result.exit_code == 1
        assert result.output.startswith(
            "Error: The application has no database. Give it one: call db.init_app"
        )


def test_an_application_with_binds_only(sqlite_url: str) -> None:
    """It has no database that messages could be in."""
    shop = Shop(None, channels=(), other=sqlite_url)
    assert "Set SQLALCHEMY_DATABASE_URI." in shop.setup(code=1)


def test_expired_messages_are_removed(database_url: str) -> None:
    """Those older than an age, of an endpoint or of all."""
    shop = Shop(database_url)
    assert shop.clean_up() == "0 removed.\n"
    shop.setup("--initialize")
    engine = sa.create_engine(database_url, poolclass=NullPool)
    for key in "abc":
        note(engine, key)
        note(engine, key, "report")
    age(engine, timedelta(days=8), "a", "b")
    age(engine, timedelta(days=8), "a", endpoint="report")
    age(engine, timedelta(hours=2), "c", endpoint="report")
    assert shop.clean_up("--endpoint", "report") == "1 removed.\n"
    assert shop.clean_up("--batch", "1") == "2 removed.\n"
    assert noted(engine) == {("c", "mail"), ("b", "report"), ("c", "report")}
    shop.clean_up("--older-than", "90m")
    assert noted(engine) == {("c", "mail"), ("b", "report")}


def test_an_endpoint_that_nothing_is_noted_for_is_refused(database_url: str) -> None:
    """Unless the code has it; one that is gone from the code may still be noted."""
    shop = Shop(database_url)
    said = shop.clean_up("--endpoint", "report", code=1)
    assert "There is no endpoint 'report', neither in the code nor" in said
    shop.setup("--initialize")
    shop.clean_up("--endpoint", "report", code=1)
    note(sa.create_engine(database_url, poolclass=NullPool), "a", "report")
    assert shop.clean_up("--endpoint", "report") == "0 removed.\n"


def test_an_endpoint_of_the_code_is_known(sqlite_url: str) -> None:
    """A handler or a bus, also before something is noted for it."""

    @command_handler("ship", endpoint_id="ship")
    def ship() -> None: ...

    shop = Shop(sqlite_url)
    shop.ecotone.register(ship, OrderBus)
    for endpoint in ("ship", f"{__name__}:OrderBus"):
        assert shop.clean_up("--endpoint", endpoint) == "0 removed.\n"
    said = shop.clean_up("--endpoint", "shop", code=1)
    assert "Did you mean 'ship'?" in said


@pytest.mark.parametrize("given", ["7", "d", "7y", "-1d", "1.5d", "٣d", "9" * 20 + "d"])
def test_an_age_is_a_number_and_a_unit(sqlite_url: str, given: str) -> None:
    """Anything else is refused: it would remove more than was meant."""
    assert "is no age" in Shop(sqlite_url).clean_up("--older-than", given, code=2)


def test_expired_messages_of_tenants(two: tuple[Shop, dict[str, str]]) -> None:
    """Each database by itself."""
    shop, binds = two
    shop.setup("--all-tenants")
    for url in binds.values():
        engine = sa.create_engine(url, poolclass=NullPool)
        note(engine, "a")
        age(engine, timedelta(days=8), "a")
    output = shop.clean_up("--tenant", "n")
    assert output == "n: 1 removed.\n"
    output = shop.clean_up("--all-tenants")
    assert output == "n: 0 removed.\ns: 1 removed.\n"
