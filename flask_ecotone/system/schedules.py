"""Schedules: compiled once, fired with headers and in a unit of work."""

from __future__ import annotations

import datetime
import inspect
import typing as t
from collections.abc import Callable

from ..channels.protocols import NULL_CHANNEL
from ..conversion import compile_expression
from ..decorators.deduplication import DeduplicatedMark
from ..decorators.parameters import Payload
from ..decorators.pointcuts import EndpointMark
from ..definitions import AggregateMark
from ..definitions import AsynchronousMark
from ..definitions import inherited_mark_of
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import mark_of
from ..definitions import PollerMark
from ..definitions import ScheduledMark
from ..definitions import TenantResolverMark
from ..definitions import WithoutTransactionMark
from ..discovery import Catalogue
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import DuplicateHandlerError
from ..errors import HandlerSignatureError
from ..errors import TenancyError
from ..errors import TickBusyError
from ..handling.arguments import arguments
from ..handling.arguments import plan
from ..handling.calls import late_bound
from ..handling.calls import positional
from ..handling.evaluation import evaluation
from ..handling.evaluation import Resolution
from ..handling.flows import target_of
from ..handling.interceptors import Interception
from ..handling.interceptors import Interceptors
from ..handling.pointcuts import JoinPoint
from ..message import DUE_AT
from ..message import Message
from ..reflection import reflect
from ..reflection import Signature
from ..reflection import type_name
from ..storage.protocols import Transaction
from .endpoint import Flow
from .endpoint import ScheduledEndpoint
from .surroundings import in_context
from .surroundings import is_lost_race
from .surroundings import of_worker
from .surroundings import retrying
from .surroundings import Surroundings
from .surroundings import through
from .system import MessagingSystem


class FailedFiringError(Exception):
    """A firing failed for good, for its cause, and its tick is done with."""


#: Told of what is sent to an output channel.
Spy = Callable[[str, Message], None]
_EXAMPLE: t.Final = '@scheduled(cron="*/5 * * * *")'


def compile_schedules(
    catalogue: Catalogue,
    system: MessagingSystem,
    around: Surroundings,
    resolution: Resolution,
    interceptors: Interceptors,
    spy: Spy | None,
) -> dict[str, ScheduledEndpoint]:
    """Return the schedules of an application by their ids.

    :raises ConfigurationError: One of them can't work as it is marked.
    """
    for poller in catalogue.pollers:
        if mark_of(poller.function, ScheduledMark) is None:
            raise ConfigurationError(
                f"{poller.where} has @poller, which says when a schedule runs, and is"
                f" none. Add {_EXAMPLE}, or remove @poller."
            )
    compiler = _Compiler(system, around, resolution, interceptors, spy)
    schedules: dict[str, ScheduledEndpoint] = {}
    for marked in catalogue.scheduled:
        schedule = compiler.compile(marked)
        other = schedules.setdefault(schedule.id, schedule)
        if other is not schedule:
            raise DuplicateHandlerError(
                f"Two schedules have the id {schedule.id!r}: {other.marked.where} and"
                f" {marked.where}. Give one of them another."
            )
    return schedules


