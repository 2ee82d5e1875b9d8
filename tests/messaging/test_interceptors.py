"""What runs before, around and after handlers and buses."""

import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest

from flask_ecotone import after
from flask_ecotone import aggregate
from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import business_method
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import delayed
from flask_ecotone import EndpointMarker
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import Identifier
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import Pointcut
from flask_ecotone import presend
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import MessagingError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class Work:
    number: int = 1


@dataclass(frozen=True)
class OtherWork:
    number: int = 1


@dataclass(frozen=True)
class Role(EndpointMarker):
    name: str


@dataclass(frozen=True)
class AdminRole(Role):
    name: str = "admin"


class Public(EndpointMarker):
    pass


@dataclass
class Log:
    """Notes what ran; makes interceptors that do nothing else."""

    lines: list[str] = field(default_factory=list)

    def interceptor(
        self, advice: t.Any, name: str, pointcut: t.Any, precedence: int = 1
    ) -> t.Any:
        """Return an interceptor that notes its name and lets everything pass."""

        def note() -> None:
            self.lines.append(name)

        note.__qualname__ = name
        return advice(pointcut=pointcut, precedence=precedence)(note)


@pytest.fixture
def log() -> Log:
    """What ran, in order."""
    return Log()


@command_handler
def double(command: Work) -> int:
    """Return twice the number."""
    return command.number * 2


def test_interceptors_run_before_around_and_after(log: Log) -> None:
    """Presend, before, around, the handler, after; those of the bus outside."""

    @command_handler
    def handle(command: Work) -> int:
        log.lines.append("handler")
        return 1

    def surrounding(name: str, pointcut: t.Any) -> t.Any:
        def surround(invocation: MethodInvocation) -> t.Any:
            log.lines.append(f"{name} in")
            result = invocation.proceed()
            log.lines.append(f"{name} out")
            return result

        surround.__qualname__ = name
        return around(pointcut=pointcut)(surround)

    found: list[t.Any] = [handle]
    for name, pointcut in (("handler's", handle), ("bus's", CommandBus)):
        found += [
            log.interceptor(after, f"{name} after", pointcut),
            surrounding(f"{name} around", pointcut),
            log.interceptor(before, f"{name} before", pointcut),
        ]
    found.append(log.interceptor(presend, "presend", handle))
    flow_testing(found).send_command(Work())
    assert log.lines == [
        "bus's before",
        "bus's around in",
        "presend",
        "handler's before",
        "handler's around in",
        "handler",
        "handler's around out",
        "handler's after",
        "bus's around out",
        "bus's after",
    ]


@pytest.mark.parametrize("pointcut", [CommandBus, command_handler])
@pytest.mark.parametrize("advice", [presend, before, around, after])
def test_lower_precedence_runs_earlier(advice: t.Any, pointcut: t.Any, log: Log):
    """For every kind, presend too; ties run in the order of registration."""
    flow = flow_testing(
        [
            log.interceptor(advice, "last", pointcut, 500),
            log.interceptor(advice, "first", pointcut, -500),
            log.interceptor(advice, "tie 1", pointcut),
            log.interceptor(advice, "tie 2", pointcut, 1),
            log.interceptor(advice, "zero", pointcut, 0),
            double,
        ]
    )
    flow.send_command(Work())
    assert log.lines == ["first", "zero", "tie 1", "tie 2", "last"]


def test_lower_precedence_is_further_out(log: Log) -> None:
    """Around interceptors nest by precedence."""

    def wrapping(sign: str, precedence: int) -> t.Any:
        @around(pointcut=double, precedence=precedence)
        def wrap(invocation: MethodInvocation) -> t.Any:
            return f"{sign}{invocation.proceed()}{sign}"

        wrap.__qualname__ = sign
        return wrap

    found = [wrapping("b", 2), wrapping("a", -2), wrapping("c", 3), double]
    assert flow_testing(found).command_bus.send(Work(1)) == "abc2cba"


class Service:
    """A service with a handler to point at."""

    @Role("admin")
    @command_handler("service.do")
    def do(self) -> str:
        """Do something."""
        return "done"

    @command_handler("service.other")
    def other(self) -> str:
        """Do something else."""
        return "other"


