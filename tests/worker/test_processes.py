"""Workers as processes: signals, and deaths."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ..processes import until
from .mailroom import Mailroom


def test_a_message_that_kills_its_worker_is_parked(mailroom: Mailroom) -> None:
    """After ``max_deliveries``; its neighbours pass."""
    mailroom.publish(1, 2)
    mailroom.publish(13, kills=True)
    mailroom.publish(3, 4)

    def is_parked() -> bool:
        if mailroom.workers[-1].poll() is not None:
            mailroom.start()
        return bool(mailroom.parked())

    mailroom.start()
    until(is_parked)
    until(lambda: len(mailroom.numbers()) == 4)
    mailroom.workers[-1].send_signal(signal.SIGTERM)
    mailroom.finish(mailroom.workers[-1])
    assert mailroom.numbers() == [1, 2, 3, 4]
    (parked,) = mailroom.parked()
    assert "4 workers disappeared" in parked.error_message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_idle_worker_stops_when_it_is_asked_to(
    mailroom: Mailroom, number: signal.Signals, tmp_path: Path
) -> None:
    """It says what it has done, and the exit code is 0."""
    health = tmp_path / "health"
    worker = mailroom.start("--health-file", str(health))
    until(health.exists)
    worker.send_signal(number)
    said = mailroom.finish(worker)
    assert "Stopped (asked to stop): 0 messages handled, 0 failed." in said
    assert worker.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "count"), [(["--threads", "4"], 1), (["--processes", "2"], 2)]
)
def test_all_of_an_idle_worker_stops_when_it_is_asked_to(
    mailroom: Mailroom, arguments: list[str], count: int
) -> None:
    """Each thread and each process of it."""
    worker = mailroom.start(*arguments)
    until(lambda: mailroom.said_by(worker).count("Handling messages") == count)
    said = mailroom.stop(worker)
    assert said.count("Stopped (asked to stop): 0 messages handled") == count
    assert worker.returncode == 0


def test_a_busy_worker_finishes_the_message_at_hand(
    mailroom: Mailroom, tmp_path: Path
) -> None:
    """The rest goes back at once, for others."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    mailroom.publish(1, waits_for=pipe)
    mailroom.publish(2)
    worker = mailroom.start()
    with open(pipe, "wb"):  # opened when the handler reads
        worker.send_signal(signal.SIGTERM)
    assert "1 messages handled" in mailroom.finish(worker)
    assert mailroom.numbers() == [1]
    status = mailroom.source.status()
    assert (status.ready, status.in_flight) == (1, 0)


def test_a_second_signal_gives_the_message_at_hand_back(
    mailroom: Mailroom, tmp_path: Path
) -> None:
    """What was done for it is rolled back, and no attempt is counted."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    mailroom.publish(1, waits_for=pipe)
    worker = mailroom.start()
    with open(pipe, "wb"):
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        said = mailroom.finish(worker)
    assert "Stopped (aborted)" in said
    assert mailroom.numbers() == []
    assert mailroom.source.status().ready == 1


def test_a_third_signal_ends_a_worker_whose_threads_do_not_end(
    mailroom: Mailroom, tmp_path: Path
) -> None:
    """The second one gave back what the main thread had; nothing is lost."""
    if mailroom.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first, second = (str(tmp_path / name) for name in "ab")
    os.mkfifo(first)
    os.mkfifo(second)
    mailroom.publish(1, waits_for=first)
    worker = mailroom.start("--threads", "2")
    with open(first, "wb"):
        mailroom.publish(2, waits_for=second)
        with open(second, "wb"):
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGINT)
            until(lambda: mailroom.source.status().ready == 1)
            worker.send_signal(signal.SIGQUIT)
            mailroom.finish(worker)
    assert worker.returncode == -signal.SIGQUIT
    for pipe in map(Path, (first, second)):
        pipe.unlink()
        pipe.touch()  # nothing more to wait for
    mailroom.start()
    until(lambda: mailroom.numbers() == [1, 2])


def test_a_long_message_keeps_its_lease(mailroom: Mailroom, tmp_path: Path) -> None:
    """A second worker doesn't take what the first one still works on."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    mailroom.publish(1, waits_for=pipe)
    mailroom.publish(2, 3)
    mailroom.start()
    with open(pipe, "wb"):
        started = time.monotonic()
        second = mailroom.start("--execution-time-limit", "2500")
        mailroom.finish(second)
        assert time.monotonic() - started > 1  # longer than the lease
    until(lambda: mailroom.numbers() == [1, 2, 3])
    assert mailroom.parked() == []


@pytest.mark.parametrize(
    "option",
    [
        "--finish-when-no-messages",
        "--finishWhenNoMessages",
        "--finishWhenNoMessages=true",
        "--handledMessageLimit=2",
    ],
)
def test_a_worker_that_is_to_finish_handles_and_ends(
    mailroom: Mailroom, option: str
) -> None:
    """By itself, in each spelling; nothing to do is no failure (C-7)."""
    mailroom.publish(1, 2)
    worker = mailroom.start(option)
    said = mailroom.finish(worker)

    assert worker.returncode == 0
    assert "2 messages handled, 0 failed." in said
    assert mailroom.numbers() == [1, 2]

    if "finish" in option:
        idle = mailroom.start(option)
        assert "0 messages handled, 0 failed." in mailroom.finish(idle)
        assert idle.returncode == 0


def test_a_flag_is_on_or_off(mailroom: Mailroom) -> None:
    """What is neither is wrong usage, and nothing is handled."""
    mailroom.publish(1)
    worker = mailroom.start("--finishWhenNoMessages=perhaps")
    assert "'perhaps' is neither 'true' nor 'false'" in mailroom.finish(worker)
    assert worker.returncode == 2
    assert mailroom.numbers() == []

    off = mailroom.start("--stopOnFailure=false", "--finishWhenNoMessages=1")
    mailroom.finish(off)
    assert off.returncode == 0
    assert mailroom.numbers() == [1]


def test_the_channel_and_the_commands_are_listed(mailroom: Mailroom) -> None:
    """``list`` has the channel of an asynchronous handler (C-6, C-9)."""
    runner = mailroom.module.app.test_cli_runner()
    listed = runner.invoke(args=["ecotone", "list"])
    assert listed.exit_code == 0
    (row,) = (row for row in listed.output.splitlines() if "LetterCame" in row)
    assert "letters" in row.split()

    commands = runner.invoke(args=["ecotone", "--help"]).output.splitlines()
    names = {line.split()[0] for line in commands if line.startswith("  ")}
    assert {"list", "run", "check"} <= names
    assert "ecotone" in runner.invoke(args=["--help"]).output


def test_unknown_channels_are_named(mailroom: Mailroom) -> None:
    """With what was probably meant."""
    worker = mailroom.start("leters")
    said = mailroom.finish(worker)
    assert "Did you mean 'letters'?" in said
    assert worker.returncode == 1
