"""The way into a channel: what a bus reaches of an asynchronous endpoint."""

from __future__ import annotations

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
from ..definitions import AsynchronousMark
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import HandlerMark
from ..definitions import HeaderMark
from ..definitions import Kind
from ..definitions import Mark
from ..definitions import marks_of
from ..definitions import PriorityMark
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

    def __call__(self, message: Message) -> None:
        """Send a message."""
        post = self.post(message)
        if post is not None:
            self.outbox.put([post])

    def post(self, message: Message) -> Post | None:
        """Return a message in writing; ``None`` if an interceptor stopped it.

        :raises MessageDeliveryError: It asks for what its channels can't do.
        """
        entered = self.sending.enter(message)
        if entered is None:
            return None
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
    found: list[DelayedRetryMark | ErrorChannelMark] = [
        each
        for each in execution
        if isinstance(each, (DelayedRetryMark, ErrorChannelMark))
    ]
    if not found:
        found += marks_of(marked.function, DelayedRetryMark)
        found += marks_of(marked.function, ErrorChannelMark)
    if not found:
        found += marked.marks(DelayedRetryMark)
        found += marked.marks(ErrorChannelMark)
    if len({type(each) for each in found}) > 1:
        raise ConfigurationError(
            f"{marked.where} has both @delayed_retry and @error_channel. Keep one:"
            " @delayed_retry(dead_letter=…) names a channel, too."
        )
    return found[0] if found else None
