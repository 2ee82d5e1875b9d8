"""The tenants of one application and their engines."""

from __future__ import annotations

import enum
import logging
import threading
import typing as t
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from contextlib import nullcontext

import sqlalchemy as sa

from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import MissingTenantError
from ..errors import TenancyError
from ..errors import UnknownTenantError
from .configuration import MultiTenantConfiguration
from .configuration import reference
from .configuration import SQLAlchemyConnectionReference
from .listing import Listing

_LOG: t.Final = logging.getLogger("flask_ecotone.tenancy")

#: What is shown of a name that somebody made long.
_LONGEST: t.Final = 100

Engines = MutableMapping["str | None", sa.Engine]


def tenant_name(tenant: t.Any) -> str:
    """Return a tenant as text: it may be a number, a UUID or a member of an enum.

    :raises TenancyError: It is no name at all, and must not end at the default
        connection as one that isn't mapped.
    """
    if isinstance(tenant, enum.Enum):
        tenant = tenant.value
    if isinstance(tenant, (str, int, uuid.UUID)) and not isinstance(tenant, bool):
        return str(tenant)
    raise TenancyError(
        f"A tenant is {tenant!r:.80}, a {type(tenant).__qualname__}. Name it by text, a"
        " number or a UUID."
    )


def shown(name: object) -> str:
    """Return a name for a line of text, where who sent it must not begin another."""
    text = str(name)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return text if text.isprintable() else ascii(text)[1:-1]


