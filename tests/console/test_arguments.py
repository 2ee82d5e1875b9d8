"""What is written on the command line becomes the arguments of the function."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import converter
from flask_ecotone import Option
from flask_ecotone.testing import flow_testing

from .conftest import Run


class Status(enum.Enum):
    NEW = "new"
    IN_PROGRESS = "inProgress"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Money:
    cents: int


@converter
def to_money(text: str) -> Money:
    euros, _, cents = text.partition(".")
    return Money(int(euros) * 100 + int(cents or 0))


@console_command("app:greet")
def greet(
    name: str,
    types: list[int],
    writer: ConsoleWriter,
    selection: t.Annotated[str, Option()] = "default",
) -> None:
    writer.writeln(f"Hello, {name}! {selection}: {types}")


@console_command("consume")
def consume(
    consumerName: str,
    writer: ConsoleWriter,
    limit: int = 10,
    *,
    stopOnFailure: bool = False,
    wait_for_more: bool = True,
) -> None:
    writer.writeln(f"{consumerName} {limit} {stopOnFailure} {wait_for_more}")


GREET = ["app", "greet"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["John"], "Hello, John! default: []"),
        (
            ["John", "--types=1", "--types", "2", "--selection=custom"],
            "Hello, John! custom: [1, 2]",
        ),
        (["--types", "1", "John"], "Hello, John! default: [1]"),
        (["--name=John", "--selection", "--types"], "Hello, John! --types: []"),
        (["--", "--name"], "Hello, --name! default: []"),
    ],
)
def test_arguments_lists_and_options(run: Run, argv: list[str], expected: str) -> None:
    """A list is repeatable, Option() is named, everything else goes by its place."""
    result = run(greet, *GREET, *argv)
    assert result.output == f"{expected}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["mail"], "mail 10 False True"),
        (["mail", "5"], "mail 5 False True"),
        (["mail", "--stop-on-failure"], "mail 10 True True"),
        (["mail", "--stopOnFailure"], "mail 10 True True"),
        (["--stopOnFailure", "mail"], "mail 10 True True"),
        (["mail", "--stopOnFailure=true"], "mail 10 True True"),
        (["mail", "--stop_on_failure=1"], "mail 10 True True"),
        (["mail", "--stopOnFailure=false"], "mail 10 False True"),
        (["mail", "--stop-on-failure=0"], "mail 10 False True"),
        (["mail", "--stop-on-failure", "--stopOnFailure="], "mail 10 False True"),
        (["mail", "--no-wait-for-more"], "mail 10 False False"),
        (["mail", "--noWaitForMore"], "mail 10 False False"),
        (["mail", "--waitForMore=FALSE"], "mail 10 False False"),
        (["mail", "--no-wait-for-more=false"], "mail 10 False True"),
        (["--consumerName=mail"], "mail 10 False True"),
        (["--consumer-name", "mail", "7"], "mail 7 False True"),
        (["--limit", "7", "mail"], "mail 7 False True"),
        (["--consumer_name=mail", "--limit=7"], "mail 7 False True"),
        (["--consumerName=--limit=7"], "--limit=7 10 False True"),
    ],
)
def test_every_spelling_of_a_name(run: Run, argv: list[str], expected: str) -> None:
    """Kebab, camel and snake case; flags with a value; positionals by their name."""
    result = run(consume, "consume", *argv)
    assert result.output == f"{expected}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "Missing argument 'CONSUMER_NAME'"),
        (["--limit=5"], "Missing argument 'CONSUMER_NAME'"),
        (["mail", "many"], "Invalid value for 'LIMIT': 'many' is not a valid integer"),
        (["mail", "--limit=many"], "'many' is not a valid integer"),
        (["mail", "5", "6"], "unexpected extra argument"),
        (["mail", "5", "--consumer-name=x"], "Invalid value for 'LIMIT'"),
        (["mail", "--stop-on-failure=maybe"], "neither 'true' nor 'false'"),
        (["mail", "--stop-on"], "No such option"),
        (["mail", "--header"], "requires an argument"),
        (["mail", "--header", "tenant"], "'headerName:headerValue'"),
        (["mail", "--header", ":a"], "'headerName:headerValue'"),
        (
            ["mail", "--header=a:1", "--header=b:1", "--header=a:2"],
            "The header 'a' is given twice, as '1' and '2'",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, argv: list[str], said: str) -> None:
    """A usage error says what is wrong, and the command doesn't run."""
    result = run(consume, "consume", *argv)
    assert result.exit_code == 2
    assert said in result.output
    assert "Error: " in result.output


Typed = list[tuple[t.Any, str, t.Any]]

NATURAL: Typed = [
    (int, "-1", -1),
    (float, "1.5", 1.5),
    (t.Any, "1", "1"),
    (str, "1", "1"),
    (Path, "a/b.txt", Path("a/b.txt")),
    (Status, "inProgress", Status.IN_PROGRESS),
    (Level, "2", Level.HIGH),
    (t.Literal["asc", "desc"], "desc", "desc"),
    (t.Literal[1, 2], "2", 2),
    (uuid.UUID, "12345678123456781234567812345678", uuid.UUID("12345678" * 4)),
    (dt.date, "2030-12-31", dt.date(2030, 12, 31)),
    (dt.datetime, "2030-12-31", dt.datetime(2030, 12, 31)),
    (dt.datetime, "2030-12-31T10:00:00Z", dt.datetime(2030, 12, 31, 10, tzinfo=dt.UTC)),
    (dt.timedelta, "PT90S", dt.timedelta(seconds=90)),
    (Decimal, "1.10", Decimal("1.10")),
    (int | None, "5", 5),
    (Status | None, "new", Status.NEW),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (t.NewType("OrderNumber", int), "7", 7),
]


