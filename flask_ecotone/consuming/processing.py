"""One delivery: from the channel to its handler, and what becomes of it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from logging import Logger

from ..channels.protocols import Capability
from ..channels.protocols import Delivery
from ..channels.protocols import Source
from ..errors import ConversionError
from ..errors import EcotoneError
from ..errors import LeaseLostError
from ..errors import MessagingError
from ..errors import UnknownEndpointError
from ..handling.writing import read_headers
from ..message import BUS
from ..storage.failures import told
from ..storage.failures import values_hidden
from ..system import MessagingSystem
from ..system.endpoint import Endpoint
from .disconnections import Disconnections
from .environment import always
from .environment import Environment
from .environment import OutageError
from .failures import Recovery
from .final_failures import GivenBackError
from .forwarding import Forwarding
from .forwarding import in_tenant

#: How many workers must disappear with a message before it can be to blame: the first
#: had claimed others, too.
_SUSPICIOUS: t.Final = 2
#: With what a handler fails: also when it, or a library, means to end a program.
_FAILURES: t.Final = (Exception, SystemExit)


class _Unread(Exception):
    """A message that could not be read was not begun."""


class WorkerKillerError(MessagingError):
    """A message whose workers disappeared, again and again."""


@dataclass(frozen=True, slots=True)
class Together:
    """What became of deliveries that were handled in one transaction.

    :param handled: How many were, from the first on; then it is committed.
    :param error: Why the next one failed for good, if it did.
    :param is_alone: Whether the next ones are to be handled each for itself.
    """

    handled: int
    error: BaseException | None = None
    is_alone: bool = False


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
        self._forwarding = Forwarding(
            system, environment, self._fail_on_its_way, logger
        )

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
                if key in seen or not self._is_joined(source, endpoint):
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

        The first that fails ends it: what was handled before is committed.

        :param is_done: Whether no further one is to be begun.
        :raises OutageError: The database is gone.
        """
        transaction = self._environment.transaction
        assert transaction is not None
        done: list[Delivery] = []
        failed: BaseException | None = None
        try:
            if source.handled_before(deliveries):
                return Together(0, is_alone=True)
            with transaction.batch() as seal:
                for delivery in deliveries:
                    if done and is_done():
                        break
                    failed = self._join(source, delivery)
                    if failed is not None:
                        break
                    done.append(delivery)
                if done:
                    seal()
                    with self._environment.context():
                        settle = partial(source.settle_all, done)
                        run = partial(transaction.run, None, settle)
                        in_tenant(self._system, source.tenant, run)
        except Exception as error:
            if self.is_outage(error):
                raise OutageError(told(error)) from error
            # A lost race or lease. Alone, each finds out for itself.
            self._log.info("A batch of %r is repeated: %s", source.channel, told(error))
            return Together(0, is_alone=True)
        if failed is None:
            return Together(len(done))
        endpoint = self.endpoint_of(deliveries[len(done)])
        if isinstance(failed, _Unread) or endpoint is None:
            return Together(len(done), is_alone=True)
        if self._system.is_repeated(endpoint, failed):
            return Together(len(done), is_alone=True)
        return Together(len(done), failed)

    def _join(self, source: Source, delivery: Delivery) -> BaseException | None:
        try:
            with self._environment.context():
                try:
                    endpoint = self._endpoint(source, delivery)
                    message = self._system.writing.read(
                        delivery, source.channel, endpoint.types
                    )
                except Exception as error:
                    return _Unread(str(error))
                self._system.execute(endpoint, message, _is_new)
        except _FAILURES as error:
            if self.is_outage(error):
                self._disconnections.note(delivery, error)
                raise
            return error
        return None

    def fail(
        self,
        source: Source,
        delivery: Delivery,
        error: BaseException,
        *,
        is_on_its_way: bool = False,
    ) -> None:
        """Decide what becomes of a delivery that failed.

        :param is_on_its_way: Whether its endpoint has nothing to do with that.
        :raises GivenBackError: It is to be given back.
        :raises OutageError: The database is gone.
        """
        try:
            with self._environment.context():
                endpoint = None if is_on_its_way else self.endpoint_of(delivery)
                self._fail(source, delivery, endpoint, error, may_retry=True)
        except LeaseLostError as lost:
            self._log.warning("%s", lost)
        except GivenBackError:
            raise
        except Exception as failure:
            raise self._outage(failure) from failure

    def process(
        self,
        source: Source,
        delivery: Delivery,
        finished: list[Delivery],
        handled: set[t.Any],
    ) -> bool:
        """Handle one delivery, whatever happens.

        :param finished: Where to add it if it is still to be removed.
        :param handled: The positions of deliveries that were handled already.
        :return: Whether it succeeded.
        :raises GivenBackError: It failed, and is to be given back.
        :raises OutageError: The database is gone.
        """
        try:
            with self._environment.context():
                return self._process(source, delivery, finished, handled)
        except LeaseLostError as error:
            self._log.warning("%s", error)
            return False
        except (OutageError, GivenBackError):
            raise
        except Exception as error:
            raise self._outage(error) from error

    def _process(
        self,
        source: Source,
        delivery: Delivery,
        finished: list[Delivery],
        handled: set[t.Any],
    ) -> bool:
        endpoint: Endpoint | None = None
        may_retry = False
        try:
            endpoint = self._endpoint(source, delivery)
            message = self._system.writing.read(
                delivery, source.channel, endpoint.types
            )
            may_retry = True
            if self._is_joined(source, endpoint):
                settle = self._settling(delivery, source.settle)
                self._system.execute(endpoint, message, settle)
            else:
                if delivery.position not in handled:
                    settle = _is_new
                    if self._is_transactional(endpoint):
                        settle = self._settling(delivery, source.note)
                    self._system.execute(endpoint, message, settle)
                finished.append(delivery)
            self._disconnections.forget(delivery)
            return True
        except LeaseLostError:
            raise
        except UnknownEndpointError as error:
            # Perhaps a newer release knows it, which is about to come.
            self._fail(source, delivery, None, error, may_retry=True)
        except _FAILURES as error:
            if self.is_outage(error) and not self._disconnections.note(delivery, error):
                raise
            self._fail(source, delivery, endpoint, error, may_retry=may_retry)
        return False

    def _settling(
        self, delivery: Delivery, note: Callable[[Delivery], bool]
    ) -> Callable[[], bool]:
        def settle() -> bool:
            is_new = note(delivery)
            if not is_new:
                self._log.info(
                    "The message %s was handled by %s already and is skipped.",
                    delivery.envelope.message_id,
                    delivery.envelope.endpoint_id,
                )
            return is_new

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

    def _fail_on_its_way(
        self, source: Source, delivery: Delivery, error: BaseException
    ) -> None:
        self.fail(source, delivery, error, is_on_its_way=True)

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
        bus = self._system.asynchronous_buses.get(str(name))
        return found if bus is None else bus.received(found)

    def _fail(
        self,
        source: Source,
        delivery: Delivery,
        endpoint: Endpoint | None,
        error: BaseException,
        *,
        may_retry: bool,
    ) -> None:
        try:
            self._recovery.fail(source, delivery, endpoint, error, may_retry=may_retry)
        except (LeaseLostError, GivenBackError):
            raise
        except Exception as failure:
            if self._environment.is_outage(failure):
                raise
            with values_hidden(failure):
                self._log.exception(
                    "What becomes of the failed message %s is not known yet; it comes"
                    " back when its lease is over.",
                    delivery.envelope.message_id,
                )


def _is_new() -> bool:
    return True
