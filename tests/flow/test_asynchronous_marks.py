"""What marks and headers say of the messages of asynchronous handlers."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from datetime import UTC

import pytest

from flask_ecotone import add_header
from flask_ecotone import around
from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import delayed
from flask_ecotone import delayed_retry
from flask_ecotone import DelayedRetry
from flask_ecotone import EndpointMarker
from flask_ecotone import error_channel
from flask_ecotone import ErrorChannel
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import FailedMessage
from flask_ecotone import Header
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import presend
from flask_ecotone import priority
from flask_ecotone import query_handler
from flask_ecotone import remove_header
from flask_ecotone import RetryTemplate
from flask_ecotone import time_to_live
from flask_ecotone.decorators.asynchronous import milliseconds
from flask_ecotone.decorators.deduplication import DeduplicatedMark
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import MessagingError
from flask_ecotone.testing import flow_testing
from flask_ecotone.testing import FlowTesting

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WARSAW = timezone(timedelta(hours=1))


@dataclass
class Sow:
    seed: str
    days: int = 0


@dataclass
class Sown:
    seed: str


@dataclass(frozen=True)
class Careful(EndpointMarker):
    """A marker of the application."""

    level: int


class Almanac:
    """A service that expressions ask."""

    days = 3


def garden(*marks: Callable[[t.Any], t.Any], **options: t.Any) -> FlowTesting:
    """Return a flow with one asynchronous handler that carries marks, at noon."""

    def water(command: Sow) -> None: ...

    handler = command_handler(endpoint_id="water")(water)
    for mark in (asynchronous("beds"), *marks):
        handler = mark(handler)
    flow = flow_testing([handler], asynchronous=True, **options)
    return flow.freeze_time(NOON)


def is_due(flow: FlowTesting, after: timedelta) -> bool:
    """Return whether the message is handled after a time, and not a moment earlier."""
    flow.advance_time(after - timedelta(milliseconds=1)).run("beds")
    is_early = flow.waiting_in("beds") == 0
    flow.advance_time(timedelta(milliseconds=1)).run("beds")
    return not is_early and flow.waiting_in("beds") == 0


@pytest.mark.parametrize(
    "mark",
    [
        delayed(timedelta(days=3)),
        delayed(259_200_000),
        delayed(NOON + timedelta(days=3)),
        delayed((NOON + timedelta(days=3)).astimezone(WARSAW)),
        delayed(expression=lambda payload: timedelta(days=payload.days)),
        delayed(expression=lambda headers: headers["days"] * 86_400_000),
        delayed(expression=lambda: NOON + timedelta(days=3)),
        delayed(expression=lambda: "2030-01-04T12:00:00Z"),
        delayed(expression=lambda: "2030-01-04T13:00:00+01:00"),
        delayed(expression=lambda: "2030-01-04T13:00:00+0100"),
        delayed(expression=lambda reference: timedelta(reference(Almanac).days)),
        delayed(expression="payload.days * 86400000"),
        delayed(expression="headers.days * parameter('DAY')"),
    ],
)
def test_a_delay_is_said_in_many_ways(mark: t.Any) -> None:
    """A time, milliseconds, a moment, or an expression that computes one of them."""
    flow = garden(mark, services=[Almanac()], configuration={"DAY": "86400000"})
    flow.send_command(Sow("pea", days=3), {"days": 3})
    assert is_due(flow, timedelta(days=3))


@pytest.mark.parametrize(
    "delay",
    [
        timedelta(milliseconds=1500),
        1500,
        NOON + timedelta(milliseconds=1500),
        "2030-01-01T12:00:01.500Z",
    ],
)
def test_a_message_may_have_a_delay_of_its_own(delay: t.Any) -> None:
    """To the millisecond."""
    flow = garden().send_command(Sow("pea"), {"deliveryDelay": delay})
    assert is_due(flow, timedelta(milliseconds=1500))


@pytest.mark.parametrize("moment", [NOON - timedelta(days=1), NOON])
def test_a_moment_that_is_over_is_no_delay(moment: datetime) -> None:
    """The message is handled at once."""
    flow = garden(delayed(moment)).send_command(Sow("pea"))
    assert flow.run("beds").waiting_in("beds") == 0


@pytest.mark.parametrize(
    ("delay", "error", "said"),
    [
        ("2030-01-04T12:00:00", ConfigurationError, "no time zone"),
        (datetime(2030, 1, 4), ConfigurationError, "no time zone"),
        ("tomorrow", MessagingError, "'tomorrow'. It is a timedelta"),
        (True, MessagingError, "True. It is a timedelta"),
        ([1], MessagingError, "It is a timedelta"),
    ],
)
def test_what_is_no_delay_is_refused(
    delay: t.Any, error: type[Exception], said: str
) -> None:
    """Where the message is sent, whether it or its handler says so; nothing is sent."""
    flow = garden()
    with pytest.raises(error, match=said):
        flow.send_command(Sow("pea"), {"deliveryDelay": delay})
    computed = garden(delayed(expression=lambda: delay))
    with pytest.raises(error, match=said):
        computed.send_command(Sow("pea"))
    assert (flow.waiting_in("beds"), computed.waiting_in("beds")) == (0, 0)


@pytest.mark.parametrize(
    "mark",
    [
        lambda: delayed(),
        lambda: delayed(1, expression="1"),
        lambda: delayed(-1),
        lambda: delayed(datetime(2030, 1, 4)),
        lambda: delayed("soon"),
        lambda: time_to_live(),
        lambda: time_to_live(NOON),
        lambda: time_to_live(timedelta(seconds=-1)),
        lambda: delayed_retry(-1),
        lambda: delayed_retry(1, multiplier=0.5),
        lambda: delayed_retry(1, jitter=2),
        lambda: delayed_retry(1, max_attempts=-1),
        lambda: asynchronous([]),
        lambda: asynchronous("beds", execution=["without transaction"]),  # type: ignore[list-item]
    ],
)
def test_a_mark_that_makes_no_sense_is_refused(mark: Callable[[], t.Any]) -> None:
    """Where it is written."""
    with pytest.raises(ConfigurationError):
        mark()


def test_who_has_the_last_word_on_a_delay_can_be_chosen() -> None:
    """The handler, unless it says ``replace=False``."""
    for replace, days in ((True, 3), (False, 1)):
        flow = garden(delayed(timedelta(days=3), replace=replace))
        flow.send_command(Sow("pea"), {"deliveryDelay": timedelta(days=1)})
        assert is_due(flow, timedelta(days=days))


@pytest.mark.parametrize(
    ("marks", "headers"),
    [
        ([time_to_live(timedelta(minutes=5))], {}),
        ([time_to_live(expression="payload.days * 60000")], {}),
        ([], {"timeToLive": 300_000}),
        ([time_to_live(1, replace=False)], {"timeToLive": timedelta(minutes=5)}),
        ([time_to_live(timedelta(minutes=5)), delayed(timedelta(days=1))], {}),
    ],
)
def test_what_nobody_takes_in_time_is_forgotten(
    marks: list[t.Any], headers: dict[str, t.Any]
) -> None:
    """The time is counted from when the message is due."""
    delay = timedelta(days=len(marks) // 2)
    for passes, left in ((timedelta(minutes=5), 0), (timedelta(minutes=4), 1)):
        flow = garden(*marks).send_command(Sow("pea", days=5), headers)
        found = flow.advance_time(delay + passes).receive_from("beds")
        assert (found is not None) == bool(left)


def test_headers_are_those_of_the_copy() -> None:
    """Each handler of an event adds and removes for itself; the event has its own."""
    seen: dict[str, Message] = {}

    @asynchronous("beds")
    @add_header("tool", "hoe")
    @add_header("loud", expression=lambda payload: payload.seed.upper())
    @remove_header("secret")
    @priority(9)
    @event_handler(endpoint_id="weed")
    def weed(event: Sown, message: Message) -> None:
        seen["weed"] = message

    @asynchronous("beds")
    @event_handler(endpoint_id="rake")
    def rake(event: Sown, message: Message) -> None:
        seen["rake"] = message

    @event_handler
    def note(event: Sown, message: Message) -> None:
        seen["note"] = message

    flow = flow_testing([weed, rake, note], asynchronous=True)
    flow.publish_event(Sown("pea"), {"secret": "x"})
    assert list(seen) == ["note"]
    flow.run("beds")
    assert list(seen) == ["note", "weed", "rake"]
    headers = seen["weed"].headers
    assert (headers["tool"], headers["loud"], "secret" in headers) == (
        "hoe",
        "PEA",
        False,
    )
    for name in ("note", "rake"):
        assert seen[name].headers["secret"] == "x"
        assert "tool" not in seen[name].headers
    assert len({message.headers["id"] for message in seen.values()}) == 1


def test_a_class_makes_its_commands_and_events_asynchronous() -> None:
    """Its queries are answered at once, and a method may say otherwise."""
    heard: list[str] = []

    @asynchronous("beds")
    class Gardener:
        @command_handler(endpoint_id="sow")
        def sow(self, command: Sow) -> None:
            heard.append("sow")

        @event_handler(endpoint_id="water")
        def water(self, event: Sown) -> None:
            heard.append("water")

        @asynchronous("shed")
        @event_handler(endpoint_id="store")
        def store(self, event: Sown) -> None:
            heard.append("store")

        @query_handler("heard")
        def what(self) -> list[str]:
            return list(heard)

    flow = flow_testing([Gardener], asynchronous=True)
    flow.send_command(Sow("pea")).publish_event(Sown("pea"))
    assert flow.send_query_with_routing("heard") == []
    flow.run("beds")
    assert flow.send_query_with_routing("heard") == ["sow", "water"]
    assert flow.run("shed").send_query_with_routing("heard") == [
        "sow",
        "water",
        "store",
    ]


def test_a_message_goes_through_several_channels() -> None:
    """The handler runs at the last one, and the message is as it was sent."""
    seen: list[Message] = []

    @asynchronous(["gate", "path", "beds"])
    @command_handler(endpoint_id="sow")
    def sow(command: Sow, message: Message) -> None:
        seen.append(message)

    flow = flow_testing([sow], asynchronous=True)
    flow.send_command(Sow("pea"), {"user": "ann", "priority": 3})
    ways = []
    for name in ("gate", "path", "beds"):
        ways.append([flow.waiting_in(each) for each in ("gate", "path", "beds")])
        flow.run(name)
    assert ways == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    [message] = seen
    assert (message.payload, message.headers["user"]) == (Sow("pea"), "ann")
    assert message.headers["polledChannelName"] == "beds"
    assert message.headers["priority"] == 3
    assert "routingSlip" not in message.headers


@pytest.mark.parametrize("is_mark", [True, False])
def test_retries_wait_longer_each_time_and_no_longer_than_the_longest(
    is_mark: bool,
) -> None:
    """``max_delay`` is a cap; the retries go on, and end by their number."""
    options: dict[str, t.Any] = {"multiplier": 3, "max_attempts": 5}
    retry = RetryTemplate(1000, max_delay=4000, **options)
    marks = (
        delayed_retry(timedelta(seconds=1), max_delay=timedelta(seconds=4), **options)
        if is_mark
        else asynchronous("beds", execution=[DelayedRetry(retry)])
    )
    tries: list[str] = []

    def water(command: Sow) -> None:
        tries.append(command.seed)
        raise ValueError("no water")

    handler = marks(command_handler(endpoint_id="water")(water))
    if is_mark:
        handler = asynchronous("beds")(handler)
    flow = flow_testing([handler], asynchronous=True).freeze_time(NOON)
    flow.send_command(Sow("pea")).run("beds")
    for seconds in (1, 3, 4, 4):
        assert is_due_again(flow, tries, seconds)
    flow.advance_time(timedelta(seconds=4))
    with pytest.raises(ValueError, match="no water"):
        flow.run("beds")
    assert (len(tries), flow.waiting_in("beds")) == (6, 0)


def is_due_again(flow: FlowTesting, tries: list[str], seconds: int) -> bool:
    """Return whether the next try is after some seconds, and not a moment earlier."""
    before = len(tries)
    flow.advance_time(timedelta(seconds=seconds, milliseconds=-1)).run("beds")
    early = len(tries)
    flow.advance_time(timedelta(milliseconds=1)).run("beds")
    return (early, len(tries)) == (before, before + 1)


def test_what_a_retried_message_causes_has_retries_of_its_own() -> None:
    """Its failures are not those of its cause."""
    tries: list[str] = []

    @asynchronous("beds")
    @delayed_retry(0, max_attempts=2)
    @command_handler(endpoint_id="sow")
    def sow(command: Sow, bus: EventBus) -> None:
        tries.append("sow")
        if len(tries) < 3:
            raise ValueError("no spade")
        bus.publish(Sown(command.seed))

    @asynchronous("shed")
    @delayed_retry(0, max_attempts=2)
    @event_handler(endpoint_id="note")
    def note(event: Sown) -> None:
        tries.append("note")
        raise ValueError("no pen")

    flow = flow_testing([sow, note], asynchronous=True).send_command(Sow("pea"))
    for _ in range(3):
        flow.run("beds")
    for _ in range(2):
        flow.run("shed")
    with pytest.raises(ValueError, match="no pen"):
        flow.run("shed")
    assert tries == ["sow"] * 3 + ["note"] * 3


def test_chance_makes_a_wait_shorter() -> None:
    """By no more than the part that is left to it, and never longer than the cap."""
    retry = RetryTemplate(1000, 2.0, max_delay=3000, max_attempts=None, jitter=0.25)
    assert [retry.delay(n, 0.0) for n in (1, 2, 3, 9)] == [1000, 2000, 3000, 3000]
    assert [retry.delay(n, 1.0) for n in (1, 2, 3, 9)] == [750, 1500, 2250, 2250]
    assert retry.delay(10_000, 0.5) == 2625
    waits: set[int] = set()

    for _ in range(20):

        def water(command: Sow) -> None:
            raise ValueError("no water")

        handler = asynchronous("beds")(command_handler(endpoint_id="water")(water))
        handler = delayed_retry(timedelta(hours=1), jitter=0.5)(handler)
        flow = flow_testing([handler], asynchronous=True).freeze_time(NOON)
        flow.send_command(Sow("pea")).run("beds")
        for minutes in range(61):
            if flow.receive_from("beds") is not None:
                waits.add(minutes)
                break
            flow.advance_time(timedelta(minutes=1))
    assert min(waits) >= 30 and max(waits) <= 60 and len(waits) > 3


def test_an_attribute_of_execution_counts_while_the_worker_handles() -> None:
    """An interceptor gets it by its type; where the message is sent it isn't there."""

    levels: list[int | None] = []

    @around(pointcut=Careful)
    def watch(invocation: MethodInvocation, careful: Careful | None) -> t.Any:
        levels.append(careful and careful.level)
        return invocation.proceed()

    @presend(pointcut=Careful)
    def never(careful: Careful) -> None:
        levels.append(-1)

    @asynchronous("beds", execution=[Careful(level=3)])
    @command_handler(endpoint_id="sow")
    def sow(command: Sow) -> None: ...

    flow = flow_testing([sow, watch, never], asynchronous=True).send_command(Sow("pea"))
    assert levels == []
    flow.run("beds")
    assert levels == [3]


