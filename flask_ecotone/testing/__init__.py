"""Testing without a Flask app and without a database."""

from ..console import InMemoryConsoleWriter as InMemoryConsoleWriter
from .flow import flow_testing as flow_testing
from .flow import FlowTesting as FlowTesting
from .recorder import MessageRecorder as MessageRecorder
