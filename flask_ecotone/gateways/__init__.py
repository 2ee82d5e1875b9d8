"""The ways in: buses, business interfaces, repositories behind a Protocol."""

from .building import build_gateways as build_gateways
from .buses import CommandBus as CommandBus
from .buses import EventBus as EventBus
from .buses import QueryBus as QueryBus
