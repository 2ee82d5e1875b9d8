"""``flask ecotone deadletter``."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import click
from flask import current_app

from ..channels.dead_letters import DeadLetter
from ..channels.dead_letters import ParkedMessage
from ..errors import ConfigurationError
from .filtering import check_channel
from .filtering import check_endpoint
from .group import ecotone_cli
from .targets import for_each
from .targets import target_options
from .targets import targets
from .tenants import check_tenant
from .types import AGE
from .types import JSON_OBJECT
from .writer import print_table

_PAGE: t.Final = 20
_NONE: t.Final = "There are no dead letters."
#: Dead letters with their tenants.
_Found = list[tuple[str | None, ParkedMessage]]


def _filters(command: Callable[..., t.Any]) -> Callable[..., t.Any]:
    for option in (
        click.option("--channel", help="Of this channel."),
        click.option("--endpoint", "endpoint_id", help="For this endpoint."),
        click.option("--error", "error_class", help="With this class of error."),
        click.option("--type", "message_type", help="Of this type of message."),
        click.option("--since", type=AGE, help="That failed within, for example, 2h."),
    ):
        command = option(command)
    return command


_tenant = click.option("--tenant", help="Those of a tenant.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
_ids = click.argument("ids", nargs=-1, required=True, type=int, metavar="ID...")


@ecotone_cli.group()
def deadletter() -> None:
    """Look at messages that failed for good, and decide about them."""


@deadletter.command("list")
@click.argument("page", type=click.IntRange(0), default=0)
@_filters
@target_options
@_json
def list_command(
    page: int,
    tenants: tuple[str, ...],
    all_tenants: bool,
    as_json: bool,
    **filters: t.Any,
) -> None:
    """List dead letters, the newest failure first, twenty on a PAGE; the first is 0."""
    found: _Found = []
    is_more = False

    def read(letters: DeadLetter, tenant: str | None) -> None:
        nonlocal is_more
        rows = letters.list(_PAGE + 1, page * _PAGE, tenant=tenant, **filters)
        is_more |= len(rows) > _PAGE
        found.extend((tenant, each) for each in rows[:_PAGE])

    names = _each(tenants, all_tenants, filters, read, "read")
    if as_json:
        _print_json(found)
    elif found:
        _print_letters(names, found)
        if is_more:
            click.echo(f"There are more: 'list {page + 1}' shows the next page.")
    else:
        click.echo(f"There are none on page {page}." if page else _NONE)


@deadletter.command("show")
@click.argument("id", type=int)
@_tenant
@_json
def show_command(id: int, tenant: str | None, as_json: bool) -> None:
    """Show everything that is known of a dead letter."""
    found = _plain(_dead_letter(tenant).show(id, tenant=tenant), tenant)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    trace = found.pop("traceback")
    if tenant is None:
        del found["tenant"]
    print_table((), list(found.items()))
    click.echo(f"\n{trace}")


@deadletter.command("replay")
@_ids
@_tenant
def replay_command(ids: tuple[int, ...], tenant: str | None) -> None:
    """Put dead letters back into their channels, all or none of them.

    What failed on a bus that waits for its handlers is handled here and now. If that
    fails again, its error is shown, and all of them stay.
    """
    count = _dead_letter(tenant).replay(ids, tenant=tenant)
    click.echo(f"{count} put back.")


@deadletter.command("replay-all")
@_filters
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="At most N, of all tenants together.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be put back.")
@click.option("--json", "as_json", is_flag=True, help="List all of it as JSON.")
@target_options
def replay_all_command(
    limit: int | None,
    dry_run: bool,
    as_json: bool,
    tenants: tuple[str, ...],
    all_tenants: bool,
    **filters: t.Any,
) -> None:
    """Put back all that are there now, or those that a filter leaves.

    The oldest failure comes first. What fails again meanwhile isn't put back once more.
    What failed on a bus that waits for its handlers is handled here and now: if that
    fails again it stays, the others go on, and the exit code is 1.

    \b
        flask ecotone deadletter replay-all --endpoint send_invoice --dry-run
        flask ecotone deadletter replay-all --endpoint send_invoice --limit 10
    """
    if dry_run:
        _show_replay(limit, as_json, tenants, all_tenants, filters)
        return
    if as_json:
        raise click.UsageError("--json is for --dry-run.")
    left, failed = limit, list[int]()

    def note(id: int, error: Exception) -> None:
        failed.append(id)

    def replay(letters: DeadLetter, tenant: str | None) -> None:
        nonlocal left
        before = len(failed)
        count = letters.replay_all(
            limit=left, on_failure=note, tenant=tenant, **filters
        )
        left = None if left is None else left - count
        again = f", {len(failed) - before} failed again" if failed[before:] else ""
        click.echo(f"{_prefix(tenant)}{count} put back{again}.")

    _each(tenants, all_tenants, filters, replay, "replayed")
    if failed:
        sys.exit(1)


def _show_replay(
    limit: int | None,
    as_json: bool,
    tenants: Sequence[str],
    all_tenants: bool,
    filters: dict[str, t.Any],
) -> None:
    found: _Found = []
    said, left = list[str](), limit

    def read(letters: DeadLetter, tenant: str | None) -> None:
        nonlocal left
        count = letters.count(tenant=tenant, **filters)
        if left is not None:
            count = min(count, left)
            left -= count
        shown = count if as_json else min(count, _PAGE)
        rows = letters.list(shown, oldest_first=True, tenant=tenant, **filters)
        found.extend((tenant, each) for each in rows)
        more = f" The first {shown} are listed." if shown < count else ""
        said.append(f"{_prefix(tenant)}{count} would be put back.{more}")

    names = _each(tenants, all_tenants, filters, read, "read")
    if as_json:
        _print_json(found)
        return
    if found:
        _print_letters(names, found)
    click.echo("\n".join(said))


@deadletter.command("edit")
@click.argument("id", type=int)
@click.option("--body", help="The new payload, as 'show' prints it.")
@click.option(
    "--headers",
    type=JSON_OBJECT,
    help="A JSON object of headers to set; null removes one, others stay.",
)
@click.option("--force", is_flag=True, help="Take a payload that can't be read.")
@_tenant
def edit_command(
    id: int,
    body: str | None,
    headers: dict[str, t.Any] | None,
    force: bool,
    tenant: str | None,
) -> None:
    """Change what a dead letter says, before it is put back.

    A payload that doesn't fit the type of the message is refused.

    \b
        flask ecotone deadletter edit 17 --body '{"order_id": 5}'
        flask ecotone deadletter edit 17 --headers '{"user_id": 7, "priority": null}'
    """
    if body is None and headers is None:
        raise click.UsageError("Say --body, --headers or both.")
    given = None if body is None else body.encode()
    letters = _dead_letter(tenant)
    letters.edit(id, body=given, headers=headers, force=force, tenant=tenant)
    click.echo("Changed.")


@deadletter.command("delete")
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@_filters
@click.option("--all", "all_letters", is_flag=True, help="All that there are.")
@click.option("--yes", is_flag=True, help="Don't ask before.")
@target_options
def delete_command(
    ids: tuple[int, ...],
    all_letters: bool,
    yes: bool,
    tenants: tuple[str, ...],
    all_tenants: bool,
    **filters: t.Any,
) -> None:
    """Delete dead letters: by their ids, those that a filter leaves, or all.

    Without ids it says how many there are, and asks. What becomes a dead letter
    meanwhile isn't deleted.

    \b
        flask ecotone deadletter delete 17 18
        flask ecotone deadletter delete --endpoint send_invoice --since 2h
        flask ecotone deadletter delete --all --yes
    """
    is_filtered = any(value is not None for value in filters.values())
    if bool(ids) + is_filtered + all_letters != 1:
        raise click.UsageError("Say ids, filters or --all, and one of them only.")
    if not ids:
        _delete_many(tenants, all_tenants, filters, asks=not yes)
        return
    if all_tenants or len(tenants) > 1:
        raise click.UsageError("Ids are those of one tenant. Say --tenant NAME once.")
    tenant = tenants[0] if tenants else None
    click.echo(f"{_dead_letter(tenant).delete(ids, tenant=tenant)} deleted.")


def _delete_many(
    tenants: Sequence[str], all_tenants: bool, filters: dict[str, t.Any], *, asks: bool
) -> None:
    last: dict[str | None, int] = {}

    def count(letters: DeadLetter, tenant: str | None) -> None:
        newest = letters.last_id(tenant=tenant)
        bounded = {"up_to": newest or 0, **filters}
        number = letters.count(tenant=tenant, **bounded)
        click.echo(f"{_prefix(tenant)}{number} would be deleted.")
        if newest is not None and number:
            last[tenant] = newest

    def delete(letters: DeadLetter, tenant: str | None) -> None:
        bounded = {"up_to": last[tenant], **filters} if asks else filters
        number = letters.delete_all(tenant=tenant, **bounded)
        click.echo(f"{_prefix(tenant)}{number} deleted.")

    if not asks:
        _each(tenants, all_tenants, filters, delete, "cleaned up")
        return
    _each(tenants, all_tenants, filters, count, "counted")
    if last:
        click.confirm("Delete them?", abort=True)
        for_each(
            list(last), lambda name: delete(_dead_letter(name), name), "cleaned up"
        )


@deadletter.command("purge")
@click.option(
    "--older-than", required=True, type=AGE, help="For example 30d, 12h, 90m."
)
@_filters
@target_options
def purge_command(
    older_than: datetime.timedelta,
    tenants: tuple[str, ...],
    all_tenants: bool,
    **filters: t.Any,
) -> None:
    """Delete what failed last an AGE ago, or earlier, or what a filter leaves of it."""

    def purge(letters: DeadLetter, tenant: str | None) -> None:
        count = letters.purge(older_than, tenant=tenant, **filters)
        click.echo(f"{_prefix(tenant)}{count} deleted.")

    _each(tenants, all_tenants, filters, purge, "purged")


@deadletter.command("stats")
@_filters
@target_options
@_json
def stats_command(
    tenants: tuple[str, ...], all_tenants: bool, as_json: bool, **filters: t.Any
) -> None:
    """Count dead letters by channel, endpoint and error."""
    found: list[tuple[str | None, tuple[object, ...]]] = []

    def count(letters: DeadLetter, tenant: str | None) -> None:
        found.extend((tenant, row) for row in letters.stats(tenant=tenant, **filters))

    names = _each(tenants, all_tenants, filters, count, "counted")
    headings = ("channel", "endpoint_id", "error_class", "count")
    if as_json:
        rows = [
            {"tenant": tenant, **dict(zip(headings, row, strict=True))}
            for tenant, row in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo(_NONE)
        return
    print_table(
        (*_heading(names), "Channel", "Endpoint", "Error", "Count"),
        [(*_named(tenant), *row) for tenant, row in found],
    )


@deadletter.command("help")
@click.pass_context
def help_command(ctx: click.Context) -> None:
    """Explain the commands."""
    click.echo(t.cast(click.Context, ctx.parent).get_help())


def _dead_letter(tenant: str | None) -> DeadLetter:
    state = current_app.extensions["ecotone"]
    state.compile()
    messaging = state.messaging
    if messaging is None or messaging.dead_letters is None:
        raise ConfigurationError(
            "The application keeps no dead letters: it has no channel in its database."
            " Give it one, for example Ecotone(channels=[DatabaseChannel('orders')])."
        )
    if tenant is None:
        targets((), False)
    else:
        check_tenant(tenant)
    state.databases.prepare(tenant)
    return t.cast(DeadLetter, messaging.dead_letters)


def _each(
    tenants: Sequence[str],
    all_tenants: bool,
    filters: Mapping[str, t.Any],
    act: Callable[[DeadLetter, str | None], None],
    done: str,
) -> Sequence[str | None]:
    names = targets(tenants, all_tenants)

    def kept(column: int) -> set[str]:
        return {
            str(row[column])
            for name in names
            for row in _dead_letter(name).stats(tenant=name)
        }

    if filters["endpoint_id"] or filters["channel"]:
        _dead_letter(names[0] if names else None)
        check_channel(filters["channel"], lambda: kept(0))
        check_endpoint(filters["endpoint_id"], lambda: kept(1))
    for_each(names, lambda name: act(_dead_letter(name), name), done)
    return names


def _print_json(found: _Found) -> None:
    click.echo(json.dumps([_plain(each, tenant) for tenant, each in found], indent=2))


def _print_letters(names: Sequence[str | None], found: _Found) -> None:
    headings = ("Id", "Failed at", "Channel", "Endpoint", "Attempts", "Error")
    print_table(
        (*_heading(names), *headings),
        [
            (
                *_named(tenant),
                each.id,
                _moment(each.last_failed_at),
                each.channel,
                each.endpoint_id,
                each.attempts,
                f"{each.error_class}: {each.error_message}"[:100],
            )
            for tenant, each in found
        ],
    )


def _heading(names: Sequence[str | None]) -> tuple[str, ...]:
    return () if names == [None] else ("Tenant",)


def _named(tenant: str | None) -> tuple[str, ...]:
    return () if tenant is None else (tenant,)


def _prefix(tenant: str | None) -> str:
    return "" if tenant is None else f"{tenant}: "


def _plain(found: ParkedMessage, tenant: str | None) -> dict[str, t.Any]:
    values = {"tenant": tenant, **dataclasses.asdict(found)}
    values["body"] = found.body.decode(errors="backslashreplace")
    for name in ("first_failed_at", "last_failed_at"):
        values[name] = _moment(values[name])
    return values


def _moment(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="seconds")
