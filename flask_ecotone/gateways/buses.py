"""The three buses. Subclass one to have a bus of your own.

They are Ecotone's CommandBus, QueryBus and EventBus, the Message Endpoints and
Messaging Gateways of *Enterprise Integration Patterns*.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..definitions import Kind
from ..system.pipelines import EventPipeline
from ..system.pipelines import expecting
from ..system.pipelines import UniquePipeline

Metadata = Mapping[str, t.Any] | None


class CommandBus:
    """Sends commands, each to its one handler.

    The outermost command is a unit of work: it commits ``db.session`` when it is done
    and rolls back when it fails. Commands sent while one is handled take part in it.

    A subclass is a bus of its own, injected by its type. Interceptors and markers on
    the subclass concern what is sent through it, those on ``CommandBus`` concern both.
    """

    __ecotone_bus__: t.ClassVar[Kind] = Kind.COMMAND

    def __init__(self, pipeline: UniquePipeline) -> None:
        self._send = pipeline.send
        self._send_named = pipeline.send_named

    def send(self, command: t.Any, metadata: Metadata = None) -> t.Any:
        """Send a command to the handler of its class.

        :param command: An object.
        :param metadata: Headers of the message.
        :return: What the handler returns; for the factory method of an aggregate the
            new identifier.
        :raises NoHandlerError: Nobody handles such a command.
        """
        return self._send(command, metadata)

    def send_with_routing(
        self,
        routing_key: str,
        payload: t.Any = None,
        *,
        media_type: str | None = None,
        metadata: Metadata = None,
    ) -> t.Any:
        """Send a command to the handler with a routing key.

        :param payload: What the handler takes, or what can be converted to it.
        :param media_type: The media type of the payload, if it is not a Python object.
        :param metadata: Headers of the message.
        :raises NoHandlerError: No command handler has the routing key.
        """
        return self._send_named(routing_key, payload, media_type, metadata)


class QueryBus:
    """Sends queries, each to its one handler. It never commits."""

    __ecotone_bus__: t.ClassVar[Kind] = Kind.QUERY

    def __init__(self, pipeline: UniquePipeline) -> None:
        self._send = pipeline.send
        self._send_named = pipeline.send_named
        self._encoded = pipeline.encoded

    def send(
        self,
        query: t.Any,
        metadata: Metadata = None,
        *,
        expected_media_type: str | None = None,
    ) -> t.Any:
        """Send a query to the handler of its class and return the answer.

        :param query: An object.
        :param metadata: Headers of the message.
        :param expected_media_type: Return the answer in this media type, for example
            ``"application/json"``.
        :raises NoHandlerError: Nobody handles such a query.
        """
        if expected_media_type is None:
            return self._send(query, metadata)
        reply = self._send(query, expecting(expected_media_type, metadata))
        return self._encoded(reply, expected_media_type)

    def send_with_routing(
        self,
        routing_key: str,
        payload: t.Any = None,
        *,
        media_type: str | None = None,
        metadata: Metadata = None,
        expected_media_type: str | None = None,
    ) -> t.Any:
        """Send a query to the handler with a routing key and return the answer.

        :param payload: What the handler takes, or what can be converted to it.
        :param media_type: The media type of the payload, if it is not a Python object.
        :param metadata: Headers of the message.
        :param expected_media_type: Return the answer in this media type.
        :raises NoHandlerError: No query handler has the routing key.
        """
        given = expecting(expected_media_type, metadata)
        reply = self._send_named(routing_key, payload, media_type, given)
        return self._encoded(reply, expected_media_type)


class EventBus:
    """Publishes events to all of their handlers, in the order of their priority.

    The exception of a handler reaches the publisher, and the handlers after it don't
    run.
    """

    __ecotone_bus__: t.ClassVar[Kind] = Kind.EVENT

    def __init__(self, pipeline: EventPipeline) -> None:
        self._publish = pipeline.publish
        self._publish_named = pipeline.publish_named

    def publish(self, event: t.Any, metadata: Metadata = None) -> None:
        """Publish an event to the handlers of its class, its bases and its name.

        :param event: An object.
        :param metadata: Headers of the message.
        """
        self._publish(event, metadata)

    def publish_with_routing(
        self,
        routing_key: str,
        payload: t.Any = None,
        *,
        media_type: str | None = None,
        metadata: Metadata = None,
    ) -> None:
        """Publish an event to the handlers that listen to a name.

        If an event class has the name, its handlers get the event as well, converted to
        the class.

        :param payload: What the handlers take, or what can be converted to it.
        :param media_type: The media type of the payload, if it is not a Python object.
        :param metadata: Headers of the message.
        """
        self._publish_named(routing_key, payload, media_type, metadata)
