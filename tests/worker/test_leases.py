"""Claims are extended while a worker lives."""

from __future__ import annotations

import logging
import threading
import typing as t
from collections.abc import Sequence

from flask_ecotone.channels.protocols import Delivery
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.channels.protocols import Source
from flask_ecotone.consuming.leases import Leases


class Recorder:
    """A source that notes when its leases are extended."""

    channel = "letters"

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.extended = threading.Event()

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        self.extended.set()


def hold(leases: Leases, source: Recorder) -> None:
    delivery = Delivery(Envelope("e", "m", b"", "{}"), 1, "token", 1)
    leases.hold(t.cast(Source, source), [delivery])


def test_the_shortest_lease_counts() -> None:
    """Also if a longer one was held before, when its extension is far away."""
    long, short = Recorder(3600), Recorder(0.03)
    with Leases(logging.getLogger(__name__)) as leases:
        hold(leases, long)
        hold(leases, short)
        assert short.extended.wait(60)
