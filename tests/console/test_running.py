"""Running a command: names, headers, injected parameters, interceptors."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
from click.testing import CliRunner
from flask import current_app
from flask import Flask

from flask_ecotone import after
from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import ConfigVariable
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import EndpointMarker
from flask_ecotone import environment
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import Headers
from flask_ecotone import instant_retry
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone import Reference
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import HeaderNotFoundError
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.testing import flow_testing

from .conftest import Run


@dataclass(frozen=True)
class PlaceOrder:
    product: str


@dataclass(frozen=True)
class OrderWasPlaced:
    product: str


@dataclass(frozen=True)
class CountOrders:
    pass


class Orders:
    def __init__(self, events: EventBus, writer: ConsoleWriter) -> None:
        self.events = events
        self.writer = writer
        self.tenants: list[str | None] = []

    @command_handler
    def place(
        self,
        command: PlaceOrder,
        tenant: t.Annotated[str | None, Header("tenant")] = None,
    ) -> None:
        self.tenants.append(tenant)
        self.events.publish(OrderWasPlaced(command.product))

    @event_handler
    def announce(
        self, event: OrderWasPlaced, tenant: t.Annotated[str, Header("tenant")]
    ) -> None:
        self.writer.info(f"{event.product} for {tenant}")

    @query_handler
    def count(self, query: CountOrders) -> int:
        return len(self.tenants)

    @console_command("orders:place")
    def place_many(
        self, products: list[str], commands: CommandBus, queries: QueryBus
    ) -> None:
        for product in products:
            commands.send(PlaceOrder(product))
        self.writer.success(f"{queries.send(CountOrders())} placed")


@console_command("purge")
def purge(days: int, writer: ConsoleWriter, dry_run: bool = False) -> None:
    writer.info(f"{days} {dry_run}")


def test_headers_reach_everything_the_command_causes() -> None:
    """A command, its event and the handlers of both see the headers of the command."""
    flow = flow_testing([Orders])
    flow.run_console_command(
        "orders:place", {"products": ["milk", "tea"]}, {"tenant": "a"}
    )
    assert flow.console.info_lines == ["milk for a", "tea for a"]
    assert flow.console.success_lines == ["2 placed"]
    headers = [*flow.recorded_command_headers(), *flow.recorded_event_headers()]
    assert [h["tenant"] for h in headers] == ["a"] * 4
    assert len({h.correlation_id for h in headers}) == 1


def test_headers_of_the_command_line_reach_nested_messages(run: Run) -> None:
    """--header is repeatable, and its value may have colons."""
    argv = ["orders", "place", "--products=milk", "--header", "tenant:a:b:c"]
    result = run(Orders, *argv, "--header=user:7")
    assert result.output == "milk for a:b:c\n1 placed\n"


def test_headers_are_gone_after_the_command() -> None:
    """Two commands in one thread don't share headers."""
    flow = flow_testing([Orders])
    flow.run_console_command("orders:place", {"products": ["milk"]}, {"tenant": "a"})
    with pytest.raises(HeaderNotFoundError):
        flow.run_console_command("orders:place", {"products": ["milk"]})
    assert flow.service(Orders).tenants == ["a", None]
    assert flow.system.current_message is None


def test_headers_may_be_among_the_parameters() -> None:
    """As Ecotone has it: 'header' lists name:value."""
    flow = flow_testing([Orders])
    params = {"products": ["milk"], "header": ["tenant:a:b", "user:7"]}
    flow.run_console_command("orders:place", params)
    assert flow.console.info_lines == ["milk for a:b"]
    with pytest.raises(MessagingError, match="Invalid header format. Should be in"):
        flow.run_console_command("orders:place", {"header": ["tenant"]})
    with pytest.raises(MessagingError, match="'tenant' is given twice, as 'a' and 'b'"):
        flow.run_console_command("orders:place", {"header": ["tenant:a", "tenant:b"]})
    with pytest.raises(MessagingError, match="Header parameter should be iterable"):
        flow.run_console_command("orders:place", {"header": 7})


def test_an_unknown_command_offers_the_closest_name() -> None:
    """The text of Ecotone, and what was probably meant."""
    flow = flow_testing([Orders, purge])
    with pytest.raises(
        NoHandlerError,
        match="Trying to run not existing console command order:place.*'orders:place'",
    ):
        flow.run_console_command("order:place")


