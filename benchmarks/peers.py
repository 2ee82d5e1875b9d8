"""Other libraries that dispatch in one process, each doing the same: one handler, which
returns a number, or five, which do nothing.

Those that only dispatch asynchronously are awaited inside of one running event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
import typing as t
from collections.abc import Callable
from collections.abc import Coroutine
from dataclasses import dataclass

import blinker

from .measuring import statement
from .measuring import Subject

#: What is installed → the name to import.
_NEEDED = {
    "mediatr": "mediatr",
    "lato": "lato",
    "diator": "diator",
    "python-cqrs": "cqrs",
    "messagebus": "messagebus",
}


def peers(*, events: bool = False) -> dict[str, Subject]:
    """Return the peers that are installed, and say how to install the others.

    :param events: Publish an event to five handlers instead of sending a command.
    """
    # Several log each message, which would be most of the time.
    logging.disable(logging.INFO)
    found: dict[str, Subject] = {}
    for distribution, (command, event) in _PEERS.items():
        make = event if events else command
        if make is None:
            continue
        needed = _NEEDED.get(distribution)
        try:
            if needed is not None:
                importlib.import_module(needed)
        except ImportError:
            print(f"  {distribution} is not installed: pip install {distribution}")
            continue
        subject = make()
        subject(1)
        found[distribution] = subject
    return found


def _awaiting(function: Callable[[], Coroutine[t.Any, t.Any, t.Any]]) -> Subject:
    async def repeat(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            await function()
        return time.perf_counter() - started

    return lambda number: asyncio.run(repeat(number))


def _blinker_command() -> Subject:
    signal = blinker.Signal()

    def handle(sender: int) -> int:
        return sender

    signal.connect(handle)
    return statement("signal.send(1)", {"signal": signal, "keep": handle})


def _blinker_event() -> Subject:
    signal = blinker.Signal()
    handlers = [lambda sender: None for _ in range(5)]
    for handler in handlers:
        signal.connect(handler)
    return statement("signal.send(1)", {"signal": signal, "keep": handlers})


def _mediatr_command() -> Subject:
    import mediatr

    @dataclass(frozen=True)
    class Order:
        number: int

    def handle(request: t.Any) -> int:
        return t.cast(int, request.number)

    handle.__annotations__["request"] = Order
    mediatr.Mediator.register_handler(handle)
    names = {"mediator": mediatr.Mediator(), "order": Order(1)}
    return statement("mediator.send(order)", names)


def _lato_command() -> Subject:
    import lato

    class Order(lato.Command):
        number: int

    application = lato.Application("benchmark")

    def handle(command: t.Any) -> int:
        return t.cast(int, command.number)

    application.handler(Order)(handle)
    names = {"application": application, "order": Order(number=1)}
    return statement("application.execute(order)", names)


def _lato_event() -> Subject:
    import lato

    class WasPlaced(lato.Event):
        number: int

    application = lato.Application("benchmark")
    for _ in range(5):
        application.handler(WasPlaced)(lambda event: None)
    names = {"application": application, "event": WasPlaced(number=1)}
    return statement("application.publish(event)", names)


class _Container:
    """Makes handlers without a container behind it: only the mediator is measured."""

    external_container = None

    def attach_external_container(self, container: t.Any) -> None:
        """Take no notice."""

    async def resolve(self, wanted: t.Any) -> t.Any:
        """Return a new handler."""
        return wanted()


class _Handler:
    """A handler as diator and python-cqrs want it."""

    events: t.ClassVar[list[t.Any]] = []

    async def handle(self, request: t.Any) -> t.Any:
        """Return the number of the message."""
        return request.number


def _diator_command() -> Subject:
    from diator.mediator import Mediator
    from diator.requests import Request
    from diator.requests import RequestMap

    @dataclass(frozen=True, kw_only=True)
    class Order(Request):  # type: ignore[misc, unused-ignore]
        number: int

    requests = RequestMap()
    requests.bind(Order, _Handler)
    mediator = Mediator(request_map=requests, container=_Container())
    order = Order(number=1)
    return _awaiting(lambda: mediator.send(order))


def _diator_event() -> Subject:
    from diator.events import DomainEvent
    from diator.events import EventEmitter
    from diator.events import EventMap

    @dataclass(frozen=True, kw_only=True)
    class WasPlaced(DomainEvent):  # type: ignore[misc, unused-ignore]
        number: int

    events = EventMap()
    for number in range(5):
        events.bind(WasPlaced, type(f"Handler{number}", (_Handler,), {}))
    emitter = EventEmitter(event_map=events, container=_Container())
    event = WasPlaced(number=1)
    return _awaiting(lambda: emitter.emit(event))


def _cqrs_command() -> Subject:
    import cqrs

    @dataclass
    class Order(cqrs.DCRequest):  # type: ignore[misc, unused-ignore]
        number: int

    requests = cqrs.RequestMap()
    requests.bind(Order, type("Handler", (_Handler, cqrs.RequestHandler), {}))
    mediator = cqrs.RequestMediator(request_map=requests, container=_Container())
    order = Order(number=1)
    return _awaiting(lambda: mediator.send(order))


def _messagebus(events: bool) -> Subject:
    import messagebus

    base: t.Any = messagebus.Event if events else messagebus.Command
    metadata = messagebus.Metadata(name="placed", schema_version=1)
    annotations = {"number": int, "metadata": messagebus.Metadata}
    given = {"__annotations__": annotations, "metadata": metadata}
    cls = type("Placed", (base,), {**given, "__module__": __name__})

    class UnitOfWork(messagebus.SyncAbstractUnitOfWork):  # type: ignore[misc, unused-ignore]
        def commit(self) -> None:
            pass

        def rollback(self) -> None:
            pass

    bus = messagebus.SyncMessageBus()
    for _ in range(5 if events else 1):
        bus.add_listener(cls, lambda message, unit: message.number)
    names = {"bus": bus, "unit": UnitOfWork(), "message": cls(number=1)}
    return statement(
        "with unit as running: bus.handle(message, running); running.commit()", names
    )


_Make = Callable[[], Subject]
#: How each is asked to send a command, and to publish an event if it can.
_PEERS: dict[str, tuple[_Make, _Make | None]] = {
    "blinker": (_blinker_command, _blinker_event),
    "mediatr": (_mediatr_command, None),
    "lato": (_lato_command, _lato_event),
    "diator": (_diator_command, _diator_event),
    "python-cqrs": (_cqrs_command, None),
    "messagebus": (lambda: _messagebus(False), lambda: _messagebus(True)),
}
