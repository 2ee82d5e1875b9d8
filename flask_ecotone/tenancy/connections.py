"""The connection of the active tenant, for code that needs more than a session."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import MissingTenantError
from .tenancy import Tenancy
from .tenants import tenant_name

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class ConnectionFactory:
    """Gives the session, the connection and the engine of the active tenant.

    Without tenants they are those of the application. Nothing is remembered: each call
    asks anew.
    """

    def __init__(self, db: SQLAlchemy, tenancy: Callable[[], Tenancy | None]) -> None:
        self._db = db
        self._tenancy = tenancy

    def session(self) -> sa_orm.Session:
        """Return the session, as ``db.session()``.

        :raises MissingTenantError: There is neither a tenant nor a default connection.
        """
        if self._tenancy() is not None:
            self.engine()
        return self._db.session()

    def connection(self) -> sa.Connection:
        """Return the connection that the session uses.

        :raises MissingTenantError: There is neither a tenant nor a default connection.
        """
        return self._db.session().connection()

    def engine(self, tenant: str | None = None) -> sa.Engine:
        """Return the engine of a tenant, of the active one if none is named.

        :raises MissingTenantError: There is neither a tenant nor a default connection.
        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        tenancy = self._tenancy()
        if tenancy is None:
            return self._db.engine
        if tenant is None:
            return tenancy.engine()
        tenants = tenancy.tenants
        return tenants.engine(tenants.connection_of(tenant_name(tenant)))

    def current_active_tenant(self) -> str:
        """Return the active tenant.

        :raises MissingTenantError: None is active.
        """
        tenancy = self._tenancy()
        current = None if tenancy is None else tenancy.current
        if current is not None:
            return current.tenant
        if tenancy is not None:
            raise tenancy.tenants.missing()
        raise MissingTenantError("No tenants are configured for this application.")

    def has_active_tenant(self) -> bool:
        """Whether a tenant is active."""
        tenancy = self._tenancy()
        return tenancy is not None and tenancy.current is not None
