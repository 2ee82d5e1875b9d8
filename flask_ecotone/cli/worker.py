"""``flask ecotone run``."""

from __future__ import annotations

import sys
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import closing
from contextlib import contextmanager
from logging import Logger
from pathlib import Path

import click
from flask import current_app

from ..channels.listening import Listeners
from ..channels.protocols import Source
from ..configuration import memory_limit
from ..consuming import Limits
from ..consuming import Outcome
from ..consuming import Stopping
from ..consuming.limits import resident_megabytes
from ..consuming.scheduling import Schedules
from ..decorators.timing import Cron
from ..errors import ConfigurationError
from ..handling.console import spelling
from ..messaging import Messaging
from .group import ecotone_cli
from .health import HealthFile
from .health import in_a_folder
from .signalling import obeying
from .supervised import Supervision
from .supervising import Supervisor
from .tenants import check_tenant
from .types import switched

#: Seconds between looks where nobody tells about messages, and where somebody does.
_POLL: t.Final = 0.1
_LISTENING_POLL: t.Final = 1.0
#: What a worker may have unless somebody says so.
_MEGABYTES: t.Final = 1024
_FLAGS: t.Final = ("stop-on-failure", "finish-when-no-messages")


class _RunCommand(click.Command):
    """Takes the names of options in camel case, and ``=true`` for flags, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_respelled(args, ctx)))


def _respelled(args: list[str], ctx: click.Context) -> Iterator[str]:
    for arg in args:
        name, equals, value = arg.partition("=")
        if not name.startswith("--") or name == "--":
            yield arg
            continue
        spelled = spelling(name[2:])
        if spelled in _FLAGS and equals:
            if switched(name, value, ctx):
                yield f"--{spelled}"
        else:
            yield f"--{spelled}{equals}{value}"


@ecotone_cli.command("run", cls=_RunCommand)
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "all_channels", is_flag=True, help="All channels and schedules.")
@click.option("--scheduled", is_flag=True, help="All schedules, besides.")
@click.option(
    "--tenant",
    "tenants",
    multiple=True,
    help="Only messages of this tenant; may be repeated.",
)
@click.option(
    "--handled-message-limit",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Stop after N messages, in all threads of a process together.",
)
@click.option(
    "--execution-time-limit",
    type=click.IntRange(0),
    default=0,
    metavar="MS",
    help="Stop after so many milliseconds.",
)
@click.option(
    "--memory-limit",
    type=click.IntRange(0),
    default=None,
    metavar="MB",
    help="Stop when the process has so many megabytes; 0 for no limit.",
)
@click.option("--stop-on-failure", is_flag=True, help="Stop when a message fails.")
@click.option(
    "--finish-when-no-messages", is_flag=True, help="Stop when there is nothing to do."
)
@click.option(
    "--cron",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[EXPR]",
    help="Work at these times only; without EXPR do what is due, and end.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="How many messages to handle at the same time.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="How many processes to keep alive; one that dies is replaced.",
)
@click.option(
    "--poll-interval",
    type=click.FloatRange(0.001),
    default=None,
    metavar="S",
    help="How many seconds to wait when there is nothing to do.",
)
@click.option(
    "--health-file",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=in_a_folder,
    default=None,
    help="A file that is touched while the worker lives.",
)
def run_command(
    names: tuple[str, ...],
    all_channels: bool,
    scheduled: bool,
    tenants: tuple[str, ...],
    handled_message_limit: int,
    execution_time_limit: int,
    memory_limit: int | None,
    stop_on_failure: bool,
    finish_when_no_messages: bool,
    cron: str | None,
    threads: int,
    processes: int,
    poll_interval: float | None,
    health_file: Path | None,
) -> None:
    """Handle the messages of channels, and run schedules, until asked to stop.

    \b
        flask ecotone run orders
        flask ecotone run orders notifications --threads 4
        flask ecotone run orders --tenant north --tenant south
        flask ecotone run --scheduled
        flask ecotone run --all --finish-when-no-messages
        flask ecotone run --all --cron
        flask ecotone run imports --cron "0 3 * * *"

    With --cron alone it handles what lies in the channels, fires each schedule that
    became due since the last run, and ends: for the crontab of a system without a
    worker that runs all the time. A schedule that is new begins with its first run.
    With an expression of five fields, on the clocks of UTC, the worker stays and begins
    to work at these times, until there is nothing more to do.

    SIGTERM, SIGINT and SIGQUIT ask it to stop: the message at hand is finished, the
    others go back. A second signal gives the message at hand back, too. SIGUSR1 prints
    what the worker is doing. Limits can be combined; the first one that is reached
    stops the worker. Of --processes, one that has reached its memory limit is replaced.
    """
    messaging, schedules = _messaging(), current_app.extensions["ecotone"].schedules
    names, ids = _chosen(messaging, names, all_channels, scheduled, tenants)
    timing, schedules = _timing(cron), _only(schedules, ids, cron)
    sources = messaging.sources(names, tenants)
    limits = Limits(
        handled=handled_message_limit,
        execution_time=execution_time_limit / 1000,
        memory=_megabytes(memory_limit),
        stops_on_failure=stop_on_failure,
        finishes_when_empty=finish_when_no_messages or cron == "",
    )
    supervision = Supervision()
    if processes > 1 and not supervision:
        sys.exit(Supervisor(processes).run())
    stopping, outcome = Stopping(), Outcome()
    obey = obeying(stopping, outcome, is_supervised=bool(supervision))
    listening = _listening(sources, names, stopping)
    with supervision.working(outcome), obey, listening as follow:
        messaging.prepare()
        _announce(names, ids, tenants)
        health = None if health_file is None else HealthFile(health_file, _logger())
        interval = poll_interval or (_LISTENING_POLL if follow() else _POLL)

        def live() -> None:
            follow()
            if health is not None:
                health.touch()
            supervision.check(stopping, outcome)

        def work(is_first: bool) -> None:
            messaging.worker(
                names,
                limits=limits,
                stopping=stopping,
                poll_interval=interval,
                sign_of_life=live if is_first else None,
                outcome=outcome,
                schedules=schedules if ids else None,
                timing=timing,
                tenants=tenants,
            ).run()

        _work(work, threads, stopping, limits)
    _end(outcome, limits)


def _chosen(
    messaging: Messaging,
    names: tuple[str, ...],
    all_channels: bool,
    scheduled: bool,
    tenants: Sequence[str],
) -> tuple[tuple[str, ...], list[str]]:
    """Return the channels, and the schedules, that are meant."""
    schedules = current_app.extensions["ecotone"].schedules.ids
    for tenant in tenants:
        check_tenant(tenant)
    if all_channels == bool(names or scheduled):
        listed = ", ".join([*messaging.names, *schedules]) or "none"
        raise click.UsageError(f"Name channels, or say --all. There are: {listed}.")
    ids = [n for n in schedules if all_channels or scheduled or n in names]
    names = tuple(dict.fromkeys(n for n in names if n not in ids))
    messaging.check_names(names, " to take messages from", schedules)
    if all_channels:
        names = tuple(messaging.names_for(tenants))
    if not names and not ids and not all_channels:
        raise ConfigurationError(
            "There are no schedules to run. Mark a function with @scheduled, or name"
            f" channels: there are {', '.join(messaging.names) or 'none'}."
        )
    if not names and not ids:
        raise ConfigurationError(
            f"No channel has messages of {', '.join(tenants)} apart from those of other"
            " tenants: leave the tenants out."
        )
    return names, ids


def _end(outcome: Outcome, limits: Limits) -> None:
    click.echo(
        f"Stopped ({outcome.reason}): {outcome.handled} messages handled,"
        f" {outcome.failed} failed.",
        err=True,
    )
    if outcome.is_broken_off or (limits.stops_on_failure and outcome.failed):
        sys.exit(1)


def _only(schedules: Schedules, ids: Sequence[str], cron: str | None) -> Schedules:
    if cron == "" and ids and current_app.extensions["ecotone"].databases is None:
        raise ConfigurationError(
            "--cron fires the schedules that became due since the last run, and only a"
            " database keeps when that was. The application has none: let a worker run"
            " all the time."
        )
    return schedules.only(ids, catches_up=cron == "")


def _timing(cron: str | None) -> Cron | None:
    if not cron:
        return None
    try:
        return Cron(cron)
    except ConfigurationError as error:
        raise click.BadParameter(
            f"{error} Without an expression --cron stands behind the names.",
            param_hint="--cron",
        ) from error


def _announce(
    names: Sequence[str], schedules: Sequence[str], tenants: Sequence[str]
) -> None:
    whose = f" for {', '.join(tenants)}" if tenants else ""
    if names:
        click.echo(f"Handling messages of {', '.join(names)}{whose}.", err=True)
    if schedules:
        click.echo(f"Firing {', '.join(schedules)} when due.", err=True)


def _work(
    work: Callable[[bool], None], threads: int, stopping: Stopping, limits: Limits
) -> None:
    failures: list[BaseException] = []

    def work_besides() -> None:
        try:
            work(False)
        except BaseException as error:
            # One thread less would go unnoticed: all of them end, and say why.
            failures.append(error)
            stopping.request()

    # They leave no signals to the main thread: what handlers start inherits that.
    others = [threading.Thread(target=work_besides) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    try:
        work(True)
    finally:
        if others and not limits.finishes_when_empty:
            stopping.request()
        for thread in others:
            thread.join()
    if failures:
        raise failures[0]


@contextmanager
def _listening(
    sources: Callable[[], Sequence[Source]], names: Sequence[str], stopping: Stopping
) -> Iterator[Callable[[], bool]]:
    """Listen where databases tell about messages.

    It yields what goes on with that as tenants come and go, and returns whether all of
    them tell.
    """

    def follow() -> bool:
        try:
            return listeners.follow(sources())
        except Exception:
            return False  # the worker asks for them, too, and says what is wrong

    with closing(Listeners(names, stopping.wake, _logger())) as listeners:
        yield follow


def _logger() -> Logger:
    return current_app.logger.getChild("ecotone")


def _megabytes(given: int | None) -> int:
    where = "--memory-limit"
    if given is None:
        where, given = "ECOTONE_DEFAULT_MEMORY_LIMIT", memory_limit(current_app)
    if resident_megabytes() is not None:
        return _MEGABYTES if given is None else given
    if given:
        raise ConfigurationError(
            f"{where} is {given}, and the memory of a process can't be measured on this"
            f" system ({sys.platform}). Say 0, and limit it from outside, for example"
            " with a container, or by --execution-time-limit."
        )
    return 0


def _messaging() -> Messaging:
    state = current_app.extensions["ecotone"]
    messaging = state.worker_messaging()
    if messaging is None:
        raise ConfigurationError(
            "The application has no channels. Give it some, for example"
            " Ecotone(channels=[DatabaseChannel('orders')])."
        )
    return t.cast(Messaging, messaging)
