"""The commands of an application: its own click commands, and console commands.

Console commands are looked for only when a name is asked for that nothing else has, or
when help lists them all; nothing is compiled for it. So ``flask routes`` and
``flask db upgrade`` work in an application whose handlers can't be imported.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import MutableMapping
from importlib import metadata

import click
from flask import Flask
from flask.cli import AppGroup

from ..definitions import ConsoleCommandMark
from ..discovery import Catalogue
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import EcotoneError
from ..reflection import describe
from ..system import MessagingSystem
from ..system.console import CommandSignature
from ..system.console import read_commands
from .commands import ConsoleClickCommand

Commands = MutableMapping[str, click.Command]

#: Commands of ``flask`` itself, which come before those of the application.
_FLASK: t.Final = ("routes", "run", "shell")


class State(t.Protocol):
    """What the commands need of an application's state."""

    @property
    def catalogue(self) -> Catalogue:
        """What is marked in the application."""
        ...

    @property
    def system(self) -> MessagingSystem:
        """The messaging system, compiled on first access."""
        ...


class _LazyCommands(AppGroup):
    """Mixed into the class of ``app.cli``."""

    ecotone_app: Flask
    ecotone_state: State
    ecotone_read: tuple[Catalogue, Commands] | None = None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; only unknown names are looked for in the application."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        try:
            return self._console_commands().get(cmd_name)
        except EcotoneError as error:
            if ctx.resilient_parsing:
                return None
            if self.ecotone_app.debug:
                raise
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands; help never fails."""
        names = set(super().list_commands(ctx))
        try:
            names.update(self._console_commands())
        except EcotoneError as error:
            if not ctx.resilient_parsing:
                text = " ".join(str(error).split())
                click.secho(
                    f"Warning: console commands can't be listed: {text}",
                    err=True,
                    fg="yellow",
                )
        return sorted(names)

    def _console_commands(self) -> Commands:
        state = self.ecotone_state
        catalogue = state.catalogue
        if self.ecotone_read is None or self.ecotone_read[0] is not catalogue:
            found = read_commands(catalogue.console_commands)
            _check_names(self.commands, catalogue.console_commands)
            made = _tree(found, lambda c: self._command(c))
            self.ecotone_read = catalogue, made
        return self.ecotone_read[1]

    def _command(self, command: CommandSignature) -> click.Command:
        state = self.ecotone_state
        return ConsoleClickCommand(command, self.ecotone_app, lambda: state.system)


def add_console_commands(app: Flask, state: State) -> None:
    """Let ``app.cli`` find console commands.

    It becomes a group of a subclass that shares its commands, whatever class of group
    the application chose.
    """
    chosen = app.cli
    group_class: t.Any = type("EcotoneCommands", (_LazyCommands, type(chosen)), {})
    group = group_class.__new__(group_class)
    vars(group).update(vars(chosen), ecotone_app=app, ecotone_state=state)
    app.cli = group


def check_console_commands(app: Flask, catalogue: Catalogue) -> None:
    """Refuse console commands that other commands of the application would hide.

    :raises ConfigurationError: A name is taken.
    """
    if catalogue.console_commands:
        _check_names(app.cli.commands, catalogue.console_commands)


def _check_names(
    known: Mapping[str, click.Command], found: Iterable[Marked[ConsoleCommandMark]]
) -> None:
    plugins: dict[str, str] | None = None
    by_name = {marked.said.name: marked for marked in found}
    for name, marked in by_name.items():
        first = name.partition(":")[0]
        if plugins is None:
            plugins = {e.name: e.value for e in _plugins()}
        other = None
        if first in _FLASK:
            other = f"the command {first!r} of Flask"
        elif first in plugins:
            other = f"the command {first!r} of an installed package ({plugins[first]})"
        elif first in known:
            other = _described(known[first])
        if other is not None:
            raise ConfigurationError(
                f"The console command {name!r} ({marked.where}) clashes with {other}."
                " Rename the console command."
            )
        parts = name.split(":")
        for end in range(1, len(parts)):
            shorter = by_name.get(":".join(parts[:end]))
            if shorter is not None:
                raise ConfigurationError(
                    f"The console command {shorter.said.name!r} ({shorter.where})"
                    f" clashes with the group of {name!r} ({marked.where}). Rename one"
                    " of them."
                )


def _plugins() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group="flask.commands")


def _described(command: click.Command) -> str:
    kind = "group" if isinstance(command, click.Group) else "command"
    where = "" if command.callback is None else f" ({describe(command.callback)})"
    return f"the {kind} {command.name!r}{where}"


def _tree(
    found: Mapping[str, CommandSignature],
    make: Callable[[CommandSignature], click.Command],
) -> Commands:
    top: Commands = {}
    for name, command in found.items():
        *groups, _ = name.split(":")
        into = top
        for number, group in enumerate(groups, 1):
            path = " ".join(groups[:number])
            made = into.setdefault(group, AppGroup(group, help=f"Commands of {path}."))
            into = t.cast(click.Group, made).commands
        into[name.rpartition(":")[2]] = make(command)
    return top
