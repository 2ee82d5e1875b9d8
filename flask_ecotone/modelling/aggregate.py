"""What is known of an aggregate's class: identifiers, version, events, repository."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping

from ..decorators.parameters import Identifier
from ..decorators.parameters import Version
from ..definitions import AggregateEventsMark
from ..definitions import AggregateMark
from ..definitions import AggregateTypeMark
from ..definitions import IdentifierMethodMark
from ..definitions import inherited_mark_of
from ..definitions import mark_of
from ..definitions import RevisionMark
from ..discovery.packages import marked_members
from ..errors import ConfigurationError
from ..errors import HandlerSignatureError
from ..errors import IdentifierMissingError
from ..errors import ModellingError
from ..message import EVENT_AGGREGATE_ID
from ..message import EVENT_AGGREGATE_TYPE
from ..message import EVENT_AGGREGATE_VERSION
from ..message import REVISION
from ..reflection import class_hints
from ..reflection import field_markers
from ..reflection import location
from ..reflection import reflect
from ..storage.protocols import Repository
from .events import Event
from .events import RECORDED
from .events import take_recorded
from .events import WithEvents
from .repositories import Repositories

Identifiers = dict[str, t.Any]
#: An event and the headers it is published with.
RecordedEvent = tuple[t.Any, dict[str, t.Any]]


class Aggregate:
    """An aggregate's class, read at compile time.

    :raises ConfigurationError: It has no identifiers, or its marks contradict it.
    """

    def __init__(self, cls: type, repositories: Repositories) -> None:
        self.cls = cls
        self.where = f"{cls.__module__}.{cls.__qualname__} ({location(cls)})"
        self._repositories = repositories
        named = inherited_mark_of(cls, AggregateTypeMark)
        self.type_name = named.name if named else cls.__qualname__
        fields = {name: field_markers(a) for name, a in class_hints(cls).items()}
        self._readers = self._identifier_readers(fields)
        self.identifiers = tuple(self._readers)
        self.version, self.counts_up = self._version(fields)
        self._take_events = self._events_method()

    @property
    def repository(self) -> Repository:
        """Where instances are stored."""
        return self._repositories.of(self.cls)

    def identify(self, aggregate: t.Any) -> Identifiers:
        """Return the identifiers of an instance; ``None`` for one not yet made."""
        return {name: read(aggregate) for name, read in self._readers.items()}

    def identifier(self, identifiers: Mapping[str, t.Any]) -> t.Any:
        """Return the one identifier, or a dict if there are several."""
        if len(self.identifiers) == 1:
            return identifiers[self.identifiers[0]]
        return dict(identifiers)

    def identifiers_from(self, given: t.Any) -> Identifiers:
        """Return identifiers given as one value or as a dict.

        :raises IdentifierMissingError: They aren't those of the aggregate.
        """
        if isinstance(given, Mapping):
            missing = [n for n in self.identifiers if given.get(n) is None]
            unknown = [n for n in given if n not in self.identifiers]
            if not missing and not unknown:
                return {name: given[name] for name in self.identifiers}
            found = ", ".join(map(str, given))
        elif given is not None and len(self.identifiers) == 1:
            return {self.identifiers[0]: given}
        else:
            found = repr(given)
        wanted = ", ".join(self.identifiers)
        raise IdentifierMissingError(
            f"{self.cls.__qualname__} is identified by {wanted}, and got {found}. Pass"
            f" a dict with {wanted}."
        )

    def find(self, identifiers: Identifiers) -> t.Any | None:
        """Return the stored instance, if there is one."""
        return self.repository.find_by(self.cls, identifiers)

    def version_of(self, aggregate: t.Any) -> int | None:
        """Return the version of an instance; ``None`` if it has none."""
        return None if self.version is None else getattr(aggregate, self.version) or 0

    def save(
        self,
        aggregate: t.Any,
        metadata: Callable[[], Mapping[str, t.Any]],
        loaded: int | None,
    ) -> tuple[Identifiers, list[RecordedEvent]]:
        """Store an instance and return its identifiers and recorded events.

        :param metadata: Returns the application's headers of the message being handled.
            It is called only for a repository that stores them.
        :param loaded: The version before it was handled, 0 if it is new, ``None`` if it
            has none.
        """
        # Taken first: a repository that stores copies must not store them too.
        events = self._take_events(aggregate)
        if self.version is not None and self.counts_up and loaded is not None:
            setattr(aggregate, self.version, loaded + 1)
        repository = self.repository
        headers = metadata() if getattr(repository, "keeps_metadata", True) else {}
        identifiers = self.identify(aggregate)
        repository.save(identifiers, aggregate, headers, loaded)
        if loaded == 0:
            identifiers = self.identify(aggregate)
        missing = [name for name, value in identifiers.items() if value is None]
        if missing:
            raise IdentifierMissingError(
                f"{self.where} was saved and has no {', '.join(missing)} yet. Set it in"
                " the factory method, or let the database make it."
            )
        if not events:
            return identifiers, []
        return identifiers, self._with_headers(events, identifiers, loaded)

    def keep(self, aggregate: t.Any) -> None:
        """Store an instance as it is, and drop what it recorded."""
        self.forget_events(aggregate)
        self.repository.save(self.identify(aggregate), aggregate, {}, None)

    def forget_events(self, aggregate: t.Any) -> None:
        """Drop what a failed handler recorded: the instance may be handled again."""
        self._take_events(aggregate)

    def _with_headers(
        self, events: list[t.Any], identifiers: Identifiers, loaded: int | None
    ) -> list[RecordedEvent]:
        identifier = self.identifier(identifiers)
        recorded = []
        for number, event in enumerate(events, start=1):
            metadata: Mapping[str, t.Any] = {}
            if isinstance(event, Event):
                metadata, event = event.metadata, event.payload
            if event is None or isinstance(event, (str, bytes, int, float)):
                raise ModellingError(
                    f"{self.where} recorded {event!r}. Events are objects: record an"
                    " instance of a class."
                )
            headers = {
                **metadata,
                EVENT_AGGREGATE_ID: identifier,
                EVENT_AGGREGATE_TYPE: self.type_name,
                REVISION: _revision(type(event)),
            }
            if loaded is not None:
                headers[EVENT_AGGREGATE_VERSION] = loaded + number
            recorded.append((event, headers))
        return recorded

    def _identifier_readers(
        self, fields: dict[str, tuple[t.Any, ...]]
    ) -> dict[str, Callable[[t.Any], t.Any]]:
        said = inherited_mark_of(self.cls, AggregateMark)
        names = list(said.identifiers if said else ())
        if not names:
            names = [
                name
                for name, markers in fields.items()
                if any(isinstance(m, Identifier) for m in markers)
            ]
        methods = {}
        for name, member in marked_members(self.cls):
            found = mark_of(member, IdentifierMethodMark)
            if found is not None:
                methods[found.identifier] = self._identifier_method(name, member)
        names += [name for name in methods if name not in names]
        if not names:
            names = list(self._repositories.identifiers_of(self.cls))
        if not names:
            raise ConfigurationError(
                f"The aggregate {self.where} has no identifier. Annotate an attribute"
                " with Annotated[…, Identifier()], or name it in"
                ' @aggregate(identifiers=["order_id"]).'
            )
        return {name: methods.get(name) or _attribute(name) for name in names}

    def _identifier_method(self, name: str, member: t.Any) -> Callable[[t.Any], t.Any]:
        if reflect(member, self.cls).parameters:
            raise HandlerSignatureError(
                f"The identifier method {self.where}.{name} has parameters. It is"
                " called without any."
            )
        if isinstance(member, property):
            return _attribute(name)
        return lambda aggregate: getattr(aggregate, name)()

    def _version(self, fields: dict[str, tuple[t.Any, ...]]) -> tuple[str | None, bool]:
        for name, markers in fields.items():
            for marker in markers:
                if isinstance(marker, Version):
                    return name, marker.auto_increase
        return self._repositories.version_of(self.cls), False

    def _events_method(self) -> Callable[[t.Any], list[t.Any]]:
        for name, member in marked_members(self.cls):
            if mark_of(member, AggregateEventsMark) is not None:
                if reflect(member, self.cls).returns in (None, type(None)):
                    raise HandlerSignatureError(
                        f"{self.where}.{name} is marked @aggregate_events and returns"
                        " nothing. Return the list of recorded events."
                    )
                return lambda aggregate: list(getattr(aggregate, name)() or ())
        if issubclass(self.cls, WithEvents) and hasattr(self.cls, RECORDED):
            raise ConfigurationError(
                f"{self.where} has an attribute {RECORDED!r} of its own. The name is"
                " where WithEvents keeps recorded events: rename yours."
            )
        return take_recorded


def _attribute(name: str) -> Callable[[t.Any], t.Any]:
    return lambda aggregate: getattr(aggregate, name, None)


def _revision(cls: type) -> int:
    said = inherited_mark_of(cls, RevisionMark)
    return said.revision if said else 1
