"""What a channel gets from the application that it is opened for."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from .protocols import Channel


@dataclass(frozen=True, slots=True)
class ChannelSurroundings:
    """What a channel may use of its application.

    :param now: Returns the time in seconds since the epoch.
    :param channel: Returns another channel of the application by its name.
    :param logger: Where a channel says what nobody is told otherwise.
    :param database: What the application has for a database, if it has one.
    """

    now: Callable[[], float]
    channel: Callable[[str], Channel]
    logger: logging.Logger
    database: t.Any = None
