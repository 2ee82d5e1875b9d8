"""``flask ecotone database``."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

import click
import sqlalchemy as sa
from flask import current_app

from ..storage import tables
from ..storage.tables import Feature
from ..storage.tables import FEATURES
from .group import ecotone_cli
from .targets import Bind
from .targets import engine_of
from .targets import for_each
from .targets import heading
from .targets import named
from .targets import Target
from .targets import target_options
from .targets import targets_and_binds
from .tenants import tenancy
from .writer import print_table

_Command = t.TypeVar("_Command", bound=Callable[..., t.Any])
#: Target, feature, whether its table is there, and what that lacks.
_Rows = list[tuple[Target, Feature, bool, Sequence[str]]]


def _feature_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--only-used", is_flag=True, help="Only what the application uses."
        ),
        click.option(
            "--feature",
            "names",
            multiple=True,
            type=click.Choice([feature.name for feature in FEATURES]),
            help="Only this feature; may be repeated.",
        ),
    ):
        command = option(command)
    return command


@ecotone_cli.group()
def database() -> None:
    """Manage our tables, and the databases of tenants."""


@database.command("setup")
@target_options
@click.option("--initialize", is_flag=True, help="Create the tables.")
@_feature_options
@click.option("--sql", is_flag=True, help="Print the statements that create them.")
@click.option("--status", is_flag=True, help="Only say what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
def setup_command(
    tenants: tuple[str, ...],
    all_tenants: bool,
    initialize: bool,
    names: tuple[str, ...],
    only_used: bool,
    sql: bool,
    status: bool,
    as_json: bool,
) -> None:
    """Create our tables, and the application's tables in the databases of tenants.

    Without options it says which features have their table in the default database,
    and which of them the application uses.

    \b
        flask ecotone database setup
        flask ecotone database setup --initialize --only-used
        flask ecotone database setup --sql > tables.sql

    For tenants it creates the application's tables and those of ours that are used; a
    schema that stands for a tenant is created too. With --feature or --only-used it
    leaves out the application's, and with --status, or --json alone, it creates
    nothing. The databases of channels with a bind get our tables too, unless --tenant
    names others.

    \b
        flask ecotone database setup --tenant tenant_a
        flask ecotone database setup --all-tenants
        flask ecotone database setup --all-tenants --status

    Tables that exist are left as they are. For changes of tables use Flask-Migrate, see
    the documentation on tenants. A database that can't be set up doesn't keep the
    others from it. The exit code is 1 then.
    """
    if initialize + sql + status > 1 or (sql and as_json):
        raise click.UsageError(
            "--initialize, --sql and --status exclude each other, and so do --sql and"
            " --json."
        )
    found = targets_and_binds(tenants, all_tenants)
    features = _chosen(names, only_used)
    if sql:
        for_each(found, lambda name: _print_sql(name, features), "read")
        return
    is_for_tenants = all_tenants or bool(tenants)
    is_filtered = bool(names) or only_used
    if initialize or (is_for_tenants and not status and not as_json):
        if not initialize and not is_filtered:
            features = _used(FEATURES)

        def create(name: Target) -> None:
            _create(name, features, has_ours_only=is_filtered)
            if is_for_tenants and not as_json:
                click.echo(f"{name}: the tables are there.")

        for_each(found, create, "set up")
        if is_for_tenants and not as_json:
            return
    _print_status(found, features, as_json)


@database.command("delete")
@target_options
@_feature_options
@click.option("--force", is_flag=True, help="Delete them, with everything in them.")
def delete_command(
    tenants: tuple[str, ...],
    all_tenants: bool,
    names: tuple[str, ...],
    only_used: bool,
    force: bool,
) -> None:
    """Delete our tables: the messages, dead letters and so on that are in them.

    Without --force it says what would be deleted. The application's own tables are
    never touched.

    \b
        flask ecotone database delete --feature dead_letter
        flask ecotone database delete --force
    """
    found = targets_and_binds(tenants, all_tenants)
    features = _chosen(names, only_used)
    rows: list[Sequence[object]] = []

    def delete(name: Target) -> None:
        engine = engine_of(name)
        absent = tables.missing(engine, features)
        present = [feature for feature in features if feature not in absent]
        for feature in present:
            count = _count(engine, feature)
            rows.append((*named(found, name), feature.name, feature.table.name, count))
        if force:
            tables.drop(engine, present)

    try:
        for_each(found, delete, "deleted" if force else "read")
    finally:
        if rows:
            print_table([*heading(found), "Feature", "Table", "Rows"], rows)
            click.echo(
                "Deleted." if force else "Would be deleted (use --force to confirm)."
            )
    if not rows:
        click.echo("There is nothing to delete.")


def _chosen(names: Sequence[str], only_used: bool) -> tuple[Feature, ...]:
    chosen = tuple(f for f in FEATURES if not names or f.name in names)
    return _used(chosen) if only_used else chosen


def _used(features: Sequence[Feature]) -> tuple[Feature, ...]:
    used = current_app.extensions["ecotone"].used_features
    return tuple(feature for feature in features if feature in used)


def _create(name: Target, features: Sequence[Feature], *, has_ours_only: bool) -> None:
    if isinstance(name, str) and has_ours_only:
        tenancy().create_schema(name)
    elif isinstance(name, str):
        tenancy().create_tables(name)
    if features:
        tables.create(engine_of(name), features)


def _print_sql(name: Target, features: Sequence[Feature]) -> None:
    if name is not None:
        click.echo(f"-- {' '.join(str(name).split())}\n")
    for statement in tables.statements(engine_of(name), features):
        # SQLAlchemy leaves spaces at the ends of lines.
        lines = (line.rstrip() for line in statement.splitlines())
        click.echo("\n".join(lines) + ";\n")


def _print_status(
    names: Sequence[Target], features: Sequence[Feature], as_json: bool
) -> None:
    used = _used(features)
    rows: _Rows = []

    def look(name: Target) -> None:
        engine = engine_of(name)
        absent = tables.missing(engine, features)
        lacking = tables.lacking(engine, features)
        for feature in features:
            lacks = lacking.get(feature, ())
            rows.append((name, feature, not lacks and feature not in absent, lacks))

    try:
        for_each(names, look, "read")
    finally:
        if as_json:
            _print_json(rows, used)
        elif rows:
            print_table(
                [*heading(names), "Feature", "Used", "Initialized"],
                [
                    (*named(names, name), f.name, _yes(f in used), _yes(is_there))
                    for name, f, is_there, _ in rows
                ],
            )
            _print_lacking(rows)
    if not rows and not as_json:
        click.echo("The application uses none of the features.")


def _print_lacking(rows: _Rows) -> None:
    lacking = [row for row in rows if row[3]]
    for name, feature, _, lacks in lacking:
        where = "" if name is None else f"{name}: "
        click.echo(f"{where}{feature.table.name} lacks {', '.join(lacks)}.")
    if lacking:
        click.echo(
            "Another version of Flask-Ecotone made it. --initialize creates indexes;"
            " add columns with a migration."
        )


def _print_json(rows: _Rows, used: Sequence[Feature]) -> None:
    found = [
        {
            "tenant": name if isinstance(name, str) else None,
            **({"bind": name.key} if isinstance(name, Bind) else {}),
            "feature": feature.name,
            "used": feature in used,
            "initialized": is_there,
            "lacks": list(lacks),
        }
        for name, feature, is_there, lacks in rows
    ]
    click.echo(json.dumps(found, indent=2))


def _count(engine: sa.Engine, feature: Feature) -> int:
    query = sa.select(sa.func.count()).select_from(feature.table)
    with engine.connect() as connection:
        return connection.scalar(query) or 0


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
