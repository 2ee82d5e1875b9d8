"""``flask ecotone database setup``, and migrations for each tenant."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import NullPool

from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import UnknownTenantError

from ..docs.pages import read_rst
from .house import MAPPING

_DOCS = Path(__file__).parent.parent.parent / "docs"


def tables(url: str, schema: str | None = None) -> list[str]:
    """Return the tables of a database, read on a connection of its own."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return sorted(sa.inspect(connection).get_table_names(schema))


def create_app(
    binds: dict[str, str], tenants: t.Any = MAPPING, default: str | None = None
) -> tuple[Flask, SQLAlchemy]:
    """Return an application with one table that follows the tenant, and one not."""
    app, db = Flask("house"), SQLAlchemy()
    app.config["SQLALCHEMY_BINDS"] = binds
    if default is not None:
        app.config["SQLALCHEMY_DATABASE_URI"] = default
    db.init_app(app)
    db.Table("customers", sa.Column("id", sa.Integer, primary_key=True))
    db.Table("logins", sa.Column("id", sa.Integer, primary_key=True), bind_key="x")
    extensions = [] if tenants is None else [MultiTenantConfiguration("t", tenants)]
    Ecotone(app, packages=[], extensions=extensions)
    return app, db


def run(app: Flask, *arguments: str) -> tuple[int, str]:
    """Run the command and return its exit code and output."""
    result = app.test_cli_runner().invoke(
        args=["ecotone", "database", "setup", *arguments]
    )
    return result.exit_code, result.output


def test_tables_of_tenants_are_created(binds: dict[str, str], trap: str) -> None:
    """Of those that are named, or of all; what is there is left as it is."""
    app, _ = create_app(binds, default=trap)
    assert run(app, "--tenant", "tenant_a") == (0, "tenant_a: the tables are there.\n")
    assert tables(binds["bind_a"]) == ["customers"]
    assert tables(binds["bind_b"]) == []
    both = "tenant_a: the tables are there.\ntenant_b: the tables are there.\n"
    assert run(app, "--all-tenants") == (0, both)
    assert run(app, *("--tenant", "tenant_a", "--tenant", "tenant_b") * 2) == (0, both)
    assert tables(binds["bind_b"]) == ["customers"]
    assert tables(trap) == []


def test_databases_are_set_up_from_python(binds: dict[str, str], trap: str) -> None:
    """``setup_database()`` does the same: for one tenant, or for all."""
    app, _ = create_app(binds, default=trap)
    ecotone = Ecotone()

    with app.app_context():
        ecotone.setup_database("tenant_a")
        assert tables(binds["bind_a"]) == ["customers"]
        assert tables(binds["bind_b"]) == []
        ecotone.setup_database()
        assert tables(binds["bind_b"]) == ["customers"]

        with pytest.raises(UnknownTenantError, match="`tenant_c`"):
            ecotone.setup_database("tenant_c")

    assert tables(trap) == []


def test_an_application_without_tenants_is_set_up_from_python(
    files: dict[str, str], trap: str
) -> None:
    """As ``db.create_all()`` does; no tenant can be named."""
    app, _ = create_app({"x": files["bind_a"]}, None, default=trap)

    with app.app_context():
        with pytest.raises(ConfigurationError, match="Leave the tenant out"):
            Ecotone().setup_database("tenant_a")

        assert tables(trap) == []
        Ecotone().setup_database()

    assert tables(trap) == ["customers"]
    assert tables(files["bind_a"]) == ["logins"]


def test_databases_that_cannot_be_set_up_from_python(files: dict[str, str]) -> None:
    """Tenants of a function have to be named, and a database has to be there."""
    app, _ = create_app(files, MAPPING.get)

    with app.app_context():
        with pytest.raises(ConfigurationError, match="can't be listed"):
            Ecotone().setup_database()

        Ecotone().setup_database("tenant_a")

    assert tables(files["bind_a"]) == ["customers"]
    bare = Flask("bare")
    Ecotone(bare, packages=[])

    with bare.app_context(), pytest.raises(ConfigurationError, match="no database"):
        Ecotone().setup_database()


