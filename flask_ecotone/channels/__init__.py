"""Channels: where messages wait for their handlers."""

from .database import DatabaseChannel as DatabaseChannel
from .memory import InMemoryChannel as InMemoryChannel
from .protocols import Capability as Capability
from .protocols import ChannelStatus as ChannelStatus
from .protocols import Delivery as Delivery
from .protocols import Envelope as Envelope
