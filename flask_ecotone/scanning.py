"""Which modules an application is made of, and what a manifest remembers of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import sysconfig
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from .configuration import Config
from .discovery import Catalogue
from .discovery import collect
from .discovery import Manifest
from .discovery import marked_of
from .discovery import modules_of
from .discovery import scan_root
from .discovery.manifest import describe_modules
from .discovery.manifest import FILE_NAME
from .discovery.manifest import reference
from .discovery.manifest import Route
from .discovery.manifest import stale
from .errors import DiscoveryError
from .system import MessagingSystem

#: Distributions whose version is part of what a manifest depends on.
_DISTRIBUTIONS = ("Flask-Ecotone", "Flask", "Flask-SQLAlchemy", "SQLAlchemy")


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found, and in which modules."""

    catalogue: Catalogue
    #: Import names of the modules that were looked at; empty with a manifest.
    modules: tuple[str, ...]
    manifest: Manifest | None


class Scanner:
    """Looks for marked code, or reads what an earlier boot found.

    :param packages: What the extension was told to scan; ``None`` for the
        application's own packages.
    :param registered: What was registered besides.
    """

    def __init__(
        self,
        app: Flask,
        config: Config,
        packages: tuple[str, ...] | None,
        registered: list[t.Any],
    ) -> None:
        self._app = app
        self._config = config
        self._told = packages
        self._registered = registered

    @property
    def directory(self) -> Path:
        """Where manifests are kept."""
        return self._config.cache_dir or Path(self._app.instance_path, "ecotone")

    def scan(self) -> Scan:
        """Find what is marked."""
        manifest = Manifest.read(self._path) if self._config.is_cached else None
        if manifest is None:
            modules = list(modules_of(self._packages()))
        else:
            modules = [m for name in manifest.eager for m in self._import(name)]
        found = [*self._registered, *marked_of(modules)]
        catalogue = collect(found, self._config.environment)
        names = tuple(m.__name__ for m in modules) if manifest is None else ()
        return Scan(catalogue, names, manifest)

    def rescan(self, name: str) -> Catalogue:
        """Import one module of the manifest and return what is marked in it."""
        return collect(marked_of(self._import(name)), self._config.environment)

    def remember(self, scan: Scan, system: MessagingSystem) -> None:
        """Write the manifest for the next boot, if there is to be one."""
        if scan.manifest is not None or not self._config.is_cached:
            return
        routed = []
        for endpoint in system.endpoints:
            marked = endpoint.marked
            module = (marked.owner or marked.plain).__module__
            names = tuple(reference(cls) for cls in endpoint.types)
            route = Route(
                marked.qualified_name, endpoint.kind.value, endpoint.name, names
            )
            routed.append((module, route, endpoint.types))
        manifest = describe_modules(
            [sys.modules[name] for name in scan.modules],
            scan.catalogue,
            routed,
            [endpoint.id for endpoint in system.endpoints],
            self._config.hash,
            self._registered,
        )
        try:
            manifest.write(self._path)
        except OSError as error:
            self._app.logger.warning(
                "Ecotone's manifest can't be written to %s: %s. Each boot scans anew.",
                self.directory,
                error,
            )

    def clear(self) -> None:
        """Remove all manifests; other files in the directory are left alone."""
        clear_manifests(self.directory)

    @property
    def _path(self) -> Path:
        if self._config.is_production:
            return self.directory / FILE_NAME
        return self.directory / self._content_hash() / FILE_NAME

    def _import(self, name: str) -> list[t.Any]:
        try:
            return [next(modules_of([name]))]
        except DiscoveryError as error:
            raise stale(name, self.directory, error) from error.__cause__

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
            for file in _files(package):
                digest.update(file.name.encode())
                digest.update(file.read_bytes())
        return digest.hexdigest()[:16]


def clear_manifests(directory: Path) -> None:
    """Remove the manifests in a directory, and the directories that held only them."""
    for path in [directory / FILE_NAME, *directory.glob(f"*/{FILE_NAME}")]:
        path.unlink(missing_ok=True)
        if path.parent != directory and not any(path.parent.iterdir()):
            path.parent.rmdir()
    if directory.is_dir() and not any(directory.iterdir()):
        shutil.rmtree(directory)


def _files(package: str) -> list[Path]:
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if found is None:
        return []
    folders = found.submodule_search_locations
    if folders is None:
        return [Path(found.origin)] if found.origin else []
    return sorted(f for folder in folders for f in Path(folder).rglob("*.py"))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _is_installed(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    paths = sysconfig.get_paths()
    return any(file.startswith(paths[key]) for key in ("purelib", "platlib"))
