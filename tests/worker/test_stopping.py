"""A worker that waits is told of what changed, wherever a signal interrupts it."""

from __future__ import annotations

import sys
import threading
import types
import typing as t
from collections.abc import Callable

import pytest

from flask_ecotone.consuming import Stopping

from ..processes import PATIENCE


def interrupting(
    told: Callable[[], None],
) -> Callable[[types.FrameType, str, t.Any], t.Any]:
    """Return a trace function: it does something between any two instructions."""

    def interrupt(frame: types.FrameType, event: str, argument: t.Any) -> t.Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            sys.settrace(None)
            told()
            sys.settrace(interrupt)
        return interrupt

    return interrupt


@pytest.mark.parametrize("tell", [Stopping.wake, Stopping.request])
def test_a_signal_may_come_at_any_instruction(
    tell: Callable[[Stopping], None],
) -> None:
    """It is carried out by the thread that waits, and locks up nothing."""
    stopping, told, noticed = Stopping(), list[None](), list[bool]()

    def handler() -> None:
        told.append(None)
        tell(stopping)

    def wait() -> None:
        sys.settrace(interrupting(handler))
        for _ in range(3):
            noticed.append(stopping.wait(0.001))
        sys.settrace(None)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(told) > 20
    assert noticed == [True, True, True]


def test_what_changed_before_is_noticed_once() -> None:
    """By each of the threads that wait, and a request is for good."""
    stopping = Stopping()
    assert not stopping.wait(0)
    stopping.wake()
    stopping.wake()
    assert stopping.wait(PATIENCE)
    assert not stopping.wait(0)
    stopping.request()
    assert stopping.wait(PATIENCE)
    assert stopping.wait(PATIENCE)


def test_all_threads_are_told() -> None:
    """Those that wait already, and those that begin to."""
    stopping, ready, noticed = Stopping(), threading.Barrier(4), list[bool]()

    def wait() -> None:
        stopping.wait(0)
        ready.wait(PATIENCE)
        noticed.append(stopping.wait(PATIENCE))
        noticed.append(stopping.wait(PATIENCE))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(PATIENCE)
    stopping.request()
    for thread in threads:
        thread.join()
    assert noticed == [True] * 6