def test_schemas_are_created(postgres_url: str) -> None:
    """A tenant that is a schema gets it, with its tables."""
    schema = SQLAlchemyConnectionReference.in_schema("first")
    app, _ = create_app({}, {"tenant_a": schema}, postgres_url)
    assert run(app, "--all-tenants")[0] == 0
    assert run(app, "--all-tenants")[0] == 0
    assert tables(postgres_url, "first") == ["customers"]
    assert tables(postgres_url) == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("--tenant", "tenant_a", "--all-tenants"), ("--tenant",), ("tenant_a",)],
)
def test_wrong_usage(files: dict[str, str], arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is created."""
    app, _ = create_app(files)
    code, output = run(app, *arguments)
    assert code == 2
    assert "Error: " in output
    assert not any(
        Path(url.removeprefix("sqlite:///")).exists() for url in files.values()
    )


def test_one_failure_does_not_keep_the_others_from_it(
    files: dict[str, str], tmp_path: Path
) -> None:
    """Each failure is one line with the tenant, and the exit code is 1."""
    broken = f"sqlite:///{tmp_path / 'no' / 'folder.sqlite'}"
    app, _ = create_app({**files, "broken": broken}, {"bad": "broken", **MAPPING})
    code, output = run(app, "--all-tenants")
    assert code == 1
    assert output.splitlines() == [
        "bad: unable to open database file",
        "tenant_a: the tables are there.",
        "tenant_b: the tables are there.",
        "Error: 1 of 3 databases could not be set up: bad.",
    ]
    code, output = run(app, "--tenant", "bad")
    assert (code, output) == (1, "Error: bad: unable to open database file\n")
    code, output = run(app, "--tenant", "tenant_c", "--tenant", "tenant_a")
    assert code == 1
    assert "tenant_c: Lack of mapping for tenant `tenant_c`." in output
    assert "tenant_a: the tables are there." in output


def test_tracebacks_are_for_debugging(files: dict[str, str]) -> None:
    """With ``--debug`` the first failure is raised."""
    app, _ = create_app(files)
    result = app.test_cli_runner().invoke(
        args=["ecotone", "--debug", "database", "setup", "--tenant", "tenant_c"]
    )
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "UnknownTenantError"


def test_tenants_that_cannot_be_listed(files: dict[str, str]) -> None:
    """A function knows tenants one by one: they have to be named."""
    app, _ = create_app(files, MAPPING.get)
    code, output = run(app, "--all-tenants")
    assert code == 1
    assert "can't be listed. Name each of them: '--tenant NAME'" in output
    assert run(app, "--tenant", "tenant_a")[0] == 0
    assert tables(files["bind_a"]) == ["customers"]


def test_an_application_without_tenants(files: dict[str, str]) -> None:
    """It is told what it has instead."""
    app, _ = create_app(files, None)
    code, output = run(app, "--all-tenants")
    assert code == 1
    assert output.startswith(
        "Error: The application has no tenants. Leave them out: it has one database"
    )


def test_added_tenants_are_set_up_too(files: dict[str, str], sqlite_url: str) -> None:
    """What the application adds when it is made belongs to all tenants."""
    app, _ = create_app(files)
    with app.app_context():
        app.extensions["ecotone"].tenancy.tenants.add("new", sqlite_url)
    assert run(app, "--all-tenants")[0] == 0
    assert tables(sqlite_url) == ["customers"]


_APP = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {trap!r}
app.config["SQLALCHEMY_BINDS"] = {binds!r}
db = SQLAlchemy(app)
ecotone = Ecotone(
    app, packages=[], extensions=[MultiTenantConfiguration("tenant", {mapping!r})]
)
Migrate(app, db)


class Customer(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def test_the_recipe_for_migrations(
    binds: dict[str, str], trap: str, tmp_path: Path
) -> None:
    """The page's ``env.py`` migrates the databases of two tenants, each by itself."""
    pytest.importorskip("flask_migrate")
    app = tmp_path / "shop.py"
    app.write_text(_APP.format(trap=trap, binds=binds, mapping=MAPPING))

    def flask(*arguments: str) -> None:
        environ = {**os.environ, "FLASK_APP": "shop.py", "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "flask", "db", *arguments],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout

    flask("init")
    blocks = read_rst(_DOCS / "tenancy.rst")
    (recipe,) = (b.text for b in blocks if b.caption == "migrations/env.py")
    env = tmp_path / "migrations" / "env.py"
    before, _, rest = env.read_text().partition("def get_engine():")
    after = rest[rest.index("def get_engine_url") :]
    env.write_text(f"{before}{recipe}\n\n{after}")
    flask("migrate", "-x", "tenant=tenant_a", "-m", "First")
    flask("upgrade", "-x", "tenant=tenant_a")
    assert tables(binds["bind_a"]) == ["alembic_version", "customer"]
    assert tables(binds["bind_b"]) == []
    flask("upgrade", "-x", "tenant=tenant_b")
    assert tables(binds["bind_b"]) == ["alembic_version", "customer"]
    app.write_text(app.read_text() + "    age: Mapped[int | None]\n")
    flask("migrate", "-x", "tenant=tenant_a", "-m", "Second")
    flask("upgrade", "-x", "tenant=tenant_b")
    columns = {}
    for name, url in binds.items():
        engine = sa.create_engine(url, poolclass=NullPool)
        found = sa.inspect(engine).get_columns("customer")
        columns[name] = [column["name"] for column in found]
    assert columns == {"bind_a": ["id"], "bind_b": ["id", "age"]}
    assert tables(trap) == []
