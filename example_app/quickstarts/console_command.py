"""A function is a command of ``flask``: its signature says what can be written.

Run it with ``python -m example_app.quickstarts.console_command``.
"""

from dataclasses import dataclass
from typing import Annotated

from flask import Flask

from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import Ecotone
from flask_ecotone import Header
from flask_ecotone import Option

app = Flask(__name__)
ecotone = Ecotone(app, packages=["example_app.quickstarts.console_command"])


@dataclass(frozen=True)
class Greet:
    """Say hello."""

    name: str


@command_handler
def greet(
    command: Greet,
    writer: ConsoleWriter,
    by: Annotated[str, Header("by")] = "nobody",
) -> None:
    """Say hello, in the terminal of whoever ran the command."""
    writer.info(f"{command.name} was greeted by {by}.")


@console_command("app:example-command", "Shows what a command can take.")
def example(
    name: str,
    types: list[str],
    writer: ConsoleWriter,
    command_bus: CommandBus,
    selection: Annotated[str, Option()] = "default",
) -> None:
    """Take an argument, a list and an option."""
    writer.writeln(
        f"Hello, {name}! You have selected {selection} and {','.join(types)} types."
    )
    command_bus.send(Greet(name))


def run(*arguments: str) -> str:
    """Run a command line as ``flask`` does and return what it printed."""
    result = app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 0, result.output
    return result.output


def main() -> None:
    """Run the example."""
    print("1. flask app example-command John --types=1 --types=2 --selection=custom")
    output = run(
        "app", "example-command", "John", "--types=1", "--types=2", "--selection=custom"
    )
    print(f"   {output.splitlines()[0]}")
    assert output == (
        "Hello, John! You have selected custom and 1,2 types.\n"
        "John was greeted by nobody.\n"
    )

    print("2. An option that is left out has its default")
    output = run("app", "example-command", "John", "--types=1")
    assert output.startswith("Hello, John! You have selected default and 1 types.\n")

    print("3. A header reaches every message that the command sends")
    output = run("app", "example-command", "John", "--types=1", "--header=by:Ada")
    assert output.endswith("John was greeted by Ada.\n")

    print("4. The signature and the description are the help")
    output = run("app", "example-command", "--help")
    assert "Shows what a command can take." in output
    assert "--selection" in output and "NAME" in output

    print("== Example completed successfully ==")


if __name__ == "__main__":
    main()
