"""``flask ecotone database``."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from ..errors import ConfigurationError
from ..errors import EcotoneError
from ..tenancy import Tenancy
from .group import ecotone_cli


@ecotone_cli.group()
def database() -> None:
    """Manage the databases of tenants."""


@database.command("setup")
@click.option("--tenant", "tenants", multiple=True, help="A tenant; may be repeated.")
@click.option("--all-tenants", is_flag=True, help="All tenants that are mapped.")
def setup_command(tenants: tuple[str, ...], all_tenants: bool) -> None:
    """Create the application's tables in the databases of tenants.

    Tables that exist are left as they are; a schema that stands for a tenant is created
    too. For changes of tables use Flask-Migrate, see the documentation on tenants.

    \b
        flask ecotone database setup --tenant tenant_a
        flask ecotone database setup --all-tenants

    A database that can't be set up doesn't keep the others from it. The exit code is 1
    then.
    """
    if all_tenants == bool(tenants):
        raise click.UsageError("Say either --tenant NAME or --all-tenants.")
    tenancy = _tenancy()
    names = tenancy.tenants.listed() if all_tenants else list(dict.fromkeys(tenants))
    failed = []
    for name in names:
        try:
            tenancy.create_tables(name)
        except (EcotoneError, SQLAlchemyError) as error:
            if _shows_tracebacks():
                raise
            failed.append(name)
            click.echo(f"{name}: {_reason(error)}", err=True)
        else:
            click.echo(f"{name}: the tables are there.")
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(names)} databases could not be set up:"
            f" {', '.join(failed)}."
        )


def _shows_tracebacks() -> bool:
    context: click.Context | None = click.get_current_context()
    while context is not None and context.command is not ecotone_cli:
        context = context.parent
    return context is not None and bool(context.params.get("debug"))


def _reason(error: Exception) -> str:
    # Without the statement, and without the page of SQLAlchemy about the error.
    return str(getattr(error, "orig", None) or error).strip()


def _tenancy() -> Tenancy:
    tenancy = current_app.extensions["ecotone"].tenancy
    if tenancy is None:
        raise ConfigurationError(
            "The application has no tenants. Use 'db.create_all()' or Flask-Migrate"
            " for its one database."
        )
    return t.cast(Tenancy, tenancy)
