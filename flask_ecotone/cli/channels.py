"""``flask ecotone channel``."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import click
from flask import current_app

from ..errors import ConfigurationError
from ..messaging import Messaging
from ..storage import tables
from .group import ecotone_cli
from .targets import engine_of
from .targets import for_each
from .targets import target_options
from .targets import targets
from .writer import print_table

_Command = t.TypeVar("_Command", bound=Callable[..., t.Any])
_QUEUE = [f for f in tables.FEATURES if f.table is tables.messages]

_channels: Callable[[_Command], _Command] = click.option(
    "--channel", "names", multiple=True, help="Only this channel; may be repeated."
)


@ecotone_cli.group()
def channel() -> None:
    """Set up the channels that lie in a database, and empty them."""


@channel.command("setup")
@_channels
@target_options
@click.option("--initialize", is_flag=True, help="Create what they need.")
def setup_command(
    names: tuple[str, ...],
    tenants: tuple[str, ...],
    all_tenants: bool,
    initialize: bool,
) -> None:
    """Say which channels can be used, and set them up with --initialize.

    All channels of a database lie in the same table. A worker makes it, too.

    \b
        flask ecotone channel setup
        flask ecotone channel setup --initialize --all-tenants
    """
    found = targets(tenants, all_tenants)
    rows: list[Sequence[object]] = []

    def look(tenant: str | None) -> None:
        engine = engine_of(tenant)
        if initialize:
            tables.create(engine, _QUEUE)
        answer = "no" if tables.missing(engine, _QUEUE) else "yes"
        for name in _in_database(names):
            rows.append((name, *_named(tenant), answer))

    for_each(found, look, "set up" if initialize else "read")
    print_table(("Channel", *_heading(found), "Initialized"), rows)


@channel.command("delete")
@_channels
@target_options
@click.option("--force", is_flag=True, help="Delete the messages.")
def delete_command(
    names: tuple[str, ...], tenants: tuple[str, ...], all_tenants: bool, force: bool
) -> None:
    """Delete the messages that lie in channels, also those that are delayed.

    Without --force it says how many they are. Dead letters stay.

    \b
        flask ecotone channel delete --channel orders
        flask ecotone channel delete --channel orders --force
    """
    found = targets(tenants, all_tenants)
    rows: list[Sequence[object]] = []

    def delete(tenant: str | None) -> None:
        if tables.missing(engine_of(tenant), _QUEUE):
            return
        messaging = _messaging()
        for name in _in_database(names):
            for source in messaging.sources_of(name, tenant):
                status = source.status()
                count = status.ready + status.in_flight + status.delayed
                if force:
                    count = source.purge()
                rows.append((name, *_named(tenant), count))

    for_each(found, delete, "emptied" if force else "read")
    print_table(("Channel", *_heading(found), "Messages"), rows)
    click.echo("Deleted." if force else "Would be deleted (use --force to confirm).")


def _in_database(names: Sequence[str]) -> Iterator[str]:
    messaging = _messaging()
    messaging.check_names(names)
    for name in names or messaging.channels.names:
        if messaging.is_in_database(name):
            yield name
        elif names:
            raise ConfigurationError(
                f"The channel {name!r} doesn't lie in a database, so there is nothing"
                " to set up or to delete. Leave it out."
            )


def _messaging() -> Messaging:
    state = current_app.extensions["ecotone"]
    state.compile()
    if state.messaging is None:
        raise ConfigurationError(
            "The application has no channels. Give it some, for example"
            " Ecotone(channels=[DatabaseChannel('orders')])."
        )
    return t.cast(Messaging, state.messaging)


def _heading(names: Sequence[str | None]) -> tuple[str, ...]:
    return () if names == [None] else ("Tenant",)


def _named(tenant: str | None) -> tuple[str, ...]:
    return () if tenant is None else (tenant,)
