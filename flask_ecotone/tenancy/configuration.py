"""What an application says about its tenants and connections. Names only: what they
stand for, credentials included, stays in Flask-SQLAlchemy's configuration.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from ..errors import ConfigurationError
from ..message import NOT_PROPAGATED

#: The reference name of the connection that is used when nothing else is said.
DEFAULT_CONNECTION = "default"


@dataclass(frozen=True, slots=True)
class SQLAlchemyConnectionReference:
    """A database connection by its name.

    :param bind_key: A key of ``SQLALCHEMY_BINDS``; ``None`` for
        ``SQLALCHEMY_DATABASE_URI``.
    :param reference_name: What other configuration calls the connection.
    :param schema: A PostgreSQL schema that stands for the tenant's database.
    """

    bind_key: str | None = None
    reference_name: str = DEFAULT_CONNECTION
    schema: str | None = None

    def __post_init__(self) -> None:
        if "://" in f"{self.bind_key} {self.reference_name}":
            # It may have a password, and names are written to logs.
            raise ConfigurationError(
                "A connection is named by the URL of a database. Put the URL into"
                " SQLALCHEMY_BINDS and name its key, or add the tenant with"
                " ecotone.add_tenant()."
            )

    @classmethod
    def create(
        cls, bind_key: str, reference_name: str | None = None
    ) -> SQLAlchemyConnectionReference:
        """Return a reference to a bind."""
        return cls(bind_key, reference_name or bind_key)

    @classmethod
    def default_connection(cls) -> SQLAlchemyConnectionReference:
        """Return a reference to the database of ``SQLALCHEMY_DATABASE_URI``."""
        return cls()

    @classmethod
    def in_schema(
        cls, schema: str, bind_key: str | None = None
    ) -> SQLAlchemyConnectionReference:
        """Return a reference to a schema of a PostgreSQL database."""
        return cls(bind_key, schema, schema)

    def to_arguments(self) -> dict[str, str | None]:
        """Return plain names from which the reference can be made again."""
        return {
            "bind_key": self.bind_key,
            "reference_name": self.reference_name,
            "schema": self.schema,
        }

    def __str__(self) -> str:
        return self.reference_name


#: How a tenant's connection is named: a bind key, or a reference.
Connection = str | SQLAlchemyConnectionReference
TenantMapping = Mapping[t.Any, Connection] | Callable[[str], "Connection | None"]


@dataclass(frozen=True, slots=True)
class MultiTenantConfiguration:
    """Which header names the tenant, and which database each tenant has.

    :param header: The name of the message header.
    :param tenants: Tenant → bind key or :class:`SQLAlchemyConnectionReference`, or a
        function that returns one, or ``None`` for a tenant it doesn't know. A mapping
        is read once; a function is asked for each message.
    :param default: The connection for messages without tenant, and for tenants that
        aren't mapped. Without it those are refused.
    :param max_engines: How many engines of tenants added at run time stay open; the
        least recently used are disposed.
    :param names: Returns the tenants, where ``tenants`` is a function: without it no
        worker finds their messages. Of tenants that share a database one is enough.
    """

    header: str
    tenants: TenantMapping
    default: Connection | None = None
    max_engines: int = field(default=50, kw_only=True)
    names: Callable[[], Iterable[t.Any]] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.header, str) or not self.header:
            raise ConfigurationError(
                f"The tenant header is {self.header!r}. It is the name of a message"
                " header, for example 'tenant'."
            )
        if self.header in NOT_PROPAGATED:
            raise ConfigurationError(
                f"The tenant header is {self.header!r}, which messages have for"
                " something else. Name another header, for example 'tenant'."
            )
        if not callable(self.tenants) and not isinstance(self.tenants, Mapping):
            raise ConfigurationError(
                "The tenants are neither a mapping nor a function, but a"
                f" {type(self.tenants).__qualname__}. Map each tenant to a bind key."
            )
        if self.names is not None and not callable(self.tenants):
            raise ConfigurationError(
                "The tenants are a mapping, which names them, and 'names' is given"
                " too. Leave it out, or give a function for the tenants."
            )
        if not isinstance(self.max_engines, int) or self.max_engines < 1:
            raise ConfigurationError(
                f"max_engines is {self.max_engines!r}. It is a number of engines, of"
                " which at least one is needed."
            )


def reference(connection: t.Any) -> SQLAlchemyConnectionReference:
    """Return a reference for a bind key, or the reference itself."""
    if isinstance(connection, SQLAlchemyConnectionReference):
        return connection
    if not isinstance(connection, str):
        raise ConfigurationError(
            f"A tenant is mapped to {connection!r}. Map it to a bind key or a"
            " SQLAlchemyConnectionReference."
        )
    return SQLAlchemyConnectionReference.create(connection)
