"""``--processes``: a supervisor keeps its workers alive, and tells them to stop."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from ..processes import APPS
from ..processes import until
from .conftest import OpenMailroom
from .mailroom import Mailroom

Supervisor = subprocess.Popen[str]


@pytest.fixture
def mailroom(open_mailroom: OpenMailroom, tmp_path: Path) -> Mailroom:
    """A mailroom on a file: processes are alike on all databases."""
    url = f"sqlite:///{tmp_path / 'mailroom.sqlite'}"
    return open_mailroom(url, max_deliveries="2")


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """What a letter waits for: opening it for writing waits for its handler."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def supervise(mailroom: Mailroom, *arguments: str, **options: t.Any) -> Supervisor:
    """Start two workers, and wait until they work."""
    supervisor = mailroom.start("--processes", "2", *arguments, **options)
    until(lambda: mailroom.said_by(supervisor).count("Handling messages") == 2)
    return supervisor


def dump(mailroom: Mailroom, supervisor: Supervisor) -> list[int]:
    """Have the supervisor say which workers run."""
    # It may stand behind a part of what a worker writes at the same time.
    told = re.compile(r"Workers that run: ([^.]+)\.$", re.MULTILINE)
    before = len(told.findall(mailroom.said_by(supervisor)))
    supervisor.send_signal(signal.SIGUSR1)
    until(lambda: len(told.findall(mailroom.said_by(supervisor))) > before)
    last = told.findall(mailroom.said_by(supervisor))[-1]
    return [] if last == "none" else [int(pid) for pid in last.split(", ")]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kills": True}, "A worker ended (signal 9); starting anew in"),
        ({"exits": 0}, "A worker ended (exit code 0); starting anew in"),
        ({"exits": 1}, "A worker ended (exit code 1); starting anew in"),
        ({"raises": "KeyboardInterrupt"}, "A worker ended (exit code 1); starting"),
    ],
)
def test_a_worker_that_dies_is_replaced(
    mailroom: Mailroom, options: dict[str, t.Any], told: str
) -> None:
    """However it dies, as often as it does, and all messages get handled."""
    mailroom.publish(1, 2)
    mailroom.publish(13, **options)
    mailroom.publish(3, 4)
    supervisor = supervise(mailroom)
    until(mailroom.parked)
    until(lambda: mailroom.numbers() == [1, 2, 3, 4])
    until(lambda: len(dump(mailroom, supervisor)) == 2)
    said = mailroom.stop(supervisor)
    assert told in said
    assert supervisor.returncode == 0


def test_workers_that_live_shortly_are_replaced_slowly(mailroom: Mailroom) -> None:
    """What would fail at once again and again doesn't take the whole processor."""
    supervisor = supervise(mailroom)
    for _ in range(4):
        until(lambda: len(dump(mailroom, supervisor)) == 2)
        pid = dump(mailroom, supervisor)[0]
        os.kill(pid, signal.SIGKILL)
        until(lambda gone=pid: gone not in dump(mailroom, supervisor))
    said = mailroom.stop(supervisor)
    pauses = [float(each) for each in re.findall(r"anew in (\S+) s", said)]
    assert len(pauses) == 4 and max(pauses[:2]) < pauses[3]


def test_a_worker_that_reaches_its_memory_limit_is_replaced(mailroom: Mailroom) -> None:
    """The next one goes on with the messages."""
    mailroom.publish(1, hoards=400)
    mailroom.publish(2)
    supervisor = supervise(mailroom, "--memory-limit", "400")
    until(lambda: mailroom.said_by(supervisor).count("Handling messages") == 3)
    until(lambda: mailroom.numbers() == [1, 2])
    said = mailroom.stop(supervisor)
    assert said.count("Stopped (memory limit)") == 1
    assert said.count("A worker ended (exit code 0); starting anew in") == 1
    assert supervisor.returncode == 0


@pytest.mark.parametrize(
    ("options", "count"),
    [(["--finish-when-no-messages"], 2), (["--execution-time-limit", "2000"], 0)],
)
def test_a_worker_that_was_to_end_is_not_replaced(
    mailroom: Mailroom, options: list[str], count: int
) -> None:
    """Other limits are there to end the work, and that is no failure."""
    mailroom.publish(*range(count))
    supervisor = mailroom.start("--processes", "2", *options)
    said = mailroom.finish(supervisor)
    assert said.count("Handling messages") == said.count("Stopped (") == 2
    assert supervisor.returncode == 0
    assert mailroom.numbers() == list(range(count))


def test_a_failure_that_is_to_end_a_worker_ends_all(mailroom: Mailroom) -> None:
    """With the exit code of ``--stop-on-failure``, and the others in order."""
    supervisor = supervise(mailroom, "--stop-on-failure")
    mailroom.publish(1, raises="ValueError")
    said = mailroom.finish(supervisor)
    assert "Stopped (a message failed): 0 messages handled, 1 failed." in said
    assert said.count("Stopped (") == 2
    assert supervisor.returncode == 1


