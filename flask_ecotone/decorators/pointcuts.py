"""What an interceptor points at."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ..definitions import Mark
from ..definitions import mark

F = t.TypeVar("F")


class Pointcut:
    """What an interceptor points at: a thing, or things joined by ``&``, ``|``, ``~``.

    :param target: A bus or gateway class, a handler, a class, an
        :class:`EndpointMarker`, a marker such as :func:`command_handler`, or a glob
        that is matched against ``module.qualname``.
    """

    __slots__ = ("target",)

    def __init__(self, target: t.Any) -> None:
        self.target = target

    def __and__(self, other: t.Any) -> Pointcut:
        return _All(self, other)

    def __rand__(self, other: t.Any) -> Pointcut:
        return _All(other, self)

    def __or__(self, other: t.Any) -> Pointcut:
        return _Any(self, other)

    def __ror__(self, other: t.Any) -> Pointcut:
        return _Any(other, self)

    def __invert__(self) -> Pointcut:
        return _Not(self)

    def matches(self, test: t.Callable[[t.Any], bool]) -> bool:
        """Whether the whole holds, given a test for a single target."""
        return test(self.target)

    def targets(self) -> list[t.Any]:
        """Return the single targets, for validation."""
        return [self.target]

    def __repr__(self) -> str:
        return getattr(self.target, "__qualname__", None) or repr(self.target)

    @staticmethod
    def of(value: t.Any) -> Pointcut:
        """Return the value itself if it is a pointcut, or a pointcut of it."""
        if isinstance(value, Pointcut):
            return value
        if isinstance(value, type(int | str)):
            first, *others = t.get_args(value)
            joined = Pointcut.of(first)
            for other in others:
                joined = joined | other
            return joined
        return Pointcut(value)


class _Joined(Pointcut):
    __slots__ = ("parts",)
    sign = ""

    def __init__(self, *parts: t.Any) -> None:
        super().__init__(None)
        self.parts = [Pointcut.of(part) for part in parts]

    def targets(self) -> list[t.Any]:
        return [target for part in self.parts for target in part.targets()]

    def __repr__(self) -> str:
        return f"({f' {self.sign} '.join(map(repr, self.parts))})"


class _All(_Joined):
    __slots__ = ()
    sign = "&"

    def matches(self, test: t.Callable[[t.Any], bool]) -> bool:
        return all(part.matches(test) for part in self.parts)


class _Any(_Joined):
    __slots__ = ()
    sign = "|"

    def matches(self, test: t.Callable[[t.Any], bool]) -> bool:
        return any(part.matches(test) for part in self.parts)


class _Not(_Joined):
    __slots__ = ()

    def matches(self, test: t.Callable[[t.Any], bool]) -> bool:
        return not self.parts[0].matches(test)

    def __repr__(self) -> str:
        return f"~{self.parts[0]!r}"


class _MarkerType(type):
    """Lets marker classes be joined to pointcuts: ``RequireAdmin & ~Public``.

    ``|`` is left to Python, so that ``RequireAdmin | None`` stays an annotation; a
    union of classes is a pointcut too.
    """

    def __and__(cls, other: t.Any) -> Pointcut:
        return Pointcut(cls).__and__(other)

    def __rand__(cls, other: t.Any) -> Pointcut:
        return Pointcut.of(other).__and__(cls)

    def __invert__(cls) -> Pointcut:
        return ~Pointcut(cls)


class EndpointMarker(metaclass=_MarkerType):
    """The base of an application's own markers.

    An instance decorates a handler or a class; interceptors point at its class, and get
    the instance by annotating a parameter with the class:

    .. code-block:: python

        @dataclass(frozen=True)
        class RequireRole(EndpointMarker):
            role: str

        @RequireRole("admin")
        @command_handler
        def close_shop(command: CloseShop) -> None: ...

        @before
        def check(marker: RequireRole, user: Annotated[User, Header("user")]) -> None:
            ...
    """

    def __call__(self, marked: F) -> F:
        mark(marked, EndpointMark(marker=self))
        return marked


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointMark(Mark):
    """A function or class carries one of the application's own markers."""

    marker: EndpointMarker
