"""The one place that puts messages on their way: compiled once, then immutable."""

from .compiler import compile_system as compile_system
from .compiler import Configuration as Configuration
from .endpoint import Endpoint as Endpoint
from .system import MessagingSystem as MessagingSystem
