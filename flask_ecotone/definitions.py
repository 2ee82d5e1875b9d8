"""What a mark says: frozen values without behaviour, stored on the marked object.

A decorator of :mod:`flask_ecotone.decorators` makes one of these and stores it with
:func:`mark`. ``discovery`` reads them back with :func:`marks_of`.
"""

from __future__ import annotations

import datetime
import enum
import typing as t
from dataclasses import dataclass

from .errors import ConfigurationError
from .retries import RetryTemplate

#: The attribute that holds the marks of a function or class.
MARKS = "__ecotone__"


class Kind(enum.Enum):
    """What a handler handles."""

    COMMAND = "command"
    QUERY = "query"
    EVENT = "event"
    INTERNAL = "internal"
    CONSOLE = "console"
    SCHEDULED = "scheduled"


class Advice(enum.Enum):
    """When an interceptor runs."""

    PRESEND = "presend"
    BEFORE = "before"
    AROUND = "around"
    AFTER = "after"


class Misfire(enum.Enum):
    """What becomes of the ticks of a schedule that nobody was there to take."""

    #: They are left out.
    SKIP = "skip"
    #: One firing makes up for all of them.
    ONCE = "once"
    #: Each of them is fired.
    ALL = "all"


class FetchMode(enum.Enum):
    """What a query returns of the rows it finds."""

    #: All rows.
    ROWS = "rows"
    #: The first column of all rows.
    FIRST_COLUMN = "first column"
    #: The first row.
    FIRST_ROW = "first row"
    #: The first column of the first row.
    SCALAR = "scalar"
    #: All rows, one at a time.
    ITERATE = "iterate"


