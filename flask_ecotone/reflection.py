"""What a signature says, read once at compile time."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import operator
import types
import typing as t
from dataclasses import dataclass

from .definitions import plain_function
from .errors import HandlerSignatureError

MISSING: t.Final = inspect.Parameter.empty

K = t.TypeVar("K")
V = t.TypeVar("V")


class Remembered(dict[K, V]):
    """What was found out about classes, often those of payloads.

    It starts over when it is full, so that classes made at run time can go. It is read
    as fast as any dict.
    """

    __slots__ = ()
    limit: t.ClassVar[int] = 1000

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self.limit and key not in self:
            self.clear()
        super().__setitem__(key, value)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a marked function."""

    name: str
    #: The annotation without ``Annotated``; :data:`MISSING` without annotation.
    type: t.Any
    #: What ``Annotated`` adds to it.
    markers: tuple[t.Any, ...]
    default: t.Any
    keyword_only: bool

    @property
    def is_optional(self) -> bool:
        """Whether ``None`` or a default can stand in for a missing value."""
        return self.default is not MISSING or accepts_none(self.type)

    @property
    def fallback(self) -> t.Any:
        """What an optional parameter gets when there is no value."""
        return None if self.default is MISSING else self.default

    def marker(self, kind: type[T]) -> T | None:
        """Return the first parameter marker of a kind, if there is one."""
        return next((m for m in self.markers if isinstance(m, kind)), None)


T = t.TypeVar("T")


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters and the return annotation of a marked function."""

    where: str
    parameters: tuple[Parameter, ...]
    #: The annotation; :data:`MISSING` if there is none.
    returns: t.Any


def describe(function: t.Any, owner: type | None = None) -> str:
    """Return a function's name with its file and line, for error texts."""
    plain = plain_function(function)
    name = getattr(plain, "__qualname__", None) or repr(plain)
    if owner is not None and "." not in name:
        name = f"{owner.__qualname__}.{name}"
    return f"{getattr(plain, '__module__', '?')}.{name} ({location(plain)})"


