"""Fixtures of the unit of work."""

from __future__ import annotations

import typing as t

import pytest

from .notebook import Notebook


@pytest.fixture
def notebook(database_url: str) -> t.Iterator[Notebook]:
    """A notebook; whatever a test does, nothing of it may be left in use."""
    book = Notebook(database_url)
    yield book
    assert book.in_use == 0
    assert book.sessions == 0
