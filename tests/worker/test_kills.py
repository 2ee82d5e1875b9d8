"""Workers are killed; nothing is lost, and nothing happens twice."""

from __future__ import annotations

import os
import random
import signal

from ..processes import until
from .mailroom import Mailroom

_IN_FULL = "ECOTONE_FULL_LOAD"


def test_every_effect_happens_once_whoever_is_killed(either_mailroom: Mailroom) -> None:
    """Two workers at a time are killed at any point; each message has one row."""
    mailroom = either_mailroom
    # With both modes it is 50 kills and 2000 messages for each database.
    kills, messages = (25, 1000) if os.environ.get(_IN_FULL) else (4, 160)
    chance = random.Random(5)
    share = messages // kills
    for number in range(kills):
        mailroom.publish(*range(number * share, (number + 1) * share))
        while sum(each.poll() is None for each in mailroom.workers) < 2:
            mailroom.start()
        wanted = number * share + chance.randrange(1, share)
        until(lambda goal=wanted: mailroom.count() >= goal)
        victim = chance.choice([w for w in mailroom.workers if w.poll() is None])
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    mailroom.start()
    until(lambda: mailroom.is_empty)
    for worker in mailroom.workers:
        if worker.poll() is None:
            assert "Stopped (asked to stop)" in mailroom.stop(worker)
    assert mailroom.numbers() == list(range(messages))
    assert mailroom.parked() == []
