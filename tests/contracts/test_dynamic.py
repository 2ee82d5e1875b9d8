"""Channels made of channels: the contract, and what they choose."""

from __future__ import annotations

import json
import logging
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels import DynamicChannel
from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.channels import PublishSubscribeChannel
from flask_ecotone.channels.memory import MemoryQueue
from flask_ecotone.channels.opening import ChannelSurroundings
from flask_ecotone.channels.protocols import Capability
from flask_ecotone.channels.protocols import Channel
from flask_ecotone.channels.protocols import ChannelConfiguration
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.channels.protocols import NULL_CHANNEL
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import MessageDeliveryError
from flask_ecotone.testing.contracts import envelope

from .clock import House
from .clock import MovedClockContract


class TestRoundRobin(MovedClockContract):
    """A round robin of two channels in memory."""

    def open_channel(self) -> Channel:
        parts = [InMemoryChannel("a"), InMemoryChannel("b")]
        dynamic = DynamicChannel.round_robin("orders", ["a", "b"])
        return House([dynamic, *parts], self.clock).channel("orders")


class TestOpenThrottle(MovedClockContract):
    """A throttled channel that is always open, with internal channels."""

    def open_channel(self) -> Channel:
        parts = [InMemoryChannel("a"), InMemoryChannel("b")]
        dynamic = DynamicChannel.throttled("orders", parts, lambda name: True)
        return House([dynamic], self.clock).channel("orders")


class TestOneInternalChannel(MovedClockContract):
    """A dynamic channel of one channel is as good as that one, and ordered."""

    def open_channel(self) -> Channel:
        dynamic = DynamicChannel.round_robin("orders", [InMemoryChannel("a")])
        return House([dynamic], self.clock).channel("orders")


@dataclass(frozen=True)
class AbleChannel:
    """A channel that can do what the test says."""

    name: str
    able: Capability

    def open(self, surroundings: ChannelSurroundings) -> Channel:
        class Able(MemoryQueue):
            capabilities = self.able

        return Able(self.name)


def house(*configurations: ChannelConfiguration) -> House:
    """An application with channels named a, b and c besides the given ones."""
    named = [InMemoryChannel(name) for name in "abc"]
    return House([*configurations, *named])


def headed(number: int, **headers: t.Any) -> Envelope:
    """A message with headers."""
    return envelope(number, headers=json.dumps(headers))


def numbers(channel: Channel) -> list[int]:
    """The numbers of the messages in a channel in memory, in order."""
    assert isinstance(channel, MemoryQueue)
    return [json.loads(each.body)["number"] for each in channel.envelopes()]


def claim_round(channel: Channel, limit: int = 1) -> list[int]:
    """What a worker gets that asks each source once."""
    return [
        json.loads(delivery.envelope.body)["number"]
        for source in channel.sources()
        for delivery in source.claim(limit)
    ]


def test_round_robin_sends_to_one_after_the_other() -> None:
    """Each message goes to the next channel, also over several calls."""
    made = house(DynamicChannel.round_robin("orders", ["a", "b", "c"]))
    orders = made.channel("orders")
    orders.send([envelope(n) for n in range(4)])
    orders.send([envelope(n) for n in range(4, 7)])
    assert [numbers(made.channel(name)) for name in "abc"] == [
        [0, 3, 6],
        [1, 4],
        [2, 5],
    ]


def test_round_robin_begins_with_another_channel_each_time() -> None:
    """No channel is always the first one to be asked."""
    made = house(DynamicChannel.round_robin("orders", ["a", "b", "c"]))
    orders = made.channel("orders")
    rounds = ["".join(s.channel for s in orders.sources()) for _ in range(4)]
    assert rounds == ["abc", "bca", "cab", "abc"]


def test_round_robin_with_different_channels() -> None:
    """It can send to other channels than those it receives from."""
    made = house(
        DynamicChannel.round_robin("orders", sending=["a"], receiving=["b", "c"])
    )
    orders = made.channel("orders")
    orders.send([envelope(1), envelope(2)])
    assert numbers(made.channel("a")) == [1, 2]
    assert [source.channel for source in orders.sources()] == ["b", "c"]
    assert made.configurations[0].references == ("a", "b", "c")  # type: ignore[attr-defined]


