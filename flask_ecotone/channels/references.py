"""Whether the channels of an application fit together."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import UnknownChannelError
from .combined import CombinedChannel
from .database import DatabaseChannel
from .dynamic import DynamicChannel
from .dynamic import PublishSubscribeChannel
from .protocols import ChannelConfiguration


def check_channels(
    configurations: Iterable[ChannelConfiguration | CombinedChannel],
) -> None:
    """Check the names of channels, and those by which they mention others.

    :raises ConfigurationError: Two have the same name, a chain goes through a chain, or
        a channel sends to itself in the end.
    :raises UnknownChannelError: A channel is mentioned that there isn't.
    """
    known: dict[str, ChannelConfiguration | CombinedChannel] = {}
    for each in configurations:
        if each.name in known:
            raise ConfigurationError(
                f"Two channels are named {each.name!r}: {known[each.name]!r} and"
                f" {each!r}. Give each channel a name of its own."
            )
        known[each.name] = each
    mentioned = {name: _mentioned_by(each) for name, each in known.items()}
    for name, others in mentioned.items():
        for other in others:
            _check_mention(known[name], other, known)
    for name in mentioned:
        _check_end(name, mentioned, ())


def with_internal(configurations: Iterable[t.Any]) -> Iterator[t.Any]:
    """Yield configurations of channels, each with those that belong to it."""
    for each in configurations:
        yield each
        yield from with_internal(getattr(each, "internal", ()))


def database_channels(configurations: Iterable[t.Any]) -> list[DatabaseChannel]:
    """Return those that are rows in a database, wherever they belong to."""
    listed = with_internal(configurations)
    return [each for each in listed if isinstance(each, DatabaseChannel)]


def error_channels(configurations: Iterable[t.Any]) -> Iterator[tuple[str, str]]:
    """Yield channels by name, with the error channel of what comes from them."""
    for each in with_internal(configurations):
        name = getattr(each, "error_channel", None)
        if name is not None:
            yield each.name, name


def is_channel(given: t.Any) -> bool:
    """Whether something configures a channel."""
    if isinstance(given, CombinedChannel):
        return True
    return hasattr(given, "name") and callable(getattr(given, "open", None))


def _mentioned_by(channel: object) -> Sequence[str]:
    if isinstance(channel, CombinedChannel):
        return channel.channels
    if isinstance(channel, PublishSubscribeChannel):
        channel = channel.as_dynamic()
    if isinstance(channel, DynamicChannel):
        # An internal dynamic channel looks for its channels in the application.
        inner = [name for each in channel.internal for name in _mentioned_by(each)]
        return [*channel.references, *inner]
    return ()


def _check_mention(
    channel: ChannelConfiguration | CombinedChannel,
    other: str,
    known: Mapping[str, ChannelConfiguration | CombinedChannel],
) -> None:
    if other not in known:
        raise UnknownChannelError(
            f"The channel {channel.name!r} is made of {other!r}, and there is no such"
            f" channel.{did_you_mean(other, known)} Add it to channels=[…] of Ecotone."
        )
    if isinstance(known[other], CombinedChannel):
        raise ConfigurationError(
            f"The channel {channel.name!r} is made of {other!r}, which is a name for a"
            " chain of channels. Name the channels of the chain in its place."
        )


def _check_end(
    name: str, mentioned: Mapping[str, Sequence[str]], path: tuple[str, ...]
) -> None:
    if name in path:
        loop = " → ".join([*path[path.index(name) :], name])
        raise ConfigurationError(
            f"The channel {name!r} sends to itself in the end: {loop}. Take one of"
            " these steps out."
        )
    for other in mentioned[name]:
        _check_end(other, mentioned, (*path, name))
