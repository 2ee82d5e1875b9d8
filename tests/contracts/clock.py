"""Time that passes when a test says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from dataclasses import field

from flask_ecotone.channels.opening import ChannelSurroundings
from flask_ecotone.channels.protocols import Channel
from flask_ecotone.channels.protocols import ChannelConfiguration
from flask_ecotone.testing.contracts import ChannelContract


@dataclass
class Clock:
    """A clock that only moves when it is moved."""

    time: float = 1_700_000_000.0

    def now(self) -> float:
        """The time in seconds since the epoch."""
        return self.time

    def move(self, seconds: float) -> None:
        """Let seconds pass; negative ones set the clock back."""
        self.time += seconds


@dataclass
class House:
    """The channels of one application, opened when they are looked for."""

    configurations: list[ChannelConfiguration]
    clock: Clock = field(default_factory=Clock)
    opened: dict[str, Channel] = field(default_factory=dict)

    def channel(self, name: str) -> Channel:
        """The channel with a name."""
        if name not in self.opened:
            (found,) = [each for each in self.configurations if each.name == name]
            self.opened[name] = found.open(self.surroundings)
        return self.opened[name]

    @property
    def surroundings(self) -> ChannelSurroundings:
        """What its channels are opened with."""
        logger = logging.getLogger("tests.contracts")
        return ChannelSurroundings(self.clock.now, self.channel, logger)


class MovedClockContract(ChannelContract):
    """The contract for a channel that asks a clock of ours."""

    @property
    def clock(self) -> Clock:
        """The clock of this test: pytest makes an instance for each."""
        return self.__dict__.setdefault("_clock", Clock())

    def now(self) -> float:
        return self.clock.now()

    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)
