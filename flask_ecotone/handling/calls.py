"""How a marked function is called: on what, and with arguments in order."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ..definitions import Mark
from ..discovery import Marked
from ..reflection import Signature
from ..services import Services


def late_bound(marked: Marked[Mark], services: Services) -> Callable[..., t.Any]:
    """Return a function that can be called without an object.

    A method's object is a service that lives as long as the application. It is made
    when the method is first called.
    """
    owner, name = marked.owner, marked.name
    if owner is None:
        return t.cast(Callable[..., t.Any], marked.function)
    if marked.is_on_class:
        return t.cast(Callable[..., t.Any], getattr(owner, name))
    bound: Callable[..., t.Any] | None = None

    def call(*arguments: t.Any) -> t.Any:
        nonlocal bound
        if bound is None:
            bound = getattr(services.get(owner), name)
        return bound(*arguments)

    return call


def named_method(name: str, signature: Signature) -> Callable[..., t.Any]:
    """Return a function that calls the method of an object.

    It is looked up on each object, as subclasses may have their own.
    """
    if not any(p.keyword_only for p in signature.parameters):
        return lambda target, made: getattr(target, name)(*made)
    return lambda target, made: positional(getattr(target, name), signature)(*made)


def positional(
    function: Callable[..., t.Any], signature: Signature
) -> Callable[..., t.Any]:
    """Return the function so that it takes all of its arguments in order."""
    names = [p.name for p in signature.parameters if p.keyword_only]
    if not names:
        return function
    first = len(signature.parameters) - len(names)

    def call(*arguments: t.Any) -> t.Any:
        keywords = dict(zip(names, arguments[first:], strict=True))
        return function(*arguments[:first], **keywords)

    return call
