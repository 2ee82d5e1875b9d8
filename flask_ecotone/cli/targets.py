"""The databases that a command is for: the default one, or those of tenants."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

import click
import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from ..errors import ConfigurationError
from ..errors import EcotoneError
from .group import ecotone_cli
from .tenants import check_tenant
from .tenants import tenancy


@dataclass(frozen=True, slots=True)
class Bind:
    """The database of channels with a bind."""

    key: str

    def __str__(self) -> str:
        return f"bind {self.key}"


#: A tenant or a bind; ``None`` is the default database.
Target = str | Bind | None

_T = t.TypeVar("_T", bound=Target)
_Command = t.TypeVar("_Command", bound=Callable[..., t.Any])


def target_options(command: _Command) -> _Command:
    """Decorate a command with the options that name tenants."""
    for option in (
        click.option(
            "--all-tenants", is_flag=True, help="All tenants that are mapped."
        ),
        click.option(
            "--tenant", "tenants", multiple=True, help="A tenant; may be repeated."
        ),
    ):
        command = option(command)
    return command


def targets(tenants: Sequence[str], all_tenants: bool) -> Sequence[str | None]:
    """Return the tenants that a command is for; ``None`` is the default database."""
    state = current_app.extensions["ecotone"]
    if tenants and all_tenants:
        raise click.UsageError("Say either --tenant NAME or --all-tenants.")
    if state.databases is None:
        raise ConfigurationError(
            "The application has no database. Give it one: call db.init_app(app) before"
            " ecotone.init_app(app)."
        )
    if all_tenants:
        return tenancy().tenants.listed()
    if tenants:
        tenancy()
        return list(dict.fromkeys(tenants))
    if state.tenancy is not None and state.tenancy.tenants.default is None:
        raise click.UsageError(
            "The tenants have no default connection. Say --tenant NAME or"
            " --all-tenants."
        )
    return [None]


def targets_and_binds(tenants: Sequence[str], all_tenants: bool) -> Sequence[Target]:
    """Return the tenants, and the binds of channels, that a command is for."""
    found: Sequence[Target] = targets(tenants, all_tenants)
    if tenants:
        return found
    keys = current_app.extensions["ecotone"].declarations.bind_keys
    return [*found, *map(Bind, keys)]


def named(found: Sequence[Target], target: Target) -> tuple[str, ...]:
    """Return a target as the first cell of a row; none if there are no others.

    :param found: All targets.
    """
    if found == [None]:
        return ()
    return ("default" if target is None else str(target),)


def heading(found: Sequence[Target]) -> tuple[str, ...]:
    """Return what stands above the names of targets."""
    if found == [None]:
        return ()
    is_mixed = any(isinstance(each, Bind) for each in found)
    return ("Database" if is_mixed else "Tenant",)


def engine_of(target: Target) -> sa.Engine:
    """Return the engine of a target.

    :raises ConfigurationError: There is none.
    """
    databases = current_app.extensions["ecotone"].databases
    if isinstance(target, Bind):
        return t.cast(sa.Engine, databases.bound(target.key).engine(None))
    try:
        return t.cast(sa.Engine, databases.engine(target))
    except KeyError:
        raise ConfigurationError(
            "The application has no default database. Set SQLALCHEMY_DATABASE_URI."
        ) from None


def for_each(names: Sequence[_T], act: Callable[[_T], None], done: str) -> None:
    """Do something for each target; a failure of one doesn't keep the others from it.

    :param done: What was to be done, as in "could not be set up".
    """
    failed = []
    for name in names:
        try:
            if isinstance(name, str):
                check_tenant(name)
            act(name)
        except (EcotoneError, SQLAlchemyError) as error:
            if _shows_tracebacks():
                raise
            if len(names) == 1:
                said = "" if name is None else f"{name}: "
                raise click.ClickException(f"{said}{_reason(error)}") from error
            failed.append("default" if name is None else str(name))
            click.echo(f"{failed[-1]}: {_reason(error)}", err=True)
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(names)} databases could not be {done}:"
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
