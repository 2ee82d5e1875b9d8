"""Handlers that have state: aggregates."""

from .events import Event as Event
from .events import WithEvents as WithEvents
