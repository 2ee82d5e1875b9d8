"""What a message asks of the channels that it goes through, and whether they can."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

from ..errors import MessageDeliveryError
from ..message import DELIVERY_DELAY
from ..message import PRIORITY
from ..message import TIME_TO_LIVE
from .protocols import Capability
from .protocols import Channel
from .protocols import Envelope

#: Header → what a channel must be able to do for a message that has it.
ABILITIES: t.Final = {
    DELIVERY_DELAY: Capability.DELAY,
    TIME_TO_LIVE: Capability.TIME_TO_LIVE,
    PRIORITY: Capability.PRIORITY,
}
#: All that messages can ask for.
ALL_ABILITIES: t.Final = (
    Capability.DELAY | Capability.TIME_TO_LIVE | Capability.PRIORITY
)


def lacking(channels: Sequence[Channel]) -> dict[Capability, str]:
    """Return what a chain of channels can't do, each with the channel that can't.

    A message waits, and expires, in the first channel. It is important in all of them.
    """
    found = {
        ability: channels[0].name
        for ability in (Capability.DELAY, Capability.TIME_TO_LIVE)
        if ability not in channels[0].capabilities
    }
    for channel in channels:
        if Capability.PRIORITY not in channel.capabilities:
            found.setdefault(Capability.PRIORITY, channel.name)
    return found


def refuse_unable(envelope: Envelope, lacks: dict[Capability, str]) -> None:
    """Refuse a message whose channels can't do what its headers ask for.

    :raises MessageDeliveryError: They can't.
    """
    for header, ability in ABILITIES.items():
        if ability in lacks and ability in envelope.needs:
            raise MessageDeliveryError(
                f"A message for {envelope.endpoint_id} has the header {header!r}, and"
                f" the channel {lacks[ability]!r} can't do that: it lacks"
                f" Capability.{ability.name}. Send the message without the header, or"
                " give its handler a channel that can, such as a DatabaseChannel."
            )
