"""The channels of one application, and the workers that empty them."""

from __future__ import annotations

import itertools
import random
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from flask import Flask

from .channels import CombinedChannel
from .channels.collecting import CollectingOutbox
from .channels.dead_letters import DeadLetter
from .channels.opening import ChannelSurroundings
from .channels.parking import Failure
from .channels.protocols import Channel
from .channels.protocols import ChannelStatus
from .channels.protocols import DEAD_LETTER_CHANNEL
from .channels.protocols import FinalFailure
from .channels.protocols import Outbox
from .channels.protocols import Source
from .channels.references import database_channels
from .channels.references import error_channels
from .channels.routed import members_of
from .consuming import ErrorHandler
from .consuming import Limits
from .consuming import Outcome
from .consuming import Stopping
from .consuming import Worker
from .consuming.bus_failures import BusFailures
from .consuming.company import Company
from .consuming.environment import Environment
from .consuming.failures import default_target
from .consuming.failures import Recovery
from .consuming.final_failures import FinalFailures
from .consuming.processing import Processor
from .consuming.scheduling import Schedules
from .databases import AppDatabases
from .definitions import Timing
from .errors import ConfigurationError
from .errors import did_you_mean
from .errors import UnknownChannelError
from .storage.failures import is_outage
from .storage.memory_notes import MemoryNotes
from .storage.memory_notes import MemoryTransaction
from .storage.notes import SessionNotes
from .storage.outbox import SessionOutbox
from .storage.protocols import Notes
from .storage.protocols import Transaction
from .storage.ticks import DatabaseTicks
from .storage.ticks import MemoryTicks
from .storage.ticks import SteadyClock
from .storage.transaction import SessionTransaction
from .system import MessagingSystem
from .system.asynchronous import Channels


@dataclass(frozen=True, slots=True)
class Failures:
    """What the application says of failed messages.

    :param default_error_channel: ``ECOTONE_DEFAULT_ERROR_CHANNEL``.
    :param on_exhausted: ``ECOTONE_ON_EXHAUSTED``.
    """

    handlers: tuple[ErrorHandler, ...]
    default_error_channel: str | None
    on_exhausted: FinalFailure | None