def test_an_interceptor_may_point_at_all_asynchronous_handlers() -> None:
    """Functions, and what the class says so of; it runs where they run."""
    log: list[str] = []

    @around(pointcut=asynchronous)
    def watch(
        invocation: MethodInvocation,
        channel: t.Annotated[str, Header("polledChannelName")],
    ) -> t.Any:
        log.append(f"{invocation.name} from {channel}")
        return invocation.proceed()

    @asynchronous("beds")
    @command_handler(endpoint_id="sow")
    def sow(command: Sow) -> None: ...

    @asynchronous("shed")
    class Gardener:
        @event_handler(endpoint_id="store")
        def store(self, event: Sown) -> None: ...

        @query_handler("weather")
        def weather(self) -> str:
            return "rain"

    @event_handler
    def note(event: Sown) -> None: ...

    flow = flow_testing([watch, sow, Gardener, note], asynchronous=True)
    flow.send_command(Sow("pea")).publish_event(Sown("pea"))
    assert flow.send_query_with_routing("weather") == "rain"
    assert log == []
    flow.run("beds").run("shed")
    assert [each.rpartition(".")[2] for each in log] == [
        "sow from beds",
        "store from shed",
    ]


def test_an_attribute_of_execution_that_has_no_effect_is_refused() -> None:
    """On a handler and on a bus."""
    for nonsense in (DeduplicatedMark(), "careful"):
        with pytest.raises(ConfigurationError, match="as an attribute of execution"):
            asynchronous("beds", execution=[nonsense])  # type: ignore[list-item]

    @asynchronous("beds", execution=[Careful(level=3)])
    class CarefulBus(CommandBus):
        pass

    with pytest.raises(ConfigurationError, match="CarefulBus .* on the bus itself"):
        flow_testing([CarefulBus], asynchronous=True)


