"""What a console command writes to, and where that goes."""

from __future__ import annotations

import enum
import sys
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextvars import ContextVar


class ProgressBar(t.Protocol):
    """Shows how much of something is done. As a context manager it finishes itself."""

    def advance(self, count: int = 1) -> None:
        """Say that more of it is done."""
        ...

    def finish(self) -> None:
        """Say that nothing more follows."""
        ...

    def __enter__(self) -> t.Self: ...

    def __exit__(self, *error: object) -> None: ...


class ConsoleWriter(t.Protocol):
    """Writes to whoever runs a console command; injected by its type.

    Services and handlers that a command reaches write to the same place. Outside of a
    command it is the standard output.
    """

    def write(self, text: str = "") -> None:
        """Write text as it is."""
        ...

    def writeln(self, text: str = "") -> None:
        """Write a line."""
        ...

    def info(self, text: str) -> None:
        """Write a line that tells what is going on."""
        ...

    def success(self, text: str) -> None:
        """Write a line that tells what went well."""
        ...

    def warning(self, text: str) -> None:
        """Write a line that asks for attention."""
        ...

    def error(self, text: str) -> None:
        """Write a line that tells what went wrong."""
        ...

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write rows under headings, in columns."""
        ...

    def progress_bar(self, total: int | None = None) -> ProgressBar:
        """Show the progress of something.

        :param total: How much there is to do, if that is known.
        """
        ...


class Level(enum.Enum):
    """What a line is about, and how it begins where there are no colours."""

    INFO = "INFO"
    SUCCESS = "OK"
    WARNING = "WARNING"
    ERROR = "ERROR"


class TextProgressBar:
    """A progress bar that is written over and over on one line.

    :param write: Writes text.
    :param total: How much there is to do, if that is known.
    """

    def __init__(self, write: Callable[[str], None], total: int | None = None) -> None:
        self.write = write
        self.total = total
        self.done = 0
        self.is_finished = False

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()

    def __str__(self) -> str:
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    def advance(self, count: int = 1) -> None:
        """Say that more of it is done."""
        self.done += count
        self.show()

    def finish(self) -> None:
        """End the line."""
        if not self.is_finished:
            self.is_finished = True
            self.end()

    def show(self) -> None:
        """Write how much is done over what was written before."""
        self.write(f"\r{self}")

    def end(self) -> None:
        """Write what follows the last state."""
        self.write("\n")


class PlainConsoleWriter:
    """Writes text without colours to the standard output."""

    def write(self, text: str = "") -> None:
        """Write text as it is."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def writeln(self, text: str = "") -> None:
        """Write a line."""
        self.write(f"{text}\n")

    def info(self, text: str) -> None:
        """Write a line that tells what is going on."""
        self.say(Level.INFO, text)

    def success(self, text: str) -> None:
        """Write a line that tells what went well."""
        self.say(Level.SUCCESS, text)

    def warning(self, text: str) -> None:
        """Write a line that asks for attention."""
        self.say(Level.WARNING, text)

    def error(self, text: str) -> None:
        """Write a line that tells what went wrong."""
        self.say(Level.ERROR, text)

    def say(self, level: Level, text: str) -> None:
        """Write a line that is about something."""
        self.writeln(f"[{level.value}] {text}")

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write rows under headings, in columns."""
        lines = [headings, *rows] if headings else rows
        for line in columns(lines, " | "):
            self.writeln(line)

    def progress_bar(self, total: int | None = None) -> ProgressBar:
        """Show the progress of something."""
        return TextProgressBar(self.write, total)


class InMemoryConsoleWriter(PlainConsoleWriter):
    """Keeps what is written, for tests."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._said: list[tuple[Level, str]] = []
        #: Headings and rows of each table.
        self.tables: list[tuple[list[str], list[list[object]]]] = []
        #: Each progress bar, with ``done``, ``total`` and ``is_finished``.
        self.progress_bars: list[TextProgressBar] = []

    @property
    def text(self) -> str:
        """Everything that was written."""
        return "".join(self._pieces)

    @property
    def lines(self) -> list[str]:
        """The lines of everything that was written."""
        return self.text.splitlines()

    @property
    def info_lines(self) -> list[str]:
        """What was written with :meth:`info`."""
        return self._of(Level.INFO)

    @property
    def success_lines(self) -> list[str]:
        """What was written with :meth:`success`."""
        return self._of(Level.SUCCESS)

    @property
    def warning_lines(self) -> list[str]:
        """What was written with :meth:`warning`."""
        return self._of(Level.WARNING)

    @property
    def error_lines(self) -> list[str]:
        """What was written with :meth:`error`."""
        return self._of(Level.ERROR)

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._pieces, self._said, self.tables, self.progress_bars):
            t.cast("list[t.Any]", kept).clear()

    def write(self, text: str = "") -> None:
        """Keep text as it is."""
        self._pieces.append(text)

    def say(self, level: Level, text: str) -> None:
        """Keep a line, and what it is about."""
        self._said.append((level, text))
        super().say(level, text)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Keep a table."""
        listed = [list(row) for row in rows]
        self.tables.append((list(headings), listed))
        super().table(headings, listed)

    def progress_bar(self, total: int | None = None) -> ProgressBar:
        """Keep a progress bar."""
        bar = TextProgressBar(self.write, total)
        self.progress_bars.append(bar)
        return bar

    def _of(self, level: Level) -> list[str]:
        return [text for said, text in self._said if said is level]


class ConsoleOutput:
    """The :class:`ConsoleWriter` of a messaging system: writes to the one in use.

    Which one that is belongs to the running command, so that commands in two threads
    don't write into each other's output.

    :param default: Where text goes that no command writes.
    """

    def __init__(self, default: ConsoleWriter) -> None:
        self._current: ContextVar[ConsoleWriter] = ContextVar(
            "console_writer", default=default
        )

    @contextmanager
    def to(self, writer: ConsoleWriter | None) -> Iterator[None]:
        """Write to a writer; ``None`` stays with the one in use."""
        token = self._current.set(writer or self._current.get())
        try:
            yield
        finally:
            self._current.reset(token)

    def write(self, text: str = "") -> None:
        self._current.get().write(text)

    def writeln(self, text: str = "") -> None:
        self._current.get().writeln(text)

    def info(self, text: str) -> None:
        self._current.get().info(text)

    def success(self, text: str) -> None:
        self._current.get().success(text)

    def warning(self, text: str) -> None:
        self._current.get().warning(text)

    def error(self, text: str) -> None:
        self._current.get().error(text)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self._current.get().table(headings, rows)

    def progress_bar(self, total: int | None = None) -> ProgressBar:
        return self._current.get().progress_bar(total)


def columns(rows: Iterable[Sequence[object]], separator: str) -> list[str]:
    """Return rows as lines whose cells stand below one another.

    A row may be shorter than others, and ``None`` is an empty cell.
    """
    lines = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [
        max((len(line[i]) for line in lines if i < len(line)), default=0)
        for i in range(max(map(len, lines), default=0))
    ]
    return [
        separator.join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=False)
        ).rstrip()
        for line in lines
    ]