def test_a_missing_argument_is_named() -> None:
    """The text of Ecotone; flags, lists and defaults may be left out."""
    flow = flow_testing([purge])
    with pytest.raises(
        MessagingError,
        match="Missing argument with name days for console command purge",
    ):
        flow.run_console_command("purge", {"dry_run": True})
    assert flow.console.lines == []
    flow.run_console_command("purge", {"days": 1})
    assert flow.console.info_lines == ["1 False"]


def test_parameters_are_converted_and_go_by_any_spelling() -> None:
    """Text from elsewhere does as well; what no parameter has is ignored."""
    flow = flow_testing([purge])
    flow.run_console_command("purge", {"days": "3", "dryRun": "true", "other": 1})
    assert flow.console.info_lines == ["3 True"]
    with pytest.raises(ConversionError, match="the parameter 'days' of .*purge"):
        flow.run_console_command("purge", {"days": "x"})


class Clock:
    now = "noon"


@console_command("inject")
def inject(
    name: str,
    clock: Clock,
    message: Message,
    writer: ConsoleWriter,
    token: t.Annotated[str | None, Header("token")],
    headers: t.Annotated[dict[str, t.Any], Headers()],
    other: t.Annotated[Clock, Reference()],
    size: t.Annotated[int, ConfigVariable("BATCH")],
) -> None:
    assert message.headers.message_id == headers["id"]
    assert clock is other
    writer.writeln(f"{name} {clock.now} {token} {size}")


def test_services_headers_and_configuration_are_injected(
    new_app: t.Callable[..., Flask],
) -> None:
    """What is marked or a class of a service is no argument of the command line."""
    runner = new_app(inject, BATCH=50).test_cli_runner()
    assert runner.invoke(args=["inject", "Ada"]).output == "Ada noon None 50\n"
    argv = ["inject", "Ada", "--header", "token:x"]
    assert runner.invoke(args=argv).output == "Ada noon x 50\n"
    assert runner.invoke(args=["inject", "Ada", "--size=1"]).exit_code == 2


def test_class_and_static_methods_are_commands() -> None:
    """They need no object, so a class that can't be made is none in the way."""

    class Jobs:
        def __init__(self, missing: int) -> None: ...

        @console_command("jobs:static")
        @staticmethod
        def static(writer: ConsoleWriter) -> None:
            writer.writeln("static")

        @classmethod
        @console_command("jobs:cls")
        def on_class(cls, writer: ConsoleWriter) -> None:
            writer.writeln(cls.__name__)

    flow = flow_testing([Jobs]).run_console_command("jobs:static")
    assert flow.run_console_command("jobs:cls").console.lines == ["static", "Jobs"]


def test_one_function_is_several_commands() -> None:
    """Each marker is a command of its own."""

    @console_command("short")
    @console_command("a:longer:name")
    def command(writer: ConsoleWriter) -> None:
        writer.writeln("ran")

    flow = flow_testing([command]).run_console_command("short")
    assert flow.run_console_command("a:longer:name").console.lines == ["ran"] * 2


def test_commands_of_other_environments_are_not_there() -> None:
    """@environment works as on handlers."""

    @environment("dev")
    @console_command("seed")
    def seed() -> None: ...

    with pytest.raises(NoHandlerError):
        flow_testing([seed]).run_console_command("seed")
    flow_testing([seed], environment="dev").run_console_command("seed")


class Audited(EndpointMarker):
    pass


@Audited()
@console_command("work")
def work(days: int, writer: ConsoleWriter) -> None:
    writer.writeln(f"work {days}")


@pytest.mark.parametrize(
    "pointcut", [console_command, work, Audited, "*work", console_command & Audited]
)
def test_interceptors_point_at_commands(pointcut: t.Any) -> None:
    """By the marker, the function, an endpoint marker, a glob, or a combination."""
    seen: list[t.Any] = []

    @before(pointcut=pointcut)
    def watch(params: dict[str, t.Any]) -> None:
        seen.append(params)

    @around(pointcut=pointcut)
    def surround(invocation: MethodInvocation, writer: ConsoleWriter) -> t.Any:
        writer.writeln(f"before {invocation.arguments[0]}")
        invocation.proceed()
        writer.writeln("after")

    @before(pointcut=command_handler)
    def elsewhere() -> None:
        seen.append("elsewhere")

    flow = flow_testing([work, watch, surround, elsewhere])
    flow.run_console_command("work", {"days": 3})
    assert flow.console.lines == ["before 3", "work 3", "after"]
    assert seen == [{"days": 3}]