@pytest.mark.parametrize(
    ("new", "code", "told"),
    [
        ('"parcels"', 1, "no channel"),
        (None, 2, "Failed to find Flask application"),
    ],
)
def test_an_error_that_would_repeat_ends_all(
    mailroom: Mailroom, tmp_path: Path, new: str | None, code: int, told: str
) -> None:
    """Errors of configuration and usage have the exit code that one worker has."""
    copy = tmp_path / "app" / "mailroom.py"
    copy.parent.mkdir()
    shutil.copy(APPS / "mailroom.py", copy)
    supervisor = supervise(mailroom, folder=copy.parent)
    source = copy.read_text()
    copy.write_text(source.replace('"letters"', new) if new else "")
    os.kill(dump(mailroom, supervisor)[0], signal.SIGKILL)
    said = mailroom.finish(supervisor)
    assert told in said
    assert said.count("Stopped (asked to stop)") == 1
    assert supervisor.returncode == code


def test_workers_outlive_their_supervisor_by_a_message(
    mailroom: Mailroom, pipe: str
) -> None:
    """When it is killed they finish the message at hand, and end."""
    mailroom.publish(1, waits_for=pipe)
    mailroom.publish(2)
    supervisor = supervise(mailroom, "--poll-interval", "600")
    told = "Stopped (the supervisor is gone)"
    with open(pipe, "wb"):
        supervisor.kill()
        supervisor.wait()
        until(lambda: told in mailroom.said_by(supervisor))
    until(lambda: mailroom.said_by(supervisor).count(told) == 2)
    assert mailroom.numbers() == [1]
    status = mailroom.source.status()
    assert (status.ready, status.in_flight) == (1, 0)


def test_idle_workers_see_that_their_supervisor_is_gone(mailroom: Mailroom) -> None:
    """However seldom they look for messages."""
    supervisor = supervise(mailroom, "--poll-interval", "600")
    supervisor.kill()
    supervisor.wait()
    told = "Stopped (the supervisor is gone)"
    until(lambda: mailroom.said_by(supervisor).count(told) == 2)


def test_what_a_handler_starts_has_no_supervisor(
    mailroom: Mailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of a supervised process is taken off, and not inherited."""
    monkeypatch.setenv("ECOTONE_WORKER_PROCESS", str(os.getppid()))
    runner = mailroom.module.app.test_cli_runner()
    runner.invoke(args=["ecotone", "run", "letters", "--finish-when-no-messages"])
    assert "ECOTONE_WORKER_PROCESS" not in os.environ


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_one_signal(
    mailroom: Mailroom, pipe: str, number: signal.Signals
) -> None:
    """From Ctrl-C or systemd: workers get it twice, and finish the message at hand."""
    mailroom.publish(1, waits_for=pipe)
    supervisor = supervise(mailroom)
    with open(pipe, "wb"):
        os.killpg(supervisor.pid, number)
        dump(mailroom, supervisor)  # comes after what was passed on
        until(lambda: "so far." in mailroom.said_by(supervisor))
    said = mailroom.finish(supervisor)
    assert said.count("Stopped (asked to stop)") == 2
    assert mailroom.numbers() == [1]
    assert supervisor.returncode == 0


def test_a_second_signal_gives_the_message_at_hand_back(
    mailroom: Mailroom, pipe: str
) -> None:
    """It is handled later."""
    mailroom.publish(1, waits_for=pipe)
    supervisor = supervise(mailroom)
    with open(pipe, "wb"):
        os.killpg(supervisor.pid, signal.SIGTERM)
        os.killpg(supervisor.pid, signal.SIGINT)
        said = mailroom.finish(supervisor)
    assert "Stopped (aborted)" in said
    assert supervisor.returncode == 0
    assert mailroom.numbers() == []

    worker = mailroom.start("--handled-message-limit", "1")
    with open(pipe, "wb"):
        pass
    mailroom.finish(worker)
    assert mailroom.numbers() == [1]


def test_a_third_signal_kills(mailroom: Mailroom) -> None:
    """For workers that can't even abort."""
    supervisor = supervise(mailroom)
    for pid in dump(mailroom, supervisor):
        os.kill(pid, signal.SIGSTOP)
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT:
        supervisor.send_signal(number)
    mailroom.finish(supervisor)
    assert supervisor.returncode == 128 + signal.SIGKILL


def test_everybody_tells_what_it_is_doing(mailroom: Mailroom) -> None:
    """On SIGUSR1: the supervisor which workers run, and these what they have done."""
    supervisor = supervise(mailroom)
    pids = dump(mailroom, supervisor)
    until(lambda: mailroom.said_by(supervisor).count("0 failed so far.") == 2)
    assert dump(mailroom, supervisor) == pids
    said = mailroom.stop(supervisor)
    assert said.count("Stopped (asked to stop)") == 2
    assert supervisor.returncode == 0


def test_signals_reach_a_worker_that_is_just_starting(mailroom: Mailroom) -> None:
    """They wait until it can obey, and it handles nothing."""
    supervisor = supervise(mailroom)
    earlier = dump(mailroom, supervisor)
    os.kill(earlier[0], signal.SIGKILL)
    until(lambda: set(dump(mailroom, supervisor)) - {*earlier})
    mailroom.publish(1)
    until(lambda: mailroom.numbers() == [1])
    supervisor.send_signal(signal.SIGTERM)
    said = mailroom.finish(supervisor)
    assert said.count("Stopped (asked to stop)") == 2
    assert said.count("A worker ended") == 1
    assert supervisor.returncode == 0
