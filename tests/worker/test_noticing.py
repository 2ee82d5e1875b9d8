"""Signals that the system gives to a thread which can do nothing with them."""

from __future__ import annotations

import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ..processes import PATIENCE

_WORKER: t.Final = """
import os, signal, sys, threading
from pathlib import Path
from flask_ecotone.cli.signalling import obeying
from flask_ecotone.consuming import Outcome
from flask_ecotone.consuming import Stopping

def send(numbers):
    state, asleep = Path(f"/proc/self/task/{os.getpid()}/stat"), 0
    while asleep < 100:  # the main thread waits for the pipe, not for this one
        asleep = asleep + 1 if ") S " in state.read_text() else 0
    for number in numbers:
        signal.pthread_kill(threading.get_ident(), number)

stopping, outcome = Stopping(), Outcome()
numbers = [getattr(signal, name) for name in sys.argv[1:]]
with obeying(stopping, outcome, is_supervised=False):
    threading.Thread(target=send, args=[numbers], daemon=True).start()
    os.read(0, 1)
print(stopping.is_requested, outcome.reason)
"""


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the system doesn't show threads"
)
@pytest.mark.parametrize(
    ("signals", "said"),
    [(["SIGTERM", "SIGINT"], "True aborted"), (["SIGUSR2"], "True aborted")],
)
def test_another_thread_may_get_the_signal(signals: list[str], said: str) -> None:
    """The main thread is woken from whatever it waits for."""
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, *signals],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        try:
            worker.wait(PATIENCE)
            assert worker.stdout is not None
            assert worker.stdout.read().strip() == said
        finally:
            worker.kill()
