"""Where a dynamic channel sends a message, and which channels it asks for messages.

The functions here are given by the configuration and are called for each application,
so that what they count is counted for one application only.
"""

from __future__ import annotations

import itertools
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import msgspec

from ..errors import MessageDeliveryError
from .protocols import Envelope
from .protocols import NULL_CHANNEL

#: Seconds for which an answer about receiving holds.
DECISION_LIFETIME: t.Final = 1.0

#: The names of the channels that get an envelope; ``None`` drops it.
Route: t.TypeAlias = Callable[[Envelope], Sequence[str | None]]


def rotating(names: Sequence[str]) -> Route:
    """Return a route that takes one channel after the other."""
    turns = itertools.count()

    def route(envelope: Envelope) -> Sequence[str]:
        return (names[next(turns) % len(names)],)

    return route


def everywhere(names: Sequence[str]) -> Route:
    """Return a route to all channels."""
    return lambda envelope: names


def headers_of(envelope: Envelope) -> dict[str, t.Any]:
    """Return the headers of an envelope, as JSON has them."""
    return t.cast(dict[str, t.Any], msgspec.json.decode(envelope.headers))


def by_header(
    channel: str, header: str, mapping: Mapping[t.Any, str] | None, default: str | None
) -> Route:
    """Return a route that a header decides on.

    :param channel: The channel that is routed; a header can't lead back to it.
    :param mapping: The channel for each value. Without it the value is the channel.
    :param default: The channel if there is no value, or one without a channel.
    """

    def route(envelope: Envelope) -> Sequence[str]:
        value = headers_of(envelope).get(header)
        chosen: str | None = None
        if mapping is None:
            if isinstance(value, str) and value != channel:
                chosen = value
        elif value.__hash__ is not None:
            chosen = mapping.get(value)
        if chosen is None:
            chosen = default
        if chosen is None:
            raise MessageDeliveryError(
                f"A message for {envelope.endpoint_id} can't be sent to the channel"
                f" {channel!r}: its header {header!r} is {value!r}, and there is no"
                " channel for that. Set the header, add the value to the mapping, or"
                " give by_header() a default."
            )
        return (chosen,)

    return route


def by_function(
    channel: str,
    choose: Callable[[dict[str, t.Any]], str | None],
    names: Sequence[str],
) -> Route:
    """Return a route that a function decides on, from the headers."""

    def route(envelope: Envelope) -> Sequence[str | None]:
        chosen = choose(headers_of(envelope))
        if chosen is not None and chosen not in (*names, NULL_CHANNEL):
            raise MessageDeliveryError(
                f"A message for {envelope.endpoint_id} can't be sent to the channel"
                f" {channel!r}: its function chose {chosen!r}, and the channels are"
                f" {', '.join(names)}. Return one of them, or None to drop the message."
            )
        return (chosen,)

    return route


class Admission(t.Protocol):
    """Decides which channels may be asked for messages just now."""

    def admits(self, name: str) -> bool:
        """Return whether to take messages from a channel."""
        ...

    def was_empty(self, name: str, tenant: str | None, of: int) -> None:
        """Take note that a source had nothing, one of so many of its channel."""
        ...

    def closed_for(self, name: str) -> float | None:
        """Return the seconds until a closed channel is asked about again."""
        ...


@dataclass(slots=True)
class Throttle:
    """Asks about each channel by itself, and keeps the answer for a short while."""

    decide: Callable[[str], bool]
    now: Callable[[], float]
    _answers: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def admits(self, name: str) -> bool:
        """Return whether the channel is open."""
        now = self.now()
        asked_at, answer = self._answers.get(name, (None, False))
        if asked_at is None or not _is_fresh(asked_at, now):
            answer = bool(self.decide(name))
            self._answers[name] = now, answer
        return answer

    def was_empty(self, name: str, tenant: str | None, of: int) -> None:
        """Do nothing: another channel isn't waiting for this one."""

    def closed_for(self, name: str) -> float | None:
        """Return the rest of the while."""
        asked_at, answer = self._answers.get(name, (0.0, True))
        return None if answer else _rest(asked_at, self.now())


@dataclass(slots=True)
class Turns:
    """Asks which channel has its turn.

    A turn lasts a short while, and ends early if the channel has nothing: an empty
    channel must not hold up the others.
    """

    choose: Callable[[], str | None]
    now: Callable[[], float]
    _chosen: str | None = None
    _asked_at: float | None = None
    _empty: set[str | None] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admits(self, name: str) -> bool:
        """Return whether it is the turn of the channel."""
        with self._lock:
            now = self.now()
            if self._asked_at is None or not _is_fresh(self._asked_at, now):
                self._chosen, self._asked_at = self.choose(), now
                self._empty.clear()
            return self._chosen == name

    def was_empty(self, name: str, tenant: str | None, of: int) -> None:
        """End the turn if all sources of the channel had nothing."""
        with self._lock:
            if self._chosen == name:
                self._empty.add(tenant)
                if len(self._empty) >= of:
                    self._asked_at = None

    def closed_for(self, name: str) -> float | None:
        """Return the rest of the turn, if another channel has it."""
        with self._lock:
            if self._asked_at is None or self._chosen == name:
                return None
            return _rest(self._asked_at, self.now())


def _is_fresh(asked_at: float, now: float) -> bool:
    # A clock that was set back must not prolong an answer.
    return asked_at <= now < asked_at + DECISION_LIFETIME


def _rest(asked_at: float, now: float) -> float:
    return min(max(asked_at + DECISION_LIFETIME - now, 0.0), DECISION_LIFETIME)
