"""``flask ecotone cache``."""

from __future__ import annotations

import click
from flask import current_app

from ..configuration import cache_directory
from ..discovery.manifest import clear_manifests
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
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    clear_manifests(cache_directory(app))
    click.echo("Ecotone cache cleared.")
