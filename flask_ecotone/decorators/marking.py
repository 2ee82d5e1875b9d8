"""How a decorator is made that works with and without parentheses."""

from __future__ import annotations

import typing as t

from ..definitions import Mark
from ..definitions import mark
from ..definitions import plain_function

if t.TYPE_CHECKING:
    # A class method and its kin are generic for type checkers only.
    Markable = (
        t.Callable[..., t.Any]
        | classmethod[t.Any, ..., t.Any]
        | staticmethod[..., t.Any]
        | property
    )

F = t.TypeVar("F", bound="Markable")


class Decorator(t.Protocol):
    """Returns the very object it marks, so that types survive."""

    def __call__(self, marked: F) -> F: ...


def is_markable(value: t.Any) -> bool:
    """Whether a decorator was used without parentheses, directly on its target."""
    return callable(plain_function(value)) and not isinstance(value, str)


def marking(said: Mark) -> Decorator:
    """Return a decorator that stores one mark."""

    def decorate(marked: F) -> F:
        mark(marked, said)
        return marked

    return decorate


def several(given: t.Any) -> tuple[t.Any, ...]:
    """Return what an option lists; text is one thing and not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)