def test_an_error_channel_may_be_one_of_execution() -> None:
    """It is told what the failed message was."""
    told: list[tuple[FailedMessage, str]] = []

    @asynchronous("beds", execution=[ErrorChannel("complaints")])
    @command_handler(endpoint_id="sow")
    def sow(command: Sow) -> None:
        raise ValueError("no spade")

    @internal_handler("complaints")
    def complain(failed: FailedMessage, user: t.Annotated[str, Header("user")]) -> None:
        told.append((failed, user))

    flow = flow_testing([sow, complain], asynchronous=True)
    flow.send_command(Sow("pea"), {"user": "ann"}).run("beds")
    [(failed, user)] = told
    assert (failed.endpoint_id, failed.error_message, user) == (
        "sow",
        "no spade",
        "ann",
    )


HANDLER = command_handler("sow", endpoint_id="sow")
BOTH = [DelayedRetry(RetryTemplate()), ErrorChannel("c")]
TWO = "has both @delayed_retry and @error_channel"


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ([asynchronous("beds"), delayed_retry(1), error_channel("c")], TWO),
        (
            [
                asynchronous(
                    "b", execution=[DelayedRetry(RetryTemplate()), ErrorChannel("c")]
                )
            ],
            TWO,
        ),
        ([delayed_retry(1)], "@delayed_retry, .* Add @asynchronous"),
        ([error_channel("c")], "@error_channel, .* Add @asynchronous"),
    ],
)
def test_marks_that_contradict_or_have_no_effect_do_not_compile(
    marks: list[t.Any], said: str
) -> None:
    """The error names the handler and the marks."""

    def sow() -> None: ...

    handler = HANDLER(sow)
    for mark in marks:
        handler = mark(handler)
    with pytest.raises(ConfigurationError, match=said):
        flow_testing([handler], asynchronous=True)


