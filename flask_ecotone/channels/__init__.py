"""Channels: where messages wait for their handlers."""

from .combined import CombinedChannel as CombinedChannel
from .database import DatabaseChannel as DatabaseChannel
from .dynamic import DynamicChannel as DynamicChannel
from .dynamic import PublishSubscribeChannel as PublishSubscribeChannel
from .memory import InMemoryChannel as InMemoryChannel
from .protocols import Capability as Capability
from .protocols import ChannelStatus as ChannelStatus
from .protocols import Delivery as Delivery
from .protocols import Envelope as Envelope
from .protocols import FinalFailure as FinalFailure