@pytest.mark.parametrize(("annotation", "text", "expected"), NATURAL)
@pytest.mark.parametrize("from_command_line", [True, False], ids=["argv", "params"])
def test_values_have_the_type_of_the_parameter(
    run: Run, annotation: t.Any, text: str, expected: t.Any, from_command_line: bool
) -> None:
    """Whatever is written is converted to the annotation, wherever it comes from."""
    got = []

    def command(value: t.Any) -> None:
        got.append(value)

    command.__annotations__ = {"value": annotation}
    console_command("typed")(command)
    if from_command_line:
        result = run(command, "typed", "--", text)
        assert (result.exit_code, result.output) == (0, "")
    else:
        flow_testing([command]).run_console_command("typed", {"value": text})
    assert got == [expected]
    assert type(got[0]) is type(expected)


def test_values_without_annotation_are_text(run: Run) -> None:
    """A plain function is a command too."""
    got = []

    @console_command("plain")
    def plain(first, second="x"):  # type: ignore[no-untyped-def]
        got.append((first, second))

    assert run(plain, "plain", "1").exit_code == 0
    assert got == [("1", "x")]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (list[Status], [Status.NEW, Status.IN_PROGRESS]),
        (Sequence[Status], [Status.NEW, Status.IN_PROGRESS]),
        (tuple[Status, ...], (Status.NEW, Status.IN_PROGRESS)),
        (set[Status], {Status.NEW, Status.IN_PROGRESS}),
        (list, ["new", "inProgress"]),
        (list[str] | None, ["new", "inProgress"]),
    ],
)
def test_lists_of_any_kind(run: Run, annotation: t.Any, expected: t.Any) -> None:
    """Each value of a list is converted, and the list is of the annotated class."""
    got = []

    def command(value: t.Any = None) -> None:
        got.append(value)

    command.__annotations__ = {"value": annotation}
    console_command("typed")(command)
    assert run(command, "typed", "--value=new", "--value=inProgress").exit_code == 0
    assert run(command, "typed").exit_code == 0
    assert got == [expected, None]


def test_converters_of_the_application_are_used(run: Run) -> None:
    """Option() makes a parameter of any class that something converts text to."""

    @console_command("pay")
    def pay(amount: t.Annotated[Money, Option()], writer: ConsoleWriter) -> None:
        writer.writeln(str(amount.cents))

    assert run([pay, to_money], "pay", "--amount", "1.05").output == "105\n"
    assert run([pay, to_money], "pay").exit_code == 2
    result = run(pay, "pay", "--amount", "1.05")
    assert result.exit_code == 2
    assert "Can't convert str to Money" in result.output


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Status, "done"),
        (t.Literal["asc"], "desc"),
        (dt.datetime, "soon"),
        (Decimal, "much"),
        (uuid.UUID, "1"),
    ],
)
def test_unreadable_values_are_exit_code_2(
    run: Run, annotation: t.Any, text: str
) -> None:
    """A value that can't be converted is wrong usage, whoever converts it."""

    def command(value: t.Any) -> None: ...

    command.__annotations__ = {"value": annotation, "return": None}
    console_command("typed")(command)
    result = run(command, "typed", text)
    assert result.exit_code == 2
    assert "'VALUE'" in result.output


def test_help_shows_description_and_defaults(run: Run) -> None:
    """Help is made of the description, the parameters and their defaults."""

    @console_command("report", "Writes a report about orders.")
    def report(
        name: str,
        limit: int = 10,
        *,
        status: Status = Status.NEW,
        tags: tuple[str, ...] = ("a", "b"),
        quiet: bool = False,
        until: dt.date | None = None,
    ) -> None:
        """Not shown."""

    text = run(report, "report", "--help").output
    assert "report [OPTIONS] NAME [LIMIT=10]\n\n  Writes a report about orders." in text
    assert "[new|inProgress]" in text and "[default: new]" in text
    assert "[default: a, b]" in text
    assert "--quiet / --no-quiet" in text and "[default: no-quiet]" in text
    assert "--until DATE" in text
    assert "--header NAME:VALUE" in text
    assert "Not shown" not in text


def test_help_is_the_docstring_without_its_fields(run: Run) -> None:
    """Without description the docstring is shown, and its first line in the list."""

    @console_command("reports:write")
    def write(name: str) -> None:
        """Write a report
        about orders.

        It takes a while.

        :param name: For readers of the source.
        """

    text = run(write, "reports", "write", "--help").output
    assert "Write a report about orders.\n\n  It takes a while.\n\nOptions:" in text
    listed = run(write, "reports", "--help").output
    assert "write  Write a report about orders.\n" in listed