def test_two_applications_count_by_themselves() -> None:
    """A configuration opened twice starts with its first channel twice."""
    dynamic = DynamicChannel.round_robin("orders", ["a", "b"])
    for _ in range(2):
        made = house(dynamic)
        made.channel("orders").send([envelope(1)])
        assert numbers(made.channel("a")) == [1]


def test_empty_channel_does_not_hold_up_the_others() -> None:
    """A worker gets what there is in its first round."""
    made = house(DynamicChannel.round_robin("orders", ["a", "b", "c"]))
    made.channel("c").send([envelope(1)])
    assert claim_round(made.channel("orders")) == [1]


def by_shop(**options: t.Any) -> House:
    """A channel that the header "shop" decides on."""
    return house(
        DynamicChannel.by_header("orders", "shop", {"x": "a", "y": "b"}, **options)
    )


def test_header_chooses_the_channel() -> None:
    """A message goes where its header says."""
    made = by_shop()
    made.channel("orders").send([headed(1, shop="y"), headed(2, shop="x")])
    assert numbers(made.channel("a")) == [2]
    assert numbers(made.channel("b")) == [1]


@pytest.mark.parametrize(
    "headers", [{}, {"shop": "z"}, {"shop": None}, {"shop": ["x"]}, {"shop": {}}]
)
def test_default_channel_is_for_all_other_values(headers: dict[str, t.Any]) -> None:
    """The default gets messages without the header, and with values unheard of."""
    made = by_shop(default="c")
    made.channel("orders").send([headed(1, **headers)])
    assert numbers(made.channel("c")) == [1]


def test_default_channel_is_received_from() -> None:
    """A worker of the dynamic channel takes from the default channel, too."""
    made = by_shop(default="c")
    made.channel("orders").send([headed(1, shop="z")])
    assert claim_round(made.channel("orders")) == [1]


def test_unknown_value_is_refused_without_a_default() -> None:
    """Without a default nothing of the batch is sent, and the error says what to do."""
    made = by_shop()
    with pytest.raises(MessageDeliveryError, match="'shop' is 'z'.*a default"):
        made.channel("orders").send([headed(1, shop="x"), headed(2, shop="z")])
    assert numbers(made.channel("a")) == []


def test_header_is_the_name_of_the_channel() -> None:
    """Without a mapping the header names the channel; it can't lead back."""
    made = house(DynamicChannel.by_header("orders", "to", default="c"))
    orders = made.channel("orders")
    orders.send([headed(1, to="a"), headed(2, to="orders"), headed(3)])
    assert numbers(made.channel("a")) == [1]
    assert numbers(made.channel("c")) == [2, 3]


def test_closed_channel_is_left_alone() -> None:
    """Messages of a throttled channel wait until the function opens it."""
    open_ones = {"b"}
    asked: list[str] = []

    def decide(name: str) -> bool:
        asked.append(name)
        return name in open_ones

    made = house(DynamicChannel.throttled("orders", ["a", "b"], decide))
    orders = made.channel("orders")
    orders.send([envelope(n) for n in range(4)])
    assert claim_round(orders, 1) == [1]
    assert claim_round(orders, 1) == [3]
    assert sorted(asked) == ["a", "b"]

    open_ones.add("a")
    assert claim_round(orders, 9) == []
    made.clock.move(1)
    assert claim_round(orders, 9) == [0, 2]


def test_worker_looks_again_when_a_closed_channel_may_open() -> None:
    """A closed channel is due when the function is asked again, and not earlier."""
    made = house(DynamicChannel.throttled("orders", ["a"], lambda name: False))
    orders = made.channel("orders")
    orders.send([envelope(1), envelope(2, delay=10)])
    assert claim_round(orders) == []
    (source,) = orders.sources()
    assert source.next_due() == pytest.approx(1.0)
    made.clock.move(0.75)
    assert source.next_due() == pytest.approx(0.25)