def location(marked: t.Any) -> str:
    """Return ``file:line`` of a function or class."""
    plain = inspect.unwrap(plain_function(marked))
    code = getattr(plain, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        return f"{inspect.getsourcefile(plain)}:{inspect.getsourcelines(plain)[1]}"
    except (OSError, TypeError):
        return str(getattr(plain, "__module__", "?"))


def reflect(function: t.Any, owner: type | None = None) -> Signature:
    """Read the signature of a marked function.

    :param function: A function, class method, static method or property.
    :param owner: The class it is defined on; its first parameter is left out then,
        unless it is a static method.
    :raises HandlerSignatureError: An annotation can't be resolved, the function is
        ``async`` or it has ``*args`` or ``**kwargs``.
    """
    where = describe(function, owner)
    plain = plain_function(function)
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise HandlerSignatureError(
            f"{where} is an async function. Handlers run in the thread of the sender:"
            " write a plain 'def'."
        )
    try:
        found = list(inspect.signature(plain).parameters.values())
    except (TypeError, ValueError) as error:
        raise HandlerSignatureError(f"{where} has no readable signature.") from error
    if owner is not None and not isinstance(function, staticmethod):
        if not found or found[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise HandlerSignatureError(
                f"{where} is a method without 'self' or 'cls'. Add it as the first"
                " parameter, or make it a @staticmethod."
            )
        found = found[1:]
    hints = _resolve_hints(plain, owner, where)
    parameters = []
    for parameter in found:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise HandlerSignatureError(
                f"{where} has the parameter {str(parameter)!r}. Name each parameter, so"
                " that it can be filled from the message."
            )
        annotation, markers = split_annotated(hints.get(parameter.name, MISSING))
        parameters.append(
            Parameter(
                parameter.name,
                annotation,
                markers,
                parameter.default,
                parameter.kind is parameter.KEYWORD_ONLY,
            )
        )
    returns, _ = split_annotated(hints.get("return", MISSING))
    return Signature(where, tuple(parameters), returns)


def split_annotated(annotation: t.Any) -> tuple[t.Any, tuple[t.Any, ...]]:
    """Split ``Annotated[T, *markers]``, also where it stands in ``… | None``."""
    if t.get_origin(annotation) is t.Annotated:
        inner, *markers = t.get_args(annotation)
        annotation, nested = split_annotated(inner)
        return annotation, (*markers, *nested)
    if is_union(annotation):
        split = [split_annotated(member) for member in t.get_args(annotation)]
        if any(markers for _, markers in split):
            joined = functools.reduce(operator.or_, (member for member, _ in split))
            return joined, tuple(m for _, markers in split for m in markers)
    return annotation, ()


def field_markers(annotation: t.Any) -> tuple[t.Any, ...]:
    """Return the markers of a class attribute, also inside ``Mapped[…]``."""
    _, markers = split_annotated(annotation)
    if markers or is_union(annotation):
        return markers
    return tuple(m for a in t.get_args(annotation) for m in field_markers(a))


def class_hints(cls: type) -> dict[str, t.Any]:
    """Return the resolved annotations of a class, as far as they can be resolved."""
    try:
        return t.get_type_hints(cls, include_extras=True)
    except Exception:
        hints: dict[str, t.Any] = {}
        for base in reversed(cls.__mro__):
            module = inspect.getmodule(base)
            names = {**vars(module)} if module else {}
            for name, annotation in vars(base).get("__annotations__", {}).items():
                resolved = _evaluate(annotation, names, dict(vars(base)))
                if resolved is not MISSING:
                    hints[name] = resolved
        return hints


def accepts_none(annotation: t.Any) -> bool:
    """Whether ``None`` is a value of the annotated type."""
    if annotation is None or annotation is type(None) or annotation is t.Any:
        return True
    return is_union(annotation) and type(None) in t.get_args(annotation)


def is_union(annotation: t.Any) -> bool:
    """Whether the annotation is ``A | B`` or ``Union[A, B]``."""
    return t.get_origin(annotation) in (t.Union, types.UnionType)


def members(annotation: t.Any) -> tuple[t.Any, ...]:
    """Return the types of a union without ``None``, or the annotation alone."""
    if is_union(annotation):
        return tuple(a for a in t.get_args(annotation) if a is not type(None))
    return (annotation,)


def runtime_class(annotation: t.Any) -> type | None:
    """Return the class behind an annotation such as ``dict[str, int]``, if any."""
    origin = t.get_origin(annotation) or annotation
    if isinstance(origin, t.NewType):
        return runtime_class(origin.__supertype__)
    if origin is t.Any or origin is MISSING:
        return None  # they are classes to Python, and no value is one of theirs
    return origin if isinstance(origin, type) else None


def derives_from(cls: type, base: type) -> bool:
    """Whether a class is, or derives from, another one.

    A Protocol is meant by its name: having the same methods isn't enough.
    """
    if getattr(base, "_is_protocol", False):
        return base in cls.__mro__
    return issubclass(cls, base)


def is_collection(annotation: t.Any) -> bool:
    """Whether the annotated type is a mapping or a sequence, ``str`` left aside."""
    cls = runtime_class(annotation)
    return (
        cls is not None
        and cls not in (str, bytes)
        and issubclass(cls, collections.abc.Collection)
    )


def type_name(annotation: t.Any) -> str:
    """Return a type as a reader would write it."""
    if annotation is MISSING:
        return "no annotation"
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and t.get_origin(annotation) is None:
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def _resolve_hints(plain: t.Any, owner: type | None, where: str) -> dict[str, t.Any]:
    local = dict(vars(owner)) if owner is not None else None
    try:
        return t.get_type_hints(plain, localns=local, include_extras=True)
    except Exception:
        # One of them fails: the others are needed, and the error must name the one.
        names = dict(getattr(plain, "__globals__", {}))
        names.update(_closure(plain))
        hints = {}
        for name, annotation in plain.__annotations__.items():
            resolved = _evaluate(annotation, names, local or {})
            if resolved is not MISSING:
                hints[name] = resolved
            elif name != "return":
                raise HandlerSignatureError(
                    f"{where}: the annotation {annotation!r} of the parameter"
                    f" {name!r} can't be resolved. Import the name at run time, not"
                    " under TYPE_CHECKING, and define it at module level, not inside a"
                    " function."
                ) from None
        return hints


def _evaluate(annotation: t.Any, names: dict[str, t.Any], local: t.Any) -> t.Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names, local)  # noqa: S307 - the app's own source
    except Exception:
        return MISSING


def _closure(plain: t.Any) -> dict[str, t.Any]:
    cells = getattr(plain, "__closure__", None) or ()
    names = {}
    for name, cell in zip(plain.__code__.co_freevars, cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue
    return names
