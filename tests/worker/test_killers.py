"""Messages that take their workers along, and those that lie beside them."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence

import pytest

from flask_ecotone.channels.memory import MemoryQueue
from flask_ecotone.channels.protocols import Delivery
from flask_ecotone.consuming.company import Company
from flask_ecotone.testing.contracts import envelope

from ..processes import until
from .mailroom import Mailroom

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
        mailroom.publish(number, exits=9 if number in KILLERS else None)
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
    until(is_over, patience=300)
    last = mailroom.workers[-1]
    last.send_signal(signal.SIGTERM)
    mailroom.finish(last)
    assert mailroom.numbers() == [n for n in range(COUNT) if n not in KILLERS]
    bodies = [json.loads(parked.body) for parked in mailroom.parked()]
    assert sorted(body["number"] for body in bodies) == KILLERS
    # The first time another one may be to blame.
    assert len(KILLERS) <= deaths <= 2 * len(KILLERS)
    assert {parked.attempts for parked in mailroom.parked()} == {2}


def test_a_suspect_is_claimed_while_no_other_thread_works() -> None:
    """It is given back until those are done that have begun, and others wait for it."""
    company, order = Company(), list[str]()
    queue = MemoryQueue("orders", lease=0.0)
    queue.send([envelope(1)])
    queue.claim(1)
    queue.recover()
    begun, may_end, is_back = threading.Event(), threading.Event(), threading.Event()

    def give_back(deliveries: Sequence[Delivery]) -> None:
        queue.release(deliveries)
        is_back.set()

    def work() -> None:
        with company.working():
            begun.set()
            may_end.wait()
            order.append("ended")

    def suspect() -> None:
        with company.claiming(lambda: queue.claim(1), give_back) as (delivery,):
            later.start()
            order.append(f"alone, {delivery.attempts} attempt")

    def come_later() -> None:
        with company.working():
            order.append("later")

    later = threading.Thread(target=come_later)
    threads = [threading.Thread(target=work), threading.Thread(target=suspect)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    is_back.wait()
    assert queue.status().ready == 1
    may_end.set()
    for thread in threads:
        thread.join()
    later.join()
    assert order == ["ended", "alone, 1 attempt", "later"]
