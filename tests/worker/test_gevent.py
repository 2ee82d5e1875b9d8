"""Workers with gevent in place of threads."""

from __future__ import annotations

import pytest

from ..processes import until
from .mailroom import Mailroom

pytest.importorskip("gevent")


def test_a_worker_under_gevent_handles_messages_and_stops(mailroom: Mailroom) -> None:
    """Its helpers are no threads that signals could be kept from."""
    worker = mailroom.start("--threads", "2", flask=("gevent_flask.py",))
    mailroom.publish(*range(20))
    mailroom.publish(-1, raises="ValueError")
    until(lambda: mailroom.is_empty)
    assert "Stopped (asked to stop)" in mailroom.stop(worker)
    assert worker.returncode == 0
    assert mailroom.numbers() == list(range(20))
    assert len(mailroom.parked()) == 1
