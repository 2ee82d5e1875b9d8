"""Fixtures of messages that are handled once."""

from __future__ import annotations

import typing as t

import pytest

from ..unit_of_work.notebook import Notebook


@pytest.fixture
def notebook(database_url: str) -> t.Iterator[Notebook]:
    """A notebook; whatever a test does, nothing of it may be left in use."""
    book = Notebook(database_url)
    yield book
    assert book.in_use == 0
    assert book.sessions == 0


@pytest.fixture
def paper(sqlite_url: str) -> t.Iterator[Notebook]:
    """A notebook on SQLite, for what is the same everywhere."""
    book = Notebook(sqlite_url)
    yield book
    assert book.in_use == 0
