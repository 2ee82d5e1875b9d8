"""From names of packages to the classes and functions marked in their modules."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

from ..definitions import has_marks
from ..definitions import plain_function
from ..errors import did_you_mean
from ..errors import DiscoveryError

#: Modules that hold no handlers, and whose import often has effects.
SKIPPED = frozenset({"__main__", "conftest", "migrations", "setup", "test", "tests"})

_PLAIN = (types.FunctionType, classmethod, staticmethod, property)


def scan_root(import_name: str) -> str:
    """Return what to scan for an application or blueprint with an import name.

    A package is scanned whole, of a module the package it is in, and a module outside
    of packages alone.
    """
    module = sys.modules.get(import_name)
    if module is not None and hasattr(module, "__path__"):
        return import_name
    parent = getattr(module, "__package__", None) or import_name.rpartition(".")[0]
    if not parent or parent.rpartition(".")[2] in SKIPPED:
        return import_name
    return t.cast(str, parent)


def marked_in(packages: Iterable[str]) -> Iterator[t.Any]:
    """Import packages with all of their modules and yield what is marked in them.

    :param packages: Import names of packages or modules.
    :raises DiscoveryError: One of them can't be found or imported.
    """
    yield from marked_of(modules_of(packages))


def marked_of(modules: Iterable[types.ModuleType]) -> Iterator[t.Any]:
    """Yield what is marked in modules, each once."""
    seen: set[tuple[str, str]] = set()
    for module in modules:
        for found in list(vars(module).values()):
            if not _belongs_to(found, module) or not is_marked(found):
                continue
            # A script is imported twice, as __main__ and by its name.
            origin = (module.__file__ or module.__name__, found.__qualname__)
            if origin not in seen:
                seen.add(origin)
                yield found


def is_marked(found: t.Any) -> bool:
    """Whether a class, one of its members, or a function carries a mark."""
    if not issubclass(type(found), type):
        return has_marks(found)
    if hasattr(found, "__ecotone_bus__") or any(map(has_marks, found.__mro__)):
        return True
    return any(True for _ in marked_members(found))


def marked_members(cls: type) -> Iterator[tuple[str, t.Any]]:
    """Yield name and attribute of each marked method of a class or of its bases."""
    seen: set[str] = set()
    for base in cls.__mro__[:-1]:
        for name, member in vars(base).items():
            if name not in seen and isinstance(member, _PLAIN) and has_marks(member):
                yield name, member
            seen.add(name)


def _belongs_to(found: t.Any, module: types.ModuleType) -> bool:
    # Asks for the type, not the class: a proxy must not be looked through.
    kind = type(found)
    if not (issubclass(kind, type) or kind in (types.FunctionType, staticmethod)):
        return False
    plain = plain_function(found)
    if getattr(plain, "__module__", None) != module.__name__:
        return False
    return "<locals>" not in plain.__qualname__ or has_marks(plain)


def modules_of(packages: Iterable[str]) -> Iterator[types.ModuleType]:
    """Import packages and yield them with all of their modules, each once.

    :raises DiscoveryError: One of them can't be found or imported.
    """
    seen: set[str] = set()
    for name in packages:
        for module in _walk(name, f"the package {name!r}"):
            if module.__name__ not in seen:
                seen.add(module.__name__)
                yield module


def _walk(name: str, what: str) -> Iterator[types.ModuleType]:
    module = _import(name, what)
    yield module
    for child in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if child.name not in SKIPPED and not child.name.startswith("test_"):
            yield from _walk(f"{name}.{child.name}", f"the module {name}.{child.name}")


def _import(name: str, what: str) -> types.ModuleType:
    main = sys.modules["__main__"]
    if name == getattr(main.__spec__, "name", None):
        return main  # "python -m": importing it again would run it again
    try:
        # Also if it is there: another thread may be importing it just now.
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            top_level = [m.name for m in pkgutil.iter_modules()]
            raise DiscoveryError(
                f"Could not find {what} while looking for handlers."
                f"{did_you_mean(name.partition('.')[0], top_level)} Check the packages"
                " given to Ecotone(packages=[…]) or ECOTONE_NAMESPACES."
            ) from error
        raise DiscoveryError(_broken(what, error)) from error
    except Exception as error:
        raise DiscoveryError(_broken(what, error)) from error


def _broken(what: str, error: Exception) -> str:
    return (
        f"Could not import {what} while looking for handlers:"
        f" {type(error).__name__}: {error}"
    )
