"""The fixture that the pytest plugin offers to every project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TEST = """
from dataclasses import dataclass

from flask_ecotone import command_handler


@dataclass
class Greet:
    name: str


@command_handler
def greet(command: Greet) -> str:
    return f"Hello {command.name}"


def test_greeting(ecotone_flow):
    flow = ecotone_flow([greet])
    assert flow.command_bus.send(Greet("Ann")) == "Hello Ann"
    assert flow.recorded_commands() == [Greet("Ann")]


def test_nothing_is_left(ecotone_flow):
    assert ecotone_flow([greet]).recorded_commands() == []
"""


def test_an_installed_plugin_offers_ecotone_flow(tmp_path: Path) -> None:
    """A project needs no conftest for it, and pytest explains it."""
    (tmp_path / "test_greeting.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [*command, "-q"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    listed = subprocess.run(
        [*command, "--fixtures"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ecotone_flow" in listed.stdout
    assert "flow_testing" in listed.stdout
