"""``flask ecotone deduplication``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import click

from ..storage import tables
from ..storage.deduplication import is_noted
from ..storage.deduplication import remove_expired
from .filtering import check_endpoint
from .group import ecotone_cli
from .targets import engine_of
from .targets import for_each
from .targets import Target
from .targets import target_options
from .targets import targets_and_binds
from .types import AGE

_DEDUPLICATION = [f for f in tables.FEATURES if f.table is tables.handled]


@ecotone_cli.group()
def deduplication() -> None:
    """Manage what is known of messages that were handled."""


@deduplication.command("remove-expired-messages")
@target_options
@click.option(
    "--older-than",
    type=AGE,
    default="7d",
    show_default=True,
    help="For example 30d, 12h, 90m.",
)
@click.option("--endpoint", help="Only what concerns this endpoint.")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="How many to remove in one transaction.",
)
def remove_expired_command(
    tenants: tuple[str, ...],
    all_tenants: bool,
    older_than: timedelta,
    endpoint: str | None,
    batch: int,
) -> None:
    """Forget messages that were handled an AGE ago, or earlier.

    If such a message comes once more it is handled again, so choose an age that no
    message reaches on its way. Run it regularly:

    \b
        flask ecotone deduplication remove-expired-messages
        flask ecotone deduplication remove-expired-messages --older-than 12h
    """

    names = targets_and_binds(tenants, all_tenants)
    check_endpoint(
        endpoint, lambda: [] if endpoint is None else _noted(names, endpoint)
    )

    def remove(name: Target) -> None:
        engine = engine_of(name)
        count = 0
        if not tables.missing(engine, _DEDUPLICATION):
            count = remove_expired(engine, older_than, endpoint, batch)
        prefix = "" if name is None else f"{name}: "
        click.echo(f"{prefix}{count} removed.")

    for_each(names, remove, "cleaned up")


def _noted(names: Sequence[Target], endpoint: str) -> Sequence[str]:
    engines = [engine_of(name) for name in names]
    is_there = any(
        not tables.missing(engine, _DEDUPLICATION) and is_noted(engine, endpoint)
        for engine in engines
    )
    return [endpoint] if is_there else []