class DerivedService(Service):
    """Inherits the handlers."""


_HERE = __name__
_P = Pointcut


@pytest.mark.parametrize(
    ("pointcut", "points"),
    [
        (Service.do, True),
        (Service.other, False),
        (Service, True),
        (DerivedService, False),
        (object, True),
        (command_handler, True),
        (query_handler, False),
        (event_handler, False),
        (aggregate, False),
        (CommandBus, True),
        (QueryBus, False),
        (EventBus, False),
        (Role, True),
        (AdminRole, False),
        (Public, False),
        (~Public, True),
        (~~Pointcut(Role), True),
        (Role & ~Public, True),
        (Role & Public, False),
        (Role | Public, True),
        (Public | AdminRole, False),
        (_P(Public) & Service | _P(Role), True),
        (_P(Public) & (_P(Service) | Role), False),
        (_P(Role) | _P(Public) & Public, True),
        (_P(Service) & ~(_P(Role) | Public), False),
        (_P(Service) & ~_P(Service.do), False),
        (_P(Service) & ~_P(Service.other), True),
        (Role & ~_P(Service.do), False),
        (f"{_HERE}.*", True),
        (f"{_HERE}.Service.do", True),
        (f"{_HERE}.Service.d?", True),
        ("*.Service.do", True),
        ("*.do", True),
        ("Service.do", False),
        ("Service*", False),
        (f"*{_HERE}", False),
        (f"{_HERE}.service.do", False),
        (_P("*.do") & Role, True),
        (_P("*.do") & Public, False),
    ],
)
def test_pointcut_says_what_is_intercepted(
    pointcut: t.Any, points: bool, log: Log
) -> None:
    """Things, markers, anchored globs, and what &, | and ~ make of them."""
    flow = flow_testing([Service, log.interceptor(before, "ran", pointcut)])
    flow.send_command_with_routing("service.do")
    assert bool(log.lines) is points


def test_pointcut_shows_how_it_was_read() -> None:
    """The repr of a pointcut has parentheses where Python saw them."""
    pointcut = Pointcut(Role) & Service | ~Pointcut("*.x")
    assert repr(pointcut) == "((Role & Service) | ~'*.x')"


def test_marker_on_a_class_covers_all_of_its_handlers(log: Log) -> None:
    """So does one on a base class; a pointcut of a base marker matches derived ones."""

    @AdminRole()
    class Base:
        @command_handler("do")
        def do(self) -> None: ...

    class Derived(Base):
        @command_handler("more")
        def more(self) -> None: ...

    flow = flow_testing([Derived, log.interceptor(before, "ran", Role)])
    flow.send_command_with_routing("do").send_command_with_routing("more")
    assert log.lines == ["ran", "ran"]


def test_pointcut_of_a_base_class_matches_derived_services(log: Log) -> None:
    """The class of a handler is matched as isinstance would."""
    flow = flow_testing([DerivedService, log.interceptor(before, "ran", Service)])
    flow.send_command_with_routing("service.do")
    assert log.lines == ["ran"]


@pytest.mark.parametrize("wrong", ["", 5, [Role], {"a": 1}, lambda: 1, Role & 5])
def test_pointcut_that_points_at_nothing_known_is_refused(wrong: t.Any) -> None:
    """The error names the interceptor."""

    @before(pointcut=wrong)
    def check() -> None: ...

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"check .*points at"):
            flow_testing([double, check])


def stray() -> None: ...


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (delayed, "points at the marker @delayed, and would never run"),
        (Pointcut(command_handler) & ~Pointcut(delayed), "the marker @delayed"),
        (stray, "stray .*would never run: the function isn't marked as a handler"),
        (CommandBus.send, "for a method of a bus that is the bus"),
        (Role("x").__call__, "isn't marked as a handler"),
    ],
)
def test_pointcut_of_a_function_that_is_no_endpoint_is_refused(
    wrong: t.Any, found: str
) -> None:
    """It would never match; the error says what was found."""

    @before(pointcut=wrong)
    def check() -> None: ...

    with pytest.raises(ConfigurationError, match=found):
        flow_testing([double, check])


