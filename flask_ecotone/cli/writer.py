"""Writes what console commands say to the terminal."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence

import click

from ..console import columns
from ..console import Level
from ..console import PlainConsoleWriter
from ..console import ProgressBar
from ..console import TextProgressBar

_COLOURS: t.Final = {
    Level.INFO: "cyan",
    Level.SUCCESS: "green",
    Level.WARNING: "yellow",
    Level.ERROR: "red",
}
_BAR_WIDTH: t.Final = 30


class ClickConsoleWriter(PlainConsoleWriter):
    """Writes in colours to a terminal, and without to a file or a pipe."""

    def write(self, text: str = "") -> None:
        """Write text as it is."""
        click.echo(text, nl=False)

    def say(self, level: Level, text: str) -> None:
        """Write a line in the colour of what it is about."""
        click.secho(text, fg=_COLOURS[level])

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write rows under headings, in columns."""
        print_table(headings, rows, " | ")

    def progress_bar(self, total: int | None = None) -> ProgressBar:
        """Show the progress of something: in a file or a pipe only how it ends."""
        is_terminal = sys.stdout.isatty()
        bar = _TerminalProgressBar if is_terminal else _FinalProgressBar
        return bar(self.write, total)


class _TerminalProgressBar(TextProgressBar):
    def show(self) -> None:
        if not self.total:
            super().show()
            return
        filled = min(self.done, self.total) * _BAR_WIDTH // self.total
        self.write(f"\r[{'#' * filled:-<{_BAR_WIDTH}}] {self}")


class _FinalProgressBar(TextProgressBar):
    def show(self) -> None:
        pass

    def end(self) -> None:
        self.write(f"{self}\n")


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], separator: str = "  "
) -> None:
    """Print rows under bold headings, in columns."""
    lines = [headings, *rows] if headings else rows
    for number, line in enumerate(columns(lines, separator)):
        click.echo(click.style(line, bold=True) if headings and not number else line)
