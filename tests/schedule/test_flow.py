"""Schedules in flow tests, and what can't be one."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from flask_ecotone import after
from flask_ecotone import ConfigVariable
from flask_ecotone import internal_handler
from flask_ecotone import Payload
from flask_ecotone import poller
from flask_ecotone import Reference
from flask_ecotone import scheduled
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import EcotoneError
from flask_ecotone.testing import flow_testing

DAILY = "0 6 * * *"


class Printer:
    def __init__(self) -> None:
        self.printed: list[t.Any] = []


class Reports:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer

    @scheduled(cron=DAILY, endpoint_id="report.daily", output_channel="reports")
    def write(self, title: t.Annotated[str, ConfigVariable("TITLE")]) -> str | None:
        return title or None


@internal_handler("reports")
def print_report(text: str, printer: t.Annotated[Printer, Reference()]) -> None:
    printer.printed.append(text)


def test_a_schedule_is_fired_by_its_name() -> None:
    """Services and variables are injected, and the result goes to its channel."""
    printer = Printer()
    flow = flow_testing(
        [Reports, print_report], services=[printer], configuration={"TITLE": "Sales"}
    )
    flow.run("report.daily").run("report.daily")
    assert printer.printed == ["Sales", "Sales"]
    assert flow.recorded_payloads_from("reports") == ["Sales", "Sales"]


def test_no_result_sends_nothing() -> None:
    """None stays where it is."""
    printer = Printer()
    flow = flow_testing(
        [Reports, print_report], services=[printer], configuration={"TITLE": ""}
    )
    flow.run("report.daily")
    assert printer.printed == []


def test_interceptors_apply() -> None:
    """They point at a schedule as at any handler."""
    printer = Printer()

    @scheduled(cron=DAILY, endpoint_id="daily", output_channel="reports")
    def daily() -> str:
        return "sales"

    @after(pointcut=scheduled)
    def louder(text: str) -> str:
        return text.upper()

    flow_testing([daily, louder, print_report], services=[printer]).run("daily")
    assert printer.printed == ["SALES"]


def test_what_can_not_be_a_schedule() -> None:
    """The error names the function and what to do."""

    def plain() -> None: ...
    def first(number: int) -> None: ...
    def marked(number: t.Annotated[int, Payload()]) -> None: ...
    def nowhere() -> None: ...
    def never() -> None: ...
    def mute() -> None: ...

    every = datetime.timedelta(minutes=1)
    cases: list[tuple[t.Any, str]] = [
        (poller(every=every)(plain), "has @poller"),
        (scheduled(every=every)(first), "takes no message"),
        (scheduled(every=every)(marked), "takes a payload"),
        (scheduled(every=every, output_channel="away")(nowhere), "nothing listens"),
        (scheduled(never), "nothing says when"),
        (poller(error_channel="e")(scheduled(every=every)(mute)), "nothing listens"),
    ]
    for function, said in cases:
        with pytest.raises(EcotoneError) as caught:
            flow_testing([function])
        assert said in str(caught.value)
        assert isinstance(caught.value, ConfigurationError)


def test_the_poller_has_the_last_word_on_the_time() -> None:
    """Its time is that of the schedule."""

    @poller(cron="0 7 * * *")
    @scheduled(cron=DAILY, endpoint_id="daily")
    def daily() -> None: ...

    schedule = flow_testing([daily]).system.schedules["daily"]
    midnight = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert schedule.timing.next_after(midnight).hour == 7


def test_two_schedules_of_one_name_are_refused() -> None:
    """Their ticks couldn't be told apart."""

    @scheduled(cron=DAILY, endpoint_id="daily")
    def one() -> None: ...

    @scheduled(cron=DAILY, endpoint_id="daily")
    def two() -> None: ...

    with pytest.raises(ConfigurationError, match="Two schedules"):
        flow_testing([one, two])
