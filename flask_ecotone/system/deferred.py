"""Modules that are imported when one of their handlers is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable

from ..discovery.manifest import DeferredModule
from ..discovery.manifest import reference
from ..discovery.manifest import Route


class Deferred:
    """Knows which modules to load before a class, or a name, can be routed.

    :param modules: The modules that aren't imported yet.
    :param load: Imports a module and connects its handlers.
    """

    def __init__(
        self,
        modules: Iterable[DeferredModule],
        load: Callable[[DeferredModule], None],
    ) -> None:
        self._load = load
        self._lock = threading.RLock()
        self._waiting: dict[str, DeferredModule] = {}
        self._by_type: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for module in modules:
            self._waiting[module.name] = module
            for route in module.routes:
                self._index(module.name, route)

    def before_class(self, cls: type) -> None:
        """Load what handles instances of a class."""
        if self._waiting:
            for base in cls.__mro__:
                self._need(self._by_type.get(reference(base), ()))

    def before_name(self, name: str) -> None:
        """Load what handles messages with a name."""
        if self._waiting:
            self._need(self._by_name.get(name, ()))

    def load_all(self) -> None:
        """Load everything."""
        self._need(list(self._waiting))

    def known_names(self) -> list[str]:
        """Return the names that modules not loaded yet handle."""
        return list(self._by_name) if self._waiting else []

    def _index(self, module: str, route: Route) -> None:
        if route.name is not None:
            self._by_name.setdefault(route.name, []).append(module)
        for name in route.types:
            self._by_type.setdefault(name, []).append(module)

    def _need(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._waiting:
                continue
            with self._lock:
                module = self._waiting.get(name)
                if module is not None:
                    # A module that can't be loaded keeps waiting, for the same error.
                    self._load(module)
                    del self._waiting[name]
