"""The tenants that a command is for."""

from __future__ import annotations

import typing as t

from flask import current_app

from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import UnknownTenantError
from ..tenancy import Tenancy
from ..tenancy.tenants import shown

#: How many tenants an error lists.
_MOST: t.Final = 10


def tenancy() -> Tenancy:
    """Return how the tenants of the application are activated.

    :raises ConfigurationError: It has none.
    """
    found = current_app.extensions["ecotone"].tenancy
    if found is None:
        raise ConfigurationError(
            "The application has no tenants. Leave them out: it has one database, and"
            " 'db.create_all()' or Flask-Migrate creates its tables."
        )
    return t.cast(Tenancy, found)


def check_tenant(tenant: str) -> None:
    """Refuse a tenant that isn't mapped: it may be misspelt.

    The default connection, which its messages would have, is that of others as well.

    :raises UnknownTenantError: It isn't.
    """
    tenants = tenancy().tenants
    if tenants.has(tenant):
        return
    hint = ""
    if tenants.are_listed:
        names = tenants.names()
        listed = ", ".join(names[:_MOST]) or "none"
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        hint = f"{did_you_mean(tenant, names)} There are {listed}{more}."
    if tenants.default is not None:
        hint += " What isn't mapped is in the default database: leave the tenant out."
    raise UnknownTenantError(f"Lack of mapping for tenant `{shown(tenant)}`.{hint}")
