"""``flask`` itself: nothing is looked for, or compiled, before it is needed."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from flask import Flask

from flask_ecotone import command_handler
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import Ecotone
from flask_ecotone import environment

from .conftest import FlaskCommand

SITE = """
    import click
    from flask import Flask
    from flask_ecotone import Ecotone, console_command, command_handler, ConsoleWriter

    app = Flask(__name__)
    ecotone = Ecotone(app)

    @app.cli.command("own")
    def own():
        click.echo(app.extensions["ecotone"].is_compiled)

    @console_command("reports:generate", "Writes a report.")
    def generate(name: str, writer: ConsoleWriter, fast: bool = False) -> None:
        writer.success(f"{name} {fast}")

    @console_command("boom")
    def boom() -> None:
        raise OSError("disk full")
"""

UNREADABLE = f"""{SITE}
    ecotone.register(object())
"""

UNSOUND = f"""{SITE}
    @command_handler("a")
    def first() -> None: ...

    @command_handler("a")
    def second() -> None: ...
"""


def test_a_command_is_native(flask: FlaskCommand) -> None:
    """It is in the help, has a help of its own, and runs in a process of its own."""
    listed = flask(SITE, "--help")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "\n  reports " in listed.stdout and "\n  own\n" in listed.stdout
    helped = flask(SITE, "reports", "--help")
    assert "generate  Writes a report." in helped.stdout
    ran = flask(SITE, "reports", "generate", "May", "--fast=true")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "May True\n", "")


def test_a_command_runs_from_the_manifest(flask: FlaskCommand, tmp_path: Path) -> None:
    """A warm boot in production knows the same commands."""
    environ = {"ECOTONE_ENVIRONMENT": "production", "ECOTONE_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        ran = flask(SITE, "reports", "generate", "May", **environ)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "May False\n", "")
        assert list(tmp_path.rglob("*.json"))
        assert "\n  reports " in flask(SITE, "--help", **environ).stdout


def test_exit_codes(flask: FlaskCommand) -> None:
    """2 for wrong usage, 1 for an exception, whose traceback Flask shows."""
    wrong = flask(SITE, "reports", "generate")
    assert wrong.returncode == 2
    assert "Missing argument 'NAME'" in wrong.stderr
    unknown = flask(SITE, "report")
    assert unknown.returncode == 2
    assert "No such command 'report'" in unknown.stderr
    failed = flask(SITE, "boom")
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr and "OSError: disk full" in failed.stderr


@pytest.mark.parametrize("argv", [["routes"], ["own"], ["shell", "--help"]])
@pytest.mark.parametrize("source", [SITE, UNREADABLE, UNSOUND])
def test_other_commands_do_not_look(
    flask: FlaskCommand, source: str, argv: list[str]
) -> None:
    """They work, silently, in an application that can't be compiled."""
    result = flask(source, *argv)
    assert (result.returncode, result.stderr) == (0, "")
    if argv == ["own"]:
        assert result.stdout == "False\n"


def test_help_goes_on_with_a_warning(flask: FlaskCommand) -> None:
    """One line on the standard error, and the commands that are there anyway."""
    result = flask(UNREADABLE, "--help")
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("Warning: console commands can't be listed: <object object")
    assert "\n  own" in result.stdout and "\n  ecotone " in result.stdout


def test_an_unreadable_application_says_so_in_one_line(flask: FlaskCommand) -> None:
    """A name that may be a console command; --debug shows where it comes from."""
    result = flask(UNREADABLE, "reports", "generate", "May")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: <object object") and "no marker" in line
    result = flask(UNREADABLE, "--debug", "reports", "generate", "May")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_an_unsound_application_lists_and_refuses_commands(
    flask: FlaskCommand,
) -> None:
    """Help needs no compiled system, and running a command does."""
    assert flask(UNSOUND, "reports", "generate", "--help").stderr == ""
    result = flask(UNSOUND, "reports", "generate", "May")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: The command 'a' has 2 handlers")


def test_completion_is_silent(flask: FlaskCommand) -> None:
    """A shell that completes names gets those that are there, and no warning."""
    variables = {"_FLASK_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    line = "flask r"
    found = flask(SITE, COMP_WORDS=line, FLASK_APP="site_app", **variables)
    assert "plain,reports" in found.stdout
    found = flask(UNREADABLE, COMP_WORDS=line, FLASK_APP="site_app", **variables)
    assert "plain,routes" in found.stdout
    assert found.stderr == ""


@console_command("seed")
def seed(writer: ConsoleWriter) -> None:
    writer.writeln("seeded")


@command_handler("other")
def other() -> None: ...


def test_listing_does_not_compile(new_app: t.Callable[..., Flask]) -> None:
    """What was found for the list is used when the system is compiled."""
    app = new_app(seed)
    state = app.extensions["ecotone"]
    runner = app.test_cli_runner()
    assert "\n  seed\n" in runner.invoke(args=["--help"]).output
    assert runner.invoke(args=["seed", "--help"]).exit_code == 0
    found = state.catalogue
    assert not state.is_compiled
    assert runner.invoke(args=["seed"]).output == "seeded\n"
    assert state.is_compiled
    assert state.catalogue is found


def test_what_is_registered_after_a_list_is_found() -> None:
    """Looking is no use that would end the set-up of an application."""
    app = Flask("shop")
    ecotone = Ecotone(app, packages=[])
    runner = app.test_cli_runner()
    assert "seed" not in runner.invoke(args=["--help"]).output
    with app.app_context():
        ecotone.register(seed, other)
    assert runner.invoke(args=["seed"]).output == "seeded\n"
    assert "1 endpoint" in runner.invoke(args=["ecotone", "check"]).output


def test_two_applications_have_their_own_commands() -> None:
    """One extension object; what an application lists is its own."""

    @environment("dev")
    @console_command("fixtures")
    def fixtures() -> None: ...

    ecotone = Ecotone(packages=[])
    ecotone.register(seed, fixtures)
    listed = {}
    for name in ("dev", "production"):
        app = Flask(name)
        app.config["ECOTONE_ENVIRONMENT"] = name
        ecotone.init_app(app)
        listed[name] = app.test_cli_runner().invoke(args=["--help"]).output
    assert "fixtures" in listed["dev"] and "seed" in listed["dev"]
    assert "fixtures" not in listed["production"] and "seed" in listed["production"]


@console_command("tidy")
def tidy(room: str, writer: ConsoleWriter, quick: bool = False) -> None:
    writer.writeln(f"{room} is tidy")


def test_a_command_runs_through_the_system(
    new_app: t.Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line is one way to run it, with its values and headers (C-10)."""
    app = new_app(tidy)
    with app.app_context():
        system = app.extensions["ecotone"].system
    run, seen = system.run_console_command, []

    def watch(*arguments: t.Any, **more: t.Any) -> None:
        seen.append(arguments)
        run(*arguments, **more)

    monkeypatch.setattr(system, "run_console_command", watch)
    argv = ["tidy", "--quick", "attic", "--header=tenant:a", "--header=url:http://x"]
    result = app.test_cli_runner().invoke(args=argv)

    assert (result.exit_code, result.output) == (0, "attic is tidy\n")
    headers = {"tenant": "a", "url": "http://x"}
    assert seen == [("tidy", {"room": "attic", "quick": True}, headers)]
