"""From console commands of the application to commands of ``flask``."""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import click
from flask import current_app
from flask import Flask

from ..errors import EcotoneError
from ..handling.console import CommandParameter
from ..handling.console import HEADER
from ..handling.console import spelling
from ..reflection import MISSING
from ..system import MessagingSystem
from ..system.console import CommandSignature
from .headers import header_option
from .types import param_type
from .types import shown_default
from .types import switched
from .writer import ClickConsoleWriter

_BY_NAME: t.Final = f"{__name__}.by_name"
_HEADER_HELP: t.Final = "A header; what the command causes inherits it."


class ConsoleClickCommand(click.Command):
    """A console command of the application.

    Names of options may be written as in Python or in camel case, ``=true`` and
    ``=false`` switch a flag, and positional arguments can be given by name.
    """

    def __init__(
        self,
        command: CommandSignature,
        app: Flask,
        system: Callable[[], MessagingSystem],
    ) -> None:
        self._command = command
        self._app = app
        self._system = system
        self._spelled = {p.spelling: p for p in command.parameters}
        help = _help(command)
        super().__init__(
            command.name.rpartition(":")[2],
            callback=self._run,
            params=[*map(self._param, self._in_order()), header_option(_HEADER_HELP)],
            help=help,
            short_help=help.partition("\n\n")[0].replace("\n", " "),
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring the names of options into the spelling that click knows."""
        by_name = ctx.meta[_BY_NAME] = set[str]()
        return super().parse_args(ctx, list(self._respelled(args, by_name, ctx)))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; a positional one that is given by name is an option.

        The arguments that are left fill the others in order.
        """
        by_name = ctx.meta.get(_BY_NAME, ())
        return [
            self._option(self._spelled[spelling(param.name)])
            if param.name in by_name
            else param
            for param in super().get_params(ctx)
        ]

    def _run(self, header: Iterable[tuple[str, str]], **values: t.Any) -> None:
        app, command = self._app, self._command.name
        context = click.get_current_context()
        if not current_app or current_app._get_current_object() is not app:  # type: ignore[attr-defined]
            context.with_resource(app.app_context())
        writer = ClickConsoleWriter()
        # A list that wasn't given is as the function says, which may be None.
        values = {name: value for name, value in values.items() if value != ()}
        try:
            system = self._system()
            system.run_console_command(command, values, dict(header), writer=writer)
        except EcotoneError as error:
            if app.debug:
                raise
            raise click.ClickException(str(error)) from error

    def _in_order(self) -> Iterator[CommandParameter]:
        # Options last, so that usage and help show them in the order written.
        yield from (p for p in self._command.parameters if not p.is_option)
        yield from (p for p in self._command.parameters if p.is_option)

    def _param(self, parameter: CommandParameter) -> click.Parameter:
        if parameter.is_option:
            return self._option(parameter)
        name = parameter.spelling.upper().replace("-", "_")
        is_required = self._is_filled(parameter)
        default = shown_default(parameter)
        if not is_required:
            shown = name if default is None else f"{name}={default}"
            name = f"[{shown}]"
        argument = _Argument(
            [parameter.name],
            type=param_type(parameter, self._system),
            metavar=name,
            required=is_required,
            **({} if is_required else {"default": default}),
        )
        # Click writes the names of arguments in lower case.
        argument.name = parameter.name
        return argument

    def _is_filled(self, parameter: CommandParameter) -> bool:
        # What stands before a required argument can't be left out.
        positional = [p for p in self._command.parameters if not p.is_option]
        following = positional[positional.index(parameter) :]
        return any(p.is_required for p in following)

    def _option(self, parameter: CommandParameter) -> click.Option:
        declaration = f"--{parameter.spelling}"
        more: dict[str, t.Any] = {}
        if parameter.is_flag:
            declaration = "/".join(f"--{name}" for name in parameter.spellings)
            more["is_flag"] = True
        else:
            more["type"] = param_type(parameter, self._system)
        if parameter.is_required:
            more["required"] = True
        elif parameter.parameter.default is not MISSING or parameter.is_flag:
            more["default"] = default = shown_default(parameter)
            more["show_default"] = default not in (None, [])
        return click.Option(
            [declaration, parameter.name],
            multiple=parameter.container is not None,
            help="Can be given several times." if parameter.container else None,
            **more,
        )

    def _respelled(
        self, args: list[str], by_name: set[str], ctx: click.Context
    ) -> Iterator[str]:
        tokens = iter(args)
        for token in tokens:
            name, equals, value = token.partition("=")
            parameter = self._parameter(name)
            if token == "--":
                yield token
                yield from tokens
            elif parameter is None:
                yield token
                if token == f"--{HEADER}":
                    yield from _next(tokens)
            elif parameter.is_flag:
                is_on = not self._is_off(name)
                if equals:
                    is_on = is_on is switched(name, value, ctx)
                yield f"--{'' if is_on else 'no-'}{parameter.spelling}"
            else:
                if not parameter.is_option:
                    by_name.add(parameter.name)
                yield f"--{parameter.spelling}{equals}{value}"
                if not equals:
                    yield from _next(tokens)

    def _parameter(self, token: str) -> CommandParameter | None:
        if not token.startswith("--") or token == "--":
            return None
        found = self._spelled.get(spelling(token[2:]))
        if found is None and self._is_off(token):
            found = self._spelled.get(spelling(token[2:])[3:])
            return found if found is not None and found.is_flag else None
        return found

    def _is_off(self, token: str) -> bool:
        spelled = spelling(token[2:])
        return spelled not in self._spelled and spelled.startswith("no-")


class _Argument(click.Argument):
    def get_error_hint(self, ctx: click.Context | None) -> str:
        # The name alone, without the default that usage shows.
        return f"'{spelling(self.name or '').upper().replace('-', '_')}'"


def _next(tokens: Iterator[str]) -> Iterator[str]:
    # What follows is a value, also if it looks like an option.
    for value in tokens:
        yield value
        return


def _help(command: CommandSignature) -> str:
    said = command.marked.said.description
    if said:
        return said
    text = inspect.cleandoc(command.marked.plain.__doc__ or "")
    # Fields such as ":param name:" are for readers of the source.
    return text.partition("\n:")[0].strip() if not text.startswith(":") else ""
