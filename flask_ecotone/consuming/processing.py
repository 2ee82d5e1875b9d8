"""One delivery: from the channel to its handler, and what becomes of it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from logging import Logger

from ..channels.protocols import Capability
from ..channels.protocols import Delivery
from ..channels.protocols import Envelope
from ..channels.protocols import Source
from ..errors import ConversionError
from ..errors import EcotoneError
from ..errors import LeaseLostError
from ..errors import MessagingError
from ..errors import UnknownEndpointError
from ..handling.writing import read_headers
from ..message import BUS
from ..message import Message
from ..storage.failures import told
from ..storage.failures import values_hidden
from ..system import MessagingSystem
from ..system.endpoint import Endpoint
from ..system.reception import is_new
from .claimed import Claimed
from .claimed import Failed
from .claimed import Together
from .disconnections import Disconnections
from .environment import always
from .environment import Environment
from .environment import OutageError
from .failures import Recovery
from .final_failures import GivenBackError
from .final_failures import LogLine
from .forwarding import Forwarding
from .forwarding import in_tenant
from .naming import named

#: How many workers must disappear with a message before it can be to blame: the first
#: had claimed others, too.
_SUSPICIOUS: t.Final = 2
#: With what a handler fails: also when it, or a library, means to end a program.
_FAILURES: t.Final = (Exception, SystemExit)


class WorkerKillerError(MessagingError):
    """A message whose workers disappeared, again and again."""


class Processor:
    """Handles deliveries.

    :param recovery: Decides what becomes of failed ones.
    """

    def __init__(
        self,
        system: MessagingSystem,
        environment: Environment,
        recovery: Recovery,
        logger: Logger,
    ) -> None:
        self._system = system
        self._environment = environment
        self._recovery = recovery
        self._disconnections = Disconnections()
        self._log = logger
        self._forwarding = Forwarding(system, environment, self.fail, logger)

    def is_outage(self, error: BaseException) -> bool:
        """Whether the database is the reason of an error."""
        return self._environment.is_outage(error)

    def handled_apart(
        self, source: Source, deliveries: Sequence[Delivery]
    ) -> set[t.Any]:
        """Return the positions of those that were handled already.

        Of those that are handled in a transaction it says nothing: there it is asked
        as part of it.
        """
        endpoint_of = self.endpoint_of
        apart = [d for d in deliveries if not self._is_joined(source, endpoint_of(d))]
        if not apart:
            return set()
        try:
            return source.handled_before(apart)
        except Exception as error:
            raise self._outage(error) from error

    def together(self, source: Source, deliveries: Sequence[Delivery]) -> int:
        """Return how many deliveries, from the first on, can share a transaction."""
        count = 0
        if source.is_batched:
            seen: set[tuple[str, str]] = set()
            for delivery in deliveries:
                envelope = delivery.envelope
                key = envelope.message_id, envelope.endpoint_id
                endpoint = self.endpoint_of(delivery)
                if key in seen:
                    break
                if endpoint is not None and not self._is_joined(source, endpoint):
                    break
                if not self._is_at_home(source, delivery):
                    break
                if self._disconnections.is_noted(delivery):
                    break
                seen.add(key)
                count += 1
        # One that took its worker along is claimed alone.
        return count if count > 1 else 0

    def _is_at_home(self, source: Source, delivery: Delivery) -> bool:
        is_at_home = self._environment.is_at_home
        if is_at_home is always:
            return True
        try:
            return is_at_home(read_headers(delivery.envelope), source.tenant)
        except EcotoneError:
            return False  # alone it is told what is wrong

    def process_together(
        self,
        source: Source,
        deliveries: Sequence[Delivery],
        is_done: Callable[[], bool],
    ) -> Together:
        """Handle deliveries in one transaction, each of them in a savepoint.

        Those that fail take only themselves along.

        :param is_done: Whether no further one is to be begun.
        :raises OutageError: The database is gone.
        """
        transaction = self._environment.transaction
        assert transaction is not None
        so_far = Together()
        try:
            if source.handled_before(deliveries):
                return Together(alone=list(deliveries), is_over=True)
            with transaction.batch() as check:
                for delivery in deliveries:
                    if so_far.count and is_done():
                        break
                    failed = self._join(source, delivery)
                    if failed is None:
                        so_far.handled.append(delivery)
                    elif self._is_repeated(failed):
                        so_far.alone.append(delivery)
                        so_far.is_over = True
                        break
                    else:
                        so_far.failed.append(failed)
                        if failed.has_begun:
                            check(failed.error)
                        if not self.can_wait(source, failed):
                            break
                check(None)  # failures may have been let pass
                if so_far.handled:
                    with self._environment.context():
                        settle = partial(source.settle_all, so_far.handled)
                        run = partial(transaction.run, None, settle)
                        in_tenant(self._system, source.tenant, run)
        except Exception as error:
            if self.is_outage(error):
                raise OutageError(told(error)) from error
            # A lost race or lease. Alone, each finds out for itself.
            self._log.info("A batch of %r is repeated: %s", source.channel, told(error))
            return Together(alone=list(deliveries), is_over=True)
        return so_far

    def _join(self, source: Source, delivery: Delivery) -> Failed | None:
        """Handle a delivery in a savepoint; return how it failed, if it did."""
        endpoint: Endpoint | None = None
        try:
            with self._environment.context():
                read = self._read(source, delivery)
                if isinstance(read, Failed):
                    return read
                endpoint, message = read
                self._system.execute(endpoint, message, is_new)
        except _FAILURES as error:
            if self.is_outage(error):
                self._disconnections.note(delivery, error)
                raise
            if endpoint is None:
                raise
            return Failed(delivery, endpoint, error)
        return None

    def _is_repeated(self, failed: Failed) -> bool:
        """Whether a failure is of a kind that is tried again at once."""
        if failed.endpoint is None or not failed.has_begun:
            return False
        return self._system.is_repeated(failed.endpoint, failed.error)

    def _read(
        self, source: Source, delivery: Delivery
    ) -> tuple[Endpoint, Message] | Failed:
        """Return a message and who it is for, or why that can't be told."""
        endpoint = None
        try:
            endpoint = self._endpoint(source, delivery)
            types = endpoint.types
            message = self._system.writing.read(
                delivery.envelope, source.channel, types
            )
        except UnknownEndpointError as error:
            # Perhaps a newer release knows it, which is about to come.
            return Failed(delivery, None, error)
        except _FAILURES as error:
            if self.is_outage(error):
                raise
            return Failed(delivery, endpoint, error, may_retry=False)
        return endpoint, message

    def can_wait(self, source: Source, failed: Failed) -> bool:
        """Whether a failure can be seen to a little later, together with others."""
        return self._recovery.can_wait(source, failed.endpoint)

    def put_away(self, source: Source, failed: Sequence[Failed]) -> None:
        """Do with deliveries that failed what is to be done, all at once if possible.

        :raises GivenBackError: One is to be given back.
        :raises OutageError: The database is gone.
        """
        try:
            with self._environment.context():
                if len(failed) == 1 or not self._put_away_at_once(source, failed):
                    for each in failed:
                        self._see_to(source, each)
        except GivenBackError:
            raise
        except Exception as error:
            raise self._outage(error) from error

    def _put_away_at_once(self, source: Source, failed: Sequence[Failed]) -> bool:
        lines: list[LogLine | None] = []
        try:
            with source.at_once():
                for each in failed:
                    try:
                        lines.append(self._recover(source, each))
                    except LeaseLostError as lost:
                        self._log.warning("%s", lost)
        except Exception as error:
            if self.is_outage(error):
                raise
            self._log.info("What failed is seen to one by one: %s", told(error))
            return False
        for line in lines:
            self._tell(line)
        return True

    def fail(self, source: Source, delivery: Delivery, error: BaseException) -> None:
        """Decide what becomes of a delivery that failed on its way to an endpoint.

        :raises GivenBackError: It is to be given back.
        :raises OutageError: The database is gone.
        """
        self.put_away(source, [Failed(delivery, None, error)])

    def process(self, claimed: Claimed, delivery: Delivery) -> bool:
        """Handle one delivery, whatever happens.

        :return: Whether it succeeded. If not, its failure is still to be seen to, or it
            isn't ours any more.
        :raises OutageError: The database is gone.
        """
        try:
            with self._environment.context():
                return self._process(claimed, delivery)
        except LeaseLostError as error:
            self._log.warning("%s", error)
            return False
        except Exception as error:
            raise self._outage(error) from error

    def _process(self, claimed: Claimed, delivery: Delivery) -> bool:
        source = claimed.source
        read = self._read(source, delivery)
        if isinstance(read, Failed):
            claimed.failed.append(read)
            return False
        endpoint, message = read
        try:
            if self._is_joined(source, endpoint):
                settle = self._settling(source, delivery, source.settle)
                self._system.execute(endpoint, message, settle)
            else:
                if delivery.position not in claimed.handled:
                    settle = is_new
                    if self._is_transactional(endpoint):
                        settle = self._settling(source, delivery, source.note)
                    self._system.execute(endpoint, message, settle)
                claimed.finished.append(delivery)
        except LeaseLostError:
            raise
        except _FAILURES as error:
            if self.is_outage(error) and not self._disconnections.note(delivery, error):
                raise
            claimed.failed.append(Failed(delivery, endpoint, error))
            return False
        self._disconnections.forget(delivery)
        return True

    def _settling(
        self, source: Source, delivery: Delivery, note: Callable[[Delivery], bool]
    ) -> Callable[[], bool]:
        def settle() -> bool:
            is_first = note(delivery)
            if not is_first:
                self._log.info(
                    "%s was handled already and is skipped.",
                    named(source, delivery.envelope, self._environment.tenant_header),
                )
            return is_first

        return settle

    def _is_joined(self, source: Source, endpoint: Endpoint | None) -> bool:
        """Whether a message is removed in the transaction of its handler."""
        if Capability.TRANSACTIONAL not in source.capabilities:
            return False
        return self._is_transactional(endpoint)

    def _is_transactional(self, endpoint: Endpoint | None) -> bool:
        if self._environment.transaction is None:
            return False
        return endpoint is not None and endpoint.is_transactional

    def _outage(self, error: Exception) -> Exception:
        return OutageError(told(error)) if self.is_outage(error) else error

    def forward(self, source: Source, deliveries: Sequence[Delivery]) -> int:
        """Send deliveries to the next channels on their way; return how many were sent.

        :raises GivenBackError: It failed, and they are to be given back.
        :raises OutageError: The database is gone.
        """
        try:
            return self._forwarding.forward(source, deliveries)
        except Exception as error:
            raise self._outage(error) from error

    def check(self, envelope: Envelope) -> None:
        """Refuse a message in writing that couldn't be read.

        :raises ConversionError: It couldn't.
        """
        endpoint = self.endpoint_of(Delivery(envelope, None, "", 0))
        # Without its handler, it may still be what it says.
        types = () if endpoint is None else endpoint.types
        self._system.writing.read(envelope, "", types)

    def endpoint_of(self, delivery: Delivery) -> Endpoint | None:
        """Return whom a delivery is for, if there is such an endpoint."""
        try:
            return self._addressee(delivery)
        except UnknownEndpointError:
            return None

    def _endpoint(self, source: Source, delivery: Delivery) -> Endpoint:
        if delivery.attempts >= max(_SUSPICIOUS, source.max_deliveries):
            raise WorkerKillerError(
                f"{delivery.attempts} workers disappeared while they handled this"
                " message. See that its handler doesn't use too much memory or end the"
                " process, then replay it."
            )
        return self._addressee(delivery)

    def _addressee(self, delivery: Delivery) -> Endpoint:
        envelope = delivery.envelope
        found = self._system.endpoint(envelope.endpoint_id)
        if BUS not in envelope.headers:
            return found
        try:
            name = read_headers(envelope).get(BUS)
        except ConversionError:
            return found
        bus = self._system.bus_receptions.get(str(name))
        return found if bus is None else bus.of(found)

    def _see_to(self, source: Source, failed: Failed) -> None:
        try:
            self._tell(self._recover(source, failed))
        except LeaseLostError as lost:
            self._log.warning("%s", lost)
        except GivenBackError:
            raise
        except Exception as failure:
            if self._environment.is_outage(failure):
                raise
            with values_hidden(failure):
                self._log.exception(
                    "%s failed, and what becomes of it is not known yet; it comes back"
                    " when its lease is over.",
                    named(
                        source,
                        failed.delivery.envelope,
                        self._environment.tenant_header,
                    ),
                )

    def _recover(self, source: Source, failed: Failed) -> LogLine | None:
        return self._recovery.fail(
            source,
            failed.delivery,
            failed.endpoint,
            failed.error,
            may_retry=failed.may_retry,
        )

    def _tell(self, line: LogLine | None) -> None:
        if line is not None:
            line.write(self._log)
