"""What a worker does when its health file can't be touched."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flask_ecotone.cli.health import HealthFile

from ..processes import until
from .conftest import OpenMailroom


def test_a_worker_goes_on_without_the_folder_of_its_health_file(
    open_mailroom: OpenMailroom, sqlite_url: str, tmp_path: Path
) -> None:
    """It says so, goes on with messages, and touches the file once it can again."""
    health = tmp_path / "run" / "health"
    health.parent.mkdir()
    mailroom = open_mailroom(sqlite_url)
    worker = mailroom.start("--health-file", str(health))
    until(health.exists)
    health.unlink()
    # A worker that is quick may touch it once more.
    health.parent.rename(tmp_path / "gone")
    until(lambda: "can't be touched" in mailroom.said_by(worker))
    mailroom.publish(1)
    until(lambda: mailroom.numbers() == [1])
    health.parent.mkdir()
    until(health.exists)
    said = mailroom.stop(worker)
    assert said.count(f"The health file {health} can't be touched (No such file") == 1
    assert "1 messages handled" in said
    assert worker.returncode == 0


def test_each_loss_of_a_health_file_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with every attempt; and it is told when the file is back."""
    health = tmp_path / "run" / "health"
    file = HealthFile(health, logging.getLogger("worker"))
    with caplog.at_level("INFO", "worker"):
        for _ in range(3):
            file.touch()
        health.parent.mkdir()
        file.touch()
        file.touch()
        health.unlink()
        health.parent.rmdir()
        file.touch()
    said = [(each.levelname, each.getMessage()) for each in caplog.records]
    levels = [level for level, _ in said]
    assert levels == ["WARNING", "INFO", "WARNING"]
    assert said[1][1] == f"The health file {health} is touched again."
