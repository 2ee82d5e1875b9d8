"""The production manifest: what a scan found, so that the next boot needn't look.

It holds names only. Modules with nothing but handlers are listed with what they handle
and imported when that is first needed; all others are imported at boot.
"""

from __future__ import annotations

import json
import os
import tempfile
import types
import typing as t
from abc import ABCMeta
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError
from .catalogue import Catalogue

FORMAT = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Route:
    """What one handler of a deferred module handles."""

    #: ``module:qualname`` of the handler.
    handler: str
    kind: str
    #: Routing key, event name or input channel.
    name: str | None
    #: The classes it handles, as ``module:qualname``.
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeferredModule:
    """A module that is imported when one of its handlers is first needed."""

    name: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a scan found."""

    fingerprint: str
    #: Modules that every boot imports.
    eager: tuple[str, ...]
    deferred: tuple[DeferredModule, ...]
    #: The ids of all endpoints, in the order they were found.
    order: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """Read a manifest; ``None`` if there is none, or one of another version."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                return None
            deferred = tuple(
                DeferredModule(
                    module["name"],
                    tuple(
                        Route(**{**route, "types": tuple(route["types"])})
                        for route in module["routes"]
                    ),
                )
                for module in content["deferred"]
            )
            return cls(
                content["fingerprint"],
                tuple(content["eager"]),
                deferred,
                tuple(content["order"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        """Write the manifest in one step: nobody ever reads half of it.

        :raises OSError: The directory can't be written to.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".manifest-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def describe_modules(
    modules: Iterable[types.ModuleType],
    catalogue: Catalogue,
    routed: Sequence[tuple[str, Route, tuple[type, ...]]],
    order: Iterable[str],
    fingerprint: str,
    registered: Iterable[t.Any],
) -> Manifest:
    """Return the manifest of scanned modules.

    :param routed: For each handler its module, its route and the classes it handles.
    :param order: The ids of all endpoints.
    :param registered: What was registered besides; it is there at each boot.
    """
    needed = _modules_with_more(catalogue) | {found.__module__ for found in registered}
    routes: dict[str, list[Route]] = {}
    for module, route, classes in routed:
        routes.setdefault(module, []).append(route)
        if "*" in (route.name or "") or any(map(_is_open, classes)):
            needed.add(module)
    eager, deferred = [], []
    for found in modules:
        name = found.__name__
        if name in needed or _has_models_or_views(found):
            eager.append(name)
        elif name in routes:
            deferred.append(DeferredModule(name, tuple(routes[name])))
    return Manifest(fingerprint, tuple(eager), tuple(deferred), tuple(order))


def stale(name: str, directory: Path, error: Exception) -> ConfigurationError:
    """Return the error of a manifest that names what can't be loaded any more."""
    return ConfigurationError(
        f"Ecotone's manifest references {name!r}, which can no longer be loaded. If it"
        " was removed or renamed since the manifest was built, the production manifest"
        f" at {str(directory)!r} is stale: clear it with 'flask ecotone cache clear',"
        " or delete that directory, and boot again. If the error persists after"
        f" clearing, the name is referenced by your own code. Original error: {error}"
    )


def reference(cls: type) -> str:
    """Return ``module:qualname`` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _modules_with_more(catalogue: Catalogue) -> set[str]:
    # What an interceptor, a converter or a gateway is for can't be told from a message.
    marked: list[t.Any] = [
        *catalogue.interceptors,
        *catalogue.converters,
        *catalogue.tenant_hooks,
        *catalogue.console_commands,
    ]
    classes = [
        *(gateway.cls for gateway in catalogue.gateways),
        *catalogue.buses,
        *catalogue.aggregates,
        *catalogue.repositories,
        *catalogue.media_type_converters,
        *catalogue.named_events.values(),
    ]
    return {
        m.plain.__module__ if m.owner is None else m.owner.__module__ for m in marked
    } | {cls.__module__ for cls in classes}


def _is_open(cls: type) -> bool:
    # Classes that don't name it in their MRO may be instances of it all the same.
    return cls is object or isinstance(cls, ABCMeta)


def _has_models_or_views(module: types.ModuleType) -> bool:
    for found in list(vars(module).values()):
        kind = type(found)
        if issubclass(kind, type):
            if "__mapper__" in vars(found) or "__table__" in vars(found):
                if found.__module__ == module.__name__:
                    return True
        elif any(base.__name__ in ("Blueprint", "Table") for base in kind.__mro__):
            return True
    return False