def test_pointcut_follows_from_marker_parameters(log: Log) -> None:
    """A marker parameter is required; optional and union ones suffice each."""
    seen: list[t.Any] = []

    @before
    def required(marker: Role) -> None:
        seen.append(("required", marker))

    @before
    def optional(marker: AdminRole | None) -> None:
        seen.append(("optional", marker))

    @before
    def either(marker: Role | Public) -> None:
        seen.append(("either", type(marker)))

    @before
    def both(marker: Role, other: Public) -> None:
        seen.append(("both", marker))

    @command_handler("none")
    def none() -> None: ...

    @Role("user")
    @command_handler("role")
    def role() -> None: ...

    @Public()
    @command_handler("public")
    def public() -> None: ...

    @Public()
    @AdminRole()
    @command_handler("all")
    def everything() -> None: ...

    found = [required, optional, either, both, none, role, public, everything]
    bus = flow_testing(found).command_bus
    bus.send_with_routing("none")
    assert seen == []
    bus.send_with_routing("role")
    assert seen == [("required", Role("user")), ("either", Role)]
    seen.clear()
    bus.send_with_routing("public")
    assert seen == [("either", Public)]
    seen.clear()
    bus.send_with_routing("all")
    assert [name for name, _ in seen] == ["required", "optional", "either", "both"]
    assert seen[0][1] == seen[1][1] == seen[3][1] == AdminRole()


def test_marker_of_the_method_wins_over_that_of_the_class() -> None:
    """The nearest marker is injected; an absent optional one is None."""
    seen: list[t.Any] = []

    @before(pointcut=command_handler)
    def note(marker: Role, other: Public | None) -> None:
        seen.append((marker.name, other))

    @Role("class")
    class Marked:
        @command_handler("own")
        @Role("method")
        def own(self) -> None: ...

        @command_handler("inherited")
        def inherited(self) -> None: ...

    bus = flow_testing([note, Marked]).command_bus
    bus.send_with_routing("own", 1)
    bus.send_with_routing("inherited", 1)
    assert seen == [("method", None), ("class", None)]


@pytest.mark.parametrize("advice", [presend, before, around, after])
def test_interceptor_that_points_at_nothing_is_refused(advice: t.Any) -> None:
    """Without pointcut and marker parameter it would never run."""

    @advice
    def note(payload: Work) -> None: ...

    with pytest.raises(ConfigurationError, match="would never run"):
        flow_testing([double, note])


@pytest.mark.parametrize("advice", [presend, before, after])
def test_interceptor_without_return_annotation_is_refused(advice: t.Any) -> None:
    """Whether None passes or stops must be said."""

    @advice(pointcut=double)
    def check(): ...  # type: ignore[no-untyped-def]

    for _ in range(2):
        with pytest.raises(HandlerSignatureError) as caught:
            flow_testing([double, check])
        said = str(caught.value)
        assert "check" in said
        assert "test_interceptors.py:" in said
        assert "-> None" in said


@pytest.mark.parametrize("pointcut", [double, CommandBus])
@pytest.mark.parametrize("advice", [presend, before])
def test_returned_value_before_replaces_the_payload(
    advice: t.Any, pointcut: t.Any
) -> None:
    """The handler gets what the interceptor returned, and the headers as they were."""

    @advice(pointcut=pointcut)
    def increase(command: Work) -> Work:
        return Work(command.number + 10)

    assert flow_testing([double, increase]).command_bus.send(Work(1)) == 22


def test_interceptor_may_convert_what_the_handler_takes() -> None:
    """Each interceptor converts the payload for itself."""
    seen: list[t.Any] = []

    @command_handler("work")
    def handle(command: Work) -> int:
        return command.number

    @before(pointcut=handle, precedence=1)
    def as_dict(payload: dict[str, t.Any]) -> None:
        seen.append(payload)

    @before(pointcut=handle, precedence=2)
    def as_object(payload: Work) -> None:
        seen.append(payload)

    @before(pointcut=handle, precedence=3)
    def replaces(payload: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"number": payload["number"] + 1}

    flow = flow_testing([handle, as_dict, as_object, replaces])
    sent = flow.command_bus.send_with_routing(
        "work", '{"number": 4}', media_type="application/json"
    )
    assert sent == 5
    assert seen == [{"number": 4}, Work(4)]


