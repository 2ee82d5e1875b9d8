"""The group, and the commands that look at the compiled system."""

from __future__ import annotations

import datetime
import json
import typing as t
from collections.abc import Callable

import click
from flask import current_app
from flask.cli import AppGroup

from ..definitions import AsynchronousMark
from ..errors import EcotoneError
from .headers import taking_headers
from .tenants import check_tenant
from .writer import print_table

_NO_HANDLERS = (
    "There are no handlers. Mark one with @command_handler in a module of the"
    " application's package, or name packages in Ecotone(packages=[…])."
)


C = t.TypeVar("C", bound=click.Command)
_Making = Callable[[Callable[..., t.Any]], C]


class HeaderGroup(AppGroup):
    """Gives each of its commands the option ``--header``."""

    def command(  # type: ignore[override, unused-ignore]
        self, *args: t.Any, **kwargs: t.Any
    ) -> _Making[click.Command]:
        decorate = super().command(*args, **kwargs)
        return lambda function: decorate(taking_headers(function))

    def group(  # type: ignore[override, unused-ignore]
        self, *args: t.Any, **kwargs: t.Any
    ) -> _Making[click.Group]:
        kwargs.setdefault("cls", HeaderGroup)
        return super().group(*args, **kwargs)


class EcotoneGroup(HeaderGroup):
    """Shows errors of ours in one line; ``--debug`` shows where they come from."""

    def invoke(self, ctx: click.Context) -> t.Any:
        try:
            return super().invoke(ctx)
        except EcotoneError as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(str(error)) from error


@click.group(
    "ecotone",
    cls=EcotoneGroup,
    params=[
        click.Option(["--debug"], is_flag=True, help="Show the traceback of errors."),
    ],
)
def ecotone_cli(debug: bool) -> None:
    """Look at the messaging system: its handlers, and whether it is sound.

    It is compiled from the application that --app names, as a first request would:

    \b
        flask --app shop ecotone check
        flask --app shop ecotone list
        flask --app shop ecotone --debug check

    An error is one line and exit code 1; with --debug its traceback is shown. Wrong
    usage has exit code 2.
    """


@ecotone_cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@click.option("--channels", is_flag=True, help="Only the channels, and what is there.")
@click.option(
    "--all-tenants", is_flag=True, help="Channels of all tenants, as without it."
)
@click.option(
    "--tenant", "tenants", multiple=True, help="Channels of a tenant; may be repeated."
)
def list_command(
    as_json: bool, channels: bool, all_tenants: bool, tenants: tuple[str, ...]
) -> None:
    """List every endpoint: what it handles, where it is, what intercepts it.

    Schedules come after them, with their next run, and then channels, with how many
    messages are ready, in flight and delayed, and how many seconds the oldest one has
    waited.

    An endpoint is a handler with its interceptors. A message that nobody handles,
    or that is handled twice, is found by looking at the second column:

    \b
        $ flask ecotone list
        Kind     Message     Handler            Location         Channel  …
        command  PlaceOrder  shop.orders:place  shop/orders.py…  direct   …

    For scripts there is JSON, a list of objects with the same keys for each endpoint.
    Schedules follow; their kind is "scheduled", their message is when they run, and
    only they have "next_run", in UTC as ISO 8601 has it:

    \b
        flask ecotone list --json | jq '.[].message'
        flask ecotone list --json | jq '.[] | select(.next_run) | .next_run'
        flask ecotone list --channels --json
        flask ecotone list --channels --tenant north
    """
    if tenants and all_tenants:
        raise click.UsageError("Say either --tenant NAME or --all-tenants.")
    if channels:
        _list_channels(as_json, tenants)
        return
    endpoints = [
        endpoint.describe()
        for endpoint in current_app.extensions["ecotone"].system.endpoints
    ]
    if as_json:
        click.echo(json.dumps([*endpoints, *_schedules()], indent=2))
        return
    if endpoints:
        _print_endpoints(endpoints)
    elif not current_app.extensions["ecotone"].system.schedules:
        click.echo(_NO_HANDLERS)
        return
    _list_schedules()
    if current_app.extensions["ecotone"].messaging is not None:
        click.echo()
        _list_channels(False, tenants)


def _list_schedules() -> None:
    schedules = _schedules()
    if schedules:
        click.echo()
        headings = ("Schedule", "When", "Next run")
        keys = ("endpoint_id", "message", "next_run")
        print_table(headings, [[each[key] for key in keys] for each in schedules])


def _schedules() -> list[dict[str, t.Any]]:
    """Return a summary of plain values of each schedule, with its next run."""
    now = datetime.datetime.now(datetime.UTC)
    return [
        {
            **each.describe(),
            "next_run": each.timing.next_after(now).isoformat(timespec="seconds"),
        }
        for each in current_app.extensions["ecotone"].system.schedules.values()
    ]


def _list_channels(as_json: bool, tenants: tuple[str, ...]) -> None:
    for tenant in tenants:
        check_tenant(tenant)
    state = current_app.extensions["ecotone"]
    state.compile()
    found = [] if state.messaging is None else state.messaging.describe(tenants)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("There are no channels.")
        return
    headings = ["Channel", "Tenant", "Ready", "In flight", "Delayed", "Oldest (s)"]
    rows = []
    for row in found:
        *values, parts = row.values()
        cells = ["-" if each is None else each for each in values]
        rows.append([*cells, ", ".join(parts) or "-"])
    if any(row["part_of"] for row in found):
        headings.append("Part of")
    print_table(headings, [row[: len(headings)] for row in rows])


def _print_endpoints(endpoints: list[dict[str, t.Any]]) -> None:
    print_table(
        ("Kind", "Message", "Handler", "Location", "Channel", "Interceptors"),
        [
            (
                e["kind"],
                e["message"],
                e["handler"],
                e["location"],
                e["channel"],
                ", ".join(e["interceptors"]) or "-",
            )
            for e in endpoints
        ],
    )


@ecotone_cli.command("check")
def check_command() -> None:
    """Compile the system and say whether it is sound.

    Every module is imported and every handler read, as at the first request, but
    nothing is sent and the database isn't touched. A manifest of an earlier boot isn't
    believed, and written anew. Run it before a deployment:

    \b
        $ flask ecotone check
        12 endpoints, no errors.

    If something is wrong, the error names the handler, its file and line, and what to
    do about it, and the exit code is 1.
    """
    system = current_app.extensions["ecotone"].check()
    count = len(system.endpoints)
    if not count:
        click.echo(_NO_HANDLERS, err=True)
    for endpoint in system.endpoints:
        if endpoint.has_derived_id and endpoint.channels:
            click.secho(
                f"Warning: {endpoint.marked.where} has no endpoint_id. Messages in its"
                f" channel are for {endpoint.id!r}, and are lost to it when it is"
                " renamed or moved.",
                err=True,
                fg="yellow",
            )
        said = endpoint.marked.mark(AsynchronousMark)
        if said is not None and system.channels is None:
            click.secho(
                f"Warning: {endpoint.marked.where} is asynchronous, and runs at once:"
                " the application has no channels. Give it some, for example"
                f" Ecotone(channels=[DatabaseChannel({said.channels[0]!r})]).",
                err=True,
                fg="yellow",
            )
    click.echo(f"{count} endpoint{'' if count == 1 else 's'}, no errors.")
