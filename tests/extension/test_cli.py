"""``flask ecotone``, as it is typed."""

from __future__ import annotations

import json
import typing as t

import pytest
from flask import Flask

from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_handler
from flask_ecotone import sql_query
from flask_ecotone import TenantConnection

from .conftest import Run

KEYS = {
    "endpoint_id",
    "kind",
    "message",
    "handler",
    "location",
    "channel",
    "output_channel",
    "interceptors",
}


def test_list_shows_the_handlers_of_an_application_without_configuration(
    flask: Run,
) -> None:
    """One row for each endpoint, under headings, with file and line."""
    finished = flask("sampleapp", "ecotone", "list")
    assert finished.returncode == 0
    assert finished.stderr == ""
    headings, *rows = finished.stdout.splitlines()
    assert headings.split() == [
        "Kind",
        "Message",
        "Handler",
        "Location",
        "Channel",
        "Interceptors",
    ]
    ping = next(row for row in rows if "app.ping" in row).split()
    assert ping[:3] == ["command", "app.ping", "sampleapp.handlers:Presence.ping"]
    assert ping[3].endswith("handlers.py:16")
    assert len(rows) == 5


def test_list_prints_json_for_scripts(flask: Run) -> None:
    """Each endpoint has the same keys."""
    finished = flask("sampleapp", "ecotone", "list", "--json")
    assert finished.returncode == 0
    found = json.loads(finished.stdout)
    assert all(KEYS <= set(endpoint) for endpoint in found)
    assert {e["message"]: e["kind"] for e in found} == {
        "app.ping": "command",
        "app.wasHandled": "query",
        "counter.increment": "command",
        "counter.get": "query",
        "order.cancel": "command",
    }


def test_list_without_handlers_says_how_to_mark_one() -> None:
    """An empty table would be a riddle."""
    app = Flask("small")
    Ecotone(app, packages=[])
    result = app.test_cli_runner().invoke(args=["ecotone", "list"])
    assert result.exit_code == 0
    assert result.output.startswith("There are no handlers. Mark one with")
    result = app.test_cli_runner().invoke(args=["ecotone", "list", "--json"])
    assert json.loads(result.output) == []


def test_check_counts_the_endpoints() -> None:
    """What is sound gets one line and exit code 0."""
    app = Flask("small")
    ecotone = Ecotone(app, packages=[])
    ecotone.register(command_handler("ping")(lambda: None))
    result = app.test_cli_runner().invoke(args=["ecotone", "check"])
    assert (result.exit_code, result.output) == (0, "1 endpoint, no errors.\n")


@pytest.mark.parametrize("command", ["list", "check"])
@pytest.mark.parametrize(
    ("app", "text"),
    [
        ("brokenapp", "Could not import the module brokenapp.handlers"),
        ("unsound", "'order.place' has 2 handlers: unsound.place"),
        ("eager", "Use buses and gateways inside functions"),
    ],
)
def test_an_error_is_one_clear_line(
    flask: Run, command: str, app: str, text: str
) -> None:
    """Exit code 1, nothing on standard output, and no traceback."""
    finished = flask(app, "ecotone", command)
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("Error: ")
    assert text in line


def test_debug_shows_the_traceback(flask: Run) -> None:
    """``--debug`` on the group shows where the error comes from."""
    finished = flask("brokenapp", "ecotone", "--debug", "check")
    assert finished.returncode == 1
    assert "Traceback (most recent call last)" in finished.stderr
    assert "no_such_library" in finished.stderr


@pytest.mark.parametrize(
    "arguments",
    [["list", "surplus"], ["list", "--no-such-option"], ["no-such-command"]],
)
def test_wrong_usage_has_exit_code_2(flask: Run, arguments: list[str]) -> None:
    """Typing errors differ from errors of the application."""
    finished = flask("sampleapp", "ecotone", *arguments)
    assert finished.returncode == 2
    assert "Usage: " in finished.stderr


@pytest.mark.parametrize("app", ["brokenapp", "unsound", "eager"])
@pytest.mark.parametrize("arguments", [["--help"], ["routes"]])
def test_help_and_routes_never_compile(
    flask: Run, app: str, arguments: list[str]
) -> None:
    """An application that can't be compiled still shows its help and its routes."""
    finished = flask(app, *arguments)
    assert finished.returncode == 0
    assert "Traceback" not in finished.stderr
    assert "ecotone" in finished.stdout or "static" in finished.stdout


def test_routes_imports_no_handlers(flask: Run) -> None:
    """Not even the modules of the handlers are imported."""
    finished = flask("brokenapp", "routes")
    assert finished.returncode == 0
    assert finished.stderr == ""
    assert "/hello" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ([], "flask --app shop ecotone check"),
        (["list"], "flask ecotone list --json | jq"),
        (["check"], "12 endpoints, no errors."),
    ],
)
def test_help_teaches(flask: Run, arguments: list[str], example: str) -> None:
    """The help of each command has an example, and needs no sound application."""
    finished = flask("brokenapp", "ecotone", *arguments, "--help")
    assert finished.returncode == 0
    assert finished.stderr == ""
    assert example in finished.stdout


def test_the_short_help_names_each_command(flask: Run) -> None:
    """``flask ecotone --help`` lists the commands with one sentence each."""
    output = flask("sampleapp", "ecotone", "--help").stdout
    lines = [line.split(maxsplit=1) for line in output.splitlines() if line]
    commands = {line[0]: line[1] for line in lines if len(line) == 2}
    assert commands["check"] == "Compile the system and say whether it is sound."
    assert commands["list"].startswith("List every endpoint")


class Numbers(t.Protocol):
    @sql_query("SELECT 1")
    def one(self) -> int: ...


@query_handler("engine")
def engine(connection: t.Annotated[t.Any, TenantConnection()]) -> None: ...


@pytest.mark.parametrize("command", ["list", "check"])
@pytest.mark.parametrize(
    ("options", "registered", "what"),
    [
        (
            {"extensions": [MultiTenantConfiguration("tenant", {})]},
            [],
            "Tenants are configured",
        ),
        ({"channels": [DatabaseChannel("outbox")]}, [], "DatabaseChannel('outbox')"),
        ({}, [Numbers], "Numbers.one"),
        ({}, [engine], "engine"),
    ],
    ids=["tenants", "channel", "interface", "parameter"],
)
def test_what_needs_a_database_says_so(
    command: str, options: dict[str, t.Any], registered: list[t.Any], what: str
) -> None:
    """In one line, by its name, and with the call that is missing (C-37, L-15)."""
    app = Flask("app")
    ecotone = Ecotone(app, packages=[], **options)
    ecotone.register(*registered)
    result = app.test_cli_runner().invoke(args=["ecotone", command])

    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ") and what in line
    assert "a 'db' connection to be configured. Call db.init_app(app)" in line
