"""Which modules an application is made of, and what a manifest remembers of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import sysconfig
import types
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from .configuration import cache_directory
from .configuration import Config
from .definitions import HandlerMark
from .definitions import Kind
from .definitions import mark_of
from .definitions import NamedEventMark
from .discovery import Catalogue
from .discovery import collect
from .discovery import Manifest
from .discovery import Marked
from .discovery import marked_of
from .discovery import modules_of
from .discovery import scan_root
from .discovery.deferring import divide
from .discovery.deferring import Routed
from .discovery.manifest import DeferredModule
from .discovery.manifest import file_name
from .discovery.manifest import forget_outdated
from .discovery.manifest import reference
from .discovery.manifest import Route
from .discovery.manifest import stale
from .errors import DiscoveryError
from .system import MessagingSystem
from .system.endpoint import Endpoint
from .system.found import endpoint_id

_HINT = (
    " Handlers are known from Ecotone's manifest. If this one is newer, clear it with"
    " 'flask ecotone cache clear' and boot again."
)
#: Distributions whose version is part of what a manifest depends on.
_DISTRIBUTIONS = ("Flask-Ecotone", "Flask", "Flask-SQLAlchemy", "SQLAlchemy")


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found, and in which modules."""

    catalogue: Catalogue
    #: The modules that were looked at.
    modules: tuple[types.ModuleType, ...]
    #: What an earlier boot wrote, if that said which modules these are.
    manifest: Manifest | None
    #: What to say besides when nothing handles a message.
    hint: str = ""

    @property
    def notes_keys(self) -> bool:
        """Whether something is handled once, which takes a table."""
        if self.manifest is not None and self.manifest.notes_keys:
            return True
        return self.catalogue.is_deduplicating


class Scanner:
    """Looks for marked code, or reads what an earlier boot found.

    :param packages: What the extension was told to scan; ``None`` for the
        application's own packages.
    :param registered: What was registered besides.
    :param trusts: Whether a manifest is read. One is written in any case.
    """

    def __init__(
        self,
        app: Flask,
        config: Config,
        packages: tuple[str, ...] | None,
        registered: list[t.Any],
        *,
        trusts: bool = True,
    ) -> None:
        self._app = app
        self._config = config
        self._told = packages
        self._registered = registered
        self._trusts = trusts

    @property
    def directory(self) -> Path:
        """Where manifests are kept."""
        return cache_directory(self._app)

    def scan(self) -> Scan:
        """Find what is marked."""
        manifest = self._manifest() if self._trusts and self._is_cached else None
        if manifest is None:
            modules = tuple(modules_of(self._packages()))
        else:
            modules = tuple(map(self._import, manifest.eager))
        found = [*self._registered, *marked_of(modules)]
        mixins = manifest.mixins if manifest else ()
        catalogue = collect(found, self._config.environment, mixins)
        hint = _HINT if manifest and self._config.is_trusting else ""
        return Scan(catalogue, modules, manifest, hint)

    def load(self, module: DeferredModule) -> list[Marked[HandlerMark]]:
        """Import a module of the manifest and return the handlers that it names.

        :raises ConfigurationError: It, or one of them, isn't there any more.
        """
        marked = marked_of([self._import(module.name)])
        handlers = collect(marked, self._config.environment).handlers
        found = {(m.qualified_name, endpoint_id(m)): m for m in handlers}
        for route in module.routes:
            if (route.handler, route.id) not in found:
                said = f"no handler in its module has the id {route.id!r}."
                raise stale(route.handler, self.directory, said)
        return [found[route.handler, route.id] for route in module.routes]

    def remember(self, scan: Scan, system: MessagingSystem) -> None:
        """Write the manifest for the next boot, if there is to be one."""
        if scan.manifest is not None or not self._is_cached:
            return
        handlers = [_routed(endpoint) for endpoint in system.endpoints]
        eager, deferred = divide(
            scan.modules, scan.catalogue, handlers, self._registered
        )
        manifest = Manifest(
            version=_version("Flask-Ecotone"),
            application=self._app.import_name,
            fingerprint=self._config.hash,
            eager=eager,
            deferred=deferred,
            order=tuple(endpoint.id for endpoint in system.endpoints),
            mixins=tuple(scan.catalogue.mixins),
            notes_keys=scan.notes_keys,
        )
        try:
            manifest.write(self._path)
            forget_outdated(self.directory)
        except OSError as error:
            self._app.logger.warning(
                "Ecotone's manifest can't be written to %s: %s. Each boot scans anew.",
                self.directory,
                error,
            )

    @property
    def _is_cached(self) -> bool:
        # A script is another module when it is imported by its name.
        return self._config.is_cached and self._app.import_name != "__main__"

    @property
    def _path(self) -> Path:
        name = file_name(self._app.import_name)
        if self._config.is_trusting:
            return self.directory / name
        return self.directory / self._content_hash() / name

    def _manifest(self) -> Manifest | None:
        name = self._app.import_name
        return Manifest.read(self._path, name, _version("Flask-Ecotone"))

    def _import(self, name: str) -> types.ModuleType:
        try:
            return next(modules_of([name]))
        except DiscoveryError as error:
            cause = error.__cause__
            said = f"{type(cause).__name__}: {cause}"
            raise stale(name, self.directory, said) from cause

    def _packages(self) -> Iterator[str]:
        if self._told is not None:
            yield from self._told
        yield from self._config.namespaces
        if self._told is not None or self._config.namespaces:
            return
        if self._config.load_app_namespaces:
            root = scan_root(self._app.import_name)
            yield root
            for blueprint in self._app.blueprints.values():
                found = scan_root(blueprint.import_name)
                if not _is_installed(found) or _is_installed(root):
                    yield found
                else:
                    # Somebody else's package: what it imports is not ours to run.
                    yield blueprint.import_name

    def _content_hash(self) -> str:
        digest = hashlib.sha256(self._config.hash.encode())
        digest.update(
            json.dumps([sys.version, *map(_version, _DISTRIBUTIONS)]).encode()
        )
        for package in self._packages():
            for name, file in _files(package):
                content = file.read_bytes()
                digest.update(f"\0{package}\0{name}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()[:16]


def _routed(endpoint: Endpoint) -> Routed:
    marked = endpoint.marked
    home = marked.plain if marked.owner is None else marked.owner
    names = [] if endpoint.name is None else [endpoint.name]
    if endpoint.kind is Kind.EVENT:
        # A class with a name is heard by it, also if nothing else mentions the class.
        named = (mark_of(cls, NamedEventMark) for cls in endpoint.types)
        names += [said.name for said in named if said is not None]
    route = Route(
        marked.qualified_name,
        endpoint.id,
        endpoint.kind.value,
        tuple(names),
        tuple(map(reference, endpoint.types)),
    )
    return Routed(home.__module__, route, endpoint.types)


def _files(package: str) -> list[tuple[str, Path]]:
    """Return the source files of a package, with their names inside of it."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if found is None:
        return []
    folders = found.submodule_search_locations
    if folders is None:
        return [("", Path(found.origin))] if found.has_location and found.origin else []
    return sorted(
        (file.relative_to(folder).as_posix(), file)
        for folder in folders
        for file in Path(folder).rglob("*.py")
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _is_installed(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    paths = sysconfig.get_paths()
    return any(file.startswith(paths[key]) for key in ("purelib", "platlib"))
