"""Modules that are imported when one of their handlers is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable

from ..definitions import Kind
from ..discovery.manifest import DeferredModule
from ..discovery.manifest import reference
from ..discovery.manifest import Route
from ..errors import ConfigurationError
from ..errors import EcotoneError


class Deferred:
    """Knows which modules to load before a class, or a name, can be routed.

    :param modules: The modules that aren't imported yet.
    :param load: Imports a module and connects its handlers.
    :param hint: What to say besides when nothing handles a message.
    """

    def __init__(
        self,
        modules: Iterable[DeferredModule],
        load: Callable[[DeferredModule], None],
        hint: str = "",
    ) -> None:
        self._load = load
        self.hint = hint
        self._lock = threading.RLock()
        self._is_loading = False
        self._waiting: dict[str, DeferredModule] = {}
        self._failures: dict[str, EcotoneError] = {}
        self._by_type: dict[tuple[str, str], list[str]] = {}
        self._by_name: dict[tuple[str, str], list[str]] = {}
        for module in modules:
            self._waiting[module.name] = module
            for route in module.routes:
                self._index(module.name, route)

    def before_class(self, cls: type, kind: Kind) -> None:
        """Load what handles instances of a class."""
        if self._waiting:
            for base in cls.__mro__:
                self._need(self._by_type.get((kind.value, reference(base)), ()))

    def before_name(self, name: str, *kinds: Kind) -> None:
        """Load what handles messages with a name."""
        if self._waiting:
            for kind in kinds:
                self._need(self._by_name.get((kind.value, name), ()))

    def waits_for(self, name: str, *kinds: Kind) -> bool:
        """Whether something that isn't loaded yet handles messages with a name."""
        modules = (m for k in kinds for m in self._by_name.get((k.value, name), ()))
        return any(module in self._waiting for module in modules)

    def load_all(self) -> None:
        """Load everything."""
        self._need(list(self._waiting))

    def takes_class(self, cls: type, kind: Kind) -> bool:
        """Whether deferred modules handle instances of a class, loaded or not."""
        bases = map(reference, cls.__mro__)
        return any((kind.value, base) in self._by_type for base in bases)

    def known_names(self, *kinds: Kind) -> list[str]:
        """Return the names that deferred modules handle, loaded or not."""
        values = {kind.value for kind in kinds}
        return [name for kind, name in self._by_name if kind in values]

    def known_types(self, kind: Kind) -> list[str]:
        """Return the names of classes that deferred modules handle, loaded or not."""
        found = (name for value, name in self._by_type if value == kind.value)
        return [name.partition(":")[2] for name in found]

    def _index(self, module: str, route: Route) -> None:
        for name in route.names:
            self._by_name.setdefault((route.kind, name), []).append(module)
        for name in route.types:
            self._by_type.setdefault((route.kind, name), []).append(module)

    def _need(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._waiting:
                with self._lock:
                    module = self._waiting.get(name)
                    if module is not None:
                        self._load_once(module)

    def _load_once(self, module: DeferredModule) -> None:
        failure = self._failures.get(module.name)
        if failure is not None:
            raise type(failure)(*failure.args) from failure.__cause__
        if self._is_loading:
            raise ConfigurationError(
                f"Ecotone was used while {module.name} or another module with handlers"
                " was being imported. Use buses and gateways inside functions, not at"
                " import time."
            )
        self._is_loading = True
        try:
            self._load(module)
        except EcotoneError as error:
            # It keeps waiting, for the same error.
            self._failures[module.name] = error
            raise
        finally:
            self._is_loading = False
        del self._waiting[module.name]