def test_interceptors_change_headers_parameters_and_stop_commands() -> None:
    """What runs before a command has its say, and nested messages inherit it."""

    @before(pointcut=Orders, change_headers=True)
    def choose(params: t.Any) -> dict[str, str]:
        return {"tenant": "chosen"}

    @before(pointcut=work)
    def double(params: dict[str, t.Any]) -> dict[str, t.Any] | None:
        return {"days": params["days"] * 2} if params["days"] < 5 else None

    flow = flow_testing([Orders, work, choose, double])
    flow.run_console_command("orders:place", {"products": ["milk"]})
    assert flow.console.info_lines == ["milk for chosen"]
    flow.console.clear()
    flow.run_console_command("work", {"days": 4})
    flow.run_console_command("work", {"days": 5})
    assert flow.console.lines == ["work 8"]


def test_nothing_runs_after_a_command() -> None:
    """A command has no reply, and so there is none to intercept."""
    seen: list[str] = []

    @after(pointcut=console_command)
    def never() -> None:
        seen.append("after")

    flow_testing([purge, never]).run_console_command("purge", {"days": 1})
    assert seen == []


def test_a_command_is_tried_again() -> None:
    """@instant_retry concerns a command as it does a handler."""
    attempts: list[int] = []

    @instant_retry(2)
    @console_command("flaky")
    def flaky() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError

    flow_testing([flaky]).run_console_command("flaky")
    assert len(attempts) == 3


def test_exceptions_of_the_application_pass_through() -> None:
    """Nothing is wrapped, neither in flow tests nor on the command line."""

    class Broken(Exception):
        pass

    @console_command("broken")
    def broken() -> None:
        raise Broken("no")

    with pytest.raises(Broken, match="^no$"):
        flow_testing([broken]).run_console_command("broken")


def test_an_error_of_ours_is_one_line_and_exit_code_1(
    new_app: t.Callable[..., Flask],
) -> None:
    """The traceback is for debug mode; other exceptions are left to Flask."""

    @console_command("load")
    def load() -> None:
        raise AggregateNotFoundError("Order was not found.")

    @console_command("broken")
    def broken() -> None:
        raise OSError("disk full")

    app = new_app(load, broken)
    result = app.test_cli_runner().invoke(args=["load"])
    assert (result.exit_code, result.output) == (1, "Error: Order was not found.\n")
    app.debug = True
    result = app.test_cli_runner().invoke(args=["load"])
    assert result.exit_code == 1
    assert isinstance(result.exception, AggregateNotFoundError)
    result = app.test_cli_runner().invoke(args=["broken"])
    assert result.exit_code == 1
    assert isinstance(result.exception, OSError)


def test_the_command_line_goes_through_the_system(
    new_app: t.Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The native command hands values and headers to run_console_command."""
    app = new_app(purge)
    calls: list[t.Any] = []
    system = app.extensions["ecotone"].system
    monkeypatch.setattr(
        type(system),
        "run_console_command",
        lambda self, name, params, headers, **_: calls.append((name, params, headers)),
    )
    argv = ["purge", "3", "--dryRun", "--header=a:b"]
    assert app.test_cli_runner().invoke(args=argv).exit_code == 0
    assert calls == [("purge", {"days": 3, "dry_run": True}, {"a": "b"})]


def test_a_command_runs_in_the_context_of_its_application(
    new_app: t.Callable[..., Flask],
) -> None:
    """Also when the group is run without the help of Flask's runner."""
    names: list[str] = []

    @console_command("where")
    def where() -> None:
        names.append(current_app.name)

    app = new_app(where)
    assert CliRunner().invoke(app.cli, ["where"]).exit_code == 0
    with Flask("other").app_context():
        assert CliRunner().invoke(app.cli, ["where"]).exit_code == 0
    assert names == ["shop", "shop"]
