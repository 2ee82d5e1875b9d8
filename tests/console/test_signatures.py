"""What can't be a command is refused, with the place and the way out."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import click
import pytest
from flask import Blueprint
from flask import Flask

from flask_ecotone import aggregate
from flask_ecotone import console_command
from flask_ecotone import Ecotone
from flask_ecotone import Header
from flask_ecotone import Identifier
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import DuplicateHandlerError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.testing import flow_testing


def test_the_empty_name_is_refused() -> None:
    """The text of Ecotone."""
    with pytest.raises(
        ConfigurationError, match="Console command name can not be empty string"
    ):
        console_command("")


@pytest.mark.parametrize("name", [":a", "a:", "a::b", "a b", "-a", "a:-b", print, None])
def test_a_name_is_words_joined_by_colons(name: t.Any) -> None:
    """A name that couldn't be typed is refused where it is written."""
    with pytest.raises(ConfigurationError, match="joined by colons"):
        console_command(name)


def returns_value() -> int:
    return 1


def yields() -> Iterator[None]:
    yield


def takes_header(header: str) -> None: ...


def takes_help(help: str) -> None: ...


def takes_two(order_id: str, orderId: str) -> None: ...


def takes_opposites(cache: bool, no_cache: bool) -> None: ...


def takes_anything(*names: str) -> None: ...


async def waits() -> None: ...


def takes_pair(pair: tuple[int, str]) -> None: ...


def takes_nonsense(value: NoSuchName) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (returns_value, "returns a value, which nobody gets"),
        (yields, "yields, so that calling it runs none of it"),
        (takes_header, "'header' is reserved for headers and cannot be used"),
        (takes_help, "'help' is reserved"),
        (takes_two, "'order_id' and 'orderId' are both --order-id"),
        (takes_opposites, "'cache' and 'no_cache' are both --no-cache"),
        (takes_anything, r"the parameter .\*names"),
        (waits, "is an async function"),
        (takes_pair, "has values of one type"),
        (takes_nonsense, "NoSuchName"),
    ],
)
def test_a_function_that_is_no_command(function: t.Any, said: str) -> None:
    """The error names the function and what is wrong with it."""
    with pytest.raises(HandlerSignatureError, match=said) as caught:
        flow_testing([console_command("command")(function)])
    assert "test_signatures.py" in str(caught.value)


def test_a_parameter_may_be_a_header_named_header() -> None:
    """Only arguments of the command line have reserved names."""

    @console_command("command")
    def command(header: t.Annotated[str, Header("token")]) -> None: ...

    flow_testing([command]).run_console_command("command", headers={"token": "x"})


def test_a_method_of_an_aggregate_is_refused() -> None:
    """Nothing would say which aggregate is meant; its class methods are fine."""

    @aggregate
    class Order:
        id: t.Annotated[int, Identifier()]

        @console_command("orders:cancel")
        def cancel(self) -> None: ...

    with pytest.raises(HandlerSignatureError, match="nothing says of which one"):
        flow_testing([Order])


def test_two_commands_of_one_name_are_refused() -> None:
    """Both places are named."""

    @console_command("seed")
    def first() -> None: ...

    @console_command("seed")
    def second() -> None: ...

    with pytest.raises(
        DuplicateHandlerError, match="named 'seed': .*first .*second .*Rename one"
    ):
        flow_testing([first, second])


@console_command("reports:generate")
def generate() -> None: ...


@console_command("reports")
def reports() -> None: ...


@console_command("run")
def run() -> None: ...


@console_command("ecotone:mine")
def mine() -> None: ...


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([generate, reports], "'reports' .*reports .* clashes .*'reports:generate'"),
        ([run], "'run' .* clashes with the command 'run' of Flask"),
        ([mine], "'ecotone:mine' .* clashes with the group 'ecotone'"),
    ],
)
def test_names_that_hide_one_another_are_refused(
    new_app: t.Callable[..., Flask], found: list[t.Any], said: str
) -> None:
    """A command that could never be reached is an error of the application."""
    app = new_app(*found)
    with app.app_context(), pytest.raises(ConfigurationError, match=said):
        app.extensions["ecotone"].compile()
    result = app.test_cli_runner().invoke(args=["ecotone", "check"])
    assert result.exit_code == 1


def test_a_command_of_the_application_is_not_hidden() -> None:
    """Its own click group wins, and checking the application names both."""
    app = Flask("shop")
    ecotone = Ecotone(app, packages=[])
    ecotone.register(generate)

    @app.cli.group("reports")
    def own_reports() -> None:
        pass

    @own_reports.command("own")
    def own() -> None:
        click.echo("own")

    runner = app.test_cli_runner()
    assert runner.invoke(args=["reports", "own"]).output == "own\n"
    result = runner.invoke(args=["ecotone", "check"])
    assert result.exit_code == 1
    assert "'reports:generate'" in result.output
    assert "clashes with the group 'reports' (" in result.output
    assert "own_reports" in result.output


def test_commands_of_blueprints_and_the_application_stay() -> None:
    """Whether they were added before or after init_app."""
    app = Flask("shop")
    earlier = app.cli

    @app.cli.command("before")
    def before() -> None:
        click.echo("before")

    ecotone = Ecotone(app, packages=[])
    ecotone.register(generate)

    @app.cli.command("after")
    def after() -> None:
        click.echo("after")

    @earlier.command("late")
    def late() -> None:
        click.echo("late")

    blueprint = Blueprint("admin", "admin", cli_group="admin")

    @blueprint.cli.command("clean")
    def clean() -> None:
        click.echo("clean")

    app.register_blueprint(blueprint)
    runner = app.test_cli_runner()
    for argv in (["before"], ["after"], ["late"], ["admin", "clean"]):
        assert runner.invoke(args=argv).output == f"{argv[-1]}\n"
    assert not app.extensions["ecotone"].is_compiled
    listed = runner.invoke(args=["--help"]).output
    for name in ("admin", "after", "before", "ecotone", "late", "reports"):
        assert f"\n  {name}" in listed