@pytest.mark.parametrize("pointcut", [double, CommandBus])
@pytest.mark.parametrize("advice", [presend, before, after])
@pytest.mark.parametrize("change_headers", [False, True])
def test_none_stops_unless_the_annotation_is_none(
    advice: t.Any, pointcut: t.Any, change_headers: bool, log: Log
) -> None:
    """-> Any that returns None ends the flow; -> None lets everything pass."""

    @advice(pointcut=pointcut, change_headers=change_headers)
    def stop() -> dict[str, t.Any] | None:
        return None

    @advice(pointcut=pointcut)
    def watch() -> None:
        log.lines.append("watch")

    later = log.interceptor(advice, "later", pointcut, 2)
    assert flow_testing([double, watch]).command_bus.send(Work(1)) == 2
    assert flow_testing([double, stop, later]).command_bus.send(Work(1)) is None
    assert log.lines == ["watch"]


def test_handler_does_not_run_after_a_stop(log: Log) -> None:
    """Neither the handler nor what stands after it runs."""

    @command_handler
    def handle(command: Work) -> int:
        log.lines.append("handler")
        return 1

    @before(pointcut=handle)
    def stop() -> t.Any:
        return None

    after_it = log.interceptor(after, "after", CommandBus)
    assert flow_testing([handle, stop, after_it]).command_bus.send(Work()) is None
    assert log.lines == []


@pytest.mark.parametrize("advice", [presend, before])
def test_returned_headers_are_merged(advice: t.Any) -> None:
    """The payload stays; None removes a header, Any and object are dicts too."""

    @command_handler
    def handle(command: Work, message: Message) -> t.Any:
        return command.number, message.header("role"), message.header("token")

    @advice(pointcut=handle, change_headers=True)
    def enrich(user: t.Annotated[str, Header("user")]) -> dict[str, t.Any]:
        return {"role": f"role of {user}", "token": None}

    bus = flow_testing([handle, enrich]).command_bus
    result = bus.send(Work(3), {"user": "mia", "token": "secret"})
    assert result == (3, "role of mia", None)


@pytest.mark.parametrize(
    ("returned", "said"),
    [(5, "returned int"), ("text", "str"), ({5: 1}, "named 5"), ({"": 1}, "named ''")],
)
def test_returned_headers_that_are_none_are_refused(returned: t.Any, said: str) -> None:
    """Only a dict with names is a dict of headers."""

    @before(pointcut=double, change_headers=True)
    def enrich() -> t.Any:
        return returned

    with pytest.raises(MessagingError, match=said) as caught:
        flow_testing([double, enrich]).command_bus.send(Work())
    assert "enrich" in str(caught.value)


def test_interceptor_that_changes_headers_and_returns_none_is_refused() -> None:
    """-> None and change_headers contradict each other."""

    @before(pointcut=double, change_headers=True)
    def enrich() -> None: ...

    with pytest.raises(HandlerSignatureError, match="changes headers"):
        flow_testing([double, enrich])


def test_returned_message_replaces_the_message() -> None:
    """Payload and headers at once."""

    @command_handler
    def handle(command: Work, message: Message) -> t.Any:
        return command.number, message.header("role")

    @before(pointcut=handle)
    def replace(message: Message) -> Message:
        return message.with_payload(Work(9), {"role": "admin"})

    assert flow_testing([handle, replace]).command_bus.send(Work()) == (9, "admin")


def test_message_changed_by_the_bus_is_routed_by_its_new_class() -> None:
    """Who handles it is decided after the interceptors of the bus."""

    @command_handler
    def other(command: OtherWork) -> str:
        return "other"

    @before(pointcut=CommandBus)
    def replace() -> OtherWork:
        return OtherWork()

    assert flow_testing([double, other, replace]).command_bus.send(Work()) == "other"


@pytest.mark.parametrize("pointcut", [double, CommandBus])
def test_after_gets_and_replaces_the_result(pointcut: t.Any) -> None:
    """Its payload is what the handler returned."""

    @after(pointcut=pointcut)
    def show(result: int) -> str:
        return f"result {result}"

    assert flow_testing([double, show]).command_bus.send(Work(2)) == "result 4"


