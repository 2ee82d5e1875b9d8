"""Carry the message being handled over to another thread."""

from __future__ import annotations

import contextvars
import functools
import threading
import typing as t
from collections.abc import Callable

from flask import current_app

from .globals import current_ecotone

P = t.ParamSpec("P")
R = t.TypeVar("R")


def copy_current_message_context(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that runs in another thread as part of the current message.

    Messages that it sends inherit the headers, and its ``db.session`` uses the database
    of the same tenant. It has an app context, a session and, for each command, a unit
    of work of its own: it doesn't take part in the one of the handler, and doesn't see
    what that hasn't committed.

    A thread that is started without it has no tenant, and is refused the database of
    one. Of a generator only the call is part of the message, not what it yields.

    :raises RuntimeError: No message is being handled.
    """
    system = current_ecotone.system
    message = system.current_message
    if message is None:
        raise RuntimeError(
            "'copy_current_message_context' was called while no message is handled."
            " Call it inside a handler, before the thread is started."
        )
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    # Completed here: both threads see one id.
    copied = message.with_headers({})
    copied.scope = None
    thread = threading.get_ident()

    def call(args: t.Any, kwargs: t.Any) -> t.Any:
        with app.app_context():
            return system.resume(copied, lambda: function(*args, **kwargs))

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if threading.get_ident() == thread:
            return t.cast(R, call(args, kwargs))
        # asyncio hands a copy of the context over, where the unit of work and the
        # session of the first thread still are.
        return t.cast(R, contextvars.Context().run(call, args, kwargs))

    return run