def test_clock_that_is_set_back_does_not_close_a_channel() -> None:
    """An answer is asked for again if it seems to come from the future."""
    answers = iter([False, True])
    made = house(DynamicChannel.throttled("orders", ["a"], lambda name: next(answers)))
    orders = made.channel("orders")
    orders.send([envelope(1)])
    assert claim_round(orders) == []
    made.clock.move(-3600)
    assert claim_round(orders) == [1]


def test_send_only_channel_has_no_sources() -> None:
    """A channel that is only sent to has nothing that a worker could take."""
    made = House([DynamicChannel.send_only(InMemoryChannel("reports"))])
    made.channel("reports").send([envelope(1)])
    assert made.channel("reports").sources() == ()


def test_function_chooses_where_to_send() -> None:
    """A function gets the headers and returns a channel."""
    dynamic = DynamicChannel.custom(
        "orders",
        send=lambda headers: "a" if headers["total"] > 100 else "b",
        channels=["a", "b"],
    )
    made = house(dynamic)
    made.channel("orders").send([headed(1, total=7), headed(2, total=700)])
    assert numbers(made.channel("a")) == [2]
    assert numbers(made.channel("b")) == [1]


def test_function_must_choose_one_of_the_channels() -> None:
    """A channel that wasn't announced is refused."""
    dynamic = DynamicChannel.custom("orders", send=lambda _: "c", channels=["a", "b"])
    with pytest.raises(MessageDeliveryError, match="chose 'c'.*a, b"):
        house(dynamic).channel("orders").send([envelope(1)])


