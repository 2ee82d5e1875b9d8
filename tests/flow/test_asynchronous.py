"""Flow tests of asynchronous handlers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import delayed
from flask_ecotone import delayed_retry
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import priority
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.testing import flow_testing


@dataclass
class Place:
    number: int
    fails: bool = False


@dataclass
class Placed:
    number: int


class Post:
    """What was sent, and how often it is to fail."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.failures = 0


@command_handler
def place(command: Place, bus: EventBus) -> None:
    bus.publish(Placed(command.number))
    if command.fails:
        raise ValueError("no stock")


@asynchronous("mails")
@event_handler(endpoint_id="confirm")
def confirm(event: Placed, post: Post) -> None:
    post.sent.append(f"confirm {event.number}")
    if event.number < 0:
        raise ValueError("no such order")


@asynchronous("mails")
@delayed(timedelta(days=7))
@event_handler(endpoint_id="review")
def review(event: Placed, post: Post) -> None:
    post.sent.append(f"review {event.number}")


@asynchronous("print")
@delayed_retry(60_000, max_attempts=1)
@command_handler("print", endpoint_id="print")
def print_label(text: str, post: Post) -> None:
    if post.failures:
        post.failures -= 1
        raise ValueError("no paper")
    post.sent.append(text)


HANDLERS = [place, confirm, review, print_label]


def test_handlers_run_when_the_channel_is_run() -> None:
    """Until then their messages wait."""
    post = Post()
    flow = flow_testing(HANDLERS, services=[post], asynchronous=True)
    flow.send_command(Place(1))
    assert post.sent == []
    assert flow.waiting_in("mails") == 2
    flow.run("mails")
    assert post.sent == ["confirm 1"]
    assert flow.consumers() == ["mails", "print"]


def test_without_channels_handlers_run_at_once() -> None:
    """As if they were not asynchronous."""
    post = Post()
    flow_testing(HANDLERS, services=[post]).send_command(Place(1))
    assert post.sent == ["confirm 1", "review 1"]


def test_time_passes_when_the_test_says_so() -> None:
    """A delayed message comes when its time has come."""
    post = Post()
    flow = flow_testing(HANDLERS, services=[post], asynchronous=True)
    flow.send_command(Place(1)).run("mails").advance_time(timedelta(days=6))
    assert flow.run("mails") is flow
    assert post.sent == ["confirm 1"]
    flow.advance_time(timedelta(days=1)).run("mails")
    assert post.sent == ["confirm 1", "review 1"]


def test_what_is_delayed_can_be_released() -> None:
    """Without moving the clock."""
    post = Post()
    flow = flow_testing(HANDLERS, services=[post], asynchronous=True)
    flow.send_command(Place(1)).run("mails", release_awaiting=timedelta(days=8))
    assert post.sent == ["confirm 1", "review 1"]


def test_a_failed_command_sends_nothing() -> None:
    """What it published is given up."""
    flow = flow_testing(HANDLERS, services=[Post()], asynchronous=True)
    with pytest.raises(ValueError, match="no stock"):
        flow.send_command(Place(1, fails=True))
    assert flow.waiting_in("mails") == 0


def test_the_exception_of_a_handler_is_raised() -> None:
    """As it is, so that the test shows where it comes from."""
    flow = flow_testing(HANDLERS, services=[Post()], asynchronous=True)
    flow.send_command(Place(-1))
    with pytest.raises(ValueError, match="no such order"):
        flow.run("mails")


def test_retries_come_later_and_end() -> None:
    """What failed for good is an error of the test."""
    post = Post()
    post.failures = 1
    flow = flow_testing(HANDLERS, services=[post], asynchronous=True)
    flow.send_command_with_routing("print", "label").run("print")
    assert post.sent == []
    flow.advance_time(timedelta(minutes=1)).run("print")
    assert post.sent == ["label"]
    post.failures = 2
    flow.send_command_with_routing("print", "label").run("print")
    flow.advance_time(timedelta(minutes=1))
    with pytest.raises(ValueError, match="no paper"):
        flow.run("print")


def test_priority_comes_first() -> None:
    """Higher numbers are handled earlier."""
    seen: list[str] = []

    @asynchronous("work")
    @command_handler("work", endpoint_id="work")
    def work(text: str) -> None:
        seen.append(text)

    flow = flow_testing([work], asynchronous=True)
    for text, number in (("low", 1), ("high", 9), ("middle", 5)):
        flow.send_command_with_routing("work", text, metadata={"priority": number})
    flow.run("work")
    assert seen == ["high", "middle", "low"]


def test_the_priority_of_a_handler_is_that_of_its_messages() -> None:
    """Unless a message says otherwise."""
    seen: list[str] = []

    @asynchronous("work")
    @priority(7)
    @command_handler("urgent", endpoint_id="urgent")
    def urgent(text: str) -> None:
        seen.append(text)

    @asynchronous("work")
    @command_handler("work", endpoint_id="work")
    def work(text: str) -> None:
        seen.append(text)

    flow = flow_testing([work, urgent], asynchronous=True)
    flow.send_command_with_routing("work", "later")
    flow.send_command_with_routing("urgent", "first")
    flow.send_command_with_routing("work", "now", metadata={"priority": 8})
    flow.run("work")
    assert seen == ["now", "first", "later"]


def test_a_channel_that_is_not_there_is_named() -> None:
    """With what was probably meant."""
    flow = flow_testing(HANDLERS, services=[Post()], asynchronous=True)
    with pytest.raises(ConfigurationError, match="Did you mean 'mails'"):
        flow.run("mail")
    with pytest.raises(ConfigurationError, match="asynchronous=True"):
        flow_testing(HANDLERS, services=[Post()]).run("mails")


def test_time_that_is_no_duration_is_refused() -> None:
    """The error has an example."""
    flow = flow_testing([confirm], asynchronous=True)
    with pytest.raises(ConfigurationError, match=r"timedelta\(days=7\)"):
        flow.advance_time(5)  # type: ignore[arg-type]
