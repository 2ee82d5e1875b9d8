"""The production manifest: what a scan found, so that the next boot needn't look.

It holds names only: no objects, no paths, nothing of the configuration. Modules with
nothing but handlers are listed with what they handle and imported when that is first
needed; all others are imported at boot.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import ConfigurationError

FORMAT = 1

_TEMPORARY = ".ecotone-"
_NO_NAME = re.compile(r"[^\w.-]")
#: The sub-directories that hold what depends on the content of the source.
_BY_CONTENT = re.compile(r"[0-9a-f]{16}")
#: How many of these there are at most.
_KEPT = 10


@dataclass(frozen=True, slots=True)
class Route:
    """What one handler of a deferred module handles."""

    #: ``module:qualname`` of the handler.
    handler: str
    #: The id of its endpoint.
    id: str
    kind: str
    #: Routing key, event name or input channel; for events the names of the classes.
    names: tuple[str, ...]
    #: The classes it handles, as ``module:qualname``.
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeferredModule:
    """A module that is imported when one of its handlers is first needed."""

    name: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a scan found."""

    #: What wrote it: only the same version reads it.
    version: str
    #: The import name of the application.
    application: str
    #: The fingerprint of the configuration that the scan was made with.
    fingerprint: str
    #: Modules that every boot imports, in the order they were found.
    eager: tuple[str, ...]
    deferred: tuple[DeferredModule, ...]
    #: The ids of all endpoints, in the order they were found.
    order: tuple[str, ...]
    #: Marked classes that others derive from, as ``module:qualname``.
    mixins: tuple[str, ...]
    #: Whether something is handled once, which takes a table.
    notes_keys: bool = False
    format: int = FORMAT

    @classmethod
    def read(cls, path: Path, application: str, version: str) -> Manifest | None:
        """Read a manifest; ``None`` if there is none, or it is somebody else's."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            return None
        mine = (FORMAT, version, application)
        said = (found.format, found.version, found.application)
        return found if said == mine else None

    def write(self, path: Path) -> None:
        """Write the manifest in one step: nobody ever reads half of it.

        :raises OSError: The directory can't be written to.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self), indent=1))
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def file_name(application: str) -> str:
    """Return the name of the file for an application with an import name."""
    return f"ecotone-{_NO_NAME.sub('_', application)}.json"


def clear_manifests(directory: Path) -> None:
    """Remove the manifests in a directory, and what held nothing else.

    :raises ConfigurationError: They can't be removed.
    """
    try:
        for folder in (*_folders(directory), directory):
            _empty(folder)
    except OSError as error:
        raise ConfigurationError(
            f"Ecotone's manifest in {str(directory)!r} can't be removed: {error}"
        ) from error


def forget_outdated(directory: Path) -> None:
    """Remove manifests of earlier source, but for the newest, as far as it goes."""
    with suppress(OSError):
        ages = [(folder.stat().st_mtime, folder) for folder in _folders(directory)]
        for _, folder in sorted(ages)[:-_KEPT]:
            _empty(folder)


def stale(name: str, directory: Path, error: object) -> ConfigurationError:
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


def _empty(folder: Path) -> None:
    for pattern in ("ecotone-*.json", f"{_TEMPORARY}*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    # Somebody else's files, or another process, may be in there.
    with suppress(OSError):
        folder.rmdir()


def _folders(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        for path in list(directory.iterdir()):
            if _BY_CONTENT.fullmatch(path.name) and path.is_dir():
                yield path
