"""What a running worker says when it is asked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ..processes import until
from .mailroom import Mailroom


def test_a_worker_says_what_it_is_doing(mailroom: Mailroom, tmp_path: Path) -> None:
    """On SIGUSR1: what it has done, and where each of its threads is; it goes on."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    mailroom.publish(1)
    mailroom.publish(2, waits_for=pipe)
    worker = mailroom.start()
    with open(pipe, "wb"):  # opened when the handler reads
        worker.send_signal(signal.SIGUSR1)
        until(lambda: "1 messages handled, 0 failed so far" in mailroom.said_by(worker))
        until(lambda: "in sort" in mailroom.said_by(worker))
    until(lambda: mailroom.numbers() == [1, 2])
    assert "2 messages handled, 0 failed" in mailroom.stop(worker)
