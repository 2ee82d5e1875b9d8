"""The pytest plugin: the fixture ``ecotone_flow``."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import pytest

from .flow import flow_testing
from .flow import FlowTesting

# What fails in a contract is shown as in a test of one's own.
pytest.register_assert_rewrite(f"{__package__}.contracts")


@pytest.fixture
def ecotone_flow() -> Callable[..., FlowTesting]:
    """Return :func:`flow_testing`: call it with the classes of the test."""
    return t.cast(Callable[..., FlowTesting], flow_testing)
