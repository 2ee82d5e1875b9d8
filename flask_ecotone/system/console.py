"""Console commands: compiled once, run with headers and in a unit of work."""

from __future__ import annotations

import inspect
import logging
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

from ..console import ConsoleOutput
from ..console import ConsoleWriter
from ..decorators.deduplication import DeduplicatedMark
from ..decorators.pointcuts import EndpointMark
from ..definitions import AggregateMark
from ..definitions import ConsoleCommandMark
from ..definitions import inherited_mark_of
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import WithoutTransactionMark
from ..discovery import Marked
from ..errors import did_you_mean
from ..errors import DuplicateHandlerError
from ..errors import HandlerSignatureError
from ..errors import MessagingError
from ..errors import NoHandlerError
from ..handling.arguments import arguments
from ..handling.arguments import plan
from ..handling.arguments import Resolver
from ..handling.calls import late_bound
from ..handling.calls import positional
from ..handling.console import command_parameters
from ..handling.console import CommandParameter
from ..handling.console import given_value
from ..handling.console import given_values
from ..handling.console import HEADER
from ..handling.evaluation import Resolution
from ..handling.flows import target_of
from ..handling.interceptors import Interception
from ..handling.interceptors import Interceptors
from ..handling.pointcuts import JoinPoint
from ..message import checked_metadata
from ..message import Message
from ..reflection import MISSING
from ..reflection import Parameter
from ..reflection import reflect
from ..reflection import Signature
from .endpoint import Flow
from .pipelines import TRANSACTION_PRECEDENCE
from .surroundings import asked
from .surroundings import in_context
from .surroundings import retrying
from .surroundings import Surroundings
from .surroundings import through


@dataclass(frozen=True, slots=True)
class CommandSignature:
    """A console command as its user sees it."""

    marked: Marked[ConsoleCommandMark]
    signature: Signature
    parameters: tuple[CommandParameter, ...]

    @property
    def name(self) -> str:
        """The name, with colons."""
        return self.marked.said.name


def read_command(marked: Marked[ConsoleCommandMark]) -> CommandSignature:
    """Read the signature of a console command.

    :raises HandlerSignatureError: It can't be run from the command line.
    """
    signature = reflect(marked.function, marked.owner)
    if inspect.isgeneratorfunction(marked.plain):
        raise HandlerSignatureError(
            f"The console command {marked.where} yields, so that calling it runs none"
            " of it. Write to a ConsoleWriter."
        )
    if signature.returns not in (MISSING, None, type(None)):
        raise HandlerSignatureError(
            f"The console command {marked.where} returns a value, which nobody gets."
            " Annotate it '-> None' and write to a ConsoleWriter."
        )
    if marked.mark(DeduplicatedMark) is not None:
        raise HandlerSignatureError(
            f"The console command {marked.where} has @deduplicated, and somebody runs"
            " it who means it. Mark the handler of a message that it sends."
        )
    owner = marked.owner
    if owner is not None and not marked.is_on_class:
        if inherited_mark_of(owner, AggregateMark):
            raise HandlerSignatureError(
                f"The console command {marked.where} is a method of an aggregate, and"
                " nothing says of which one. Make it a function that sends a command"
                " to the aggregate."
            )
    return CommandSignature(marked, signature, command_parameters(signature))


def read_commands(
    found: Iterable[Marked[ConsoleCommandMark]],
) -> dict[str, CommandSignature]:
    """Read console commands; each by its name.

    :raises ConfigurationError: One can't be run, or two have the same name.
    """
    commands: dict[str, CommandSignature] = {}
    for marked in found:
        command = read_command(marked)
        other = commands.setdefault(command.name, command)
        if other is not command:
            raise DuplicateHandlerError(
                f"Two console commands are named {command.name!r}:"
                f" {other.marked.where} and {marked.where}. Rename one of them."
            )
    return commands


