"""``flask ecotone database``."""

from __future__ import annotations

import typing as t

import click
from flask import current_app

from ..errors import ConfigurationError
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
    """
    if all_tenants == bool(tenants):
        raise click.UsageError("Say either --tenant NAME or --all-tenants.")
    tenancy = _tenancy()
    names = tenancy.tenants.names() if all_tenants else list(tenants)
    with click.progressbar(names, label="Databases", hidden=len(names) < 2) as each:
        for name in each:
            tenancy.create_tables(name)
    click.echo(f"Created the tables of {', '.join(names) or 'no tenant'}.")


def _tenancy() -> Tenancy:
    tenancy = current_app.extensions["ecotone"].tenancy
    if tenancy is None:
        raise ConfigurationError(
            "The application has no tenants. Use 'db.create_all()' or Flask-Migrate"
            " for its one database."
        )
    return t.cast(Tenancy, tenancy)