def test_two_handlers_of_one_endpoint_id_do_not_compile() -> None:
    """A message would not know whose it is."""

    @asynchronous("beds")
    @event_handler(endpoint_id="grow")
    def first(event: Sown) -> None: ...

    @asynchronous("shed")
    @event_handler(endpoint_id="grow")
    def second(event: Sown) -> None: ...

    with pytest.raises(ConfigurationError, match="'grow'"):
        flow_testing([first, second], asynchronous=True)


def test_a_query_is_never_asynchronous() -> None:
    """Who asks waits for the answer."""

    @asynchronous("beds")
    @query_handler("weather")
    def weather() -> str:
        return "rain"

    with pytest.raises(ConfigurationError, match="a query is answered at once"):
        flow_testing([weather], asynchronous=True)


def test_what_was_sent_to_a_channel_is_recorded() -> None:
    """Reading drains it, whether it was handled or not; retries aren't sent."""
    flow = garden(delayed(timedelta(days=3)), time_to_live(5))
    flow.send_command(Sow("pea"), {"user": "ann"}).advance_time(timedelta(days=3))
    flow.run("beds").send_command(Sow("bean"))
    first, second = flow.recorded_messages_from("beds")
    assert (first.payload, first.headers["user"]) == (Sow("pea"), "ann")
    assert first.headers["deliveryDelay"] == milliseconds(timedelta(days=3))
    assert first.headers["timeToLive"] == 5
    assert second.payload == Sow("bean")
    flow.send_command(Sow("leek"))
    assert flow.recorded_payloads_from("beds") == [Sow("leek")]
    flow.send_command(Sow("kale")).discard_recorded_messages()
    assert flow.recorded_payloads_from("beds") == []