class Timing(t.Protocol):
    """When a schedule fires. All workers agree on it, as it depends on nothing else."""

    def next_after(self, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick later than a moment, in UTC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The root of everything a decorator can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerMark(Mark):
    """A function handles messages."""

    kind: Kind
    #: The routing key of a command or query, the name or glob of an event, the input
    #: channel of an internal handler. ``None``: routed by the payload's class.
    name: str | None = None
    endpoint_id: str | None = None
    output_channel: str | None = None
    required_interceptors: tuple[t.Any, ...] = ()
    identifier_mapping: tuple[tuple[str, t.Any], ...] = ()
    identifier_metadata_mapping: tuple[tuple[str, str], ...] = ()
    drop_message_on_not_found: bool = False
    changing_headers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptorMark(Mark):
    """A function intercepts handlers or gateways."""

    advice: Advice
    pointcut: t.Any = None
    precedence: int = 1
    change_headers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateMark(Mark):
    """A class is an aggregate."""

    identifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierMethodMark(Mark):
    """A method or property returns one identifier of an aggregate."""

    identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateEventsMark(Mark):
    """A method returns, and forgets, the recorded events of an aggregate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateTypeMark(Mark):
    """The name of an aggregate in the headers of its events."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEventMark(Mark):
    """An event class has a name besides its class."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionMark(Mark):
    """The revision of an event class."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryMark(Mark):
    """A class loads and saves aggregates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayMethodMark(Mark):
    """A method of a Protocol sends a message to a channel."""

    channel: str
    reply_media_type: str | None = None
    required_interceptors: tuple[t.Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryMethodMark(Mark):
    """A method of a Protocol loads or saves an aggregate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleCommandMark(Mark):
    """A function is a command of the command line."""

    #: Its name; colons separate groups.
    name: str
    #: The help text; empty for the docstring.
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlMark(Mark):
    """A method of a Protocol executes SQL."""

    sql: str
    #: The bind key of the database; ``None``: where the session leads.
    bind: str | None = None
    required_interceptors: tuple[t.Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQueryMark(SqlMark):
    """A method of a Protocol returns what SQL finds."""

    #: ``None``: as the return annotation says.
    fetch: FetchMode | None = None
    reply_media_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlWriteMark(SqlMark):
    """A method of a Protocol changes rows with SQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlParameterMark(Mark):
    """A parameter of SQL is computed from the arguments of the method."""

    name: str
    expression: t.Any
    convert_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverterMark(Mark):
    """A function converts a value of one type to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTypeConverterMark(Mark):
    """A class converts between media types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityMark(Mark):
    """The order among the handlers of one event: higher runs first."""

    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMark(Mark):
    """A header is added, before the handler's own interceptors run."""

    name: str
    value: t.Any = None
    expression: t.Any = None
    #: Keep the header that the message already carries.
    keep_existing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHeaderMark(Mark):
    """A header is removed, before the handler's own interceptors run."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantRetryMark(Mark):
    """A failed command is sent again, at once."""

    times: int
    exceptions: tuple[type[BaseException], ...] = (Exception,)
    except_for: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutTransactionMark(Mark):
    """A handler or gateway runs without a unit of work of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagateHeadersMark(Mark):
    """Whether messages sent while handling inherit headers."""

    propagate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AsynchronousMark(Mark):
    """A handler, or what a bus sends, is handled by a worker."""

    channels: tuple[str, ...]
    #: Marks that count only while a worker handles a message.
    execution: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class DelayedRetryMark(Mark):
    """A message that failed comes back after a while."""

    retry: RetryTemplate
    #: Where it goes when all retries failed.
    dead_letter: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorChannelMark(Mark):
    """A message that failed goes to a channel."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledMark(Mark):
    """A function runs at certain times."""

    #: When; ``None`` if a :class:`PollerMark` says it.
    timing: Timing | None = None
    endpoint_id: str | None = None
    #: Where what it returns is sent.
    output_channel: str | None = None
    misfire: Misfire = Misfire.SKIP
    #: Milliseconds from the start of a worker to the first firing.
    initial_delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerMark(Mark):
    """A scheduled function runs at other times, or fails otherwise."""

    timing: Timing | None = None
    error_channel: str | None = None
    initial_delay: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantHookMark(Mark):
    """A function is called when a tenant is activated, or deactivated."""

    on_activation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantResolverMark(Mark):
    """The tenant of an inbound message follows from the message."""

    expression: t.Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentMark(Mark):
    """A function or class is there in some environments only."""

    names: tuple[str, ...]


M = t.TypeVar("M", bound=Mark)


def plain_function(marked: t.Any) -> t.Any:
    """Return the function inside a class method, static method or property."""
    if isinstance(marked, (classmethod, staticmethod)):
        return marked.__func__
    if isinstance(marked, property):
        return marked.fget
    return marked


def mark(marked: t.Any, said: Mark) -> None:
    """Store one more mark on a function, method or class."""
    target = plain_function(marked)
    if not callable(target):
        raise ConfigurationError(
            f"A marker was used on {target!r}. Markers decorate functions, methods"
            " and classes."
        )
    # The newest is put first, as decorators run from the bottom up.
    setattr(target, MARKS, (said, *_stored(target)))


def marks_of(marked: t.Any, kind: type[M]) -> list[M]:
    """Return the marks of a kind on a function, method or class itself."""
    return [said for said in _stored(plain_function(marked)) if isinstance(said, kind)]


def mark_of(marked: t.Any, kind: type[M]) -> M | None:
    """Return the one mark of a kind on a function, method or class, if any."""
    found = marks_of(marked, kind)
    return found[0] if found else None


def inherited_mark_of(cls: type, kind: type[M]) -> M | None:
    """Return the mark of a kind on a class or the nearest of its bases."""
    for base in cls.__mro__:
        if found := marks_of(base, kind):
            return found[0]
    return None


def has_marks(marked: t.Any) -> bool:
    """Whether anything at all is marked on a function, method or class itself."""
    return bool(_stored(plain_function(marked)))


def _stored(target: t.Any) -> tuple[Mark, ...]:
    stored = getattr(target, "__dict__", {}).get(MARKS, ())
    is_ours = isinstance(stored, tuple) and all(isinstance(m, Mark) for m in stored)
    if not is_ours:
        raise ConfigurationError(
            f"{target!r} has an attribute {MARKS!r} of its own, {stored!r:.60}. The"
            " name is where Flask-Ecotone keeps what its markers say: rename yours."
        )
    return t.cast("tuple[Mark, ...]", stored)
