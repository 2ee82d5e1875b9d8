"""At each statement of a worker in turn the database is lost, or the worker."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .press import Press
from .press import RESULT

#: Without it, each statement has its turn in one of so many runs only.
_IN_FULL = "ECOTONE_FULL_LOAD"
_STRIDE = 9


@pytest.fixture(params=["message", "batch"])
def press(database_url: str, request: pytest.FixtureRequest) -> Press:
    """A press that handles messages one by one, or those of a claim together."""
    return Press(database_url, request.param)


def step(press: Press, length: int) -> int:
    """How many statements to go on at a time; servers take their time."""
    if not os.environ.get(_IN_FULL):
        return _STRIDE
    return length if press.engine.dialect.name == "sqlite" else 3 * length


@pytest.mark.parametrize("length", [1, 3])
def test_the_database_may_be_lost_at_any_statement(press: Press, length: int) -> None:
    """Each effect happens once, and an outage costs no attempt."""
    press.send()
    press.work(lambda number: False)
    count = len(press.sabotage.said)
    assert press.result() == {**RESULT, "rung": 1}
    differences = []
    for at in itertools.count(1, step(press, length)):
        press.send()
        press.work(range(at, at + length).__contains__)
        found = press.result()
        if not press.sabotage.struck:
            break
        if found.pop("rung") < 1 or found != RESULT:
            differences.append((at, press.sabotage.struck, found))
    assert at > count / 2
    assert not differences


@pytest.fixture
def mortals(press: Press) -> Iterator[subprocess.Popen[str]]:
    """A process that makes workers which die at a given statement, one by one."""
    command = [sys.executable, "-m", "tests.worker.mortals"]
    with subprocess.Popen(
        [*command, press.url, press.transaction],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def test_a_worker_may_die_at_any_statement(
    press: Press, mortals: subprocess.Popen[str]
) -> None:
    """Each effect in the database happens once, whatever the next worker finds."""
    assert mortals.stdin is not None and mortals.stdout is not None
    differences = []
    for at in itertools.count(1, step(press, 1)):
        press.send()
        print(at, file=mortals.stdin, flush=True)
        ended = int(mortals.stdout.readline())
        press.work(lambda number: False)
        found = press.result()
        # It counts as an attempt, as nobody lives to say otherwise.
        parked = [each[:2] for each in found.pop("parked")]
        assert parked == [each[:2] for each in RESULT["parked"]]
        if found.pop("rung") < 1 or found["rows"] != RESULT["rows"]:
            differences.append((at, found))
        if ended != -signal.SIGKILL:
            break
    assert ended == 0 and at > 50
    assert not differences
