"""Proxies to what belongs to the current application."""

from __future__ import annotations

import typing as t

from flask import current_app
from werkzeug.local import LocalProxy

from .context import current_flow
from .gateways import CommandBus
from .gateways import EventBus
from .gateways import QueryBus
from .message import Message
from .state import EcotoneState

_no_extension = """\
The Flask app {name!r} has no 'Ecotone' extension.

Call 'ecotone.init_app(app)' when the app is made, or use the buses of the app that
you initialised.\
"""


# What the proxy calls itself: one lookup less for each use of a bus.
_current_app = current_app._get_current_object  # type: ignore[attr-defined]


def _state() -> EcotoneState:
    app = _current_app()
    try:
        return t.cast(EcotoneState, app.extensions["ecotone"])
    except KeyError:
        raise RuntimeError(_no_extension.format(name=app.name)) from None


def _buses() -> t.Any:
    # What the handlers of a flow test send stays in it, also where an app is.
    flow = current_flow.get()
    return _state() if flow is None else flow


def _current_message() -> Message | None:
    return t.cast("Message | None", _buses().system.current_message)


current_ecotone: EcotoneState = t.cast(EcotoneState, LocalProxy(_state))
"""The :class:`~flask_ecotone.extension.EcotoneState` of the current application."""


class _Sends(LocalProxy[t.Any]):
    # Found on the class, a method skips the proxy's own look-up of attributes, which
    # takes longer than handling a message.
    __slots__ = ()

    def send(self, *args: t.Any, **options: t.Any) -> t.Any:
        return self._get_current_object().send(*args, **options)

    def send_with_routing(self, *args: t.Any, **options: t.Any) -> t.Any:
        return self._get_current_object().send_with_routing(*args, **options)


class _Publishes(LocalProxy[t.Any]):
    __slots__ = ()

    def publish(self, *args: t.Any, **options: t.Any) -> None:
        self._get_current_object().publish(*args, **options)

    def publish_with_routing(self, *args: t.Any, **options: t.Any) -> None:
        self._get_current_object().publish_with_routing(*args, **options)


command_bus: CommandBus = t.cast(CommandBus, _Sends(lambda: _buses().command_bus))
"""The command bus of the current application."""

query_bus: QueryBus = t.cast(QueryBus, _Sends(lambda: _buses().query_bus))
"""The query bus of the current application."""

event_bus: EventBus = t.cast(EventBus, _Publishes(lambda: _buses().event_bus))
"""The event bus of the current application."""

current_message: Message = t.cast(Message, LocalProxy(_current_message))
"""The message being handled; falsy while none is."""
