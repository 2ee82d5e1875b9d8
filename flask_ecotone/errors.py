"""Everything Flask-Ecotone raises itself.

.. code-block:: text

    EcotoneError
    ├── ConfigurationError        the system can't be compiled
    │   ├── DiscoveryError        a package or module can't be read
    │   ├── HandlerSignatureError a marked function can't be called as written
    │   ├── DuplicateHandlerError two handlers answer for one message
    │   └── UnknownChannelError   a name leads to no handler
    ├── MessagingError            a message can't be delivered
    │   ├── NoHandlerError        nobody handles the command or query
    │   ├── HeaderNotFoundError   a handler needs a header the message lacks
    │   ├── ConversionError       a payload or header can't become the type asked for
    │   ├── MessageDeliveryError  a required reply is missing, or no channel fits
    │   ├── DuplicateMessageError a message with the key was handled already
    │   ├── LeaseLostError        a claimed message isn't ours any more
    │   ├── TickBusyError         another worker fires a schedule
    │   └── UnknownEndpointError  a message is for an endpoint that isn't there
    ├── ModellingError            an aggregate can't be loaded or saved
    │   ├── AggregateNotFoundError
    │   ├── ConcurrencyError      somebody else changed the aggregate first
    │   └── IdentifierMissingError
    ├── TenancyError
    │   ├── MissingTenantError
    │   ├── UnknownTenantError
    │   └── TenantAlreadyActiveError
    ├── ServiceNotFoundError      no factory and no class can make the service
    └── UnitOfWorkError           the transaction can't be begun, joined or committed

Exceptions raised by the application's own handlers are never wrapped: they reach
the caller of a synchronous bus as they were raised.
"""

from __future__ import annotations

import difflib
import typing as t


class EcotoneError(Exception):
    """The root of every error raised by Flask-Ecotone."""


class ConfigurationError(EcotoneError):
    """The marked code can't be compiled into a messaging system."""


class DiscoveryError(ConfigurationError):
    """A package or module can't be found, imported or read."""


class HandlerSignatureError(ConfigurationError):
    """A marked function has a signature that can't be called with a message."""


class DuplicateHandlerError(ConfigurationError):
    """More than one handler answers for a command, a query or a name."""


class UnknownChannelError(ConfigurationError):
    """A channel is used that no handler listens on."""


class MessagingError(EcotoneError):
    """A message can't be built, routed or delivered."""


class NoHandlerError(MessagingError):
    """A command or query has no handler."""


class HeaderNotFoundError(MessagingError):
    """A handler requires a header that the message doesn't carry."""


class ConversionError(MessagingError):
    """A payload, header or reply can't be converted to the type asked for."""


class MessageDeliveryError(MessagingError):
    """A gateway that promises a value got none, or a channel has nowhere to send to, or
    can't take so large a message.
    """


class DuplicateMessageError(MessagingError):
    """A message with the same key was handled already.

    :param endpoint_id: Who handled it.
    :param key: The key.
    :param more: What else there is to say.
    """

    def __init__(self, endpoint_id: str, key: str, more: str = "") -> None:
        super().__init__(
            f"{endpoint_id} has handled a message with the key {key!r:.80}"
            f" already.{more}"
        )
        self.endpoint_id = endpoint_id
        self.key = key


class LeaseLostError(MessagingError):
    """A message that a worker had claimed isn't its own any more.

    :param channel: The channel it was claimed from.
    :param message_id: The id of the message.
    """

    def __init__(self, channel: str, message_id: str) -> None:
        super().__init__(
            f"The message {message_id} of the channel {channel!r} was taken back: its"
            " lease ran out, or somebody removed it. What was done for it is rolled"
            " back."
        )


class UnknownEndpointError(MessagingError):
    """A message from a channel is for an endpoint that the application doesn't have."""


class TickBusyError(MessagingError):
    """Another worker is firing a tick of a schedule just now."""

    def __init__(self, schedule: str) -> None:
        super().__init__(
            f"Another worker is firing {schedule!r} just now. This one looks again in a"
            " moment, should that one fail."
        )


class ModellingError(EcotoneError):
    """An aggregate can't be found, loaded or saved."""


class AggregateNotFoundError(ModellingError):
    """No aggregate is stored under the given identifiers."""


class ConcurrencyError(ModellingError):
    """The aggregate was changed by somebody else since it was loaded."""


class IdentifierMissingError(ModellingError):
    """A message doesn't say which aggregate it is for."""


class TenancyError(EcotoneError):
    """A tenant can't be activated."""


class MissingTenantError(TenancyError):
    """The message carries no tenant and there is no default connection."""


class UnknownTenantError(TenancyError):
    """The tenant isn't mapped to a connection and there is no default one."""


class TenantAlreadyActiveError(TenancyError):
    """Another tenant is active in this unit of work."""


class ServiceNotFoundError(EcotoneError):
    """A service is required that nothing provides."""


class UnitOfWorkError(EcotoneError):
    """The unit of work can't be begun, joined or committed."""


def did_you_mean(name: str, known: t.Iterable[str]) -> str:
    """Return a sentence that offers the closest known name, or an empty string.

    :param name: What was asked for.
    :param known: What there is.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
