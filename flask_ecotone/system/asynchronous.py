"""The way into a channel: what a bus reaches of an asynchronous endpoint."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..channels.abilities import ABILITIES
from ..channels.abilities import lacking
from ..channels.abilities import refuse_unable
from ..channels.protocols import Capability
from ..channels.protocols import Channel
from ..channels.protocols import Outbox
from ..channels.protocols import Post
from ..decorators.deduplication import DeduplicatedMark
from ..definitions import AsynchronousMark
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import HandlerMark
from ..definitions import HeaderMark
from ..definitions import Kind
from ..definitions import Mark
from ..definitions import marks_of
from ..definitions import PriorityMark
from ..definitions import TenantResolverMark
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..handling.interceptors import Interception
from ..handling.writing import Writing
from ..message import DELIVERY_DELAY
from ..message import Message
from ..message import PRIORITY
from ..message import TIME_TO_LIVE


class Channels:
    """The channels of one system.

    :param opened: Channel name → channel.
    :param hops: Name of a combined channel → the channels it stands for.
    """

    def __init__(
        self,
        opened: dict[str, Channel],
        outbox: Outbox,
        hops: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._opened = opened
        self._hops = hops or {}
        self.outbox = outbox

    @property
    def names(self) -> list[str]:
        """The names of the channels, combined ones not included."""
        return list(self._opened)

    def is_known(self, name: str) -> bool:
        """Whether there is a channel, or a combined one, of a name."""
        return name in self._opened or name in self._hops

    def hops_of(self, name: str) -> tuple[str, ...]:
        """Return what a combined channel stands for; nothing for another name."""
        return self._hops.get(name, ())

    def get(self, name: str) -> Channel:
        """Return a channel.

        :raises ConfigurationError: There is none of that name.
        """
        found = self._opened.get(name)
        if found is None:
            known = [*self._opened, *self._hops]
            raise ConfigurationError(
                f"There is no channel {name!r}.{did_you_mean(name, known)} Give Ecotone"
                f" one, for example channels=[DatabaseChannel({name!r})]."
            )
        return found

    def route(self, said: AsynchronousMark, endpoint_id: str, where: str) -> list[str]:
        """Return the channels that the messages of an endpoint pass, in order.

        :raises ConfigurationError: One of them isn't there.
        """
        names = [hop for name in said.channels for hop in self._hops.get(name, (name,))]
        for name in names:
            if name not in self._opened:
                known = [*self._opened, *self._hops]
                raise ConfigurationError(
                    f"Registered asynchronous endpoint '{endpoint_id}' ({where}),"
                    f" however channel configuration for '{name}' was not provided."
                    f"{did_you_mean(name, known)} Give Ecotone the channel, for example"
                    f" channels=[DatabaseChannel({name!r})]."
                )
        return names


@dataclass(frozen=True, slots=True)
class Entrance:
    """Writes the messages of an endpoint and sends them to its first channel.

    :param sending: What intercepts before a message is sent.
    :param slip: The channels after the first one.
    """

    endpoint_id: str
    channel: Channel
    slip: tuple[str, ...]
    sending: Interception
    writing: Writing
    outbox: Outbox
    #: How important its messages are that don't say so themselves.
    priority: int = 0
    #: What its channels can't do, each with the channel that can't.
    lacks: dict[Capability, str] = field(default_factory=dict)
    #: Headers that every message gets.
    headers: Mapping[str, t.Any] | None = None
    #: Raises what the handler would raise for a message that says too little.
    check: Callable[[Message], object] | None = None

    def __call__(self, message: Message) -> None:
        """Send a message."""
        post = self.post(message)
        if post is not None:
            self.outbox.put([post])

    def post(self, message: Message) -> Post | None:
        """Return a message in writing; ``None`` if an interceptor stopped it.

        :raises MessageDeliveryError: It asks for what its channels can't do.
        :raises IdentifierMissingError: It doesn't say which aggregate it is for.
        :raises ConversionError: It couldn't be read.
        """
        entered = self.sending.enter(message)
        if entered is None:
            return None
        if self.headers is not None:
            entered = entered.with_headers(self.headers)
        if self.check is not None:
            self.check(entered)
        envelope = self.writing.write(entered, self.endpoint_id, self.slip)
        if self.priority and entered.header(PRIORITY) is None:
            envelope = replace(envelope, priority=self.priority)
        if self.lacks:
            refuse_unable(envelope, self.lacks)
        return self.channel, envelope


def check_asynchronous(
    marked: Marked[HandlerMark], said: AsynchronousMark | None
) -> None:
    """Refuse marks that would have no effect.

    :raises ConfigurationError: There is one.
    """
    _check_no_resolver(marked)
    if marked.said.kind is Kind.QUERY and marks_of(marked.function, AsynchronousMark):
        raise ConfigurationError(
            f"{marked.where} is an asynchronous query handler, and a query is answered"
            " at once. Remove @asynchronous, or make it a command handler."
        )
    if said is None:
        for kind, name in _RECOVERIES:
            if marks_of(marked.function, kind):
                raise ConfigurationError(
                    f"{marked.where} has @{name}, which is about messages that a worker"
                    " handles, and it is not asynchronous: its caller gets the error."
                    " Add @asynchronous, or remove the marker."
                )
        for header in marks_of(marked.function, HeaderMark):
            if header.name in (DELIVERY_DELAY, TIME_TO_LIVE):
                raise ConfigurationError(
                    f"{marked.where} has {_NAMES[header.name]}, which is about messages"
                    " that a worker handles, and it is not asynchronous: it runs at"
                    " once. Add @asynchronous, or remove the marker."
                )


def _check_no_resolver(marked: Marked[HandlerMark]) -> None:
    if marked.mark(TenantResolverMark) is not None:
        raise ConfigurationError(
            f"{marked.where} has @with_tenant_resolver and is no inbound channel"
            " adapter. Messages of Internal Message Channels carry their tenant in"
            " the tenant header: send it as metadata."
        )


def check_abilities(
    marked: Marked[HandlerMark],
    recovery: DelayedRetryMark | ErrorChannelMark | None,
    route: Sequence[Channel],
) -> dict[Capability, str]:
    """Return what the channels of an endpoint can't do.

    :param route: The channels that its messages pass.
    :raises ConfigurationError: Its marks ask for that.
    """
    lacks = lacking(route)
    asked = {said.name: _NAMES.get(said.name, "") for said in marked.marks(HeaderMark)}
    if marked.mark(PriorityMark) is not None:
        asked[PRIORITY] = _NAMES[PRIORITY]
    for header, name in asked.items():
        ability = ABILITIES.get(header)
        if ability in lacks:
            raise _unable(marked, name, lacks[ability], ability)
    last = route[-1]
    if isinstance(recovery, DelayedRetryMark) and recovery.retry.initial > 0:
        if Capability.DELAY not in last.capabilities:
            raise _unable(marked, "@delayed_retry", last.name, Capability.DELAY)
    return lacks


def _unable(
    marked: Marked[HandlerMark], name: str, channel: str, ability: Capability
) -> ConfigurationError:
    return ConfigurationError(
        f"{marked.where} has {name}, and its channel {channel!r} lacks"
        f" Capability.{ability.name}, which that takes. Remove {name}, or give the"
        f" handler a channel that can, such as DatabaseChannel({channel!r})."
    )


_NAMES = {
    DELIVERY_DELAY: "@delayed",
    TIME_TO_LIVE: "@time_to_live",
    PRIORITY: "@priority",
}


def check_deduplicated(
    marked: Marked[HandlerMark], action: Marked[HandlerMark] | None
) -> None:
    """Refuse what can't be handled once as it is marked.

    :param action: The other handler of the same message, if an aggregate has two.
    :raises ConfigurationError: It can't.
    """
    kind, said = marked.said.kind, marked.mark(DeduplicatedMark)
    if kind is Kind.QUERY and marks_of(marked.function, DeduplicatedMark):
        raise ConfigurationError(
            f"{marked.where} is a query handler with @deduplicated, and a query changes"
            " nothing: ask it as often as you like. Remove the marker."
        )
    if said is None and action is not None and action.mark(DeduplicatedMark):
        raise ConfigurationError(
            f"{action.where} has @deduplicated, and {marked.where}, which takes the"
            " same message, hasn't. The marker of the factory method is for both: move"
            " it there."
        )
    if said is None or said.on_duplicate != "return_cached" or kind is Kind.QUERY:
        return
    if kind is Kind.EVENT or marked.mark(AsynchronousMark) is not None:
        raise ConfigurationError(
            f"{marked.where} has @deduplicated(on_duplicate='return_cached'), and"
            " nobody waits for what it returns. Use 'skip'."
        )


_RECOVERIES: tuple[tuple[type[Mark], str], ...] = (
    (DelayedRetryMark, "delayed_retry"),
    (ErrorChannelMark, "error_channel"),
)


def recovery_of(
    marked: Marked[HandlerMark], execution: tuple[Mark, ...]
) -> DelayedRetryMark | ErrorChannelMark | None:
    """Return what a handler says about failed messages.

    :raises ConfigurationError: It says two things.
    """
    function = marked.function
    own = (*marks_of(function, DelayedRetryMark), *marks_of(function, ErrorChannelMark))
    all_ = (*marked.marks(DelayedRetryMark), *marked.marks(ErrorChannelMark))
    return nearest_recovery(marked.where, execution, own, all_)


def nearest_recovery(
    where: str, *said: Iterable[Mark]
) -> DelayedRetryMark | ErrorChannelMark | None:
    """Return the first mark about failed messages.

    :param said: Marks, the nearest first.
    :raises ConfigurationError: Two that are equally near say two things.
    """
    for marks in said:
        found = [
            m for m in marks if isinstance(m, (DelayedRetryMark, ErrorChannelMark))
        ]
        if len({type(each) for each in found}) > 1:
            raise ConfigurationError(
                f"{where} has both @delayed_retry and @error_channel. Keep one:"
                " @delayed_retry(dead_letter=…) names a channel, too."
            )
        if found:
            return found[0]
    return None
