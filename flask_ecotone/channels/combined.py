"""A name for a chain of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CombinedChannel:
    """A name for channels that a message goes through, one after the other.

    The worker of each channel hands the message on to the next one, and the handler
    runs at the last. The first is commonly an outbox, that is, a database channel.

    It isn't a channel itself: there is no worker of this name.

    :param name: What ``@asynchronous`` calls the chain.
    :param channels: The names of the channels, in order.
    """

    name: str
    channels: Sequence[str]

    def __post_init__(self) -> None:
        what = f"CombinedChannel({self.name!r}, {self.channels!r})"
        if isinstance(self.channels, str):
            raise ConfigurationError(
                f"{what} has a string for its channels. Give it a list of names."
            )
        channels = tuple(self.channels)
        if len(channels) < 2 or len(set(channels)) < len(channels):
            raise ConfigurationError(
                f"{what} isn't a chain. Give it the names of at least two channels,"
                " each of them once."
            )
        if self.name in channels:
            raise ConfigurationError(
                f"{what} goes through itself. Give the chain a name of its own."
            )
        object.__setattr__(self, "channels", channels)
