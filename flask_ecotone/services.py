"""Services: what handlers need besides the message, from an svcs registry.

Two lifetimes. What a handler's class takes in its constructor lives as long as the
application; what a handler takes as a parameter lives as long as the message.
"""

from __future__ import annotations

import abc
import atexit
import inspect
import threading
import typing as t
import weakref

import svcs

from .errors import ServiceNotFoundError
from .message import Message
from .reflection import runtime_class
from .reflection import type_name

T = t.TypeVar("T")


#: Nobody says when an application ends: what it has open is cleaned up at the end.
_open: weakref.WeakSet[Services] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for services in list(_open):
        services.close()


class Services:
    """The services of one messaging system.

    :param registry: Where services are registered; often the application's own.
    """

    def __init__(self, registry: svcs.Registry) -> None:
        self.registry = registry
        self._names: dict[str, t.Any] = {}
        self._values: dict[t.Any, t.Any] = {}
        self._lock = threading.RLock()
        self._application = _Scope(self)
        _open.add(self)

    def provide_value(self, key: t.Any, value: t.Any) -> None:
        """Provide an object that is there already, by its type or by a name."""
        self._values[key] = value

    def name(self, name: str, key: t.Any) -> None:
        """Give a service type a name."""
        self._names[name] = key

    def has(self, key: t.Any) -> bool:
        """Whether something provides the service; nothing is made to find out."""
        return self.is_registered(key) or is_constructible(key)

    def types(self) -> list[type]:
        """Return the types that somebody registered."""
        registered = [service.svc_type for service in self.registry]
        return [c for c in (*self._values, *registered) if isinstance(c, type)]

    def is_registered(self, key: t.Any) -> bool:
        """Whether somebody registered the service."""
        key = self._names.get(key, key) if isinstance(key, str) else key
        return key in self._values or key in self.registry

    def get(self, key: t.Any) -> t.Any:
        """Return a service that lives as long as the application.

        :raises ServiceNotFoundError: Nothing provides it.
        """
        with self._lock:
            return self._application.resolve(key)

    def for_message(self, message: Message, key: t.Any) -> t.Any:
        """Return a service that lives as long as a message.

        :raises ServiceNotFoundError: Nothing provides it.
        """
        if key in self._values:
            return self._values[key]
        if message.scope is None:
            message.scope = _Scope(self)
        return message.scope.resolve(key)

    def close(self) -> None:
        """Clean up the services that live as long as the application."""
        with self._lock:
            self._application.close()
            self._application = _Scope(self)


class _Scope:
    """Makes each service once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.container = svcs.Container(services.registry)
        self._made: dict[t.Any, t.Any] = {}
        self._path: list[t.Any] = []

    def resolve(self, key: t.Any) -> t.Any:
        """Return a service, or say what is missing on the way to it."""
        try:
            return self.get(key)
        except RecursionError:
            raise ServiceNotFoundError(
                f"The factories of services need each other in a circle, beginning with"
                f" {_name(key)}. Break it by passing one of them a factory."
            ) from None
        except svcs.exceptions.ServiceNotFoundError as error:
            missing = error.args[0] if error.args else key
            path = getattr(error, "path", (key, missing))
            raise ServiceNotFoundError(_explain(missing, path)) from None

    def get(self, key: t.Any) -> t.Any:
        """Stand in for the container when svcs wires a constructor.

        So classes that nobody registered are wired too.
        """
        services = self._services
        if isinstance(key, str):
            key = services._names.get(key, key)
        if key in services._values:
            return services._values[key]
        if key in self._made:
            return self._made[key]
        if key in self._path:
            raise ServiceNotFoundError(
                "Services need each other in a circle:"
                f" {' → '.join(map(_name, [*self._path, key]))}. Break it by passing"
                " one of them a factory."
            )
        self._path.append(key)
        try:
            if key in services.registry:
                return self.container.get(key)
            if not is_constructible(key):
                raise _Missing(key, tuple(self._path))
            # Kept only once it is complete: a failure leaves nothing half built.
            made = self._made[key] = self._wire(key)
            return made
        finally:
            self._path.pop()

    def _wire(self, cls: type) -> t.Any:
        try:
            return svcs.autowire(cls)(t.cast(svcs.Container, self))
        except TypeError:
            for parameter in inspect.signature(cls).parameters.values():
                if parameter.annotation is parameter.default is parameter.empty:
                    raise ServiceNotFoundError(
                        f"The parameter {parameter.name!r} of {_name(cls)}() has no"
                        " annotation, so nothing says which service it takes. Annotate"
                        f" it, or register ecotone.provide({_name(cls)}, factory)."
                    ) from None
            raise

    def close(self) -> None:
        self.container.close()


class _Missing(svcs.exceptions.ServiceNotFoundError):
    def __init__(self, key: t.Any, path: tuple[t.Any, ...]) -> None:
        super().__init__(key)
        self.path = path


def _explain(missing: t.Any, path: tuple[t.Any, ...]) -> str:
    needed = ""
    if len(dict.fromkeys(path)) > 1:
        needed = f" It is needed for {' → '.join(map(_name, path))}."
    kind = "name" if isinstance(missing, str) else "type"
    register = f"ecotone.provide({_name(missing)}, factory)"
    if _is_bus(missing):
        register = f"ecotone.register({_name(missing)})"
    if _is_builtin(missing):
        if len(path) > 1:
            owner = _name(path[-2])
            advice = (
                f"Register what takes it, with its values: ecotone.provide({owner},"
                f" lambda: {owner}(…)). Or give the parameter a default."
            )
        else:
            advice = (
                "Mark the parameter with what it takes: Header, Payload,"
                " ConfigVariable, or Reference('name') for a service with a name."
            )
        return (
            f"A {_name(missing)} is asked for as a service, and its type doesn't say"
            f" which one.{needed} {advice}"
        )
    return (
        f"No service of the {kind} {_name(missing)} was found: nothing is"
        f" registered and it can't be made without a factory.{needed} Register"
        f" one with {register}."
    )


def is_constructible(key: t.Any) -> bool:
    """Whether a class can be made without a factory; it isn't made to find out."""
    cls = runtime_class(key)
    return (
        cls is key
        and cls is not None
        and cls.__module__ != "builtins"
        and not inspect.isabstract(cls)
        and abc.ABC not in cls.__bases__
        and not getattr(cls, "_is_protocol", False)
        and not _is_bus(cls)
    )


def _is_builtin(key: t.Any) -> bool:
    # A str, int or list[str] that isn't registered: registering that type would give
    # the same one to every class.
    cls = t.get_origin(key) or key
    return isinstance(cls, type) and cls.__module__ == "builtins"


def _is_bus(key: t.Any) -> bool:
    return hasattr(key, "__ecotone_bus__")


def _name(key: t.Any) -> str:
    return key if isinstance(key, str) else type_name(key)
