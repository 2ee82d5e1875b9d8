"""``flask ecotone cache``."""

from __future__ import annotations

import click
from flask import current_app

from .group import ecotone_cli


@ecotone_cli.group()
def cache() -> None:
    """Manage what an earlier boot found."""


@cache.command("clear")
def clear_command() -> None:
    """Remove the production manifest, so that the next boot scans anew.

    Run it with each deployment, before the application starts. It needs no sound
    application: nothing is scanned or compiled.
    """
    current_app.extensions["ecotone"].scanner.clear()
    click.echo("Ecotone cache cleared.")
