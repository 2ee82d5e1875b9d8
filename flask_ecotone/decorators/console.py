"""The marker of console commands."""

from __future__ import annotations

import re

from ..definitions import ConsoleCommandMark
from ..errors import ConfigurationError
from .marking import Decorator
from .marking import marking

#: Words joined by colons, none of which the command line would take for an option.
_NAME = re.compile(r"(?!-)[^\s:]+(:(?!-)[^\s:]+)*")


def console_command(name: str, description: str = "") -> Decorator:
    """Mark a function or method as a command of ``flask``.

    Its parameters become arguments and options: ``bool``, lists, keyword-only
    parameters and those marked :class:`Option` are options, others are positional.
    Services and what is marked :class:`Header`, :class:`Reference` or the like are
    injected, among them a :class:`~flask_ecotone.ConsoleWriter`.

    :param name: The name of the command. A colon separates groups: the command
        ``"reports:generate"`` is ``flask reports generate``.
    :param description: The help text; by default the docstring.
    """
    if name == "":
        raise ConfigurationError(
            "Console command name can not be empty string. Name it, for example"
            ' @console_command("reports:generate").'
        )
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"@console_command takes the name of the command, and got {name!r}. Name it"
            ' with words joined by colons, for example "reports:generate".'
        )
    return marking(ConsoleCommandMark(name=name, description=description))
