"""What stands around every message: the context, the tenant, retries."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from ..channels.protocols import Outbox
from ..context import MessageContext
from ..conversion import Conversion
from ..definitions import HandlerMark
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import marks_of
from ..discovery import Marked
from ..errors import ConcurrencyError
from ..errors import ConfigurationError
from ..errors import MessagingError
from ..handling.interceptors import Interception
from ..handling.interceptors import replaced
from ..message import Message
from ..retries import is_one_of
from ..retries import is_repeated
from ..storage.protocols import Activation
from ..storage.protocols import Notes
from ..storage.protocols import Transaction
from .endpoint import Flow

#: Told of every message that enters a bus, by the kind of the bus.
Observer = Callable[[Kind, Message], None]


#: How often to try again at once after an error; 0 if it is of no use.
Patience = Callable[[BaseException], int]
#: How often a worker tries again what failed in passing.
_IN_PASSING: t.Final = 3


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pipelines of a system have in common."""

    context: MessageContext
    conversion: Conversion
    logger: logging.Logger
    transaction: Transaction | None
    #: How often any command is tried again, if it says nothing itself.
    retry: InstantRetryMark | None
    observer: Observer | None
    #: Returns headers for messages that no other message caused.
    provider: Callable[[], dict[str, t.Any]] | None
    #: Makes the tenant of a message the active one, if there are tenants.
    tenancy: Activation | None
    #: Where asynchronous endpoints send from, if there are channels.
    outbox: Outbox | None = None
    #: What was handled already.
    notes: Notes | None = None

    def for_tenant(self, flow: Flow) -> Flow:
        """Return a flow that runs with the tenant of the message active."""
        tenancy = self.tenancy
        if tenancy is None:
            return flow
        run = tenancy.run
        return lambda message: run(message, flow)

    @property
    def is_plain(self) -> bool:
        """Whether nothing has a look at each message."""
        return self.observer is None and self.provider is None

    def message(self, payload: t.Any, headers: dict[str, t.Any] | None) -> Message:
        """Return a new message, caused by the one being handled if there is one."""
        if isinstance(payload, Message):
            raise MessagingError(
                "A message can't be the payload of another one. Send its payload, with"
                " its headers as metadata."
            )
        parent = self.context.get()
        if parent is None and self.provider is not None:
            headers = {**self.provider(), **(headers or {})}
        return Message(payload, headers, parent)

    def tell_of_retry(self, number: int, times: int, error: BaseException) -> None:
        """Say in the log that something is tried again."""
        name = type(error).__qualname__
        self.logger.info("Instant retry %d of %d after %s.", number, times, name)


def in_context(
    context: MessageContext, message: Message, flow: Callable[[Message], t.Any]
) -> t.Any:
    """Call a flow with the message as the one being handled."""
    token = context.set(message)
    try:
        return flow(message)
    finally:
        context.reset(token)
        close_scope(message)


def through(
    interception: Interception,
    context: MessageContext,
    message: Message,
    flow_of: Callable[[Message], Flow],
    *,
    propagates: bool = True,
) -> t.Any:
    """Send a message through the interceptors of a gateway and return the reply.

    :param flow_of: Chooses where the message goes once the interceptors before it ran:
        they may have changed the payload, and so who handles it.
    :param propagates: Whether messages that it causes inherit its headers.
    """
    held = message
    token = context.set(message)
    try:
        entered = interception.enter(message)
        if entered is None:
            return None
        if not propagates:
            entered = entered.isolated()
        if entered is not message:
            # What the interceptors changed is what later messages inherit.
            entered.scope, message.scope = message.scope, None
            held = entered
            context.set(entered)
        reply = flow_of(entered)(entered)
        if reply is None or not interception.after:
            return reply
        left = interception.leave(replaced(entered, reply))
        return None if left is None else left.payload
    finally:
        context.reset(token)
        close_scope(held)


def close_scope(message: Message) -> None:
    """Clean up the services that were made for a message."""
    scope = message.scope
    if scope is not None:
        message.scope = None
        scope.close()


def asked(retry: InstantRetryMark) -> Patience:
    """Return the patience that a marker, or the application, asks for."""
    times, listed, never = retry.times, retry.exceptions, retry.except_for
    return lambda error: times if is_repeated(error, listed, never) else 0


def retry_of(
    marked: Marked[HandlerMark], is_asynchronous: bool
) -> InstantRetryMark | None:
    """Return how often a handler is repeated at once, if it says so.

    :raises ConfigurationError: There is no unit of work to repeat.
    """
    if marked.said.kind is Kind.COMMAND or is_asynchronous:
        return marked.mark(InstantRetryMark)
    if marks_of(marked.function, InstantRetryMark):
        raise ConfigurationError(
            f"{marked.where} has @instant_retry, which repeats a whole unit of work,"
            " and only commands have one. Put it on the command that causes the"
            " message."
        )
    return None


def of_worker(retry: InstantRetryMark | None, around: Surroundings) -> Patience:
    """Return the patience of a worker: besides what is asked for, with lost races.

    Nobody waits for its answer who could decide to try again.
    """
    transaction, asks = around.transaction, asked(retry) if retry else None
    never = retry.except_for if retry else ()

    def times(error: BaseException) -> int:
        said = asks(error) if asks is not None else 0
        if said or is_one_of(error, never):
            return said
        return _IN_PASSING if is_lost_race(error, transaction) else 0

    return times


def is_lost_race(error: BaseException, transaction: Transaction | None) -> bool:
    """Whether others changed what was worked on: a new transaction would see that."""
    if is_one_of(error, ConcurrencyError):
        return True
    return transaction is not None and transaction.is_transient(error)


def retrying(flow: Flow, patience: Patience, around: Surroundings) -> Flow:
    """Return a flow that is tried again when it fails.

    Inside a unit of work it isn't: that is lost with the failure, and who began it
    tries again. Nor is it while the caller has unsaved changes, which the failure takes
    along.
    """
    transaction = around.transaction

    def attempt(message: Message) -> t.Any:
        if transaction is None:
            return flow(message)
        with transaction.attempt():
            return flow(message)

    def tried(message: Message) -> t.Any:
        if transaction is not None and not transaction.may_repeat():
            return flow(message)
        failed = 0
        run = flow
        while True:
            try:
                return run(message)
            except BaseException as error:
                failed, times = failed + 1, patience(error)
                if failed > times:
                    raise
                around.tell_of_retry(failed, times, error)
            close_scope(message)
            run = attempt

    return tried


def guarded(flow: Flow, cls: type, transaction: Transaction | None) -> Flow:
    """Return a flow that refuses payloads of a class that can't leave their session."""
    check = transaction.refuses(cls) if transaction else None
    if check is None:
        return flow

    def checked(message: Message) -> t.Any:
        check(message.payload)
        return flow(message)

    return checked
