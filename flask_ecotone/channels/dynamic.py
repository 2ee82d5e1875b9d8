"""Channels that choose among others while the application runs."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from ..errors import ConfigurationError
from .opening import ChannelSurroundings
from .protocols import Channel
from .protocols import ChannelConfiguration
from .protocols import NULL_CHANNEL
from .routed import RoutedChannel
from .routes import Admission
from .routes import by_function
from .routes import by_header
from .routes import everywhere
from .routes import rotating
from .routes import Route
from .routes import Throttle
from .routes import Turns

#: A channel of the application by its name, or one that nobody else knows.
SubChannel: t.TypeAlias = str | ChannelConfiguration


def _nowhere() -> Route:
    return rotating(())


def _always(now: Callable[[], float]) -> Admission | None:
    return None


@dataclass(frozen=True, slots=True)
class DynamicChannel:
    """A channel that chooses among others, for each message it is sent.

    Make one with :meth:`round_robin`, :meth:`by_header`, :meth:`throttled`,
    :meth:`send_only` or :meth:`custom`. The others are given by name, or as
    configurations: then they belong to this channel, and nobody else can send to them.

    What the channel can do is what all that it sends to can do. Order is kept within
    each of them only.

    :param name: The name of the channel.
    :param sending: The names of the channels that it sends to.
    :param receiving: The names of the channels that its worker takes messages from.
    :param internal: The channels that belong to it.
    :param start_route: Returns what chooses a channel to send to, for an application.
    :param start_admission: Returns what chooses the channels to receive from, or
        ``None`` for all of them.
    """

    name: str
    sending: tuple[str, ...]
    receiving: tuple[str, ...]
    internal: tuple[ChannelConfiguration, ...] = ()
    start_route: Callable[[], Route] = _nowhere
    start_admission: Callable[[Callable[[], float]], Admission | None] = _always

    def __post_init__(self) -> None:
        internal = [each.name for each in self.internal]
        for name in internal:
            if internal.count(name) > 1:
                raise ConfigurationError(
                    f"The dynamic channel {self.name!r} has two internal channels"
                    f" named {name!r}. Give each of them a name of its own."
                )
        if self.name in self.references:
            raise ConfigurationError(
                f"The dynamic channel {self.name!r} is one of its own channels. Give it"
                " another name, or the configuration of the channel in place of the"
                " name."
            )

    @classmethod
    def round_robin(
        cls,
        name: str,
        channels: Sequence[SubChannel] = (),
        sending: Sequence[SubChannel] | None = None,
        receiving: Sequence[SubChannel] | None = None,
    ) -> t.Self:
        """Send to, and receive from, one channel after the other.

        :param channels: The channels.
        :param sending: The channels to send to, if not to all of them.
        :param receiving: The channels to receive from, if not from all of them.
        """
        senders = channels if sending is None else sending
        receivers = channels if receiving is None else receiving
        names = _names(senders)
        if not names:
            raise _no_channels(name, "round_robin")
        internal = _internal([*channels, *senders, *receivers])
        return cls(name, names, _names(receivers), internal, lambda: rotating(names))

    @classmethod
    def by_header(
        cls,
        name: str,
        header: str,
        mapping: Mapping[t.Any, SubChannel] | None = None,
        default: SubChannel | None = None,
    ) -> t.Self:
        """Let a header choose the channel to send to.

        It receives from all channels of the mapping and from the default one.

        :param header: The name of the header.
        :param mapping: The channel for each value, as the value is in JSON. Without a
            mapping the value is the name of a channel of the application, and its
            messages are taken by the worker of that channel.
        :param default: The channel if a message hasn't the header, or a value that the
            mapping hasn't. Without it such a message is refused.
        """
        channels = [*(mapping or {}).values(), *([] if default is None else [default])]
        names = _names(channels)
        if mapping is not None and not mapping and default is None:
            raise _no_channels(name, "by_header")
        by_value = (
            None
            if mapping is None
            else {value: _name(each) for value, each in mapping.items()}
        )
        otherwise = None if default is None else _name(default)
        route = by_header(name, header, by_value, otherwise)
        return cls(name, names, names, _internal(channels), lambda: route)

    @classmethod
    def throttled(
        cls,
        name: str,
        channels: Sequence[SubChannel],
        decide: Callable[[str], bool],
    ) -> t.Self:
        """Take messages from a channel only while a function says so.

        It sends to one channel after the other.

        :param decide: Gets the name of a channel and returns whether messages may be
            taken from it. The answer holds for a second.
        """
        return replace(
            cls.round_robin(name, channels),
            start_admission=lambda now: Throttle(decide, now),
        )

    @classmethod
    def send_only(cls, channel: ChannelConfiguration) -> t.Self:
        """Only send to a channel, which another application receives from.

        :param channel: The channel. The dynamic channel has its name.
        """
        names = (channel.name,)
        return cls(channel.name, names, (), (channel,), lambda: rotating(names))

    @classmethod
    def custom(
        cls,
        name: str,
        send: Callable[[dict[str, t.Any]], str | None] | None = None,
        receive: Callable[[], str | None] | None = None,
        *,
        channels: Sequence[SubChannel],
    ) -> t.Self:
        """Let functions choose the channels.

        :param send: Gets the headers of a message and returns the name of the channel
            to send it to. ``None`` drops the message. Without a function it is sent to
            one channel after the other.
        :param receive: Returns the name of the channel to receive from, ``None`` for a
            pause. It is asked again after a second, or once the channel is empty.
            Without a function all of them are received from.
        :param channels: The channels that there are to choose from.
        """
        made = cls.round_robin(name, channels)
        if send is not None:
            route = by_function(name, send, made.sending)
            made = replace(made, start_route=lambda: route)
        if receive is not None:
            choose = receive
            made = replace(made, start_admission=lambda now: Turns(choose, now))
        return made

    @property
    def references(self) -> tuple[str, ...]:
        """The names of the channels that the application must have."""
        own = {each.name for each in self.internal}
        return tuple(
            n for n in _unique([*self.sending, *self.receiving]) if n not in own
        )

    def open(self, surroundings: ChannelSurroundings) -> RoutedChannel:
        """Return the channel of an application, with internal channels of its own."""
        return RoutedChannel(
            self.name,
            self.sending,
            self.receiving,
            _finder(self.internal, surroundings),
            self.start_route(),
            self.start_admission(surroundings.now),
            surroundings.logger,
        )


@dataclass(frozen=True, slots=True)
class PublishSubscribeChannel:
    """A channel that hands on a copy of each message to every one of its channels.

    The copies share the id of the message. If one application receives several of
    them, its handler runs for the first, and the others are duplicates.

    :param name: The name of the channel.
    :param channels: The channels, by name or as configurations.
    """

    name: str
    channels: Sequence[SubChannel]

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not _names(self.channels):
            raise ConfigurationError(
                f"PublishSubscribeChannel({self.name!r}) has no channels. Name those"
                " that get the copies."
            )
        self.as_dynamic()

    @property
    def references(self) -> tuple[str, ...]:
        """The names of the channels that the application must have."""
        return self.as_dynamic().references

    @property
    def internal(self) -> tuple[ChannelConfiguration, ...]:
        """The channels that belong to it."""
        return _internal(self.channels)

    def open(self, surroundings: ChannelSurroundings) -> RoutedChannel:
        """Return the channel of an application."""
        return self.as_dynamic().open(surroundings)

    def as_dynamic(self) -> DynamicChannel:
        """Return the dynamic channel that does the work."""
        names = _names(self.channels)
        internal = _internal(self.channels)
        return DynamicChannel(
            self.name, names, names, internal, lambda: everywhere(names)
        )


def _finder(
    internal: Iterable[ChannelConfiguration], surroundings: ChannelSurroundings
) -> Callable[[str], Channel]:
    # The other channels are looked up when they are needed: they may be opened later.
    own: dict[str, Channel] = {}

    def find(name: str) -> Channel:
        return own[name] if name in own else surroundings.channel(name)

    for each in internal:
        own[each.name] = each.open(surroundings)
    return find


def _name(channel: SubChannel) -> str:
    return channel if isinstance(channel, str) else channel.name


def _names(channels: Iterable[SubChannel]) -> tuple[str, ...]:
    named = _unique(_name(each) for each in channels)
    return tuple(name for name in named if name != NULL_CHANNEL)


def _internal(channels: Iterable[SubChannel]) -> tuple[ChannelConfiguration, ...]:
    found: list[ChannelConfiguration] = []
    for each in channels:
        if not isinstance(each, str) and each not in found:
            found.append(each)
    return tuple(found)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _no_channels(name: str, factory: str) -> ConfigurationError:
    return ConfigurationError(
        f"DynamicChannel.{factory}({name!r}) has no channel to send to. Name at least"
        " one."
    )