@pytest.mark.parametrize("nowhere", [None, NULL_CHANNEL])
def test_dropped_message_is_logged(
    nowhere: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that goes nowhere leaves a line that says which one it was."""
    caplog.set_level(logging.INFO)
    dynamic = DynamicChannel.custom("orders", send=lambda _: nowhere, channels=["a"])
    made = house(dynamic)
    made.channel("orders").send([envelope(1)])
    assert numbers(made.channel("a")) == []
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "Dropped the message message-000001" in record.getMessage()
    assert "'orders'" in record.getMessage()


def test_mapping_can_drop_messages(caplog: pytest.LogCaptureFixture) -> None:
    """A header can say that a message isn't wanted."""
    caplog.set_level(logging.INFO)
    mapping = {"test": NULL_CHANNEL, "live": "a"}
    made = house(DynamicChannel.by_header("orders", "mode", mapping))
    made.channel("orders").send([headed(1, mode="test"), headed(2, mode="live")])
    assert numbers(made.channel("a")) == [2]
    assert [s.channel for s in made.channel("orders").sources()] == ["a"]
    assert len(caplog.records) == 1


def receiving(receive: Callable[[], str | None]) -> House:
    """A channel whose function chooses where to receive; two messages in each part."""
    made = house(
        DynamicChannel.custom("orders", receive=receive, channels=["a", "b", "c"])
    )
    made.channel("orders").send([envelope(n) for n in range(6)])
    return made


def test_function_chooses_where_to_receive() -> None:
    """Messages are taken from the channel whose turn it is, until the turn is over."""
    turns = iter(["b", "a"])
    made = receiving(lambda: next(turns))
    orders = made.channel("orders")
    assert claim_round(orders) == [1]
    assert claim_round(orders) == [4]
    made.clock.move(1)
    assert claim_round(orders) == [0]


def test_function_pauses_a_channel() -> None:
    """While the function returns None nothing is taken."""
    chosen: list[str | None] = [None]
    made = receiving(lambda: chosen[0])
    orders = made.channel("orders")
    assert claim_round(orders) == []
    assert [source.next_due() for source in orders.sources()] == [1.0] * 3
    chosen[0] = "c"
    made.clock.move(1)
    assert claim_round(orders, 9) == [2, 5]


def test_turn_of_an_empty_channel_is_short() -> None:
    """If the chosen channel has nothing the function is asked again in this round."""
    names = iter("abc" * 10)
    made = house(
        DynamicChannel.custom(
            "orders", receive=lambda: next(names), channels=["a", "b", "c"]
        )
    )
    made.channel("c").send([envelope(1)])
    assert claim_round(made.channel("orders")) == [1]


def test_internal_channels_belong_to_one_dynamic_channel() -> None:
    """Internal channels of the same name in two dynamic channels are two channels."""
    parts = [InMemoryChannel("fast"), InMemoryChannel("slow")]
    made = House(
        [
            DynamicChannel.round_robin("orders", parts),
            DynamicChannel.round_robin("mails", parts),
        ]
    )
    made.channel("orders").send([envelope(1), envelope(2)])
    assert claim_round(made.channel("mails")) == []
    assert sorted(claim_round(made.channel("orders"))) == [1, 2]


def test_dynamic_channel_inside_another_one() -> None:
    """An internal channel can be dynamic, too."""
    inner = DynamicChannel.round_robin("pair", ["b", "c"])
    made = house(DynamicChannel.by_header("orders", "to", {"one": "a", "two": inner}))
    orders = made.channel("orders")
    orders.send([headed(1, to="one"), headed(2, to="two"), headed(3, to="two")])
    assert [numbers(made.channel(name)) for name in "abc"] == [[1], [2], [3]]
    assert sorted(claim_round(orders)) == [1, 2, 3]


def test_capabilities_are_those_that_all_have() -> None:
    """A dynamic channel promises nothing that one of its channels can't keep."""
    all_of_it = Capability.DELAY | Capability.TRANSACTIONAL | Capability.ORDERED
    both = [AbleChannel("x", all_of_it), AbleChannel("y", all_of_it)]
    one = [AbleChannel("x", all_of_it), AbleChannel("y", Capability.DELAY)]

    def able(parts: list[AbleChannel]) -> Capability:
        made = House([DynamicChannel.round_robin("orders", parts)])
        return made.channel("orders").capabilities

    assert able(both) == Capability.DELAY | Capability.TRANSACTIONAL
    assert able(one) == Capability.DELAY
    assert able(both[:1]) == all_of_it


def test_every_channel_gets_a_copy() -> None:
    """A publish-subscribe channel sends each message to all of its channels."""
    audit = InMemoryChannel("audit")
    made = house(PublishSubscribeChannel("news", ["a", "b", audit]))
    news = made.channel("news")
    news.send([envelope(1), envelope(2)])
    assert numbers(made.channel("a")) == numbers(made.channel("b")) == [1, 2]
    assert sorted(claim_round(news, 9)) == [1, 1, 1, 2, 2, 2]


def test_combined_channel_names_its_hops() -> None:
    """A combined channel is a name for a chain."""
    assert CombinedChannel("outbox_mails", ["outbox", "mails"]).channels == (
        "outbox",
        "mails",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CombinedChannel("x", ["a"]), "at least two"),
        (lambda: CombinedChannel("x", ["a", "a"]), "each of them once"),
        (lambda: CombinedChannel("x", ["a", "x"]), "through itself"),
        (lambda: CombinedChannel("x", "ab"), "a list of names"),
        (lambda: DynamicChannel.round_robin("x", []), "at least one"),
        (lambda: DynamicChannel.by_header("x", "h", {}), "at least one"),
        (lambda: DynamicChannel.round_robin("x", ["a", "x"]), "its own channels"),
        (
            lambda: DynamicChannel.round_robin(
                "x", [InMemoryChannel("a"), InMemoryChannel("a", False)]
            ),
            "two internal channels named 'a'",
        ),
        (lambda: PublishSubscribeChannel("x", []), "has no channels"),
        (lambda: PublishSubscribeChannel("x", ["x"]), "its own channels"),
    ],
)
def test_senseless_configuration_is_refused(
    make: Callable[[], object], message: str
) -> None:
    """What can't work is refused where it is written."""
    with pytest.raises(ConfigurationError, match=message):
        make()
