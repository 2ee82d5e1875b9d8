"""Which modules a boot must import, and which can wait until they are needed."""

from __future__ import annotations

import types
import typing as t
from abc import ABCMeta
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

from .catalogue import Catalogue
from .effects import has_effects
from .manifest import DeferredModule
from .manifest import Route


@dataclass(frozen=True, slots=True)
class Routed:
    """A handler: in which module it is, and what it handles."""

    module: str
    route: Route
    types: tuple[type, ...]

    @property
    def can_wait(self) -> bool:
        """Whether a message tells that it is for this handler."""
        route = self.route
        if any("*" in name for name in route.names) or any(map(_is_open, self.types)):
            return False
        # What is made inside of a function may be another one the next time.
        return not any("<" in name for name in (route.handler, *route.types))


def divide(
    modules: Iterable[types.ModuleType],
    catalogue: Catalogue,
    handlers: Sequence[Routed],
    registered: Iterable[t.Any],
) -> tuple[tuple[str, ...], tuple[DeferredModule, ...]]:
    """Return the modules to import at boot, and those that can wait.

    Modules without handlers that do nothing when they are imported are neither.

    :param registered: What was registered besides; it is there at each boot.
    """
    needed = _modules_with_more(catalogue)
    needed |= {found.__module__ for found in registered}
    needed |= {handler.module for handler in handlers if not handler.can_wait}
    routes: dict[str, list[Route]] = {}
    for handler in handlers:
        routes.setdefault(handler.module, []).append(handler.route)
    eager, deferred = [], []
    for module in modules:
        name = module.__name__
        if name in needed or has_effects(module):
            eager.append(name)
        elif name in routes:
            deferred.append(DeferredModule(name, tuple(routes[name])))
    return tuple(eager), tuple(deferred)


def _modules_with_more(catalogue: Catalogue) -> set[str]:
    # What an interceptor, a converter or a gateway is for can't be told from a message.
    marked: list[t.Any] = [
        *catalogue.interceptors,
        *catalogue.converters,
        *catalogue.tenant_hooks,
        *catalogue.console_commands,
        *catalogue.scheduled,
        *catalogue.pollers,
    ]
    classes: list[t.Any] = [
        *(gateway.cls for gateway in catalogue.gateways),
        *catalogue.buses,
        *catalogue.aggregates,
        *catalogue.repositories,
        *catalogue.media_type_converters,
        *catalogue.named_events.values(),
    ]
    classes += [m.plain if m.owner is None else m.owner for m in marked]
    return {found.__module__ for found in classes}


def _is_open(cls: type) -> bool:
    # Classes that don't name it in their MRO may be instances of it all the same.
    return cls is object or isinstance(cls, ABCMeta)
