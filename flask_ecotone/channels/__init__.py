"""Channels, for messages that are handled later."""

from .combined import CombinedChannel as CombinedChannel
from .dynamic import DynamicChannel as DynamicChannel
from .dynamic import PublishSubscribeChannel as PublishSubscribeChannel
from .memory import InMemoryChannel as InMemoryChannel
