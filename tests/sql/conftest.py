"""Applications with SQL interfaces, inside of their context."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest

from .people import Application

#: Makes an application with interfaces and handlers on the database of the test.
NewApplication = t.Callable[..., Application]


@pytest.fixture
def new_application(database_url: str) -> t.Iterator[NewApplication]:
    """A function that makes an application with an empty table, in its context."""
    with ExitStack() as stack:

        def make(*registered: t.Any, **options: t.Any) -> Application:
            made = Application(database_url, *registered, **options)
            stack.enter_context(made.app.app_context())
            made.db.create_all()
            return made

        yield make