class ConsoleCommands:
    """The console commands of a messaging system.

    :param output: What is injected as :class:`ConsoleWriter`.
    """

    def __init__(
        self,
        found: Iterable[Marked[ConsoleCommandMark]],
        around: Surroundings,
        resolution: Resolution,
        interceptors: Interceptors,
        output: ConsoleOutput,
    ) -> None:
        self._around = around
        self._resolution = resolution
        self._interceptors = interceptors
        self._output = output
        self._commands = read_commands(found)
        self._flows = {n: self._compose(c) for n, c in self._commands.items()}

    def run(
        self,
        name: str,
        params: Mapping[str, t.Any] | None = None,
        headers: Mapping[str, t.Any] | None = None,
        *,
        writer: ConsoleWriter | None = None,
    ) -> None:
        """Run a command: :meth:`MessagingSystem.run_console_command`.

        Besides values, ``params`` may have a list of ``"name:value"`` as ``header``.
        """
        command = self._commands.get(name)
        if command is None:
            raise NoHandlerError(
                f"Trying to run not existing console command {name}."
                f"{did_you_mean(name, self._commands)} Mark a function with"
                " @console_command, and see that its module is scanned."
            )
        params = params or {}
        metadata = {**checked_metadata(headers or {}), **_given_headers(params)}
        values = given_values(name, command.parameters, params)
        around = self._around
        if around.logger.isEnabledFor(logging.INFO):
            title = command.marked.qualified_name
            around.logger.info("Executing Console Command %s with %s.", name, title)
        message = around.message(values, metadata)
        with self._output.to(writer):
            in_context(around.context, message, self._flows[name])

    def _compose(self, command: CommandSignature) -> Flow:
        marked, around = command.marked, self._around
        markers = tuple(said.marker for said in marked.marks(EndpointMark))
        interception = self._interceptors.of(
            JoinPoint(marked.function, marked.owner, Kind.CONSOLE, markers)
        )
        flow = self._call(command, _inner(interception))
        transaction = around.transaction
        if transaction is not None and marked.mark(WithoutTransactionMark) is None:
            flow = _transactional(flow, transaction.run)
        flow = around.for_tenant(flow)
        retry = marked.mark(InstantRetryMark)
        if retry is not None:
            flow = retrying(flow, asked(retry), around)
        return interception.around_flow(flow, lambda p: p < TRANSACTION_PRECEDENCE)

    def _call(self, command: CommandSignature, interception: Interception) -> Flow:
        marked, signature = command.marked, command.signature
        resolution, context = self._resolution, self._around.context
        given = {p.name: p for p in command.parameters}

        def special(parameter: Parameter) -> Resolver | None:
            found = given.get(parameter.name)
            return None if found is None else given_value(found, resolution.conversion)

        make = arguments(
            signature, plan(signature, resolution, special=special, has_payload=False)
        )
        function = positional(late_bound(marked, resolution.services), signature)
        call = interception.surround(make, lambda _, made: function(*made))
        target = target_of(marked, resolution) if interception.around else None

        def handle(message: Message) -> None:
            call(message, target and target())

        return lambda message: through(interception, context, message, lambda _: handle)


def header_of(text: t.Any) -> tuple[str, str]:
    """Split ``"name:value"`` at the first colon.

    :raises MessagingError: There is no name or no colon.
    """
    name, colon, value = str(text).partition(":")
    if not colon or not name.strip():
        raise MessagingError(
            "Invalid header format. Should be in format 'headerName:headerValue', and"
            f" is {text!r}."
        )
    # As in HTTP. A tenant with a space before it would be another one.
    return name.strip(), value.strip()


def headers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their names.

    :raises MessagingError: One is given twice, and which value counts is a guess.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise MessagingError(
                f"The header {name!r} is given twice, as {found[name]!r} and {value!r}."
                " Give it once."
            )
    return found


def _given_headers(params: Mapping[str, t.Any]) -> dict[str, str]:
    given = params.get(HEADER) or ()
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, Iterable):
        raise MessagingError("Header parameter should be iterable.")
    return headers_of(header_of(each) for each in listed)


def _inner(interception: Interception) -> Interception:
    """Return the interceptors that run inside of the unit of work."""
    pairs = zip(interception.around, interception.precedences, strict=True)
    inner = [(step, p) for step, p in pairs if p >= TRANSACTION_PRECEDENCE]
    return replace(
        interception,
        around=tuple(step for step, _ in inner),
        precedences=tuple(p for _, p in inner),
    )


def _transactional(flow: Flow, run: t.Callable[..., t.Any]) -> Flow:
    return lambda message: run(message.payload, lambda: flow(message))