def test_a_message_is_taken_out_of_a_channel() -> None:
    """As a worker would get it, and nobody handles it; what isn't due stays."""
    flow = garden()
    assert flow.receive_from("beds") is None
    flow.send_command(Sow("pea"), {"deliveryDelay": 1000, "user": "ann"})
    assert flow.receive_from("beds") is None
    flow.advance_time(timedelta(seconds=1))
    message = flow.receive_from("beds")
    assert message is not None
    assert (message.payload, message.headers["user"]) == (Sow("pea"), "ann")
    assert flow.waiting_in("beds") == 0


def test_time_stands_still_and_does_not_go_back() -> None:
    """Once a test has set it."""
    flow = garden(delayed(NOON + timedelta(hours=1))).send_command(Sow("pea"))
    flow.freeze_time(NOON + timedelta(minutes=59)).run("beds")
    assert flow.waiting_in("beds") == 1
    flow.freeze_time(NOON + timedelta(minutes=60)).run("beds")
    assert flow.waiting_in("beds") == 0
    with pytest.raises(ConfigurationError, match="doesn't go back"):
        flow.freeze_time(NOON)
    with pytest.raises(ConfigurationError, match="doesn't go back"):
        flow.advance_time(timedelta(seconds=-1))
    with pytest.raises(ConfigurationError, match="no time zone"):
        flow.freeze_time(datetime(2031, 1, 1))
