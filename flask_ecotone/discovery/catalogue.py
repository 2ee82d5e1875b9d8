"""What the marks of an application say, sorted by what they are for."""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

from ..decorators.deduplication import DeduplicatedMark
from ..definitions import AggregateMark
from ..definitions import ConsoleCommandMark
from ..definitions import ConverterMark
from ..definitions import EnvironmentMark
from ..definitions import GatewayMethodMark
from ..definitions import HandlerMark
from ..definitions import inherited_mark_of
from ..definitions import InterceptorMark
from ..definitions import Mark
from ..definitions import mark_of
from ..definitions import marks_of
from ..definitions import MediaTypeConverterMark
from ..definitions import NamedEventMark
from ..definitions import plain_function
from ..definitions import PollerMark
from ..definitions import RepositoryMark
from ..definitions import RepositoryMethodMark
from ..definitions import ScheduledMark
from ..definitions import SqlMark
from ..definitions import TenantHookMark
from ..errors import ConfigurationError
from ..errors import HandlerSignatureError
from ..reflection import describe
from ..reflection import location
from .manifest import reference
from .packages import is_marked
from .packages import marked_members

M = t.TypeVar("M", bound=Mark, covariant=True)
K = t.TypeVar("K", bound=Mark)


@dataclass(frozen=True, slots=True)
class Marked(t.Generic[M]):
    """A mark together with the function that carries it."""

    said: M
    #: The function, or the class method, static method or property it is in.
    function: t.Any
    #: The class it is called on; ``None`` for a plain function.
    owner: type | None
    name: str

    @property
    def plain(self) -> t.Any:
        """The function itself."""
        return plain_function(self.function)

    @property
    def is_on_class(self) -> bool:
        """Whether it is called on the class and not on an instance."""
        return isinstance(self.function, (classmethod, staticmethod))

    @property
    def where(self) -> str:
        """Name, file and line, for error texts."""
        return describe(self.function, self.owner)

    @property
    def qualified_name(self) -> str:
        """The name by which the function is imported: ``module:qualname``."""
        if self.owner is None:
            return f"{self.plain.__module__}:{self.plain.__qualname__}"
        return f"{self.owner.__module__}:{self.owner.__qualname__}.{self.name}"

    def marks(self, kind: type[K]) -> list[K]:
        """Return the marks of a kind on the function, then those on its class."""
        found = list(marks_of(self.function, kind))
        if self.owner is not None:
            for base in self.owner.__mro__:
                found += marks_of(base, kind)
        return found

    def mark(self, kind: type[K]) -> K | None:
        """Return the nearest mark of a kind, on the function or on its class."""
        found = self.marks(kind)
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Protocol whose methods send messages or load and save aggregates."""

    cls: type
    methods: tuple[Marked[Mark], ...]


@dataclass(slots=True)
class Catalogue:
    """Everything that is marked, in the order it was found."""

    handlers: list[Marked[HandlerMark]] = field(default_factory=list)
    interceptors: list[Marked[InterceptorMark]] = field(default_factory=list)
    converters: list[Marked[ConverterMark]] = field(default_factory=list)
    tenant_hooks: list[Marked[TenantHookMark]] = field(default_factory=list)
    console_commands: list[Marked[ConsoleCommandMark]] = field(default_factory=list)
    scheduled: list[Marked[ScheduledMark]] = field(default_factory=list)
    pollers: list[Marked[PollerMark]] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    buses: list[type] = field(default_factory=list)
    aggregates: list[type] = field(default_factory=list)
    repositories: list[type] = field(default_factory=list)
    media_type_converters: list[type] = field(default_factory=list)
    #: Classes that others derive from, as ``module:qualname``.
    mixins: list[str] = field(default_factory=list)
    #: Event name → class.
    named_events: dict[str, type] = field(default_factory=dict)

    @property
    def is_deduplicating(self) -> bool:
        """Whether a handler or a bus handles messages once for a key."""
        return any(inherited_mark_of(b, DeduplicatedMark) for b in self.buses) or any(
            marked.mark(DeduplicatedMark) for marked in self.handlers
        )


def collect(
    found: Iterable[t.Any], environment: str, mixins: Iterable[str] = ()
) -> Catalogue:
    """Sort marked classes and functions into a catalogue.

    :param found: Classes and functions; those without marks are refused.
    :param environment: The name of the environment, for ``@environment``.
    :param mixins: Names of classes that others derive from, which needn't be found.
    :raises ConfigurationError: Something isn't marked, or a name is used twice.
    """
    catalogue = Catalogue()
    # By identity: what was registered by mistake may have no hash.
    unique = list({id(each): each for each in found}.values())
    classes = {c for c in unique if issubclass(type(c), type)}
    # A class that others derive from is their mixin: its handlers are theirs.
    derived = {base for c in classes for base in c.__mro__[1:]}
    known = set(mixins)
    for each in unique:
        if not is_marked(each):
            raise ConfigurationError(
                f"{each!r} was registered and carries no marker. Decorate it, for"
                " example with @command_handler or @aggregate, or don't register it."
            )
        if not _is_for(each, environment):
            continue
        if each in classes:
            is_mixin = each in derived or reference(each) in known
            catalogue.mixins += [reference(each)] * is_mixin
            _add_class(catalogue, each, is_mixin, environment)
        else:
            _add_members(catalogue, [(each.__name__, each)], None, environment)
    return catalogue


def _add_class(
    catalogue: Catalogue, cls: type, is_mixin: bool, environment: str
) -> None:
    named = mark_of(cls, NamedEventMark)
    if named is not None:
        other = catalogue.named_events.setdefault(named.name, cls)
        if other is not cls:
            raise ConfigurationError(
                f"Two events are named {named.name!r}: {other.__qualname__}"
                f" ({location(other)}) and {cls.__qualname__} ({location(cls)})."
                " Event names are unique in an application."
            )
    if hasattr(cls, "__ecotone_bus__"):
        catalogue.buses.append(cls)
        return
    if mark_of(cls, RepositoryMark):
        catalogue.repositories.append(cls)
    if mark_of(cls, MediaTypeConverterMark):
        catalogue.media_type_converters.append(cls)
    members = list(marked_members(cls))
    gateway = [
        Marked(said, member, cls, name)
        for name, member in members
        for kind in (GatewayMethodMark, RepositoryMethodMark, SqlMark)
        for said in marks_of(member, kind)
    ]
    if gateway:
        catalogue.gateways.append(Gateway(cls, tuple(gateway)))
    if inherited_mark_of(cls, AggregateMark):
        catalogue.aggregates.append(cls)
        bases = [b for b in cls.__mro__[1:] if inherited_mark_of(b, AggregateMark)]
        # The handlers of an aggregate serve its subclasses too.
        members = [
            (name, member)
            for name, member in members
            if not any(_is_override(member, vars(b).get(name)) for b in bases)
        ]
    elif inspect.isabstract(cls) or is_mixin:
        return
    _add_members(catalogue, members, cls, environment)


def _is_override(member: t.Any, inherited: t.Any) -> bool:
    # What the base marks is called on the subclass; a mark of its own is a new handler.
    if inherited is None:
        return False
    marks = marks_of(inherited, HandlerMark)
    return member is inherited or marks == marks_of(member, HandlerMark)


def _add_members(
    catalogue: Catalogue,
    members: list[tuple[str, t.Any]],
    owner: type | None,
    environment: str,
) -> None:
    lists: list[tuple[type[Mark], list[t.Any]]] = [
        (HandlerMark, catalogue.handlers),
        (InterceptorMark, catalogue.interceptors),
        (ConverterMark, catalogue.converters),
        (TenantHookMark, catalogue.tenant_hooks),
        (ConsoleCommandMark, catalogue.console_commands),
        (ScheduledMark, catalogue.scheduled),
        (PollerMark, catalogue.pollers),
    ]
    for name, member in members:
        if not _is_for(member, environment):
            continue
        for kind, into in lists:
            for said in marks_of(member, kind):
                entry = Marked(said, member, owner, name)
                if name.startswith("__"):
                    raise HandlerSignatureError(
                        f"{entry.where} is a special or private method and can't be"
                        " used from outside. Rename it."
                    )
                into.append(entry)


def _is_for(marked: t.Any, environment: str) -> bool:
    said = mark_of(marked, EnvironmentMark)
    return said is None or environment in said.names
