"""``flask ecotone channel``."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Sequence

import click
from flask import current_app

from ..channels.protocols import Managed
from ..errors import UnknownChannelError
from ..messaging import Messaging
from .group import ecotone_cli
from .tenants import check_tenant
from .writer import print_table


@ecotone_cli.group("channel")
def channels() -> None:
    """Manage what channels need, and what lies in them."""


@channels.command("setup")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--initialize", is_flag=True, help="Set up what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
def setup_command(names: tuple[str, ...], initialize: bool, as_json: bool) -> None:
    """Set up channels: a table for database channels, a queue at a broker.

    Without --initialize it says which channels are set up. A channel that needs
    nothing, such as one in memory, has a "-". One that is made of others stands for
    these. Without names all channels are meant.

    \b
        flask ecotone channel setup
        flask ecotone channel setup orders --initialize

    It may be run again: what is there is left as it is. A database channel is also set
    up by 'flask ecotone database setup --initialize', and at the latest by its first
    message.
    """
    messaging = _messaging()
    found: dict[str, bool | None] = {}
    for channel in messaging.members_of(*_chosen(messaging, names)):
        found[channel.name] = None
        if isinstance(channel, Managed):
            if initialize:
                channel.initialize()
            found[channel.name] = channel.is_initialized()
    if as_json:
        rows = [{"channel": name, "initialized": each} for name, each in found.items()]
        click.echo(json.dumps(rows, indent=2))
        return
    said = {True: "yes", False: "no", None: "-"}
    print_table(
        ("Channel", "Initialized"), [(name, said[each]) for name, each in found.items()]
    )


@channels.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--tenant", "tenants", multiple=True, help="Only of this tenant; may be repeated."
)
@click.option("--force", is_flag=True, help="Delete them, with everything in them.")
def delete_command(
    names: tuple[str, ...], tenants: tuple[str, ...], force: bool
) -> None:
    """Delete the messages of channels, and what was set up for these channels alone.

    Without --force it says what would be deleted. Messages that are delayed or that a
    worker has claimed are deleted as well; dead letters aren't. A channel that is made
    of others has their messages.

    \b
        flask ecotone channel delete orders
        flask ecotone channel delete orders --force

    The table of database channels stays: they share it. See 'flask ecotone database
    delete'.
    """
    for tenant in tenants:
        check_tenant(tenant)
    messaging = _messaging()
    rows: list[Sequence[object]] = []
    chosen = _chosen(messaging, names)
    for channel in messaging.members_of(*chosen, is_received=True):
        is_there = not isinstance(channel, Managed) or channel.is_initialized()
        for source in messaging.sources_of([channel], tenants) if is_there else ():
            status = source.status()
            count = status.ready + status.delayed + status.in_flight
            if force:
                count = source.purge()
            rows.append((source.channel, source.tenant or "-", count))
    for found in map(messaging.channels.get, chosen if force and not tenants else ()):
        if isinstance(found, Managed):
            found.delete()
    if not rows:
        click.echo("There is nothing to delete.")
        return
    print_table(("Channel", "Tenant", "Messages"), rows)
    click.echo("Deleted." if force else "Would be deleted (use --force to confirm).")


def _messaging() -> Messaging:
    state = current_app.extensions["ecotone"]
    state.compile()
    if state.messaging is None:
        raise UnknownChannelError(
            "The application has no channels. Give it some, for example"
            " Ecotone(channels=[DatabaseChannel('orders')])."
        )
    return t.cast(Messaging, state.messaging)


def _chosen(messaging: Messaging, names: Sequence[str]) -> Sequence[str]:
    messaging.check_names(names)
    return list(dict.fromkeys(names)) or messaging.channels.names
