"""Where console commands write, and how it looks there."""

from __future__ import annotations

import io
import sys
import threading
import typing as t

import click
import pytest
from flask import Flask

from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone.testing import flow_testing
from flask_ecotone.testing import InMemoryConsoleWriter

from .conftest import Run


@console_command("console-writer:show", "Shows formatted console writer output")
def show(writer: ConsoleWriter) -> None:
    writer.info("Starting orders")
    writer.success("Processed orders")
    writer.warning("Almost done orders")
    writer.error("Failed orders")
    writer.table(["Name", "Status"], [["orders", "running"], ["mail"], [None, 3]])
    progress = writer.progress_bar(2)
    progress.advance()
    progress.advance()
    progress.finish()
    progress.finish()
    writer.write("no ")
    writer.writeln("more")
    writer.writeln()


TABLE = "Name   | Status\norders | running\nmail\n       | 3\n"


def test_output_is_plain_without_a_terminal(run: Run) -> None:
    """Colours and half-filled bars are for terminals; a file gets text."""
    result = run(show, "console-writer", "show")
    assert result.output == (
        "Starting orders\nProcessed orders\nAlmost done orders\nFailed orders\n"
        f"{TABLE}2/2\nno more\n\n"
    )


def test_output_is_coloured_on_a_terminal(run: Run) -> None:
    """Cyan, green, yellow and red; the headings of a table are bold."""
    output = run(show, "console-writer", "show", color=True).output
    assert "\x1b[36mStarting orders\x1b[0m\n" in output
    assert "\x1b[32mProcessed orders\x1b[0m\n" in output
    assert "\x1b[33mAlmost done orders\x1b[0m\n" in output
    assert "\x1b[31mFailed orders\x1b[0m\n" in output
    assert "\x1b[1mName   | Status\x1b[0m\norders | running\n" in output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@console_command("steps")
def steps(writer: ConsoleWriter) -> None:
    with writer.progress_bar(4) as known:
        known.advance()
        known.advance(3)
    with pytest.raises(OSError), writer.progress_bar() as unknown:
        unknown.advance(2)
        raise OSError


def test_a_bar_fills_on_a_terminal(
    new_app: t.Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is drawn over itself; without a total it counts, and it ends its line."""
    terminal = Terminal()
    app = new_app(steps)
    monkeypatch.setattr(sys, "stdout", terminal)
    app.cli.main(args=["steps"], standalone_mode=False)
    assert terminal.getvalue() == (f"\r[{'#' * 7:-<30}] 1/4\r[{'#' * 30}] 4/4\n\r2\n")


def test_the_description_is_the_help(new_app: t.Callable[..., Flask]) -> None:
    """In the help of the command, and in the list of commands."""
    app = new_app(show)
    with app.app_context():
        ctx = click.Context(app.cli)
        group = app.cli.get_command(ctx, "console-writer")
        assert isinstance(group, click.Group)
        command = group.get_command(ctx, "show")
    assert command is not None
    assert command.help == "Shows formatted console writer output"
    listed = app.test_cli_runner().invoke(args=["console-writer", "--help"]).output
    assert "show  Shows formatted console writer output\n" in listed


def test_what_is_written_can_be_read_in_tests() -> None:
    """Lines by what they are about, tables, bars, and the whole text."""
    console = flow_testing([show]).run_console_command("console-writer:show").console
    assert console.info_lines == ["Starting orders"]
    assert console.success_lines == ["Processed orders"]
    assert console.warning_lines == ["Almost done orders"]
    assert console.error_lines == ["Failed orders"]
    ((headings, rows),) = console.tables
    assert headings == ["Name", "Status"]
    assert rows == [["orders", "running"], ["mail"], [None, 3]]
    (bar,) = console.progress_bars
    assert (bar.done, bar.total, bar.is_finished) == (2, 2, True)
    assert console.text == (
        "[INFO] Starting orders\n[OK] Processed orders\n"
        "[WARNING] Almost done orders\n[ERROR] Failed orders\n"
        f"{TABLE}\r1/2\r2/2\nno more\n\n"
    )
    assert console.lines[-2:] == ["no more", ""]
    console.clear()
    assert console.text == "" and not console.tables and not console.progress_bars


def test_tables_without_headings_and_without_rows() -> None:
    """Any iterable of rows will do, also an empty one."""

    @console_command("tables")
    def tables(writer: ConsoleWriter) -> None:
        writer.table([], ([name, 1] for name in ("a", "bcd")))
        writer.table(["Name"], [])
        writer.table([], [])

    console = flow_testing([tables]).run_console_command("tables").console
    assert console.lines == ["a   | 1", "bcd | 1", "Name"]


class Shop:
    def __init__(self, writer: ConsoleWriter) -> None:
        self.writer = writer

    @command_handler("shop.close")
    def close(self) -> None:
        self.writer.info("closed")


def test_a_service_writes_to_whoever_runs_it(
    new_app: t.Callable[..., Flask], capsys: pytest.CaptureFixture[str]
) -> None:
    """One object serves two commands, and messages sent by no command at all."""

    @console_command("close")
    def close(commands: CommandBus) -> None:
        commands.send_with_routing("shop.close")

    app = new_app(Shop, close)
    system = app.extensions["ecotone"].system
    assert app.test_cli_runner().invoke(args=["close"]).output == "closed\n"
    kept = InMemoryConsoleWriter()
    with app.app_context():
        system.run_console_command("close", writer=kept)
        assert kept.info_lines == ["closed"]
        assert capsys.readouterr().out == ""
        app.extensions["ecotone"].command_bus.send_with_routing("shop.close")
    assert capsys.readouterr().out == "[INFO] closed\n"


def test_the_writer_is_given_back_after_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failing command doesn't keep the output of the next one."""

    @console_command("fail")
    def fail(writer: ConsoleWriter) -> None:
        writer.info("failing")
        raise OSError

    flow = flow_testing([fail, show])
    other = InMemoryConsoleWriter()
    with pytest.raises(OSError):
        flow.system.run_console_command("fail", writer=other)
    flow.service(ConsoleWriter).info("outside")
    assert other.info_lines == ["failing"]
    assert flow.console.info_lines == ["outside"]
    assert capsys.readouterr().out == ""


def test_two_threads_do_not_write_into_each_other() -> None:
    """Each command has its own writer, although they share the injected object."""
    both = threading.Barrier(2, timeout=30)

    @console_command("count")
    def count(name: str, writer: ConsoleWriter) -> None:
        for number in range(50):
            both.wait()
            writer.info(f"{name} {number}")

    system = flow_testing([count]).system
    writers = {name: InMemoryConsoleWriter() for name in ("a", "b")}
    threads = [
        threading.Thread(
            target=system.run_console_command,
            args=("count", {"name": name}),
            kwargs={"writer": writer},
        )
        for name, writer in writers.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, writer in writers.items():
        assert writer.info_lines == [f"{name} {number}" for number in range(50)]


def test_a_writer_of_the_application_is_injected_instead() -> None:
    """Whoever provides a ConsoleWriter gets what is written."""
    mine = InMemoryConsoleWriter()
    flow = flow_testing([show], services={ConsoleWriter: mine})
    flow.run_console_command("console-writer:show")
    assert mine.success_lines == ["Processed orders"]
    assert flow.console.lines == []
