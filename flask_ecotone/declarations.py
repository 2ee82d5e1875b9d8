"""What an extension object was told."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from dataclasses import field

from .channels.references import database_channels
from .consuming import ErrorHandler
from .tenancy import MultiTenantConfiguration

#: Returns headers for messages that no other message caused.
Provider = t.Callable[[], dict[str, t.Any]]


@dataclass
class Declarations:
    """What an extension object was told, for all of its applications."""

    packages: tuple[str, ...] | None = None
    configurations: tuple[MultiTenantConfiguration, ...] = ()
    services: dict[t.Any, t.Callable[..., t.Any]] = field(default_factory=dict)
    channels: tuple[t.Any, ...] = ()
    error_handlers: tuple[ErrorHandler, ...] = ()
    registered: list[t.Any] = field(default_factory=list)
    metadata_providers: list[Provider] = field(default_factory=list)

    @property
    def has_database_channels(self) -> bool:
        """Whether messages are kept in the application's database."""
        return bool(database_channels(self.channels))

    @property
    def bind_keys(self) -> list[str]:
        """The binds that messages are kept in."""
        keys = [each.bind_key for each in database_channels(self.channels)]
        return list(dict.fromkeys(key for key in keys if key is not None))