class _Compiler:
    def __init__(
        self,
        system: MessagingSystem,
        around: Surroundings,
        resolution: Resolution,
        interceptors: Interceptors,
        spy: Spy | None,
    ) -> None:
        self._system = system
        self._around = around
        self._resolution = resolution
        self._interceptors = interceptors
        self._spy = spy

    def compile(self, marked: Marked[ScheduledMark]) -> ScheduledEndpoint:
        said, poller = marked.said, mark_of(marked.function, PollerMark)
        timing = (poller and poller.timing) or said.timing
        if timing is None:
            raise ConfigurationError(
                f"{marked.where} is scheduled, and nothing says when. Write {_EXAMPLE}"
                " or @scheduled(every=timedelta(minutes=5))."
            )
        signature = reflect(marked.function, marked.owner)
        _check(marked, signature)
        errors = poller.error_channel if poller else None
        if errors is not None and errors != NULL_CHANNEL:
            self._system.listener(errors, marked.where)
        delay = poller.initial_delay if poller else None
        is_transactional = marked.mark(WithoutTransactionMark) is None
        return ScheduledEndpoint(
            id=said.endpoint_id or marked.qualified_name,
            marked=marked,
            timing=timing,
            misfire=said.misfire,
            interceptors=self._interception(marked).names,
            initial_delay=said.initial_delay if delay is None else delay,
            error_channel=errors,
            is_transactional=is_transactional,
            fire=self._fire(marked, self._call(marked, signature), is_transactional),
            for_tenant=self._for_tenant(marked),
        )

    def _fire(
        self, marked: Marked[ScheduledMark], call: Flow, is_transactional: bool
    ) -> Callable[[datetime.datetime, Callable[[], bool]], bool]:
        around = self._around
        transaction = around.transaction if is_transactional else None
        asked = of_worker(marked.mark(InstantRetryMark) or around.retry, around)
        tenant_of = self._tenant_of(marked)

        def patience(error: BaseException) -> int:
            is_over = isinstance(error, (FailedFiringError, TickBusyError))
            return 0 if is_over else asked(error)

        def fire(due_at: datetime.datetime, take: Callable[[], bool]) -> bool:
            attempts, is_taken = 0, False

            def apart(message: Message) -> bool:
                nonlocal is_taken
                # What is taken for good isn't taken again by a further attempt.
                is_taken = is_taken or take()
                if is_taken:
                    call(message)
                return is_taken

            def joined(message: Message) -> bool:
                assert transaction is not None
                # The tick is ours as long as this transaction lasts, with all attempts.
                with transaction.batch():
                    if not transaction.run(None, take):
                        return False
                    failed = tried(message, transaction)
                # The tick is done with, in the transaction that kept others from it.
                if failed is not None:
                    raise FailedFiringError from failed
                return True

            def tried(message: Message, transaction: Transaction) -> Exception | None:
                nonlocal attempts
                while True:
                    attempts += 1
                    try:
                        with transaction.attempt():
                            transaction.run(None, lambda: call(message))
                        return None
                    except Exception as error:
                        if transaction.is_outage(error):
                            raise
                        times = patience(error)
                        if attempts > times:
                            return error
                        if is_lost_race(error, transaction):
                            raise
                        around.tell_of_retry(attempts, times, error)

            flow: Flow = apart if transaction is None else joined
            if around.outbox is not None:
                flow = around.outbox.collecting(flow)
            flow = retrying(around.for_tenant(flow), patience, around)
            message = tenant_of(around.message(None, {DUE_AT: due_at}))
            return t.cast(bool, in_context(around.context, message, flow))

        return fire

    def _for_tenant(
        self, marked: Marked[ScheduledMark]
    ) -> Callable[[Callable[[], t.Any]], t.Any]:
        around, tenant_of = self._around, self._tenant_of(marked)
        if around.tenancy is None:
            return lambda call: call()

        def run(call: Callable[[], t.Any]) -> t.Any:
            message = tenant_of(around.message(None, None))
            flow = around.for_tenant(lambda _: call())
            return in_context(around.context, message, flow)

        return run

    def _interception(self, marked: Marked[ScheduledMark]) -> Interception:
        markers = tuple(said.marker for said in marked.marks(EndpointMark))
        return self._interceptors.of(
            JoinPoint(marked.function, marked.owner, Kind.SCHEDULED, markers)
        )

    def _call(self, marked: Marked[ScheduledMark], signature: Signature) -> Flow:
        resolution, context = self._resolution, self._around.context
        interception = self._interception(marked)
        try:
            planned = plan(signature, resolution, has_payload=False)
        except HandlerSignatureError as error:
            raise HandlerSignatureError(
                f"A schedule takes no message, only services, headers and configuration"
                f" variables. {error}"
            ) from error
        make = arguments(signature, planned)
        function = positional(late_bound(marked, resolution.services), signature)
        call = interception.surround(make, lambda _, made: function(*made))
        target = target_of(marked, resolution) if interception.around else None
        send = self._output(marked)

        def handle(message: Message) -> t.Any:
            return call(message, target and target())

        def run(message: Message) -> None:
            result = through(interception, context, message, lambda _: handle)
            if send is not None and result is not None:
                send(result)

        return run

    def _output(
        self, marked: Marked[ScheduledMark]
    ) -> Callable[[t.Any], object] | None:
        name, system, spy = marked.said.output_channel, self._system, self._spy
        if name is None or name == NULL_CHANNEL:
            return None
        listener = system.listener(name, marked.where)

        def send(result: t.Any) -> None:
            if spy is not None:
                spy(name, self._around.message(result, None))
            system.send_to(listener(), result, None)

        return send

    def _tenant_of(self, marked: Marked[ScheduledMark]) -> Callable[[Message], Message]:
        said, tenancy = marked.mark(TenantResolverMark), self._around.tenancy
        if said is None or tenancy is None:
            return lambda message: message
        where = f"{marked.where}, @with_tenant_resolver"
        resolve = compile_expression(said.expression, where)
        header = tenancy.header

        def resolved(message: Message) -> Message:
            tenant = resolve(evaluation(message, self._resolution))
            if tenant is None:
                return message
            if isinstance(tenant, bool) or not isinstance(tenant, (str, int)):
                raise TenancyError(
                    f"WithTenantResolver expression for tenant header {header!r} must"
                    f" evaluate to string|int|null, got {type_name(type(tenant))}."
                    f" It is that of {marked.where}."
                )
            return message.with_headers({header: str(tenant)})

        return resolved


def _check(marked: Marked[ScheduledMark], signature: Signature) -> None:
    where, owner = marked.where, marked.owner
    if len(marked.qualified_name) > 255 and marked.said.endpoint_id is None:
        raise ConfigurationError(
            f"The name of the schedule {where} is too long to be kept with its ticks."
            " Give it an endpoint_id."
        )
    if inspect.isgeneratorfunction(marked.plain):
        raise HandlerSignatureError(
            f"The schedule {where} yields, so that calling it runs none of it. Return a"
            " value, for example a list."
        )
    if marked.mark(AsynchronousMark) is not None:
        raise ConfigurationError(
            f"The schedule {where} has @asynchronous. A worker runs it anyway: remove"
            " one of the two, or give it an output_channel whose handler is"
            " asynchronous."
        )
    if marked.mark(DeduplicatedMark) is not None:
        raise ConfigurationError(
            f"The schedule {where} has @deduplicated. Each of its ticks is fired once"
            " anyway: remove the marker."
        )
    if owner is not None and not marked.is_on_class:
        if inherited_mark_of(owner, AggregateMark) or hasattr(owner, "__mapper__"):
            raise HandlerSignatureError(
                f"The schedule {where} is a method of a model, and nothing says of"
                " which one. Make it a function that sends commands to the models."
            )
    for parameter in signature.parameters:
        if parameter.marker(Payload) is not None:
            raise HandlerSignatureError(
                f"The schedule {where} takes a payload, {parameter.name!r}, and no"
                " message causes it. Remove the parameter; services, headers and"
                " configuration variables are fine."
            )
