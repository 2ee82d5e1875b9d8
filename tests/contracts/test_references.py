"""Channels that are made of channels fit together."""

from __future__ import annotations

import typing as t

import pytest

import flask_ecotone
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels import DynamicChannel
from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.channels import PublishSubscribeChannel
from flask_ecotone.channels.references import check_channels
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import UnknownChannelError

A: t.Final = InMemoryChannel("orders_a")
B: t.Final = InMemoryChannel("orders_b")


def test_channels_that_fit_together() -> None:
    """Chains, dynamic channels and their internal channels are all found."""
    inner = DynamicChannel.round_robin("inner", [A.name, InMemoryChannel("own")])
    check_channels(
        [
            CombinedChannel("chain", [A.name, "all"]),
            DynamicChannel.round_robin("all", [inner, B.name]),
            DynamicChannel.send_only(InMemoryChannel("reports")),
            PublishSubscribeChannel("news", [A.name, "all"]),
            A,
            B,
        ]
    )


def test_two_channels_of_one_name() -> None:
    """A name belongs to one channel."""
    with pytest.raises(ConfigurationError, match="Two channels are named 'orders_a'"):
        check_channels([A, DynamicChannel.round_robin("orders_a", ["orders_b"]), B])


@pytest.mark.parametrize(
    "channel",
    [
        CombinedChannel("all", ["orders_a", "order_b"]),
        DynamicChannel.round_robin("all", ["orders_a", "order_b"]),
        DynamicChannel.by_header("all", "shop", {"a": "orders_a"}, default="order_b"),
        PublishSubscribeChannel("all", ["order_b"]),
        DynamicChannel.round_robin(
            "all", [DynamicChannel.round_robin("inner", ["order_b"])]
        ),
    ],
)
def test_unknown_channel(channel: t.Any) -> None:
    """A channel that is mentioned and isn't there is named, with a close one."""
    with pytest.raises(UnknownChannelError, match="'order_b'.*mean 'orders_b'"):
        check_channels([channel, A, B])


def test_chain_in_a_chain() -> None:
    """A chain is no channel, so nothing can be made of it."""
    chain = CombinedChannel("chain", ["orders_a", "orders_b"])
    with pytest.raises(ConfigurationError, match="a name for a chain"):
        check_channels([A, B, chain, DynamicChannel.round_robin("all", ["chain"])])


def test_channels_that_send_to_each_other() -> None:
    """A message must get somewhere in the end."""
    first = DynamicChannel.round_robin("first", ["second"])
    second = PublishSubscribeChannel("second", ["orders_a", "first"])
    with pytest.raises(ConfigurationError, match="first → second → first"):
        check_channels([first, second, A])


@pytest.mark.parametrize(
    "name",
    [
        "CombinedChannel",
        "DatabaseChannel",
        "DynamicChannel",
        "InMemoryChannel",
        "PublishSubscribeChannel",
    ],
)
def test_each_kind_of_channel_is_imported_from_both_places(name: str) -> None:
    """From the package, as all that applications use, and from its channels."""
    assert getattr(flask_ecotone, name) is getattr(flask_ecotone.channels, name)