@pytest.mark.parametrize("by_bus", [False, True])
def test_after_does_not_run_without_result(by_bus: bool, log: Log) -> None:
    """A handler that returns None has no reply to intercept."""

    @command_handler
    def handle(command: Work) -> None: ...

    pointcut = CommandBus if by_bus else handle
    flow = flow_testing([handle, log.interceptor(after, "after", pointcut)])
    flow.send_command(Work())
    assert log.lines == []


def test_after_an_aggregate_always_runs(log: Log) -> None:
    """Also when the action returns nothing, and before the aggregate is saved."""

    @aggregate
    class Order:
        number: t.Annotated[int, Identifier()]

        @command_handler("open")
        @classmethod
        def open(cls) -> t.Self:
            order = cls()
            order.number = 1
            return order

        @command_handler("close")
        def close(self) -> None: ...

    interceptor = log.interceptor(after, "after", Order)
    flow = flow_testing([Order, interceptor]).send_command_with_routing("open")
    log.lines.clear()
    flow.send_command_with_routing("close", metadata={"aggregate.id": 1})
    assert log.lines == ["after"]


def test_around_decides_over_the_call() -> None:
    """It may change the result, skip the call or make it twice."""
    calls: list[int] = []

    @command_handler
    def handle(command: Work) -> int:
        calls.append(command.number)
        return len(calls)

    def result_of(function: t.Any) -> t.Any:
        calls.clear()
        surround = around(pointcut=handle)(function)
        return flow_testing([handle, surround]).command_bus.send(Work(7))

    def changes(invocation: MethodInvocation) -> t.Any:
        return invocation.proceed() + 100

    def skips(invocation: MethodInvocation) -> t.Any:
        return "skipped"

    def twice(invocation: MethodInvocation) -> t.Any:
        return invocation.proceed(), invocation.proceed()

    assert result_of(changes) == 101
    assert result_of(skips) == "skipped"
    assert calls == []
    assert result_of(twice) == (1, 2)
    assert calls == [7, 7]


def test_proceeding_again_runs_everything_inside_again(log: Log) -> None:
    """A retry passes the inner interceptors each time."""
    attempts: list[int] = []

    @command_handler
    def handle(command: Work) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    @around(pointcut=handle, precedence=-10)
    def retry(invocation: MethodInvocation) -> t.Any:
        for _ in range(5):
            try:
                return invocation.proceed()
            except ConnectionError:
                continue
        raise AssertionError("never")

    inner = log.interceptor(around, "inner", handle, 10)
    assert flow_testing([handle, inner, retry]).command_bus.send(Work()) == "done"
    assert log.lines == ["inner"] * 3


def test_around_without_invocation_runs_and_the_call_follows(log: Log) -> None:
    """It needn't take part; what it raises prevents the call."""

    @around(pointcut=double)
    def refuse(command: Work) -> None:
        if command.number > 5:
            raise PermissionError

    noted = log.interceptor(around, "noted", double)
    bus = flow_testing([double, refuse, noted]).command_bus
    assert bus.send(Work(5)) == 10
    with pytest.raises(PermissionError):
        bus.send(Work(6))
    assert log.lines == ["noted"]


def test_around_that_returns_a_value_without_invocation_is_refused() -> None:
    """Its value would be lost."""

    @around(pointcut=double)
    def lost() -> int:
        return 5

    with pytest.raises(HandlerSignatureError, match="no MethodInvocation"):
        flow_testing([double, lost])


def test_invocation_tells_what_is_called() -> None:
    """Name, function, object and arguments of the call."""
    seen: list[t.Any] = []

    class Worker:
        @command_handler
        def work(self, command: Work, user: t.Annotated[str, Header("user")]) -> int:
            return command.number

        @command_handler("class.work")
        @classmethod
        def on_class(cls) -> int:
            return 1

    @around(pointcut=command_handler)
    def look(invocation: MethodInvocation) -> t.Any:
        seen.append((invocation.name, invocation.target, invocation.arguments))
        return invocation.proceed()

    flow = flow_testing([Worker, look, double_by_name])
    assert flow.command_bus.send(Work(3), {"user": "mia"}) == 3
    flow.command_bus.send_with_routing("class.work")
    flow.command_bus.send_with_routing("double", 4)
    first, second, third = seen
    assert first[0].endswith("Worker.work")
    assert isinstance(first[1], Worker)
    assert first[1] is flow.service(Worker)
    assert first[2] == (Work(3), "mia")
    assert second[1:] == (Worker, ())
    assert third[1:] == (None, (4,))


