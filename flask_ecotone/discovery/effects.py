"""Whether a module does something to others while it is imported.

A module that only defines classes and functions can wait until it is needed. One that
maps a class, registers a route or listens to an event has to be imported at boot, or
the application would be another one until then. In doubt it is imported.
"""

from __future__ import annotations

import ast
import builtins
import sys
import types
import typing as t
from collections.abc import Iterator

from ..decorators.pointcuts import EndpointMarker

#: Packages whose decorators and base classes only shape what they are used on.
_SHAPING = frozenset({"attr", "attrs", "flask_ecotone", "msgspec", "pydantic"})
_SHAPING |= {"pydantic_core", "typing_extensions", *sys.stdlib_module_names}

_UNKNOWN = object()
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_Statement = ast.stmt | ast.excepthandler | ast.match_case


def has_effects(module: types.ModuleType) -> bool:
    """Whether importing a module changes anything but the module."""
    tree = _parsed(module)
    if tree is None:
        return True
    names, imported = dict(vars(module)), _imported(tree)
    if any(_registers(v, module, n in imported) for n, v in names.items()):
        return True
    for name, is_shaping in imported.items():
        if not (is_shaping or _is_named(names.get(name))):
            names[name] = _UNKNOWN  # an object of others, such as a list to add to
    used = (each for statement in _statements(tree.body) for each in _used(statement))
    return any(not _is_shaping(_resolved(each, names)) for each in used)


def _parsed(module: types.ModuleType) -> ast.Module | None:
    loader = getattr(module, "__loader__", None)
    try:
        source = loader.get_source(module.__name__)  # type: ignore[union-attr]
        return None if source is None else ast.parse(source)
    except (AttributeError, ImportError, SyntaxError, ValueError, RecursionError):
        return None


def _imported(tree: ast.Module) -> dict[str, bool]:
    """Return imported names, and whether they come from packages that only shape."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            home = node.module if isinstance(node, ast.ImportFrom) else None
            is_relative = isinstance(node, ast.ImportFrom) and node.level > 0
            for alias in node.names:
                top = (home or alias.name).partition(".")[0]
                name = (alias.asname or alias.name).partition(".")[0]
                found[name] = top in _SHAPING and not is_relative
    return found


def _registers(found: t.Any, module: types.ModuleType, is_imported: bool) -> bool:
    """Whether something in a module is known to others, such as a mapped class."""
    kind = type(found)
    if not issubclass(kind, type):
        names = {base.__name__ for base in kind.__mro__}
        # A blueprint is often imported for its routes; a table for queries.
        return "Blueprint" in names or ("Table" in names and not is_imported)
    if found.__module__ != module.__name__:
        return False
    own = vars(found)
    if "__mapper__" in own or "__table__" in own or not _is_shaping(kind):
        return True
    return any(
        "__init_subclass__" in vars(base) and not _is_shaping(base)
        for base in found.__mro__[1:]
    )


def _statements(body: t.Iterable[_Statement]) -> Iterator[_Statement]:
    """Yield what runs on import, also in blocks such as ``try`` and ``if``."""
    for statement in body:
        yield statement
        if not isinstance(statement, _DEFINITIONS):
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _statements(getattr(statement, name, ()))


def _used(statement: _Statement) -> Iterator[ast.expr]:
    """Yield what a statement calls or changes, and the decorators of a definition."""
    if isinstance(statement, _DEFINITIONS):
        yield from statement.decorator_list
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield statement.value
    elif isinstance(statement, ast.Assign):
        yield from _changed(statement.targets)
    elif isinstance(statement, ast.AugAssign):
        yield from _changed([statement.target])


def _changed(targets: list[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Attribute, ast.Subscript)):
            yield target.value


def _resolved(node: ast.expr, names: dict[str, t.Any]) -> t.Any:
    """Return the object that an expression begins with; nothing is called."""
    if isinstance(node, ast.Name):
        return names.get(node.id, vars(builtins).get(node.id, _UNKNOWN))
    if isinstance(node, ast.Attribute):
        base = _resolved(node.value, names)
        if _is_a(base, types.ModuleType):
            found = vars(base).get(node.attr)
            return found if _is_named(found) else base
        return base
    if isinstance(node, ast.Call):
        return _resolved(node.func, names)
    if isinstance(node, ast.Subscript):
        return _resolved(node.value, names)
    return None  # a constant, a lambda


def _is_named(found: t.Any) -> bool:
    return _is_a(found, type, types.ModuleType, EndpointMarker, *_FUNCTIONS)


def _is_a(found: t.Any, *kinds: type) -> bool:
    # Asks for the type, not the class: a proxy must not be looked through.
    return issubclass(type(found), kinds)


def _is_shaping(found: t.Any) -> bool:
    if found is _UNKNOWN:
        return False
    if _is_a(found, types.ModuleType):
        home = found.__name__
    elif _is_a(found, type, *_FUNCTIONS):
        if _is_a(found, type) and issubclass(found, EndpointMarker):
            return True
        home = found.__module__ or "builtins"
    elif _is_a(found, EndpointMarker):
        return True
    else:
        home = type(found).__module__
        if home.startswith("flask_ecotone"):
            return False  # the extension object itself, a bus
    return home.partition(".")[0] in _SHAPING