class _Opened:
    """An engine that was opened at run time."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._is_shut = False
        #: How often it was shut: each time it gets a new pool.
        self._pools = 0
        sa.event.listen(engine, "do_connect", self._note_pool)
        sa.event.listen(engine, "checkin", self._give_back)

    def shut(self) -> None:
        """Close all connections, those in use when they are given back.

        Who still has the engine may go on with it.
        """
        self._is_shut = True
        self.engine.dispose()
        self._pools += 1

    def reopen(self) -> None:
        """Keep connections again."""
        self._is_shut = False

    def _note_pool(self, dialect: t.Any, record: t.Any, *args: t.Any) -> None:
        if record is not None:
            record.info[_POOL] = self._pools

    def _give_back(self, connection: t.Any, record: t.Any) -> None:
        # In a pool that no engine has any more nobody would close it.
        if self._is_shut or record.info.get(_POOL) != self._pools:
            record.invalidate()


_POOL = "ecotone.pool"


class Tenants:
    """Maps tenants to connections, and connections to engines.

    :param configuration: What the application says.
    :param engines: The engines of the application, by bind key.
    :param make_engine: Makes the engine of a bind key and an address.
    :param context: Makes an app context, for a function of the application.
    """

    def __init__(
        self,
        configuration: MultiTenantConfiguration,
        engines: Engines,
        make_engine: Callable[[str, sa.URL], sa.Engine],
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        logger: logging.Logger = _LOG,
    ) -> None:
        self.header = configuration.header
        default, tenants = configuration.default, configuration.tenants
        self.default = None if default is None else reference(default)
        self._find: Callable[[str], t.Any] | None = None
        self._mapped: dict[str, SQLAlchemyConnectionReference] = {}
        self._listing: Listing | None = None
        if callable(tenants):
            self._find = tenants
            if configuration.names is not None:
                self._listing = Listing(configuration.names, context, logger)
        else:
            # In headers a tenant may be a number; here it is always text.
            self._mapped = {tenant_name(k): reference(v) for k, v in tenants.items()}
            if len(self._mapped) != len(tenants):
                raise ConfigurationError(
                    "Two tenants are the same as text:"
                    f" {', '.join(map(repr, tenants))}. Name each of them once."
                )
        self.engines = engines
        self._make_engine = make_engine
        self._limit = configuration.max_engines
        self._added: dict[str, SQLAlchemyConnectionReference] = {}
        #: Bind key → address of a database that was added at run time.
        self._addresses: dict[str, sa.URL] = {}
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        #: Shut to make room, and perhaps still in use.
        self._shut: weakref.WeakValueDictionary[str, _Opened] = (
            weakref.WeakValueDictionary()
        )
        self._in_schema: dict[tuple[sa.Engine, str], sa.Engine] = {}
        self._places: dict[SQLAlchemyConnectionReference, t.Hashable] = {}
        self._lock = threading.Lock()

    @property
    def are_listed(self) -> bool:
        """Whether all of them can be listed."""
        return self._find is None or self._listing is not None

    def names(self) -> list[str]:
        """Return the tenants that can be listed."""
        told = self._mapped if self._listing is None else self._listing()
        return list(dict.fromkeys((*told, *list(self._added))))

    def listed(self) -> list[str]:
        """Return all tenants.

        :raises ConfigurationError: A function gives them, which can't be asked for all.
        """
        if self.are_listed:
            return self.names()
        raise ConfigurationError(
            "The tenants are given by a function and can't be listed. Name each of"
            " them: '--tenant NAME', or 'ecotone.setup_database(name)'. Or give"
            " MultiTenantConfiguration another function, names=…, that lists them."
        )

    def check(self) -> None:
        """See that there is a database for each tenant; nothing is connected.

        :raises ConfigurationError: A bind isn't configured, or can't have schemas.
        """
        for connection in self._mapped.values():
            self.engine(connection)
        if self.default is not None:
            self.engine(self.default)

    def connection_of(self, tenant: str) -> SQLAlchemyConnectionReference:
        """Return the connection of a tenant, or the default one.

        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        found = self._added.get(tenant) or self._mapped.get(tenant)
        if found is None and self._find is not None:
            said = self._find(tenant)
            found = None if said is None else reference(said)
        found = found or self.default
        if found is not None:
            return found
        # No similar names: who asks may be a tenant, too.
        raise UnknownTenantError(
            f"Lack of mapping for tenant `{shown(tenant)}`. Please provide mapping"
            " for this tenant or default connection name."
        )

    def has(self, tenant: str) -> bool:
        """Whether a tenant is mapped, and isn't left to the default connection."""
        if tenant in self._added or tenant in self._mapped:
            return True
        return self._find is not None and self._find(tenant) is not None

    def place_of(self, connection: SQLAlchemyConnectionReference) -> t.Hashable:
        """Return what connections to the same database have in common.

        :raises ConfigurationError: No bind has the name.
        """
        place = self._places.get(connection)
        if place is None:
            key = connection.bind_key
            address = self._addresses.get(key) if key is not None else None
            if address is None:
                address = self.engine(connection).url
            is_file = address.get_backend_name() != "sqlite" or address.database
            # What is in memory is there for one engine only.
            own = str(address) if is_file and address.database != ":memory:" else key
            place = self._places[connection] = own, connection.schema
        return place

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
        tenant = tenant_name(tenant)
        with self._lock:
            if tenant in self._added or tenant in self._mapped:
                raise ConfigurationError(
                    f"The tenant {tenant!r} exists already. Remove it first to give"
                    " it another database."
                )
            if isinstance(database, str) and database in self.engines:
                self._added[tenant] = SQLAlchemyConnectionReference.create(database)
                return
            try:
                address = sa.make_url(database)
                address.get_dialect()
            except (sa.exc.ArgumentError, ValueError):
                raise ConfigurationError(
                    f"The database of the tenant {tenant!r} is neither a bind key"
                    f" ({self._known() or 'there are none'}) nor the URL of a database."
                ) from None
            key = f"tenant:{tenant}"
            self._addresses[key] = address
            self._places.clear()
            self._added[tenant] = SQLAlchemyConnectionReference.create(key)

    def remove(self, tenant: str) -> None:
        """Remove a tenant that was added at run time, and dispose its engine.

        Messages that are being handled for it are finished.

        :raises UnknownTenantError: It wasn't added.
        """
        tenant = tenant_name(tenant)
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
                # The name may come back with another database.
                self._shut.pop(key, None)

    def engine(self, connection: SQLAlchemyConnectionReference) -> sa.Engine:
        """Return the engine of a connection.

        :raises ConfigurationError: No bind has the name.
        """
        key = connection.bind_key
        engine = None
        if key is not None and key in self._addresses:
            engine = self._opened(key)
        if engine is None:
            engine = self.engines.get(key)
        if engine is None:
            named = "default database" if key is None else f"bind '{shown(key)}'"
            raise ConfigurationError(
                f"The connection '{shown(connection)}' needs the {named}, which is not"
                f" configured. SQLALCHEMY_BINDS has: {self._known() or 'nothing'}."
            )
        if connection.schema is None:
            return engine
        return self._translated(engine, connection.schema)

    def _known(self) -> str:
        return ", ".join(key for key in list(self.engines) if key is not None)

    def _opened(self, key: str) -> sa.Engine | None:
        with self._lock:
            opened = self._open.get(key)
            if opened is None:
                address = self._addresses.get(key)
                if address is None:
                    return None
                # A unit of work that uses the old engine must not get another one:
                # it would wait for its own locks.
                opened = self._shut.pop(key, None)
                if opened is None:
                    opened = _Opened(self._make_engine(key, address))
                opened.reopen()
                self._open[key] = opened
                self.engines[key] = opened.engine
                while len(self._open) > self._limit:
                    self._close(next(iter(self._open)))
            self._open.move_to_end(key)
            return opened.engine

    def _close(self, key: str) -> None:
        self.engines.pop(key, None)
        opened = self._open.pop(key, None)
        if opened is not None:
            self._shut[key] = opened
            opened.shut()

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
            # Threads that come at once must not differ.
            found = self._in_schema.setdefault((engine, schema), found)
        return found