@command_handler("double")
def double_by_name(number: int) -> int:
    """Return twice the number."""
    return number * 2


def test_arguments_are_made_inside_of_around() -> None:
    """A failing conversion happens within what stands around the call, once."""
    outcomes: list[str] = []

    @around(pointcut=double_by_name)
    def transaction(invocation: MethodInvocation) -> t.Any:
        outcomes.append("begin")
        try:
            result = invocation.proceed()
        except ConversionError:
            outcomes.append("roll back")
            raise
        outcomes.append("commit")
        return result

    bus = flow_testing([double_by_name, transaction]).command_bus
    assert bus.send_with_routing("double", "4") == 8
    with pytest.raises(ConversionError):
        bus.send_with_routing("double", "four")
    assert outcomes == ["begin", "commit", "begin", "roll back"]


def test_around_gets_the_intercepted_object_by_its_type() -> None:
    """An aggregate, by its class or a base; None in a factory method."""
    seen: list[t.Any] = []

    class Owned:
        owner = "mia"

    @aggregate
    class Order(Owned):
        number: t.Annotated[int, Identifier()]

        @command_handler("open")
        @classmethod
        def open(cls) -> t.Self:
            order = cls()
            order.number = 1
            return order

        @command_handler("close")
        def close(self) -> int:
            return self.number

    @around(pointcut=Order)
    def check(
        invocation: MethodInvocation,
        owned: Owned | None,
        user: t.Annotated[str, Header("user")],
    ) -> t.Any:
        seen.append(owned and owned.owner)
        if owned is not None and owned.owner != user:
            raise PermissionError(user)
        return invocation.proceed()

    bus = flow_testing([Order, check]).command_bus
    bus.send_with_routing("open", metadata={"user": "ben"})
    target = {"aggregate.id": 1}
    assert bus.send_with_routing("close", metadata={**target, "user": "mia"}) == 1
    with pytest.raises(PermissionError, match="ben"):
        bus.send_with_routing("close", metadata={**target, "user": "ben"})
    assert seen == [None, "mia", "mia"]


def test_required_interceptors_apply_without_pointcut(log: Log) -> None:
    """As a function, as text, or as a class for all of its methods, each once."""

    @before(pointcut=Public)
    def by_function() -> None:
        log.lines.append("function")

    class Checks:
        @before(pointcut=Public)
        def first(self) -> None:
            log.lines.append("first")

        @after(pointcut=Public)
        def second(self) -> None:
            log.lines.append("second")

    name = f"{by_function.__module__}:{by_function.__qualname__}"
    for required in ([by_function, Checks], [name, Checks], [Checks.first, Checks]):

        @command_handler("work", required_interceptors=required)
        def handle() -> int:
            return 1

        log.lines.clear()
        flow = flow_testing([by_function, Checks, handle])
        flow.send_command_with_routing("work")
        expected = ["first", "second"]
        assert log.lines == (
            expected if required[0] is Checks.first else ["function", *expected]
        )


def test_required_interceptor_that_also_points_there_runs_once(log: Log) -> None:
    """Named and pointed at isn't twice."""

    @before(pointcut=Public)
    def check() -> None:
        log.lines.append("check")

    @Public()
    @command_handler("work", required_interceptors=[check])
    def handle() -> None: ...

    flow_testing([check, handle]).send_command_with_routing("work")
    assert log.lines == ["check"]


@pytest.mark.parametrize("required", ["chekc", ["chekc"], [double]])
def test_unknown_required_interceptor_is_refused(required: t.Any) -> None:
    """The error names the handler and what is missing."""

    @before(pointcut=Public)
    def check() -> None: ...

    @command_handler("work", required_interceptors=required)
    def handle() -> None: ...

    with pytest.raises(ConfigurationError, match="requires the interceptor") as caught:
        flow_testing([check, handle])
    named = "double" if required == [double] else "chekc"
    assert f"'{named}'" in str(caught.value)


