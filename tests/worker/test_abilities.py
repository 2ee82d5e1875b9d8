"""Delays, lifetimes and priorities on channels that can't do them."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import add_header
from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import delayed
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import priority
from flask_ecotone import time_to_live
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels import DynamicChannel
from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.channels.memory import MemoryQueue
from flask_ecotone.channels.protocols import Capability
from flask_ecotone.consuming import Limits
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import MessageDeliveryError
from flask_ecotone.testing import flow_testing


@dataclass
class Ring:
    text: str


@dataclass(frozen=True)
class PlainChannel:
    """A channel as simple brokers have them: in and out."""

    name: str

    def open(self, surroundings: t.Any) -> MemoryQueue:
        class Plain(MemoryQueue):
            capabilities = Capability.BATCH

        return Plain(self.name, delayable=False)


class House:
    """An application with one asynchronous handler."""

    def __init__(self, *marks: t.Any, channel: str = "bell") -> None:
        self.app = Flask("house")
        self.app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.rung: list[str] = []
        self.fails = False

        @asynchronous(channel)
        @command_handler(endpoint_id="ring")
        def ring(command: Ring) -> None:
            self.rung.append(command.text)
            if self.fails:
                raise ValueError("no bell")

        for mark in marks:
            ring = mark(ring)
        self.ecotone = Ecotone(
            packages=[],
            channels=[
                PlainChannel("bell"),
                InMemoryChannel("able"),
                CombinedChannel("able_first", ["able", "bell"]),
                CombinedChannel("able_last", ["bell", "able"]),
                DynamicChannel.by_header("any", "where"),
                DynamicChannel.round_robin("turns", ["able", "bell"]),
            ],
        )
        self.ecotone.register(ring)
        self.ecotone.init_app(self.app)

    def send(self, **headers: t.Any) -> None:
        with self.app.app_context():
            self.ecotone.command_bus.send(Ring("ding"), headers)

    def compile(self) -> None:
        with self.app.app_context():
            self.ecotone.compile()


@pytest.mark.parametrize("channel", ["bell", "able_last", "turns"])
@pytest.mark.parametrize(
    ("mark", "name"),
    [
        (delayed(1000), "@delayed"),
        (delayed(expression=lambda payload: 1), "@delayed"),
        (add_header("deliveryDelay", 5), "@delayed"),
        (time_to_live(1000), "@time_to_live"),
        (priority(5), "@priority"),
    ],
)
def test_marks_that_the_channel_cannot_do_are_refused(
    mark: t.Any, name: str, channel: str
) -> None:
    """The error names the handler, its file and line, the channel and the way out."""
    house = House(mark, channel=channel)
    said = (
        rf"ring \({re.escape(__file__)}:\d+\) has {name}, and its channel"
        rf" '(bell|turns)' lacks Capability\..*DatabaseChannel\('(bell|turns)'\)"
    )
    with pytest.raises(ConfigurationError, match=said):
        house.compile()


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        (delayed(1000), "@delayed"),
        (add_header("deliveryDelay", 5), "@delayed"),
        (time_to_live(1000), "@time_to_live"),
    ],
)
def test_a_handler_that_runs_at_once_waits_for_nothing(mark: t.Any, name: str) -> None:
    """Without @asynchronous the marker would be forgotten, so it is refused."""

    @mark
    @command_handler("remind")
    def remind() -> None: ...

    with pytest.raises(ConfigurationError, match=rf"remind .* has {name}, which is ab"):
        flow_testing([remind])


@pytest.mark.parametrize("given", [[], "", [""], len])
def test_asynchronous_without_a_channel_is_refused(given: t.Any) -> None:
    """Also where the parentheses were forgotten."""
    with pytest.raises(ConfigurationError, match=r'@asynchronous\("orders"\)'):
        asynchronous(given)


def test_what_happens_in_the_first_channel_is_asked_of_that() -> None:
    """A chain delays in its first channel, and is important in all of them."""
    House(delayed(1000), time_to_live(1000), channel="able_first").compile()
    with pytest.raises(ConfigurationError, match="channel 'bell' lacks Capability.PR"):
        House(priority(5), channel="able_first").compile()


def test_delayed_retries_take_delays() -> None:
    """They wait in the last channel; retries without delay are fine anywhere."""
    House(delayed_retry(0)).compile()
    House(delayed_retry(1000), channel="able_last").compile()
    for channel in ("bell", "able_first"):
        with pytest.raises(ConfigurationError, match="@delayed_retry, and its channel"):
            House(delayed_retry(1000), channel=channel).compile()


@pytest.mark.parametrize("channel", ["bell", "any"])
@pytest.mark.parametrize("header", ["deliveryDelay", "timeToLive", "priority"])
def test_headers_that_the_channel_cannot_do_are_refused(
    header: str, channel: str
) -> None:
    """Who sends such a message is told, and nothing is sent."""
    house = House(channel=channel)
    said = f"for ring has the header '{header}', and the channel 'bell' can't"
    with pytest.raises(MessageDeliveryError, match=said):
        house.send(where="bell", **{header: 5})
    with house.app.app_context():
        messaging = house.app.extensions["ecotone"].messaging
        assert messaging.channels.get("bell").status().ready == 0
    house.send(where="bell", deliveryDelay=0, priority=0)
    with house.app.app_context():
        assert messaging.channels.get("bell").status().ready == 1


def test_a_header_may_lead_to_a_channel_that_can() -> None:
    """What a channel can do that a header names is asked of that channel."""
    house = House(channel="any")
    house.send(where="able", deliveryDelay=60_000)
    messaging = house.app.extensions["ecotone"].messaging
    assert messaging.channels.get("able").status().delayed == 1


def test_default_retries_do_not_wait_where_nothing_can() -> None:
    """The three retries of an application come one after the other, and then end."""
    house = House()
    house.fails = True
    house.send()
    messaging = house.app.extensions["ecotone"].messaging
    worker = messaging.worker(["bell"], limits=Limits(handled=4))
    assert worker.run().failed == 4
    assert house.rung == ["ding"] * 4
