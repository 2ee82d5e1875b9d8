"""Whatever a handler raises, its message isn't lost, nor are others."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

from ..processes import until
from .mailroom import Mailroom


def test_a_worker_survives_what_handlers_raise(either_mailroom: Mailroom) -> None:
    """The message is tried again, and parked in the end; the others are handled."""
    mailroom = either_mailroom
    names = ["MemoryError", "RecursionError", "SystemExit", "ValueError"]
    for number, name in enumerate(names):
        mailroom.publish(number)
        mailroom.publish(-1, raises=name)
    worker = mailroom.start("--threads", "2")
    until(lambda: mailroom.is_empty)
    assert "4 messages handled, 12 failed" in mailroom.stop(worker)
    assert worker.returncode == 0
    assert mailroom.numbers() == [0, 1, 2, 3]
    parked = mailroom.parked()
    assert sorted(each.error_class for each in parked) == names
    assert {each.attempts for each in parked} == {3}
    assert all("in sort" in each.traceback for each in parked)


def test_what_ends_the_worker_counts_as_a_death(either_mailroom: Mailroom) -> None:
    """The message comes back, until it is parked; the others are handled."""
    mailroom = either_mailroom
    mailroom.publish(1, 2)
    mailroom.publish(-1, raises="KeyboardInterrupt")
    mailroom.publish(3)
    mailroom.start("--finish-when-no-messages")
    codes = []

    def is_done() -> bool:
        code = mailroom.workers[-1].poll()
        if mailroom.is_empty:
            return True
        if code is not None:
            codes.append(code)
            mailroom.start("--execution-time-limit", "3000")
        return False

    until(is_done)
    assert mailroom.numbers() == [1, 2, 3]
    (parked,) = mailroom.parked()
    assert "4 workers disappeared" in parked.error_message
    assert codes.count(1) >= 3


def test_an_aborted_message_is_not_counted(mailroom: Mailroom, tmp_path: Path) -> None:
    """However often somebody aborts the worker that handles it."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    mailroom.publish(1, waits_for=pipe)
    for _ in itertools.repeat(None, 5):  # more often than max_deliveries
        worker = mailroom.start()
        with open(pipe, "wb"):
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGINT)
            assert "Stopped (aborted)" in mailroom.finish(worker)
    worker = mailroom.start()
    open(pipe, "wb").close()
    until(lambda: mailroom.is_empty)
    assert mailroom.numbers() == [1]
    mailroom.stop(worker)