def test_interceptors_of_a_custom_bus_and_of_its_base(log: Log) -> None:
    """The pointcut of the subclass means it alone, that of the base means both."""

    class AuditedBus(CommandBus): ...

    flow = flow_testing(
        [
            AuditedBus,
            double,
            log.interceptor(before, "audited", AuditedBus),
            log.interceptor(before, "any", CommandBus),
            log.interceptor(
                before, "not audited", Pointcut(CommandBus) & ~_P(AuditedBus)
            ),
        ]
    )
    flow.gateway(AuditedBus).send(Work())
    assert log.lines == ["audited", "any"]
    log.lines.clear()
    flow.command_bus.send(Work())
    assert log.lines == ["any", "not audited"]


def test_marker_on_a_bus_is_injected_into_its_interceptors() -> None:
    """A marker can carry configuration of a bus."""
    seen: list[str] = []

    @Role("outbox")
    class MarkedBus(CommandBus): ...

    @before
    def note(role: Role) -> None:
        seen.append(role.name)

    flow = flow_testing([MarkedBus, double, note])
    flow.command_bus.send(Work())
    assert seen == []
    assert flow.gateway(MarkedBus).send(Work()) == 2
    assert seen == ["outbox"]


def test_interceptors_of_event_bus_run_once_and_of_handlers_each(log: Log) -> None:
    """One publication, several handlers."""

    @event_handler
    def first(event: Work) -> None:
        log.lines.append("first")

    @event_handler
    def second(event: Work) -> None:
        log.lines.append("second")

    bus = log.interceptor(before, "bus", EventBus)
    handler = log.interceptor(before, "handler", event_handler)
    flow_testing([first, second, bus, handler]).publish_event(Work())
    assert log.lines == ["bus", "handler", "first", "handler", "second"]


def test_stop_before_one_event_handler_does_not_stop_the_others(log: Log) -> None:
    """A None stops the message for the handler it was intercepted for."""

    @event_handler
    def first(event: Work) -> None:
        log.lines.append("first")

    @event_handler
    def second(event: Work) -> None:
        log.lines.append("second")

    @before(pointcut=first)
    def stop() -> t.Any:
        return None

    flow_testing([first, second, stop]).publish_event(Work())
    assert log.lines == ["second"]


def test_interceptors_of_a_gateway_and_of_an_internal_handler(log: Log) -> None:
    """A business interface is no bus; its own interceptors run, and the handler's."""

    class Api(t.Protocol):
        @business_method("step")
        def step(self) -> int: ...

    @internal_handler("step")
    def step() -> int:
        return 1

    flow = flow_testing(
        [
            Api,
            step,
            log.interceptor(before, "gateway", Api),
            log.interceptor(before, "internal", internal_handler),
            log.interceptor(before, "bus", CommandBus),
        ]
    )
    assert flow.gateway(Api).step() == 1
    assert log.lines == ["gateway", "internal"]


def test_around_on_a_method_takes_a_service_behind_a_protocol() -> None:
    """A Protocol is no intercepted object, whatever methods it has."""

    class Clock(t.Protocol):
        def now(self) -> int: ...

    class Fixed:
        def now(self) -> int:
            return 12

    @around(pointcut=Service)
    def stamp(invocation: MethodInvocation, clock: Clock) -> t.Any:
        return invocation.proceed(), clock.now()

    flow = flow_testing([Service, stamp], services={Clock: Fixed()})
    assert flow.command_bus.send_with_routing("service.do") == ("done", 12)


def test_interceptor_object_is_a_service_made_once() -> None:
    """A class of interceptors keeps its state and gets its services."""

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        @before(pointcut=double)
        def add(self) -> None:
            self.count += 1

    flow = flow_testing([double, Counter])
    flow.send_command(Work()).send_command(Work())
    assert flow.service(Counter).count == 2


def test_around_that_would_lose_the_result_is_a_compile_error() -> None:
    """An around annotated '-> None' can't take part in a call with a result."""

    @around(pointcut=CommandBus)
    def swallow(invocation: MethodInvocation) -> None:
        invocation.proceed()

    with pytest.raises(HandlerSignatureError, match="would lose what the call returns"):
        flow_testing([swallow])
