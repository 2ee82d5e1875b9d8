"""Every command of ``flask ecotone`` takes ``--header NAME:VALUE``."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import click
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone.cli import ecotone_cli


def _leaves(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(_leaves(ecotone_cli)), ids=" ".join)
def test_every_command_takes_headers(path: tuple[str, ...]) -> None:
    """It is in the help of each of them."""
    result = Flask("app").test_cli_runner().invoke(ecotone_cli, [*path, "--help"])
    assert result.exit_code == 0
    assert "--header NAME:VALUE" in result.output


@pytest.mark.parametrize("path", list(_leaves(ecotone_cli)), ids=" ".join)
def test_every_command_has_a_description(path: tuple[str, ...]) -> None:
    """It is what the help of its group says about it (L-9)."""
    command: click.Command = ecotone_cli
    for name in path:
        command = t.cast(click.Group, command).commands[name]

    assert command.get_short_help_str(200).endswith(".")


@pytest.fixture
def app(tmp_path: t.Any) -> Flask:
    app, db = Flask("app"), SQLAlchemy()
    app.config["SQLALCHEMY_BINDS"] = {
        key: f"sqlite:///{tmp_path / key}.sqlite" for key in ("north", "south")
    }
    db.init_app(app)
    db.Table("customers", sa.Column("id", sa.Integer, primary_key=True))
    tenants = MultiTenantConfiguration(
        "tenant", {"north": "north", "a:b": "south", "south": "south"}
    )
    Ecotone(app, packages=[], extensions=[tenants])
    return app


def _run(app: Flask, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["ecotone", *args])
    return result.exit_code, result.output


@pytest.mark.parametrize("form", [["--header", "tenant:a:b"], ["--header=tenant:a:b"]])
def test_the_tenant_may_be_a_header(app: Flask, form: list[str]) -> None:
    """It stands for --tenant; the value may have colons."""
    code, output = _run(app, "database", "setup", "--header", "x:y", *form)
    assert (code, output) == (0, "a:b: the tables are there.\n")


def test_spaces_around_a_header_are_not_part_of_it(app: Flask) -> None:
    """As in HTTP; with a default connection it would be a tenant that goes there."""
    code, output = _run(app, "database", "setup", "--header", "tenant: north ")
    assert (code, output) == (0, "north: the tables are there.\n")


def test_a_header_with_two_values_is_wrong_usage(app: Flask) -> None:
    """Nobody could tell which counts; to say the same twice does no harm."""
    setup = ["database", "setup", "--header", "tenant:north", "--header"]
    code, output = _run(app, *setup, "tenant:south")
    assert code == 2
    assert "The header 'tenant' is given twice, as 'north' and 'south'" in output
    assert _run(app, *setup, "tenant:north")[0] == 0


def test_other_headers_are_taken_by_any_command(app: Flask) -> None:
    """And have no effect where no message is sent."""
    for args in (["list"], ["check"], ["cache", "clear"]):
        code, output = _run(app, *args, "--header", "a:1", "--header", "tenant:north")
        assert code == 0, output


def test_two_tenants_are_wrong_usage(app: Flask) -> None:
    """One in a header and another in the option can't both be meant."""
    setup = ["database", "setup", "--header", "tenant:north"]
    code, output = _run(app, *setup, "--tenant", "south")
    assert code == 2
    assert "--header says the tenant 'north'" in output
    assert _run(app, *setup, "--tenant", "north")[0] == 0
    assert _run(app, *setup, "--all-tenants")[0] == 2


@pytest.mark.parametrize("header", ["tenant", ":north", ""])
def test_malformed_header_is_wrong_usage(app: Flask, header: str) -> None:
    """The message says how a header is written."""
    code, output = _run(app, "list", "--header", header)
    assert code == 2
    assert "headerName:headerValue" in output


def test_unknown_tenant_is_one_line(app: Flask) -> None:
    """As with --tenant."""
    code, output = _run(app, "database", "setup", "--header", "tenant:west")
    assert code == 1
    assert "Lack of mapping for tenant `west`" in output
    assert "Traceback" not in output


def test_a_broken_application_still_clears_its_cache(tmp_path: t.Any) -> None:
    """Nothing is compiled for a header."""
    app = Flask("app", instance_path=str(tmp_path))
    Ecotone(app, packages=["no_such_package"])
    assert _run(app, "cache", "clear", "--header", "a:1")[0] == 0
