"""From the arguments of a method to the parameters of its SQL."""

from __future__ import annotations

import operator
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from ..conversion import compile_expression
from ..conversion import Conversion
from ..conversion import Expression
from ..conversion import names_in
from ..conversion.columns import bare
from ..conversion.columns import bindable
from ..decorators.parameters import SqlParam
from ..definitions import Mark
from ..definitions import SqlParameterMark
from ..discovery import Marked
from ..errors import ConversionError
from ..errors import did_you_mean
from ..errors import HandlerSignatureError
from ..reflection import Parameter
from ..reflection import runtime_class
from ..reflection import Signature
from ..system import MessagingSystem
from .sql_text import ParsedSql

#: Returns a value for SQL, given what expressions may name.
Source = Callable[[Mapping[str, t.Any]], t.Any]

_FUNCTIONS = ("reference", "parameter")


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the parameters of SQL are made."""

    #: Returns their values, given the arguments of a call.
    values: Callable[[tuple[t.Any, ...]], dict[str, t.Any]]
    #: Name → type of the items, where a parameter takes several.
    items: dict[str, type]


def parameters_of(
    marked: Marked[Mark],
    signature: Signature,
    parsed: ParsedSql,
    system: MessagingSystem,
) -> Parameters:
    """Return how the parameters of a method's SQL are made.

    :raises HandlerSignatureError: The SQL has one that nothing makes.
    """
    return _Sources(marked, signature, parsed, system).parameters()


class _Sources:
    def __init__(
        self,
        marked: Marked[Mark],
        signature: Signature,
        parsed: ParsedSql,
        system: MessagingSystem,
    ) -> None:
        self._marked = marked
        self._signature = signature
        self._parsed = parsed
        self._where = signature.where
        self._functions = system.functions
        self._conversion = system.conversion
        self._arguments = tuple(p.name for p in signature.parameters)
        self._used = frozenset(parsed.text.names)

    def parameters(self) -> Parameters:
        sources: dict[str, Source] = {}
        for parameter in self._signature.parameters:
            name = self._name_of(parameter)
            self._add(sources, name, partial(self._argument, parameter))
        for said in self._marked.marks(SqlParameterMark):
            self._add(sources, said.name, partial(self._computed, said))
        for name, expression in self._parsed.expressions.items():
            what = f"{self._where}, the expression :({expression})"
            evaluate = self._expression(expression, what, self._arguments)
            sources[name] = _converted(evaluate, what, self._conversion)
        self._check(sources)
        return Parameters(self._values(sources), self._items())

    def _add(
        self, sources: dict[str, Source], name: str, make: Callable[[], Source]
    ) -> None:
        if name in sources and name in self._used:
            raise HandlerSignatureError(
                f"{self._where}: two things are called {name!r} in the SQL. Give one"
                " of them another name, and use that in the SQL."
            )
        if name in self._used:
            sources[name] = make()

    def _argument(self, parameter: Parameter) -> Source:
        name = parameter.name
        what = f"{self._where}, parameter {name!r}"
        said = parameter.marker(SqlParam) or SqlParam()
        source: Source = operator.itemgetter(name)
        if said.expression is not None:
            evaluate = self._expression(said.expression, what, ("payload", "value"))
            functions = self._functions
            source = lambda names: evaluate(  # noqa: E731
                {**functions, "payload": names[name], "value": names[name]}
            )
        return _converted(source, what, self._conversion, said.convert_to)

    def _computed(self, said: SqlParameterMark) -> Source:
        what = f"{self._where}, @sql_param({said.name!r})"
        evaluate = self._expression(said.expression, what, self._arguments)
        return _converted(evaluate, what, self._conversion, said.convert_to)

    def _expression(
        self, expression: t.Any, what: str, names: tuple[str, ...]
    ) -> Expression:
        hidden = [name for name in names if name in _FUNCTIONS]
        if hidden:
            raise HandlerSignatureError(
                f"{what}: {hidden[0]!r} is a function in expressions, and a parameter"
                " of the method has the same name. Rename the parameter."
            )
        known = (*names, *_FUNCTIONS)
        if isinstance(expression, str):
            for unknown in sorted(names_in(expression) - set(known)):
                raise HandlerSignatureError(
                    f"{what}: it uses {unknown!r}.{did_you_mean(unknown, known)} It can"
                    f" have {', '.join(known)}."
                )
        return compile_expression(expression, what, known)

    def _check(self, sources: dict[str, Source]) -> None:
        known = [self._name_of(p) for p in self._signature.parameters]
        known += [said.name for said in self._marked.marks(SqlParameterMark)]
        for name in self._parsed.text.names:
            if name not in sources:
                listed = f"There is {', '.join(known)}." if known else "There are none."
                raise HandlerSignatureError(
                    f"{self._where}: the SQL uses :{name}, and no parameter has that"
                    f" name.{did_you_mean(name, known)} {listed} A colon that begins no"
                    " parameter is written '\\:'."
                )

    def _values(
        self, sources: dict[str, Source]
    ) -> Callable[[tuple[t.Any, ...]], dict[str, t.Any]]:
        arguments, functions = self._arguments, self._functions
        pairs = tuple(sources.items())

        def values(given: tuple[t.Any, ...]) -> dict[str, t.Any]:
            names = {**functions, **dict(zip(arguments, given, strict=True))}
            return {name: source(names) for name, source in pairs}

        return values

    def _items(self) -> dict[str, type]:
        found: dict[str, type] = {}
        for parameter in self._signature.parameters:
            inside = t.get_args(bare(parameter.type))
            cls = runtime_class(bare(inside[0])) if inside else None
            if cls is not None:
                found[self._name_of(parameter)] = self._stored(cls)
        return found

    def _stored(self, cls: type) -> type:
        # What stands for it in a column: an enum's values, what a converter makes.
        made: type | None = self._conversion.scalar_of(cls)
        if made is not None:
            return made
        values = [each.value for each in getattr(cls, "__members__", {}).values()]
        return type(values[0]) if values else cls

    @staticmethod
    def _name_of(parameter: Parameter) -> str:
        said = parameter.marker(SqlParam)
        return (said.name if said is not None else None) or parameter.name


def _converted(
    source: Source, what: str, conversion: Conversion, media_type: str | None = None
) -> Source:
    def converted(names: Mapping[str, t.Any]) -> t.Any:
        value = source(names)
        try:
            if media_type is None or value is None:
                return bindable(value, conversion)
            return conversion.encode(value, media_type)
        except ConversionError as error:
            raise ConversionError(f"{what}: {error}") from error

    return converted
