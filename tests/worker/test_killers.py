"""Messages that take their workers along, and those that lie beside them."""

from __future__ import annotations

import json
import signal
import threading

import pytest

from flask_ecotone.consuming.company import Company

from .mailroom import Mailroom
from .mailroom import until

COUNT = 36
#: Two of them in one batch, one beside the other.
KILLERS = [4, 5, 23]


@pytest.mark.parametrize(
    ("mode", "threads", "most"),
    [("message", "1", 2), ("batch", "1", 2), ("message", "3", 1)],
)
def test_only_killers_are_parked(
    mailroom: Mailroom,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    threads: str,
    most: int,
) -> None:
    """Each of the others is handled once, and no killer has more than its share.

    :param most: ``max_deliveries``.
    """
    monkeypatch.setenv("MAILROOM_MAX_DELIVERIES", str(most))
    if mode == "batch":
        monkeypatch.setenv("MAILROOM_BATCH", "1")
    for number in range(COUNT):
        mailroom.publish(number, exits=number in KILLERS)
    deaths = 0

    def is_over() -> bool:
        nonlocal deaths
        worker = mailroom.workers[-1]
        if worker.poll() is not None:
            assert worker.returncode == 9, mailroom.finish(worker)
            deaths += 1
            mailroom.start("--threads", threads)
        return len(mailroom.parked()) == len(KILLERS) and (
            len(mailroom.numbers()) == COUNT - len(KILLERS)
        )

    mailroom.start("--threads", threads)
    until(is_over)
    last = mailroom.workers[-1]
    last.send_signal(signal.SIGTERM)
    mailroom.finish(last)
    assert mailroom.numbers() == [n for n in range(COUNT) if n not in KILLERS]
    bodies = [json.loads(parked.body) for parked in mailroom.parked()]
    assert sorted(body["number"] for body in bodies) == KILLERS
    # The first time another one may be to blame.
    assert len(KILLERS) <= deaths <= 2 * len(KILLERS)
    assert {parked.attempts for parked in mailroom.parked()} == {2}


def test_a_suspect_is_handled_while_no_other_thread_works() -> None:
    """It waits for those that have begun, and others wait for it."""
    company, order = Company(), list[str]()
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with company.of(is_suspect=False):
            order.append("begun")
            begun.set()
            may_end.wait()
            order.append("ended")

    def suspect() -> None:
        with company.of(is_suspect=True):
            order.append("alone")
            assert company._working == 1

    def later() -> None:
        with company.of(is_suspect=False):
            order.append("later")

    threads = [threading.Thread(target=work), threading.Thread(target=suspect)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    until(lambda: company._suspects == 1)
    threads.append(threading.Thread(target=later))
    threads[2].start()
    may_end.set()
    for thread in threads:
        thread.join()
    assert order == ["begun", "ended", "alone", "later"]
