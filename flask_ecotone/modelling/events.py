"""Events that an aggregate records while it is handled."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

#: Where recorded events wait on the instance. Kept in the instance's own dict, as
#: loading a model doesn't run ``__init__`` and must not see a mapped attribute.
RECORDED = "_ecotone_recorded_events"


@dataclass(frozen=True, slots=True)
class Event:
    """An event together with headers of its own.

    :param payload: The event.
    :param metadata: Header name → value.
    """

    payload: t.Any
    metadata: Mapping[str, t.Any] = field(default_factory=dict)


class WithEvents:
    """A mixin for aggregates that record events.

    They are published after the aggregate is saved, in the order they were recorded.
    """

    def record_that(self, event: t.Any) -> None:
        """Record an event.

        :param event: An object, or an :class:`Event` to give it headers.
        """
        vars(self).setdefault(RECORDED, []).append(event)


def take_recorded(aggregate: t.Any) -> list[t.Any]:
    """Return the events that an aggregate recorded, and forget them."""
    recorded: list[t.Any] = getattr(aggregate, "__dict__", {}).pop(RECORDED, [])
    return recorded
