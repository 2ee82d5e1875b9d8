"""Methods of Protocols that execute SQL."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ..definitions import Mark
from ..definitions import SqlMark
from ..definitions import SqlQueryMark
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import HandlerSignatureError
from ..reflection import MISSING
from ..reflection import Signature
from ..reflection import type_name
from ..storage.protocols import Statements
from ..system import MessagingSystem
from .sql_parameters import parameters_of
from .sql_results import results_of
from .sql_text import parse_sql

Send = Callable[[tuple[t.Any, ...]], t.Any]


def sql_method(
    marked: Marked[Mark],
    signature: Signature,
    system: MessagingSystem,
    statements: Statements | None,
) -> Send:
    """Return what a method does with its arguments.

    :param statements: Prepares SQL; ``None`` if the application has no database.
    :raises ConfigurationError: The method or its SQL can't work as it is written.
    """
    said = t.cast(SqlMark, marked.said)
    where = marked.where
    is_query = isinstance(said, SqlQueryMark)
    _check_return(signature, marked, is_query)
    if statements is None:
        raise ConfigurationError(
            f"{where} executes SQL and requires a 'db' connection to be configured."
            " Call db.init_app(app) before ecotone.init_app(app), or provide a service"
            " of the type of the interface."
        )
    dialects = statements.dialects(said.bind, where)

    def in_dialect(name: str) -> Send:
        return _sending(marked, signature, system, statements, name)

    made: dict[str, Send] = {}
    refused: HandlerSignatureError | None = None
    for dialect in dialects:
        try:
            made[dialect] = in_dialect(dialect)
        except HandlerSignatureError as error:
            # Perhaps no tenant that uses it has a database of this kind.
            refused = error
    if refused is not None and not made:
        raise refused
    if said.bind is not None or not system.has_tenants:
        return made[dialects[0]]

    def send(arguments: tuple[t.Any, ...]) -> t.Any:
        dialect = statements.current_dialect()
        found = made.get(dialect)
        if found is None:
            found = made[dialect] = in_dialect(dialect)
        return found(arguments)

    return send


def _sending(
    marked: Marked[Mark],
    signature: Signature,
    system: MessagingSystem,
    statements: Statements,
    dialect: str,
) -> Send:
    said, where = t.cast(SqlMark, marked.said), marked.where
    parsed = parse_sql(said.sql, dialect, where)
    parameters = parameters_of(marked, signature, parsed, system)
    statement = statements.prepare(parsed.text, said.bind, parameters.items, where)
    values = parameters.values
    if isinstance(said, SqlQueryMark):
        fetch = results_of(said, signature, system.conversion)
        return lambda arguments: fetch(statement, values(arguments))
    if signature.returns is int:
        return lambda arguments: statement.write(values(arguments))

    def write(arguments: tuple[t.Any, ...]) -> None:
        statement.write(values(arguments))

    return write


def _check_return(signature: Signature, marked: Marked[Mark], is_query: bool) -> None:
    returns, where = signature.returns, signature.where
    returns_nothing = returns in (None, type(None))
    if returns is MISSING:
        written = getattr(marked.plain, "__annotations__", {}).get("return")
        if written is not None:
            raise HandlerSignatureError(
                f"{where}: the return annotation {written!r} can't be resolved. Import"
                " the name at run time, not under TYPE_CHECKING, and define it at"
                " module level, not inside a function."
            )
        count = "'-> None', or '-> int' for the number of rows"
        raise HandlerSignatureError(
            f"{where} doesn't say what it returns. Annotate"
            f" {'the type of what it finds' if is_query else count}."
        )
    if is_query and returns_nothing:
        raise HandlerSignatureError(
            f"{where} is a query that returns nothing. Annotate the type of what it"
            " finds, or mark it with @sql_write."
        )
    if not is_query and not returns_nothing and returns is not int:
        raise HandlerSignatureError(
            f"{where} returns {type_name(returns)}. A method marked with @sql_write"
            " returns None, or int for the number of rows. Did you mean @sql_query? It"
            " executes INSERT … RETURNING too."
        )
