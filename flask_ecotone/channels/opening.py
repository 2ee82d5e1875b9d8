"""What a channel is opened with."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UnknownChannelError
from .protocols import Channel

if t.TYPE_CHECKING:
    import sqlalchemy as sa
    import sqlalchemy.orm as sa_orm


class Databases(t.Protocol):
    """The databases of an application."""

    def session(self) -> sa_orm.Session:
        """Return the session of the caller, whose database is that of its tenant."""
        ...

    def engine(self, tenant: str | None) -> sa.Engine:
        """Return the engine of a tenant, or of the default connection."""
        ...

    def tenants(self) -> Sequence[str | None]:
        """Return whose databases there are; ``None`` stands for the default one."""
        ...

    def tenant_named(self, headers: Mapping[str, t.Any]) -> str | None:
        """Return the tenant that the headers of a message name, if it is there."""
        ...

    def bound(self, key: str) -> Databases:
        """Return those of channels with a bind: one database, whatever the tenant.

        :raises ConfigurationError: There is no such bind.
        """
        ...


def _no_channel(name: str) -> Channel:
    raise UnknownChannelError(f"There is no channel {name!r}.")


@dataclass(frozen=True)
class ChannelSurroundings:
    """What an application has that a channel may need.

    :param now: Returns the time in seconds since the epoch.
    :param channel: Returns another channel by its name.
    :param database: The databases, if there is one.
    """

    now: Callable[[], float] = time.time
    channel: Callable[[str], Channel] = _no_channel
    logger: logging.Logger = logging.getLogger("flask_ecotone.channels")
    database: Databases | None = None
