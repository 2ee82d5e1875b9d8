"""The tenants of one application and their engines."""

from __future__ import annotations

import threading
import typing as t
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import MutableMapping

import sqlalchemy as sa

from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import MissingTenantError
from ..errors import UnknownTenantError
from .configuration import MultiTenantConfiguration
from .configuration import reference
from .configuration import SQLAlchemyConnectionReference

Engines = MutableMapping["str | None", sa.Engine]


class Tenants:
    """Maps tenants to connections, and connections to engines.

    :param configuration: What the application says.
    :param engines: Returns the engines of the application, by bind key.
    """

    def __init__(
        self, configuration: MultiTenantConfiguration, engines: Callable[[], Engines]
    ) -> None:
        self.header = configuration.header
        self.default = (
            None if configuration.default is None else reference(configuration.default)
        )
        self._mapping = configuration.tenants
        self._engines = engines
        self._limit = configuration.max_engines
        self._added: dict[str, SQLAlchemyConnectionReference] = {}
        #: Bind key → address of a database that was added at run time.
        self._addresses: dict[str, sa.URL] = {}
        self._open: OrderedDict[str, sa.Engine] = OrderedDict()
        self._in_schema: dict[tuple[sa.Engine, str], sa.Engine] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the tenants that can be listed."""
        mapped = self._mapping if isinstance(self._mapping, Mapping) else {}
        return [*map(str, mapped), *(n for n in self._added if n not in mapped)]

    def connection_of(self, tenant: str) -> SQLAlchemyConnectionReference:
        """Return the connection of a tenant, or the default one.

        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        found = self._added.get(tenant)
        if found is not None:
            return found
        if isinstance(self._mapping, Mapping):
            mapped = self._mapping.get(tenant)
        else:
            mapped = self._mapping(tenant)
        if mapped is not None:
            return reference(mapped)
        if self.default is not None:
            return self.default
        raise UnknownTenantError(
            f"Lack of mapping for tenant `{tenant}`. Please provide mapping for this"
            " tenant or default connection name."
            f"{did_you_mean(tenant, self.names())}"
        )

    def missing(self) -> MissingTenantError:
        """Return the error of a message, or a thread, that has no tenant."""
        return MissingTenantError(
            "Lack of context about tenant in Message Headers. Please add"
            f" `{self.header}` header metadata to your message."
        )

    def add(self, tenant: str, database: str | sa.URL) -> None:
        """Add a tenant to this process.

        :param database: A bind key of the configuration, or the URL of a database.
        :raises ConfigurationError: The tenant exists, or the bind key doesn't.
        """
        with self._lock:
            if tenant in self.names():
                raise ConfigurationError(
                    f"The tenant {tenant!r} exists already. Remove it first to give"
                    " it another database."
                )
            if isinstance(database, str) and database in self._engines():
                self._added[tenant] = SQLAlchemyConnectionReference.create(database)
                return
            try:
                address = sa.make_url(database)
            except sa.exc.ArgumentError:
                known = ", ".join(str(k) for k in self._engines() if k is not None)
                raise ConfigurationError(
                    f"The database of the tenant {tenant!r} is neither a bind key"
                    f" ({known or 'there are none'}) nor the URL of a database."
                ) from None
            key = f"tenant:{tenant}"
            self._addresses[key] = address
            self._added[tenant] = SQLAlchemyConnectionReference.create(key)

    def remove(self, tenant: str) -> None:
        """Remove a tenant that was added at run time, and dispose its engine.

        :raises UnknownTenantError: It wasn't added.
        """
        with self._lock:
            removed = self._added.pop(tenant, None)
            if removed is None:
                raise UnknownTenantError(
                    f"The tenant {tenant!r} was not added to this process and can't be"
                    f" removed.{did_you_mean(tenant, self._added)}"
                )
            key = t.cast(str, removed.bind_key)
            if self._addresses.pop(key, None) is not None:
                self._close(key)

    def engine(self, connection: SQLAlchemyConnectionReference) -> sa.Engine:
        """Return the engine of a connection.

        :raises ConfigurationError: No bind has the name.
        """
        key = connection.bind_key
        engine = self._engines().get(key)
        if key is not None and key in self._addresses:
            engine = self._opened(key)
        if engine is None:
            known = ", ".join(str(k) for k in self._engines() if k is not None)
            named = "default database" if key is None else f"bind {key!r}"
            raise ConfigurationError(
                f"The connection {str(connection)!r} needs the {named}, which is not"
                f" configured. SQLALCHEMY_BINDS has: {known or 'nothing'}."
            )
        if connection.schema is None:
            return engine
        return self._translated(engine, connection.schema)

    def _opened(self, key: str) -> sa.Engine:
        with self._lock:
            engine = self._open.get(key)
            if engine is None:
                engine = sa.create_engine(self._addresses[key])
                self._open[key] = self._engines()[key] = engine
                while len(self._open) > self._limit:
                    self._close(next(iter(self._open)))
            self._open.move_to_end(key)
            return engine

    def _close(self, key: str) -> None:
        engine = self._open.pop(key, None)
        self._engines().pop(key, None)
        if engine is not None:
            # Connections in use are closed when they are given back.
            engine.dispose()

    def _translated(self, engine: sa.Engine, schema: str) -> sa.Engine:
        found = self._in_schema.get((engine, schema))
        if found is None:
            if engine.dialect.name != "postgresql":
                raise ConfigurationError(
                    f"A tenant has the schema {schema!r}, on {engine.dialect.name}."
                    " Schemas for tenants are there on PostgreSQL only: give the"
                    " tenant a database of its own."
                )
            found = engine.execution_options(schema_translate_map={None: schema})
            self._in_schema[engine, schema] = found
        return found
