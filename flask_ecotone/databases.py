"""The databases of an application, as its channels and workers see them."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from .errors import ConfigurationError
from .errors import did_you_mean
from .errors import EcotoneError
from .storage import tables
from .tenancy import MultiTenantConfiguration
from .tenancy import Tenancy
from .tenancy import Tenants
from .tenancy.tenants import tenant_name

if t.TYPE_CHECKING:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy


def make_tenants(
    app: Flask, db: SQLAlchemy, engines: t.Any, configuration: MultiTenantConfiguration
) -> Tenants:
    """Return the tenants of an application.

    :param engines: Its engines, by bind key.
    """

    def make_engine(bind_key: str, address: t.Any) -> t.Any:
        # As Flask-SQLAlchemy makes that of a bind.
        options = {
            "echo": app.config["SQLALCHEMY_ECHO"],
            **db._engine_options,
            **app.config["SQLALCHEMY_ENGINE_OPTIONS"],
            "url": address,
        }
        db._apply_driver_defaults(options, app)
        return db._make_engine(bind_key, options, app)

    log = app.logger.getChild("ecotone")
    return Tenants(configuration, engines, make_engine, app.app_context, log)


def used_features(is_using: bool) -> tuple[tables.Feature, ...]:
    """Return the features that an application uses.

    :param is_using: Whether it has channels in its database, or handles something once.
        It needs all of them then, as they are: the tables are created together.
    """
    return tables.FEATURES if is_using else ()


class AppDatabases:
    """The databases of one application.

    It implements :class:`~flask_ecotone.channels.opening.Databases`.

    :param engines: Its engines, by bind key.
    :param tenancy: Returns how its tenants are activated, if it has any.
    """

    def __init__(
        self,
        db: SQLAlchemy,
        engines: t.Any,
        tenancy: Callable[[], Tenancy | None],
    ) -> None:
        self._db = db
        self._engines = engines
        self._tenancy = tenancy

    def session(self) -> sa_orm.Session:
        """Return ``db.session`` of the current app context."""
        return self._db.session()

    def engine(self, tenant: str | None) -> sa.Engine:
        """Return the engine of a tenant; without one that of the active tenant, or of
        the default connection.
        """
        tenancy = self._tenancy()
        if tenancy is None:
            return t.cast(sa.Engine, self._engines[None])
        if tenant is None:
            return tenancy.engine()
        return tenancy.tenants.engine(tenancy.tenants.connection_of(tenant))

    def tenants(self) -> Sequence[str | None]:
        """Return whose databases there are, each database once."""
        tenancy = self._tenancy()
        return [None] if tenancy is None else list(self._places(tenancy).values())

    def bound(self, key: str) -> BoundDatabase:
        """Return the database of a bind, for all tenants.

        :raises ConfigurationError: There is no such bind.
        """
        known = [each for each in self._engines if each is not None]
        if key not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise ConfigurationError(
                f"there is no bind {key!r:.80}.{did_you_mean(str(key), known)} The keys"
                f" of SQLALCHEMY_BINDS are {listed}."
            )
        return BoundDatabase(self, self._engines[key])

    def tenant_named(self, headers: Mapping[str, t.Any]) -> str | None:
        """Return the tenant that the headers of a message name, if it is there."""
        tenancy = self._tenancy()
        named = None if tenancy is None else headers.get(tenancy.header)
        if tenancy is None or named is None:
            return None
        try:
            tenant = tenant_name(named)
            tenancy.tenants.connection_of(tenant)
        except EcotoneError:
            return None
        return tenant

    def holders(self, tenants: Iterable[str]) -> set[str | None]:
        """Return who of those that share a database with tenants is listed for it.

        A tenant that isn't mapped, or not any more, has none.
        """
        tenancy = self._tenancy()
        if tenancy is None:
            return set()
        mapped, places = tenancy.tenants, self._places(tenancy)
        present = [each for each in tenants if mapped.has(each)]
        return {places.get(_place(mapped, each), each) for each in present}

    def sharing(self, tenants: Iterable[str]) -> list[str | None]:
        """Return who else has the database of one of some tenants.

        ``None`` is whoever isn't mapped.
        """
        tenancy, wanted = self._tenancy(), set(tenants)
        if tenancy is None:
            return []
        mapped = tenancy.tenants
        places = {_place(mapped, each) for each in wanted}
        found: list[str | None] = []
        if mapped.default is not None and mapped.place_of(mapped.default) in places:
            found.append(None)
        others = [each for each in mapped.names() if each not in wanted]
        found.extend(each for each in others if _place(mapped, each) in places)
        return found

    def _places(self, tenancy: Tenancy) -> dict[t.Hashable, str | None]:
        tenants = tenancy.tenants
        found: dict[t.Hashable, str | None] = {}
        if tenants.default is not None:
            found[tenants.place_of(tenants.default)] = None
        for tenant in tenants.names():
            found.setdefault(_place(tenants, tenant), tenant)
        return found

    def leads_to(self, headers: Mapping[str, t.Any], tenant: str | None) -> bool:
        """Whether a message is handled on the engine of a tenant.

        Two tenants may have a database together, each with an engine of its own.
        """
        tenancy = self._tenancy()
        if tenancy is None:
            return True
        named = headers.get(tenancy.header)
        own = self.engine(None if named is None else str(named))
        return own is self.engine(tenant)

    def engines(self) -> Iterator[sa.Engine]:
        """Return the engine of each database that is configured as it should be."""
        for tenant in self.tenants():
            with suppress(EcotoneError):
                yield self.engine(tenant)

    def set_up(self, tenant: str | None) -> None:
        """Create the application's tables for one tenant, or for all.

        :raises ConfigurationError: There is no such tenant.
        """
        tenancy = self._tenancy()
        if tenancy is not None:
            one = None if tenant is None else [tenant_name(tenant)]
            for name in one or tenancy.tenants.listed():
                tenancy.create_tables(name)
        elif tenant is None:
            self._db.create_all()
        else:
            raise ConfigurationError(
                f"The database of the tenant {tenant!r} can't be set up, as the"
                " application has no tenants. Leave the tenant out."
            )

    def prepare(self, tenant: str | None = None) -> None:
        """Make our tables, if they are missing: for a tenant, or for the session."""
        tables.ensure(self.engine(tenant))

    @property
    def has_tenants(self) -> bool:
        """Whether there are tenants."""
        return self._tenancy() is not None

    @property
    def tenant_header(self) -> str | None:
        """The header that names the tenant of a message, if there are tenants."""
        tenancy = self._tenancy()
        return None if tenancy is None else tenancy.header

    def check_listed(self) -> None:
        """See that a worker can find the databases of all tenants.

        :raises ConfigurationError: It can't.
        """
        tenancy = self._tenancy()
        if tenancy is not None and not tenancy.tenants.are_listed:
            raise ConfigurationError(
                "The tenants are given by a function, so no worker can know whose"
                " messages there are. Give MultiTenantConfiguration(…, names=…) a"
                " function that returns the tenants."
            )


def _place(tenants: Tenants, tenant: str) -> t.Hashable:
    try:
        return tenants.place_of(tenants.connection_of(tenant))
    except Exception:
        # It doesn't concern the others. Who asks for its engine is told.
        return tenant


@dataclass(frozen=True)
class BoundDatabase:
    """One database, which the session doesn't lead to.

    It implements :class:`~flask_ecotone.channels.opening.Databases`.

    :param databases: Those that the session leads to.
    """

    _databases: AppDatabases
    _engine: sa.Engine

    def session(self) -> sa_orm.Session:
        """Return ``db.session`` of the current app context."""
        return self._databases.session()

    def engine(self, tenant: str | None) -> sa.Engine:
        """Return its engine."""
        return self._engine

    def tenants(self) -> Sequence[None]:
        """Return that it is one for everybody."""
        return (None,)

    def tenant_named(self, headers: Mapping[str, t.Any]) -> str | None:
        """Return the tenant that the headers of a message name, if it is there."""
        return self._databases.tenant_named(headers)

    def bound(self, key: str) -> BoundDatabase:
        """Return the database of another bind."""
        return self._databases.bound(key)