class Messaging:
    """The channels of one application.

    :param declared: The channels that the extension was given.
    :param failures: What becomes of failed messages.
    """

    def __init__(
        self,
        app: Flask,
        declared: Iterable[t.Any],
        failures: Failures,
        databases: AppDatabases | None,
        transaction: SessionTransaction | None,
    ) -> None:
        self._app = app
        self._failures = failures
        self._databases = databases
        self._transaction = transaction
        self._log = app.logger.getChild("ecotone")
        self._listed = listed = list(declared)
        opened: dict[str, Channel] = {}
        self.is_durable = bool(database_channels(listed))
        outbox: Outbox = CollectingOutbox()
        if databases is not None and transaction is not None:
            prepare = databases.prepare if self.is_durable else _nothing
            outbox = SessionOutbox(
                databases.session, lambda: transaction.is_active, prepare
            )
            if self.is_durable:
                transaction.prepare = databases.prepare
        self._chains = hops = {
            c.name: tuple(c.channels) for c in listed if isinstance(c, CombinedChannel)
        }
        self.channels = Channels(opened, outbox, hops)
        surroundings = ChannelSurroundings(
            channel=self.channels.get, logger=self._log, database=databases
        )
        for each in listed:
            if not isinstance(each, CombinedChannel):
                opened[each.name] = each.open(surroundings)
        self.dead_letters: DeadLetter | None = None
        if databases is not None and transaction is not None and self.is_durable:
            self.dead_letters = DeadLetter(
                databases, self._held, lambda: transaction.is_active
            )
        self._company = Company()
        #: Which source is the first of a worker: if each run is a short one, none must
        #: always be the last, in this process or another.
        self._turns = itertools.count(random.randrange(1 << 16))
        self._processor: Processor
        self._system: MessagingSystem

    def complete(self, system: MessagingSystem) -> None:
        """Give it the system; the channels were there before."""
        final = FinalFailures(
            system.writing,
            self._final_failure(),
            self.dead_letters,
            Failure,
        )
        databases = self._databases
        header = None if databases is None else databases.tenant_header
        recovery = Recovery(
            system,
            self._failures.handlers,
            self._failures.default_error_channel,
            dict(error_channels(self._listed)),
            final,
            is_outage,
            self._log,
            header,
        )
        for endpoint in system.connected:
            recovery.check(endpoint.recovery, endpoint.marked.where)
        for bus in system.bus_receptions.values():
            recovery.check(bus.recovery, bus.where)
        environment = Environment(self._app.app_context, self._transaction, is_outage)
        if databases is not None and header is not None:
            environment = replace(
                environment,
                is_at_home=databases.leads_to,
                tenant_named=databases.tenant_named,
                tenant_header=header,
            )
        failures = BusFailures(
            system,
            recovery,
            environment,
            self._log,
            keeps_dead_letters=self.dead_letters is not None,
        )
        self._system = system
        self._processor = Processor(system, environment, recovery, self._log)
        if self.dead_letters is not None:
            self.dead_letters.buses = failures
            self.dead_letters.check = self._processor.check

    def _final_failure(self) -> FinalFailure:
        """Return what becomes of messages whose channel doesn't say it.

        :raises ConfigurationError: Dead letters are asked for, and nothing keeps them.
        """
        parks, said = FinalFailure.DEAD_LETTER, self._failures.on_exhausted
        if self.dead_letters is not None:
            return said or parks
        asking = [
            f"on_exhausted of the channel {source.channel!r}"
            for name in self.channels.names
            for source in self.channels.get(name).sources()
            if source.on_exhausted is parks
        ]
        if said is parks:
            asking.append("ECOTONE_ON_EXHAUSTED")
        if asking:
            raise ConfigurationError(
                f"{asking[0]} is {parks.value!r}, and nothing keeps dead letters here:"
                " that takes a DatabaseChannel. Give Ecotone one, or say 'resend'."
            )
        return said or FinalFailure.RESEND

    @property
    def names(self) -> list[str]:
        """The names of channels that a worker can take from."""
        return self.names_for()

    def names_for(self, tenants: Sequence[str] = ()) -> list[str]:
        """Return the names of channels that a worker can take from.

        :param tenants: Only those that have messages of these apart from others'.
        """
        taken = [n for n in self.channels.names if self.channels.get(n).sources()]
        return [name for name in taken if not self._mixed(name, tenants)]

    def describe(self, tenants: Sequence[str] = ()) -> list[dict[str, t.Any]]:
        """Return what lies in the channels: a summary of plain values for each source.

        Where the database doesn't answer, the numbers are ``None``.

        :param tenants: Whose databases are meant; if none is named, all of them.
        """
        rows = []
        for channel, parts in self._with_messages().items():
            for source in self.sources_of([channel], tenants):
                try:
                    status: ChannelStatus | None = source.status()
                except Exception as error:
                    # The statement, which follows, helps nobody here.
                    reason, _, _ = str(error).partition("\n")
                    self._log.warning(
                        "The channel %r can't be read: %s. If its table isn't there,"
                        " 'flask ecotone channel setup --initialize' makes it.",
                        channel.name,
                        reason,
                    )
                    status = None
                rows.append(
                    {
                        "channel": channel.name,
                        "tenant": source.tenant,
                        "ready": status and status.ready,
                        "in_flight": status and status.in_flight,
                        "delayed": status and status.delayed,
                        "oldest_age": status and status.oldest_age,
                        "part_of": parts,
                    }
                )
        return rows

    def _with_messages(self) -> dict[Channel, list[str]]:
        """Return what messages lie in, and the names of what is made of it."""
        found: dict[Channel, list[str]] = {}
        ways = {name: (name,) for name in self.channels.names} | self._chains
        for name, hops in ways.items():
            for channel in self.members_of(*hops, is_received=True):
                parts = found.setdefault(channel, [])
                if name != channel.name:
                    parts.append(name)
        return found

    def members_of(self, *names: str, is_received: bool = False) -> list[Channel]:
        """Return channels, in place of dynamic ones what these are made of in the end.

        :param is_received: Only what a worker takes messages from.
        """
        opened = map(self.channels.get, names)
        found = [m for each in opened for m in members_of(each, is_received)]
        return list(dict.fromkeys(found))

    def sources_of(
        self, channels: Iterable[Channel], tenants: Sequence[str]
    ) -> list[Source]:
        """Return the sources of channels.

        :param tenants: Whose databases are meant; if none is named, all of them.
        """
        sources = [source for each in channels for source in each.sources()]
        if not tenants or self._databases is None:
            return sources
        holders = self._databases.holders(tenants)
        return [source for source in sources if source.tenant in holders]

    def _mixed(self, name: str, tenants: Sequence[str]) -> list[str]:
        """Return what a channel is made of that mixes the messages of all tenants."""
        members = self.members_of(name, is_received=True)
        return [m.name for m in members if not self.sources_of([m], tenants)]

    def _held(self, name: str) -> Channel:
        """Return the channel that a source belongs to, a dynamic one's own as well.

        :raises ConfigurationError: It isn't there.
        """
        names = self.channels.names
        if name not in names:
            for member in self.members_of(*names):
                if member.name == name:
                    return member
        return self.channels.get(name)

    def sources(
        self, names: Sequence[str], tenants: Sequence[str] = ()
    ) -> Callable[[], list[Source]]:
        """Return what returns the sources of channels.

        :param tenants: Whose messages are meant; if none is named, all of them.
        :raises UnknownChannelError: One of them isn't there.
        :raises ConfigurationError: Messages of the tenants lie among those of others.
        """
        self.check_names(names, " to take messages from")
        if self._databases is not None and self.is_durable:
            self._databases.check_listed()
        if tenants:
            self._check_apart(names, tenants)
        found = [self.channels.get(name) for name in names]
        return lambda: self.sources_of(found, tenants)

    def _check_apart(self, names: Sequence[str], tenants: Sequence[str]) -> None:
        mixed = [each for name in names for each in self._mixed(name, tenants)]
        if mixed:
            raise ConfigurationError(
                f"The channel {mixed[0]!r} has the messages of all tenants in one"
                " place, so nobody can take only those of some. Leave the tenants out,"
                " or take it by another worker."
            )
        sharing = [] if self._databases is None else self._databases.sharing(tenants)
        if sharing:
            others = ["whoever isn't mapped" if n is None else n for n in sharing]
            raise ConfigurationError(
                f"Messages of {', '.join(tenants)} lie in one database with those of"
                f" {', '.join(others)}, so nobody can take only some of them. Name all"
                " tenants of a database, or give each of them one of its own."
            )

    def check_names(
        self, names: Sequence[str], purpose: str = "", others: Sequence[str] = ()
    ) -> None:
        """See that there are channels of some names.

        :param purpose: What they are for, for errors.
        :param others: What else might have been meant.
        :raises UnknownChannelError: One of them isn't there.
        """
        for name in names:
            hops = self.channels.hops_of(name)
            if hops:
                raise UnknownChannelError(
                    f"{name!r} is no channel{purpose}: it is the way through"
                    f" {', '.join(hops)}. Name those."
                )
            if name not in self.channels.names:
                known = [*self.channels.names, *others]
                raise UnknownChannelError(
                    f"There is no channel {name!r}{purpose}."
                    f"{did_you_mean(name, known)} There are {', '.join(known)}."
                )

    def prepare(self) -> None:
        """Make our tables, and load every handler: a worker is about to start.

        Those of a tenant are made when it has its first turn.
        """
        if self._databases is not None and self.is_durable:
            if not self._databases.has_tenants:
                self._databases.prepare()
        _ = self._system.endpoints

    def worker(
        self,
        names: Sequence[str],
        *,
        limits: Limits | None = None,
        stopping: Stopping | None = None,
        poll_interval: float = 0.1,
        sign_of_life: Callable[[], None] | None = None,
        outcome: Outcome | None = None,
        schedules: Schedules | None = None,
        timing: Timing | None = None,
        tenants: Sequence[str] = (),
    ) -> Worker:
        """Return a worker of channels, and of schedules."""
        return Worker(
            self.sources(names, tenants),
            self._processor,
            self._log,
            limits=limits,
            stopping=stopping,
            poll_interval=poll_interval,
            sign_of_life=sign_of_life,
            outcome=outcome,
            schedules=schedules,
            company=self._company,
            timing=timing,
            turn=next(self._turns),
        )


