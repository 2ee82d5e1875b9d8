"""The group, and the commands that look at the compiled system."""

from __future__ import annotations

import json
import typing as t

import click
from flask import current_app
from flask.cli import AppGroup

from ..errors import EcotoneError
from .writer import print_table


class EcotoneGroup(AppGroup):
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
    """Look at the messaging system: its handlers, and whether it is sound."""


@ecotone_cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
def list_command(as_json: bool) -> None:
    """List every endpoint: what it handles, where it is, what intercepts it."""
    endpoints = [
        endpoint.describe()
        for endpoint in current_app.extensions["ecotone"].system.endpoints
    ]
    if as_json:
        click.echo(json.dumps(endpoints, indent=2))
        return
    if not endpoints:
        click.echo(
            "There are no handlers. Mark one with @command_handler in a module of the"
            " application's package, or name packages in Ecotone(packages=[…])."
        )
        return
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

    It ends with exit code 1 and the first error found if it isn't.
    """
    system = current_app.extensions["ecotone"].system
    count = len(system.endpoints)
    click.echo(f"{count} endpoint{'' if count == 1 else 's'}, no errors.")