def make_schedules(
    app: Flask,
    system: MessagingSystem,
    databases: AppDatabases | None,
    transaction: SessionTransaction | None,
    failures: Failures,
) -> Schedules:
    """Return the schedules of an application, ready for a worker."""
    target = default_target(failures.handlers, failures.default_error_channel)
    # A firing is no message that could be a dead letter: it is only logged.
    error_channel = None if target == DEAD_LETTER_CHANNEL else target
    environment = Environment(app.app_context, transaction, is_outage)
    logger = app.logger.getChild("ecotone")
    listed = system.schedules.values()
    if databases is None:
        alone = MemoryTicks()
        return Schedules(
            system, listed, alone, environment, logger, error_channel=error_channel
        )
    ticks = DatabaseTicks(
        databases.session,
        lambda: databases.engine(None),
        databases.engines,
    )
    clock = SteadyClock(ticks.time)
    return Schedules(system, listed, ticks, environment, logger, clock, error_channel)


def make_notes(
    databases: AppDatabases | None,
    transaction: SessionTransaction | None,
    is_used: bool,
) -> tuple[Transaction | None, Notes]:
    """Return the transactions of an application, and what it notes of its messages.

    :param is_used: Whether it notes anything, so that it needs our tables, or a unit of
        work if it has no database.
    """
    if databases is None or transaction is None:
        in_memory = MemoryTransaction()
        return in_memory if is_used else None, MemoryNotes(in_memory)
    if is_used:
        transaction.prepare = databases.prepare
    notes = SessionNotes(
        databases.session,
        lambda: databases.engine(None),
        transaction,
        databases.prepare,
    )
    return transaction, notes


def _nothing() -> None:
    pass
